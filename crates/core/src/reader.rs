//! One stream's promises as a state machine: what a reader of a window is sent next, and in which order.
//!
//! The hub runs one per gateway stream, the gateway one per user connection. A [`Reader`] owns no bytes and no queue;
//! it is a [`Slot`] and a cursor. [`Reader::step`] looks at the window, under whatever lock the caller holds, and says
//! the one thing to do next; the caller sends it and asks again. What it keeps:
//!
//! - `Welcome`, a `Gap` if something was missed, the replay, `CaughtUp` (always), then live events;
//! - the cursor of every frame is safe to resume from; only a `Gap` crosses a hole;
//! - a reader whose slot has left the window is told by a `Gap` before anything else;
//! - what its filter cannot judge any more is not sent, and told by a `Gap`;
//! - what the store has lost is told by a `Gap` in its place, from where the reader stands;
//! - `Progress` when nothing was said for a heartbeat, and while a filter skips more than an eighth of the window;
//! - `FellBehind` once when the lag exceeds a quarter of any bound, `CaughtUp` when it is back.

use std::time::Duration;

use crate::cursor::{Ask, Cursor, Epoch, Epochs};
use crate::window::{GapReason, MissingRange, Outcome, Slot, Start, Window};
use crate::{FOR_EVER, Now};

mod scan;
mod settings;
mod step;
#[cfg(test)]
mod tests;

pub use settings::{Entitled, Filter, Records, Settings};
pub use step::{Control, Omitted, Step};

/// A reader has fallen behind when it lags by more than 1/4 of any window bound.
const FELL_BEHIND_AT: u32 = 4;

/// A reader's place and what it has been told.
#[derive(Clone, Debug)]
pub struct Reader {
    settings: Settings,
    records: Records,
    next: Slot,
    /// Everything up to here that the reader is entitled to was handed out.
    passed: Cursor,
    phase: Phase,
    /// A cursor beyond what this window knows yet, but within the authority's head; or one that the reader has from before
    /// the window left its log.
    promised: Option<Promised>,
    /// How far it came in the logs that it was in before, by this stream or with the cursor it came with.
    been: Epochs,
    told: Told,
    /// Whether a Progress was asked for before it is due.
    asked: bool,
    omitted: Omitted,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Phase {
    Opening { welcome: Box<Control>, gap: Option<MissingRange> },
    Missed { gap: MissingRange, presented: String },
    Replaying,
    Live,
    Behind,
}

/// Nothing up to `cursor` is handed out. Entries of `meanwhile`, the epoch the window still is in, lie before it.
#[derive(Clone, Copy, Debug)]
struct Promised {
    cursor: Cursor,
    meanwhile: Epoch,
}

/// Since when the reader has not been told where it stands.
#[derive(Clone, Copy, Debug, Default)]
struct Told {
    at: Duration,
    slot: Slot,
    bytes: u64,
    appended: Option<Duration>,
}

impl Reader {
    /// Opens a stream for a cursor, given as it was asked and as its text.
    #[must_use]
    pub fn open(window: &Window, ask: Ask, text: &str, settings: Settings) -> Self {
        let start = window.find(ask, text);
        let echoed = match ask {
            Ask::Head | Ask::Oldest => start.passed.to_string(),
            Ask::At(_) | Ask::Foreign => text.to_owned(),
            Ask::Unreadable => String::new(), // nobody could resume from it: its reader keeps what it has
        };
        let mut reader = Self::start(window, start, echoed, settings);
        if let Ask::At(held) = ask
            && held.epoch != reader.passed.epoch
        {
            reader.been.leave(held);
        }
        reader
    }

    /// Opens a stream at a cursor this window does not reach yet, but the authority's head does: resumed, and nothing
    /// is handed out before the window has passed it. Where its log came back meanwhile, a gap is told first, as by
    /// [`Window::find`].
    #[must_use]
    pub fn open_awaiting(window: &Window, cursor: Cursor, settings: Settings) -> Self {
        let gap = window.is_before_return(cursor).then(|| MissingRange::into_another_log(cursor, cursor));
        let outcome = if gap.is_some() { Outcome::EpochChanged } else { Outcome::Resumed };
        let start = Start { outcome, next: window.end(), passed: cursor, gap };
        let mut reader = Self::start(window, start, cursor.to_string(), settings);
        reader.promised = Some(Promised { cursor, meanwhile: window.head().epoch });
        reader
    }

    fn start(window: &Window, start: Start, echoed: String, settings: Settings) -> Self {
        let welcome = Box::new(Control::Welcome {
            cursor: echoed,
            outcome: start.outcome,
            epoch: window.head().epoch,
            head: window.head(),
            oldest: window.floor(),
        });
        let settings = Settings { heartbeat: settings.heartbeat.min(FOR_EVER), ..settings };
        Self {
            settings,
            records: Records { invalidations: true, memberships: true },
            next: start.next,
            passed: start.passed,
            phase: Phase::Opening { welcome, gap: start.gap },
            promised: None,
            been: Epochs::default(),
            told: Told { slot: start.next, ..Told::default() },
            asked: false,
            omitted: Omitted::default(),
        }
    }

    /// Leaves out the standing records that the peer does not know. Unless told otherwise a reader takes all.
    #[must_use]
    pub const fn taking(mut self, records: Records) -> Self {
        self.records = records;
        self
    }

    /// Asks for a sign of life: where nothing else is to be sent, the next step is a `Progress`, due or not.
    pub const fn speak_up(&mut self) {
        self.asked = true;
    }

    /// The slot it reads next.
    #[must_use]
    pub const fn next(&self) -> Slot {
        self.next
    }

    /// The position up to which everything was handed out: safe to resume from.
    #[must_use]
    pub const fn passed(&self) -> Cursor {
        self.passed
    }

    /// The cursor text that is safe to resume from, given what was handed out so far: what was presented until an opening
    /// gap is told, since only the gap may cross the hole. `None` before the welcome, when nothing was said at all.
    #[must_use]
    pub fn resumes_from(&self) -> Option<String> {
        match &self.phase {
            Phase::Opening { .. } => None,
            Phase::Missed { presented, .. } => Some(presented.clone()),
            Phase::Replaying | Phase::Live | Phase::Behind => Some(self.passed.to_string()),
        }
    }

    /// Whether it has caught up and not fallen behind since.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.phase == Phase::Live
    }

    /// Whether it has fallen behind and not caught up since.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        self.phase == Phase::Behind
    }

    /// What was left out so far.
    #[must_use]
    pub const fn omitted(&self) -> Omitted {
        self.omitted
    }

    /// The one thing to do next for a reader of the whole window. Trim the window first.
    pub fn step(&mut self, window: &Window, filter: Option<&dyn Filter>, now: Now) -> Step {
        self.step_until(window, window.end(), filter, now)
    }

    /// As [`Reader::step`], for a reader that takes the window to end before slot `end`.
    pub fn step_until(&mut self, window: &Window, end: Slot, filter: Option<&dyn Filter>, now: Now) -> Step {
        if let Some(control) = self.pending(now) {
            return Step::Control(control);
        }
        if let Some(control) = self.lapped(window, now) {
            return Step::Control(control);
        }
        if let Some(control) = self.fell_behind(window, end, now) {
            return Step::Control(control);
        }
        if self.next < end {
            return self.read(window, end, filter, now);
        }
        self.at_end(now)
    }

    /// Takes one entry out of order of scanning: everything between the reader's place and `slot` is known not to be
    /// for it. For readers that are told which entries concern them; call it until [`Reader::next`] is past `slot`.
    ///
    /// Not for a window with [`Traits::DAMAGED`](crate::window::Traits::DAMAGED), which concerns everybody; the windows of
    /// gateways have none.
    pub fn visit(&mut self, window: &Window, slot: Slot, filter: Option<&dyn Filter>, now: Now) -> Step {
        self.go_to(window, slot);
        self.step_until(window, slot.next(), filter, now)
    }

    /// Everything between the reader's place and `slot` is known not to be for it, as by [`Reader::visit`]; it reads on from
    /// there, unless the window has left that behind.
    pub fn go_to(&mut self, window: &Window, slot: Slot) {
        if slot >= self.next.max(window.oldest()) {
            self.next = slot;
        }
    }

    /// Says that everything before `slot`, up to `cursor`, is known not to be for this reader. Never takes it back. For the
    /// windows that [`Reader::visit`] is for.
    pub fn pass(&mut self, slot: Slot, cursor: Cursor) {
        self.next = self.next.max(slot);
        let held_back = self.promised.is_some_and(|promised| promised.holds_back(cursor));
        if held_back || slot < self.next || self.passed.follows(cursor) {
            return;
        }
        self.promised = None;
        self.stand_at(cursor);
    }

    /// It stands here now, and has what it had of the log that it leaves, if this is another one.
    fn stand_at(&mut self, at: Cursor) {
        if at.epoch != self.passed.epoch {
            self.been.leave(self.passed);
        }
        self.passed = at;
    }

    /// The window leads to this position, across a gap. Says where the reader goes on: never before what it had of that log.
    fn goes_on(&mut self, at: Cursor) -> Cursor {
        let to = if self.passed.follows(at) { self.passed } else { self.been.goes_on(at) };
        self.stand_at(to);
        self.promised = to.follows(at).then_some(Promised { cursor: to, meanwhile: to.epoch });
        to
    }

    /// Frames that were already decided on and only wait their turn.
    fn pending(&mut self, now: Now) -> Option<Control> {
        let (control, next) = match std::mem::replace(&mut self.phase, Phase::Replaying) {
            Phase::Opening { welcome, gap: None } => (*welcome, Phase::Replaying),
            Phase::Opening { welcome, gap: Some(gap) } => {
                let presented = match &*welcome {
                    Control::Welcome { cursor, .. } => cursor.clone(),
                    _ => String::new(),
                };
                (*welcome, Phase::Missed { gap, presented })
            }
            Phase::Missed { gap, .. } => (Control::Gap(gap), Phase::Replaying),
            phase => {
                self.phase = phase;
                return None;
            }
        };
        self.phase = next;
        self.tell(now);
        Some(control)
    }

    /// The window has left this reader behind: what it still wanted is gone, and it is told.
    fn lapped(&mut self, window: &Window, now: Now) -> Option<Control> {
        if self.next >= window.oldest() {
            return None;
        }
        let (from, floor) = (self.passed, window.floor());
        let turned = window.turned_unseen(self.next);
        self.next = window.oldest();
        if self.promised.is_some_and(|promised| promised.holds_back(floor)) {
            if !turned {
                return None; // what was lost lies before the position this reader already holds
            }
            self.tell(now);
            return Some(Control::Gap(MissingRange::into_another_log(from, from)));
        }
        if self.phase == Phase::Live {
            self.phase = Phase::Behind;
        }
        let to = self.goes_on(floor);
        let gap = if turned {
            MissingRange::into_another_log(from, to)
        } else {
            MissingRange::between(GapReason::Lapped, from, to)?
        };
        self.tell(now);
        Some(Control::Gap(gap))
    }

    fn fell_behind(&mut self, window: &Window, end: Slot, now: Now) -> Option<Control> {
        if self.phase != Phase::Live {
            return None;
        }
        let bounds = window.bounds();
        let events = end.since(self.next);
        // One look at the next entry's age covers time; bytes are taken at the window's average, good enough to warn.
        let lag = window.appended_at(self.next).map_or(Duration::ZERO, |at| now.mono.saturating_sub(at));
        let bytes = (window.held_bytes() / window.len().max(1)).saturating_mul(events);
        let quarter = u64::from(FELL_BEHIND_AT);
        let behind = events > 1 && (events > bounds.events / quarter || bytes > bounds.bytes / quarter)
            || events > 0 && lag > bounds.age / FELL_BEHIND_AT;
        behind.then(|| {
            self.phase = Phase::Behind;
            self.tell(now);
            Control::FellBehind { cursor: self.passed, events, lag }
        })
    }

    fn at_end(&mut self, now: Now) -> Step {
        if self.phase != Phase::Live {
            self.phase = Phase::Live;
            self.tell(now);
            return Step::Control(Control::CaughtUp { cursor: self.passed });
        }
        let due = self.told.at + self.settings.heartbeat;
        if now.mono < due && !self.asked {
            return Step::WaitUntil(due);
        }
        self.progress(now)
    }

    fn progress(&mut self, now: Now) -> Step {
        self.tell(now);
        Step::Control(Control::Progress { cursor: self.passed })
    }

    /// Whatever was just handed out says where the reader stands.
    fn tell(&mut self, now: Now) {
        self.told = Told { at: now.mono, slot: self.next, bytes: 0, appended: None };
        self.asked = false;
    }
}

impl Promised {
    /// Whether a position lies at or before the promised one. A gap into any third epoch ends the wait: it is told.
    fn holds_back(&self, position: Cursor) -> bool {
        if position.epoch == self.cursor.epoch {
            !position.follows(self.cursor)
        } else {
            position.epoch == self.meanwhile
        }
    }

    /// The window has come to this position. Once it is in the promised epoch, a way out of it is told, also where it leads
    /// back.
    fn comes_to(&mut self, position: Cursor) {
        if position.epoch == self.cursor.epoch {
            self.meanwhile = position.epoch;
        }
    }
}
