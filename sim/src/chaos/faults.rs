//! The kinds of fault that strike real processes: their names, and what each does.
//!
//! `strike` does them.

use std::time::Duration;

use clap::ValueEnum;

/// Longer than the 15 s after which a gateway takes its hub for dead.
pub(super) const LONG_CUT: (Duration, Duration) = (Duration::from_secs(17), Duration::from_secs(19));

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum)]
#[expect(missing_docs, reason = "`what` describes each")]
pub enum Kind {
    KillHub,
    KillGateway,
    KillClient,
    PauseHub,
    PauseGateway,
    FreezeHub,
    FreezeGateway,
    CutHub,
    CutHubLong,
    CutEdge,
    OneWayToHub,
    OneWayFromHub,
    Loss,
    Narrow,
    Duel,
    GatewayDuel,
    HubDescriptors,
    EdgeDescriptors,
    DrainHub,
    DrainGateway,
    KillBroker,
    PauseBroker,
    CutBroker,
    KillDoor,
    CutDoor,
    DoorDuel,
    Roll,
}

/// How often a kind is drawn in a whole run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    /// Once in each round.
    Quick,
    /// Takes a minute: twice in a run.
    Slow,
}

impl Kind {
    /// Its name on the command line.
    #[must_use]
    pub fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// What it does.
    #[must_use]
    pub const fn what(self) -> &'static str {
        match self {
            Self::KillHub => "`kill -9` of the hub, started again after up to 1 s",
            Self::KillGateway => "`kill -9` of a gateway, started again after up to 1 s",
            Self::KillClient => "`kill -9` of a `PushClient` process between handler and cursor store",
            Self::PauseHub => "SIGSTOP of the hub for 5 s",
            Self::PauseGateway => "SIGSTOP of a gateway for 5 s",
            Self::FreezeHub => "SIGSTOP of the hub for 60 s",
            Self::FreezeGateway => "SIGSTOP of a gateway for 60 s",
            Self::CutHub => "all packets from and to the hub dropped for 2 to 4 s",
            Self::CutHubLong => "all packets from and to the hub dropped for 17 to 19 s",
            Self::CutEdge => "all packets from and to a gateway's users dropped for 2 to 4 s",
            Self::OneWayToHub => "packets to the hub dropped for 17 to 19 s, those from it not",
            Self::OneWayFromHub => "packets from the hub dropped for 17 to 19 s, those to it not",
            Self::Loss => "30 % of the packets from and to the hub lost for 6 s",
            Self::Narrow => "what the hub sends held back to 1 Mbit/s for 8 s, events of 16 KiB",
            Self::Duel => "two `PushClient` processes with one gateway id",
            Self::GatewayDuel => "two gateway processes with one gateway id",
            Self::HubDescriptors => "the hub has no file descriptors left, 200 connections wait",
            Self::EdgeDescriptors => "a gateway has no file descriptors left, 200 connections wait",
            Self::DrainHub => "SIGTERM of the hub, started again when it has ended",
            Self::DrainGateway => "SIGTERM of a gateway, started again when it has ended",
            Self::KillBroker => {
                "`kill -9` of one of three brokers, started again once everybody has what was published without it"
            }
            Self::PauseBroker => "SIGSTOP of one of three brokers for 12 s",
            Self::CutBroker => "all packets from and to one of three brokers dropped for 17 to 19 s",
            Self::KillDoor => {
                "`kill -9` of the hub that most gateways follow, of two, started again once everybody has what was published without it"
            }
            Self::CutDoor => {
                "all packets between one of two hubs and the brokers dropped until everybody has what was published meanwhile"
            }
            Self::DoorDuel => {
                "two `PushClient` processes with one gateway id, each with a hub of its own of two"
            }
            Self::Roll => "SIGTERM of each broker, hub and gateway in turn, started again when it has ended",
        }
    }

    pub(super) const fn pace(self) -> Pace {
        match self {
            Self::FreezeHub | Self::FreezeGateway | Self::GatewayDuel | Self::Roll => Pace::Slow,
            _ => Pace::Quick,
        }
    }

    /// Whether it is a fault of a log that brokers keep, and two hubs have.
    pub(super) const fn is_of_brokers(self) -> bool {
        matches!(
            self,
            Self::KillBroker
                | Self::PauseBroker
                | Self::CutBroker
                | Self::KillDoor
                | Self::CutDoor
                | Self::DoorDuel
                | Self::Roll
        )
    }

    /// Whether it needs a network of its own.
    pub(super) const fn harms_network(self) -> bool {
        matches!(
            self,
            Self::CutHub
                | Self::CutHubLong
                | Self::CutEdge
                | Self::OneWayToHub
                | Self::OneWayFromHub
                | Self::Loss
                | Self::Narrow
                | Self::CutBroker
                | Self::CutDoor
        )
    }
}

/// A complaint, if there is reason for it.
pub(super) fn complaint(reason: bool, text: &str) -> Vec<String> {
    if reason { vec![text.to_owned()] } else { Vec::new() }
}
