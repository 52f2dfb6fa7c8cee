//! Who asks for a gateway id, and what comes of it: the words that the files of the fence share.

use std::sync::Arc;
use std::time::Duration;

use galaxy_push_store::fence::TakeoverKind;
use tokio::sync::watch;

use super::incumbent::{SendReadiness, StreamSignal};
use crate::state::stream_gauge::StreamGauge;

/// Who asks for a gateway id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) gateway: String,
    /// Empty: an old client, which is never the same instance as anybody.
    pub(crate) instance: String,
    pub(crate) attempt: u64,
    pub(crate) peer: String,
    /// Whom the hub took it for, by certificate or token; empty where everybody may do everything.
    pub(crate) identity: String,
    /// It lists all that is needed to be told which sessions have ended.
    pub(crate) learns_of_invalidations: bool,
}

/// An accepted subscription.
#[derive(Debug)]
pub(crate) struct Admitted {
    pub(crate) generation: u64,
    pub(crate) signal: watch::Receiver<StreamSignal>,
    /// For the stream to say where it stands.
    pub(crate) gauge: Arc<StreamGauge>,
    /// For the stream to say that its peer takes what it is sent.
    pub(crate) readiness: Arc<SendReadiness>,
    pub(crate) takeover: Option<Takeover>,
}

/// An older stream gave way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Takeover {
    pub(crate) older: Claim,
    pub(crate) kind: TakeoverKind,
    /// How often something happened to this id of late, if that is to be told.
    pub(crate) log_count: Option<u64>,
}

/// The stream that has an id, here or at another hub, as far as whoever asks for the id must know it.
pub(super) struct IncumbentView {
    pub(super) claim: Claim,
    pub(super) is_here: bool,
    pub(super) would_answer: bool,
    pub(super) is_alive: Option<bool>,
    /// Since when the same claim has had the id.
    pub(super) first_since: Duration,
}

impl Claim {
    pub(crate) fn is_same_instance(&self, other: &Self) -> bool {
        !self.instance.is_empty() && self.instance == other.instance
    }
}

impl Takeover {
    /// Whether it is worth a line.
    pub(crate) const fn is_logged(&self) -> bool {
        self.log_count.is_some()
    }
}
