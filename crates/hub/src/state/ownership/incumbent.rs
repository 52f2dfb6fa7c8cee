//! The stream that has a gateway id, as the ownership table knows it: how to end it, and how to find out whether it is alive.
//!
//! `ownership.rs` keeps one for each id that has a stream. The stream itself (`surface/subscription.rs`) holds the other end of
//! [`StreamSignal`] and of [`SendReadiness`]. A ping goes like this:
//!
//! ```text
//! table     ping 1: raise the number in StreamSignal; hand out a LivenessProbe for it
//! stream    sees the number, puts a Progress frame into its next piece, hands it to HTTP/2
//! HTTP/2    has taken the piece, asks for more
//! stream    Gateways::record_pong(1): the probe is answered
//! ```
//!
//! Nothing here waits but the probe, and whoever waits for that has a limit of its own ([`ANSWER_WITHIN`]).

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use galaxy_push_store::Holder;
use tokio::sync::watch;

use super::claim::Claim;
use crate::state::report::Report;
use crate::state::stream_gauge::StreamGauge;
use crate::state::sync::AtomicU64;

/// How long an incumbent has to answer a ping. One that subscribed within this time is alive without a ping: it has just
/// spoken.
pub(crate) const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// The stream that has one gateway id.
#[derive(Debug)]
pub(crate) struct Incumbent {
    /// Which ownership of the id this is.
    pub(crate) generation: u64,
    /// The number under which it stands in the store's register, where there is one and once it does.
    pub(super) registered_as: Option<u64>,
    /// Who has taken the id at another hub while this claim was being written into the register. Which of the two came
    /// first is known once that is done.
    pub(super) pending_rival: Option<Holder>,
    /// By which claim it has the id.
    pub(crate) claim: Claim,
    /// Since when, on the log's monotonic clock.
    pub(crate) since: Duration,
    /// Since when the same claim has had the id, of which this may be a repeat.
    first_since: Duration,
    /// How far it has read.
    pub(crate) gauge: Arc<StreamGauge>,
    /// Whether its peer takes what it is sent.
    pub(crate) readiness: Arc<SendReadiness>,
    /// What its gateway said of itself last.
    pub(crate) report: Option<Report>,
    signal: watch::Sender<StreamSignal>,
    /// The latest ping that was answered.
    answered: watch::Sender<u64>,
}

/// What the ownership table tells a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct StreamSignal {
    /// Why it must end, once it must.
    pub(crate) stream_end: Option<StreamEnd>,
    /// The number of the latest ping; 0 is none. `Gateways::record_pong` tells that it was answered.
    pub(crate) ping: u64,
}

/// Why a stream must end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum StreamEnd {
    /// A newer claim has the gateway id. Nothing appended from then on is sent.
    Replaced {
        /// The newer claim.
        rival: Claim,
        /// Whether a line is logged about it.
        logged: bool,
    },
    /// The hub shuts down. Times are on the log's monotonic clock.
    Draining {
        /// This stream's turn to go: from then on it ends as soon as it has taken everything.
        close_at: Duration,
        /// It ends now, wherever it is.
        close_by: Duration,
        /// When its gateway should be back.
        back_at: Duration,
    },
    /// Its gateway has lost its access, or has another one than when it was admitted.
    AccessChanged,
}

/// Whether HTTP/2 takes what a stream hands to it, which is how a peer answers a ping.
///
/// The stream notes it with each piece, so that the table knows without a ping whether one would be answered now. One
/// number: 0 while HTTP/2 wants more, else when the last piece was handed over, in milliseconds plus one.
#[derive(Debug)]
pub(crate) struct SendReadiness(AtomicU64);

/// A ping that an incumbent has yet to answer. The claim that waits for it is made once more with it.
#[derive(Debug)]
pub(crate) struct LivenessProbe {
    pub(super) generation: u64,
    pub(super) ping: u64,
    answered: watch::Receiver<u64>,
}

impl Incumbent {
    /// A stream that has just been admitted. It counts as alive: its peer has just spoken.
    pub(super) fn new(generation: u64, claim: Claim, now: Duration) -> Self {
        let (signal, answered) = (watch::Sender::default(), watch::Sender::new(0));
        let readiness = Arc::new(SendReadiness(AtomicU64::default()));
        readiness.sent(now);
        Self {
            generation,
            registered_as: None,
            pending_rival: None,
            claim,
            since: now,
            first_since: now,
            gauge: Arc::default(),
            readiness,
            report: None,
            signal,
            answered,
        }
    }

    /// Whether a ping would have been answered now.
    pub(super) fn would_answer(&self, now: Duration) -> bool {
        self.readiness.would_answer(now)
    }

    /// Whether this claim is the same one once more. Transparent retries send that, within moments of the first.
    pub(super) fn is_repeated_by(&self, claim: &Claim, now: Duration) -> bool {
        self.claim.is_same_instance(claim)
            && self.claim.attempt == claim.attempt
            && now.saturating_sub(self.first_since) <= ANSWER_WITHIN
    }

    /// This one came as a repeat of what has had the id since then.
    pub(super) const fn repeats(&mut self, first_since: Duration) {
        self.first_since = first_since;
    }

    /// Since when the same claim has had the id.
    pub(super) const fn first_since(&self) -> Duration {
        self.first_since
    }

    /// It stands in the store's register, or did; another hub may have taken the id since.
    pub(super) const fn is_registered(&self) -> bool {
        self.registered_as.is_some()
    }

    /// For its stream to listen to.
    pub(super) fn signal(&self) -> watch::Receiver<StreamSignal> {
        self.signal.subscribe()
    }

    /// Wakes the claims that probe it with this ping or an earlier one.
    pub(super) fn record_pong(&self, ping: u64) {
        self.answered.send_replace(ping);
    }

    /// Tells the stream that it must end. The stream sees it at its next turn, under the log's lock.
    pub(super) fn end(&self, stream_end: StreamEnd) {
        self.signal.send_modify(|signal| signal.stream_end = Some(stream_end));
    }

    /// Pings the stream, and returns what the answer is awaited with.
    pub(super) fn ping(&self) -> LivenessProbe {
        self.signal.send_modify(|signal| signal.ping += 1);
        let ping = self.signal.borrow().ping;
        LivenessProbe { generation: self.generation, ping, answered: self.answered.subscribe() }
    }

    /// Whether it has shown that it is alive, or failed to; `None`: it must be pinged. A probe of an older stream of this id
    /// says nothing of this one.
    pub(super) fn is_alive(&self, probe: Option<&LivenessProbe>, now: Duration) -> Option<bool> {
        if now.saturating_sub(self.since) <= ANSWER_WITHIN {
            return Some(true);
        }
        let asked = probe.filter(|probe| probe.generation == self.generation)?;
        Some(*self.answered.borrow() >= asked.ping)
    }
}

impl SendReadiness {
    /// HTTP/2 has asked for more.
    const WANTS_MORE: u64 = 0;

    /// HTTP/2 asks for more: it has taken everything that it was handed.
    pub(crate) fn wants_more(&self) {
        self.0.store(Self::WANTS_MORE, Ordering::Relaxed);
    }

    /// HTTP/2 has been handed a piece, and has not asked for more since.
    pub(crate) fn sent(&self, now: Duration) {
        let now = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        self.0.store(now.saturating_add(1), Ordering::Relaxed);
    }

    /// HTTP/2 wants more, or was handed the last piece so recently that its answer may still come.
    fn would_answer(&self, now: Duration) -> bool {
        let at = self.0.load(Ordering::Relaxed);
        at == Self::WANTS_MORE || now.saturating_sub(Duration::from_millis(at - 1)) <= ANSWER_WITHIN
    }
}

impl LivenessProbe {
    /// Returns when the ping was answered, or never will be because the stream has ended.
    ///
    /// Cancel safe.
    pub(crate) async fn answered(&mut self) {
        let ping = self.ping;
        let _ = self.answered.wait_for(|answered| *answered >= ping).await; // an error: the stream has ended
    }

    /// Whether it was.
    pub(crate) fn is_answered(&self) -> bool {
        *self.answered.borrow() >= self.ping
    }
}
