//! What is going on at a hub, for whoever operates it: read off the moment it is asked for.
//!
//! [`Hub::status`](crate::Hub::status) hands it out; metrics take from the same look what is a figure. It changes nothing.

use std::time::Duration;

use galaxy_push_core::Now;
use galaxy_push_core::cursor::Cursor;
use galaxy_push_core::window::{Bounds, Window};

use crate::app::shared::Shared;
use crate::state::fence::Incumbent;
use crate::state::log::Head;
use crate::state::report;
use crate::state::stream_gauge::Class;

/// A hub at one moment.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Status {
    /// Where the log is.
    pub head: Head,
    /// It shuts down, and takes nothing new.
    pub draining: bool,
    /// What it holds.
    pub window: WindowStatus,
    /// Who is connected, ordered by gateway id.
    pub streams: Vec<Stream>,
    /// The gateway ids that instances keep taking from each other, ordered.
    pub fought_over: Vec<FoughtOver>,
}

/// The window at one moment.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct WindowStatus {
    /// Entries held.
    pub events: u64,
    /// Bytes of frames held.
    pub bytes: u64,
    /// The age of the oldest entry held.
    pub age: Duration,
    /// How much of each bound that is, 0 to 1: by age, by count, by bytes. The fullest is the one that binds.
    pub fill: [f64; 3],
    /// How long an event would be held at the rate of those held now: the bound on age, or less where another binds first.
    /// This is how long a gateway may stay away and miss nothing.
    pub holds: Duration,
}

/// One gateway's stream.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stream {
    /// Its gateway id.
    pub gateway: String,
    /// Which process it is; empty for a client that does not say.
    pub instance: String,
    /// The identity it was let in as; empty where everybody may do everything.
    pub identity: String,
    /// Its network address.
    pub peer: String,
    /// Rises with each subscription that is accepted.
    pub generation: u64,
    /// How long it has been open.
    pub open_for: Duration,
    /// What it is doing.
    pub doing: Doing,
    /// How many entries it has yet to be handed.
    pub lag_events: u64,
    /// How old the oldest of them is.
    pub lag: Duration,
    /// What its gateway said of itself last; `None`: nothing.
    pub reported: Option<Reported>,
}

/// What a gateway said of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reported {
    /// How long ago that was. Gateways report every few seconds, and only what has changed.
    pub ago: Duration,
    /// How far it is with what it was handed; `None`: it has not said.
    pub handled: Option<Handled>,
    /// How many users' connections it has.
    pub connections: u64,
    /// Its own counters, by names it chose itself: at most 64.
    pub counts: Vec<(String, u64)>,
}

/// How far a gateway is with what it was handed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Handled {
    /// Everything up to here is handled.
    pub cursor: Cursor,
    /// How many entries come after it, those that are not for this gateway included.
    pub lag_events: u64,
    /// How old the oldest of them is that is still held.
    pub lag: Duration,
}

/// What a stream is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doing {
    /// It has not reached the head yet.
    CatchingUp,
    /// It has been handed everything, or is about to be.
    Live,
    /// It fell behind, and has not caught up since.
    Behind,
}

/// A gateway id that instances keep taking from each other.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FoughtOver {
    /// The id.
    pub gateway: String,
    /// How long whoever comes now is told to stay away; zero: nobody was held off yet.
    pub held_off_for: Duration,
}

pub(crate) fn status(shared: &Shared) -> Status {
    shared.log.look(|state, now| {
        let window = &state.window;
        Status {
            head: Head { cursor: window.head(), oldest: window.floor() },
            draining: shared.is_draining(),
            window: of_window(window, shared.config.window, now),
            streams: state.gateways.incumbents().map(|incumbent| stream(incumbent, window, now)).collect(),
            fought_over: state
                .gateways
                .fought_over(now.mono)
                .map(|(gateway, held_off_for)| FoughtOver { gateway: gateway.to_owned(), held_off_for })
                .collect(),
        }
    })
}

pub(crate) fn of_window(window: &Window, bounds: Bounds, now: Now) -> WindowStatus {
    let age = window.appended_at(window.oldest()).map_or(Duration::ZERO, |at| now.mono.saturating_sub(at));
    let (events, bytes) = (window.len(), window.held_bytes());
    let fill = [
        age.as_secs_f64() / bounds.age.as_secs_f64(),
        events as f64 / bounds.events as f64,
        bytes as f64 / bounds.bytes as f64,
    ];
    // What was held for `age` fills so much of a bound; at that rate the rest of it lasts accordingly.
    let binding = fill[1].max(fill[2]);
    let at_this_rate = age.as_secs_f64() / binding;
    let holds = if binding > 0.0 && !age.is_zero() { at_this_rate } else { f64::INFINITY };
    let holds = Duration::try_from_secs_f64(holds).map_or(bounds.age, |holds| holds.min(bounds.age));
    WindowStatus { events, bytes, age, fill, holds }
}

fn stream(incumbent: &Incumbent, window: &Window, now: Now) -> Stream {
    let (next, class) = incumbent.place.get();
    let oldest = window.appended_at(next.max(window.oldest()));
    let claim = incumbent.claim.clone();
    Stream {
        gateway: claim.gateway,
        instance: claim.instance,
        identity: claim.identity,
        peer: claim.peer,
        generation: incumbent.generation,
        open_for: now.mono.saturating_sub(incumbent.since),
        doing: match class {
            Class::CatchingUp => Doing::CatchingUp,
            Class::Live => Doing::Live,
            Class::Behind => Doing::Behind,
        },
        lag_events: window.end().since(next),
        lag: oldest.map_or(Duration::ZERO, |at| now.mono.saturating_sub(at)),
        reported: incumbent.reported.as_ref().map(|reported| Reported {
            ago: now.mono.saturating_sub(reported.at),
            handled: reported.handled.map(|cursor| {
                let (lag_events, lag) = report::lag(window, cursor, now);
                Handled { cursor, lag_events, lag }
            }),
            connections: reported.connections,
            counts: reported.counts.iter().map(|(name, count)| (name.clone(), *count)).collect(),
        }),
    }
}
