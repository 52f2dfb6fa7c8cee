//! What readers and publishers may know: the state up to the last durable group.
//!
//! Behind one lock, which is never held while the disk works.

use std::time::Duration;

use galaxy_push_core::cursor::{Cursor, Seq};
use galaxy_push_core::log_clock::Offset;

use super::group::{Changed, Group};
use crate::dedup::{Bounds, Dedup};
use crate::standing::Standing;

#[derive(Debug)]
pub(crate) struct Visible {
    pub(crate) head: Cursor,
    /// The position each remembered event got; an ephemeral one has none. Also of those that are not durable yet: only whoever
    /// gives positions looks a key up.
    pub(crate) published: Dedup<Option<Seq>>,
    pub(crate) standing: Standing,
    /// The latest time by the clock of the log, since the Unix epoch: it goes on through restarts.
    pub(crate) now: Duration,
    /// How the clock of the log stands beside the hub's monotonic one: since the first append of this life, as that says; before,
    /// as if no time had passed from the last stamp to the moment at which somebody first asked.
    clock: Option<Offset>,
}

impl Visible {
    pub(crate) fn new(head: Cursor, dedup: Bounds, records_max: usize) -> Self {
        let (published, standing) = (Dedup::new(dedup), Standing::new(records_max));
        Self { head, published, standing, now: Duration::ZERO, clock: None }
    }

    /// An append came at this monotonic time, with this stamp.
    pub(crate) fn clock(&mut self, mono: Duration, stamp_unix_ms: u64) {
        self.clock = Some(Offset::of(stamp_unix_ms, mono));
        self.now = self.now.max(Duration::from_millis(stamp_unix_ms));
    }

    /// What the clock of the log says at a monotonic time, or less before the first append of this life. An empty log has none.
    pub(crate) fn log_time(&mut self, mono: Duration) -> Duration {
        if self.now > Duration::ZERO {
            let last_unix_ms = u64::try_from(self.now.as_millis()).unwrap_or(u64::MAX);
            let clock = *self.clock.get_or_insert(Offset::of(last_unix_ms, mono));
            self.now = self.now.max(Duration::from_millis(clock.unix_ms(mono)));
        }
        self.now
    }

    /// A group is durable, and lies in this segment.
    pub(crate) fn commit<R>(&mut self, group: &Group<R>, segment: u64) {
        self.standing.keep_at(segment);
        for (publisher, _) in &group.keys {
            self.published.confirm(publisher, self.now);
        }
        for Changed { change, share, wall_unix_ms } in &group.changes {
            self.standing.apply(change, share.as_ref(), *wall_unix_ms);
        }
        self.head = group.head().unwrap_or(self.head);
    }

    /// A group was given up.
    pub(crate) fn give_up<R>(&mut self, group: &Group<R>) {
        for (publisher, keys) in &group.keys {
            self.published.take_back(publisher, *keys);
        }
    }
}
