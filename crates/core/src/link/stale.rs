//! A hub that cannot reach its store says so in every `Progress`: the log may go on at the others meanwhile.
//!
//! After a while the others are asked beside the stream, and the link goes over to one that holds the same log and can reach
//! it. Where there is none it stays, because what the hub has is served all the same, and asks again later. With one hub there
//! is nobody to ask.
//!
//! ```text
//! 00 s   Progress { stale } from hub 0           stale_since = 00 s
//! 10 to 15 s, still stale                        hubs 1 … are asked which log they hold
//!        hub 1 holds the log and reaches it      the stream ends (Stale), and the next one is at hub 1
//!        none does                               it stays, and asks again 10 to 15 s later
//! an event on the live stream, or a Progress     not stale any more
//! ```

use std::time::Duration;

use super::{Action, Course, Door, Failure, Link, State};
use crate::frame::{FrameView, Kind};
use crate::wire::{Fields, Value};

/// For how long a hub may not reach its store before the others are asked: many such outages are over by then, as a log that
/// has lost its leader has a new one.
const ASK_AFTER: Duration = Duration::from_secs(10);

/// By so much at most it is later than that, so that a thousand readers of one hub do not ask, and go over, together.
const SPREAD: Duration = Duration::from_secs(5);

/// What is remembered of it while one stream lasts.
#[derive(Debug, Default)]
pub(super) struct Stale {
    /// When the others are asked next.
    ask_at: Option<Duration>,
    /// They are to be asked now.
    asks: bool,
    /// They were asked since the hub cannot reach its store.
    asked: bool,
}

impl Link {
    /// Whether all hubs are to be asked which log they hold, beside what is done next: says so once. What they answer comes in
    /// as [`Input::Doors`](super::Input::Doors).
    pub fn pop_hub_query(&mut self) -> bool {
        std::mem::take(&mut self.stale.asks)
    }

    /// Learns from a frame whether the hub of the stream can reach its store.
    pub(super) fn note_store(&mut self, frame: &FrameView<'_>, now: Duration) {
        match frame.kind() {
            Kind::Progress if is_stale(frame.body()) => {
                self.status.stale_since.get_or_insert(now);
            }
            Kind::Progress => self.forget_stale(),
            // A busy stream has no progress to tell. What comes to a reader that has everything was appended just now.
            Kind::Event | Kind::SessionInvalidation | Kind::Membership
                if self.status.state == State::Live =>
            {
                self.forget_stale();
            }
            _ => {}
        }
    }

    pub(super) fn forget_stale(&mut self) {
        (self.status.stale_since, self.stale) = (None, Stale::default());
    }

    /// Has the others asked once that is due, and says when it is due next.
    pub(super) fn ask_if_stale(&mut self, now: Duration, random: u64) {
        let Some(since) = self.status.stale_since.filter(|_| self.config.hubs > 1) else { return };
        let part = u32::try_from(random >> 32).unwrap_or(u32::MAX);
        let after = ASK_AFTER + SPREAD.mul_f64(f64::from(part) / f64::from(u32::MAX));
        let ask_at = *self.stale.ask_at.get_or_insert(since + after);
        if now >= ask_at && matches!(self.course, Course::Read(_)) {
            (self.stale.asks, self.stale.asked) = (true, true);
            self.stale.ask_at = Some(now + after);
        }
    }

    /// When that is.
    pub(super) fn next_hub_query(&self) -> Option<Duration> {
        self.stale.ask_at.filter(|_| matches!(self.course, Course::Read(_)))
    }

    /// Hubs have said beside a stream which log they hold. Leaves one that has been cut off from it for long, if another is not.
    pub(super) fn leave_stale_hub(&mut self, said: Vec<Option<Door>>, now: Duration, random: u64) {
        let followed = self.received.map(|received| received.epoch.to_string());
        let better = |(hub, door): (usize, &Option<Door>)| match door {
            Some(Door::Holds(epoch)) => hub != self.status.hub && Some(&**epoch) == followed.as_deref(),
            _ => false,
        };
        let leaves = self.stale.asked && said.iter().enumerate().any(better);
        self.note_doors(said);
        if leaves && matches!(self.action, Action::Read { .. }) {
            self.fail(Failure::Stale, now, random);
        }
    }
}

/// What a `Progress` says of it. One that cannot be read says nothing.
fn is_stale(progress: &[u8]) -> bool {
    Fields::of(progress).map_while(Result::ok).any(|field| matches!(field, (1, Value::Varint(1..))))
}
