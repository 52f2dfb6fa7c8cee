//! Which keys this hub knows: so that it need not send what it knows, and looks before it claims.
//!
//! Pure. It is fed by what the [`StateMachine`](super::StateMachine) has judged, and no other hub depends on it: one may have forgotten what
//! another knows. A key that may have been published, which could not be judged, is known as such: nobody here may claim it.

use std::time::Duration;

use galaxy_push_core::cursor::Seq;

use crate::dedup::{Bounds, Content, Dedup, Key, Known};

/// What became of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// It was appended; an ephemeral event has no position.
    At(Option<Seq>),
    /// Perhaps it was appended.
    Doubtful,
}

/// What is known, by the log's stamps.
#[derive(Debug)]
pub(super) struct Index {
    known: Dedup<Place>,
    /// By the log's stamps, since the Unix epoch; and when it was that, on the hub's monotonic clock. Neither goes back.
    now: Duration,
    at: Duration,
}

impl Index {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self { known: Dedup::new(bounds), now: Duration::ZERO, at: Duration::ZERO }
    }

    /// A message was read that the log has stamped so.
    pub(super) fn stamp(&mut self, stamp_ms: u64, mono: Duration) {
        self.pass(mono);
        self.now = self.now.max(Duration::from_millis(stamp_ms));
    }

    /// The log stamps nothing while nothing comes, and keys grow old all the same.
    pub(super) fn pass(&mut self, mono: Duration) {
        // Before the first stamp nothing is known that could.
        if !self.now.is_zero() {
            self.now += mono.saturating_sub(self.at);
        }
        self.at = self.at.max(mono);
    }

    pub(super) fn look_up(&mut self, key: &Key, content: Content) -> Known<Place> {
        match self.known.get(key, self.now) {
            None => Known::No,
            Some((_, Place::Doubtful)) => Known::Same(Place::Doubtful),
            Some((same, place)) if same == content => Known::Same(place),
            Some(_) => Known::Other,
        }
    }

    /// What was appended last under this key counts, from then on: whoever sends that again means it.
    pub(super) fn remember(&mut self, key: Key, content: Content, place: Place) {
        if self.known.get(&key, self.now).is_some() {
            self.known.renew(key, content, place, self.now);
        } else {
            self.known.remember(key, content, place, self.now);
        }
    }

    /// Perhaps this was published. What is certain of the same content stays so.
    pub(super) fn doubt(&mut self, key: Key, content: Content) {
        match self.known.get(&key, self.now) {
            Some((same, Place::At(_))) if same == content => {}
            _ => self.remember(key, content, Place::Doubtful),
        }
    }

    /// Messages of up to now are lost, and keys with them.
    pub(super) fn cut(&mut self) {
        self.known.was_cut(self.now);
    }

    pub(super) fn trim(&mut self) {
        self.known.trim(self.now);
    }

    pub(super) fn horizon(&self) -> Duration {
        self.known.horizon(self.now)
    }
}
