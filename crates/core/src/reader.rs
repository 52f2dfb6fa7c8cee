//! One stream's promises as a state machine: what a reader of a window is sent next, and in which order.
//!
//! The hub runs one per gateway stream, the gateway one per user connection. A [`Reader`] owns no bytes and no queue;
//! it is a [`Slot`] and a cursor. [`Reader::step`] looks at the window, under whatever lock the caller holds, and says
//! the one thing to do next; the caller sends it and asks again. What it keeps:
//!
//! - `Welcome`, a `Gap` if something was missed, the replay, `CaughtUp` (always), then live events;
//! - the cursor of every frame is safe to resume from; only a `Gap` crosses a hole;
//! - a reader whose slot has left the window gets a `Gap` before any further entry;
//! - what its filter cannot judge any more is not sent; a `Gap` stands in its place;
//! - where the store has lost entries a `Gap` stands in their place: from the reader's position to the last one that was lost;
//! - `Progress` when nothing was sent for a heartbeat, and while a filter skips more than an eighth of the window;
//! - `FellBehind` once when the lag exceeds a quarter of any bound, `CaughtUp` when it is back.
//!
//! # States
//!
//! ```text
//! Opening ── Welcome ──► Missed ── Gap ──► Replaying ── at the end: CaughtUp ──► Live ── lags > 1/4: FellBehind ──► Behind
//!    └────── Welcome, nothing missed ─────────▲                                   ▲                                │
//!                                                                                 └──── at the end: CaughtUp ◄─────┘
//! ```
//!
//! In any state after `Opening` the window may leave the reader behind: it gets a `Gap`, and from `Live` it goes to `Behind`, without a
//! `FellBehind`. So it does behind a gap over what the store has lost: `CaughtUp` follows once more.
//!
//! # Example
//!
//! ```
//! use std::time::Duration;
//! use galaxy_push_core::Now;
//! use galaxy_push_core::cursor::{Cursor, Epoch, StartFrom};
//! use galaxy_push_core::reader::{Control, Reader, Settings, Step};
//! use galaxy_push_core::window::{Bounds, Traits, Window};
//!
//! let (start, now) = (Cursor::start(Epoch(1)), Now::default());
//! let mut window = Window::new(start, Bounds::default());
//! window.append(start.next(), Traits::PLAIN, &[0, 0, 0, 0, 0], Duration::ZERO);
//!
//! let mut reader = Reader::open(&window, StartFrom::Oldest, "oldest", Settings::default());
//! assert!(matches!(reader.step(&window, None, now), Step::Control(Control::Welcome { .. })));
//! let Step::Send(slots) = reader.step(&window, None, now) else { panic!("the replay") };
//! assert_eq!(window.bytes(slots).len(), 5);
//! assert!(matches!(reader.step(&window, None, now), Step::Control(Control::CaughtUp { cursor }) if cursor == start.next()));
//! assert_eq!(reader.step(&window, None, now), Step::WaitUntil(Duration::from_secs(5)), "then a Progress is due");
//! ```

use std::time::Duration;

use crate::cursor::{Cursor, Epoch, Epochs, StartFrom};
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

/// A reader's place, and what it was sent last.
///
/// A few hundred bytes, whatever the window holds; nothing in it grows with a slow peer. Steps are driven by one owner, in order.
#[derive(Clone, Debug)]
pub struct Reader {
    settings: Settings,
    records: Records,
    next: Slot,
    /// Everything up to here that the reader is entitled to was sent.
    position: Cursor,
    phase: Phase,
    /// A cursor beyond what this window knows yet, but within the authority's head; or one that the reader has from before
    /// the window left its log.
    expected: Option<Expected>,
    /// How far it came in the logs that it was in before, by this stream or with the cursor it came with.
    left: Epochs,
    last_sent: LastSent,
    /// Whether a Progress was asked for before it is due.
    progress_requested: bool,
    omitted: Omitted,
}

/// How far a stream has come. Each variant owns what is only needed there.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Phase {
    Opening { welcome: Box<Control>, gap: Option<MissingRange> },
    Missed { gap: MissingRange, presented: String },
    Replaying,
    Live,
    Behind,
}

/// A position that the reader has and the window does not reach yet: what the window gets up to it is held back.
///
/// `cursor` is that position. `meanwhile` is the epoch that the window is in until it comes to the epoch of `cursor`: what it gets in
/// that epoch lies before `cursor`, too. A gap into any third epoch is sent.
///
/// ```text
/// the reader came from another gateway with a7; this window is at a5:  cursor = a7, meanwhile = a
/// the window gets a6, a7                                               held back: the reader has them
/// the window gets a8                                                   sent; nothing is expected any more
///
/// the reader came with b3; this window is still in log a, at a5:       cursor = b3, meanwhile = a
/// the window gets a6, then gap to b1, then b2, b3                      held back: all of it lies before b3
/// the window gets b4                                                   sent
///
/// the window turns into a third log c instead                          told by a gap from b3 to where c begins
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Expected {
    cursor: Cursor,
    meanwhile: Epoch,
}

/// Where the reader stood when something was sent to it last, and what it was scanned past since. By these it is decided when a
/// `Progress` is due: after the heartbeat, or after an eighth of any bound of the window.
#[derive(Clone, Copy, Debug, Default)]
struct LastSent {
    at: Duration,
    slot: Slot,
    bytes: u64,
    appended: Option<Duration>,
}

impl Reader {
    /// Opens a stream for a cursor, given as it was asked and as its text.
    ///
    /// The text is echoed in the `Welcome` and named in the gap, also where this build cannot read it. What [`Window::find`] answers is the
    /// first thing that [`step`](Self::step) says.
    #[must_use]
    pub fn open(window: &Window, ask: StartFrom, text: &str, settings: Settings) -> Self {
        let start = window.find(ask, text);
        let echoed = match ask {
            StartFrom::Head | StartFrom::Oldest => start.position.to_string(),
            StartFrom::At(_) | StartFrom::Foreign => text.to_owned(),
            StartFrom::Unreadable => String::new(), // nobody could resume from it: its reader keeps what it has
        };
        let mut reader = Self::start(window, start, echoed, settings);
        if let StartFrom::At(held) = ask
            && held.epoch != reader.position.epoch
        {
            reader.left.leave(held);
        }
        reader
    }

    /// What the reader has beyond where the window is, if it came with that.
    #[must_use]
    pub const fn expected(&self) -> Option<Expected> {
        self.expected
    }

    /// Opens a stream at a cursor that this window does not reach yet, but the authority's head does.
    ///
    /// The outcome is `Resumed`, and nothing is sent before the window has passed the cursor. Where its log came back meanwhile, a gap is
    /// sent first, as by [`Window::find`].
    #[must_use]
    pub fn open_awaiting(window: &Window, cursor: Cursor, settings: Settings) -> Self {
        let gap = window.is_before_return(cursor).then(|| MissingRange::into_another_log(cursor, cursor));
        let outcome = if gap.is_some() { Outcome::EpochChanged } else { Outcome::Resumed };
        let start = Start { outcome, next: window.end(), position: cursor, gap };
        let mut reader = Self::start(window, start, cursor.to_string(), settings);
        reader.expected = Some(Expected { cursor, meanwhile: window.head().epoch });
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
            position: start.position,
            phase: Phase::Opening { welcome, gap: start.gap },
            expected: None,
            left: Epochs::default(),
            last_sent: LastSent { slot: start.next, ..LastSent::default() },
            progress_requested: false,
            omitted: Omitted::default(),
        }
    }

    /// Leaves out the standing records that the peer does not know. Without this a reader is sent all of them.
    #[must_use]
    pub const fn taking(mut self, records: Records) -> Self {
        self.records = records;
        self
    }

    /// Asks for a sign of life: where nothing else is to be sent, the next step is a `Progress`, due or not. A hub does so to learn whether a
    /// stream is still read.
    pub const fn request_progress(&mut self) {
        self.progress_requested = true;
    }

    /// The slot it reads next.
    #[must_use]
    pub const fn next(&self) -> Slot {
        self.next
    }

    /// The position up to which everything was sent: safe to resume from.
    #[must_use]
    pub const fn position(&self) -> Cursor {
        self.position
    }

    /// The cursor text that is safe to resume from, given what was sent so far: the presented text until an opening
    /// gap is sent, since only the gap may cross the hole. `None` before the welcome, when nothing was sent at all.
    #[must_use]
    pub fn resumes_from(&self) -> Option<String> {
        match &self.phase {
            Phase::Opening { .. } => None,
            Phase::Missed { presented, .. } => Some(presented.clone()),
            Phase::Replaying | Phase::Live | Phase::Behind => Some(self.position.to_string()),
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
    ///
    /// What comes first wins: frames decided on before, a gap for a reader that was left behind, `FellBehind`, entries, `CaughtUp`, `Progress`.
    /// One call looks at no more than 4,096 entries that are not for the reader, so a lock is never held for long.
    pub fn step(&mut self, window: &Window, filter: Option<&dyn Filter>, now: Now) -> Step {
        self.step_until(window, window.end(), filter, now)
    }

    /// As [`Reader::step`], for a reader that takes the window to end before slot `end`.
    pub fn step_until(&mut self, window: &Window, end: Slot, filter: Option<&dyn Filter>, now: Now) -> Step {
        self.step_with_lag(window, end, end, filter, now)
    }

    /// As [`Reader::step_until`], with where what it has yet to read ends, by which its lag is counted.
    fn step_with_lag(
        &mut self,
        window: &Window,
        end: Slot,
        lag_end: Slot,
        filter: Option<&dyn Filter>,
        now: Now,
    ) -> Step {
        // The opening's gap first, since only that may cross its hole. `lapped` before `fell_behind`, which asks for the age of the
        // next entry: one that has left the window has none.
        if let Some(control) = self.pending(now) {
            return Step::Control(control);
        }
        if let Some(control) = self.lapped(window, now) {
            return Step::Control(control);
        }
        if let Some(control) = self.fell_behind(window, lag_end, now) {
            return Step::Control(control);
        }
        if self.next < end {
            return self.read(window, end, filter, now);
        }
        self.at_end(now)
    }

    /// Reads one entry, for readers that are told which entries concern them: everything between the reader's position and `slot` is known not
    /// to be for it. Call it until [`Reader::next`] is past `slot`. `lag_end` is behind the last entry that is known to concern it: by the window
    /// up to there it is decided whether it has fallen behind.
    ///
    /// Not for a window with [`Traits::DAMAGED`](crate::window::Traits::DAMAGED), which concerns everybody; the windows of gateways have none.
    pub fn read_at(
        &mut self,
        window: &Window,
        slot: Slot,
        lag_end: Slot,
        filter: Option<&dyn Filter>,
        now: Now,
    ) -> Step {
        self.seek(window, slot);
        self.step_with_lag(window, slot.next(), lag_end, filter, now)
    }

    /// Everything between the reader's position and `slot` is known not to be for it, as by [`Reader::read_at`]. The reader goes on at `slot`,
    /// and its position with it, unless the window has left that behind: then the next step tells it so.
    pub fn seek(&mut self, window: &Window, slot: Slot) {
        if slot >= self.next.max(window.oldest()) {
            self.skip_to(slot, window.before(slot));
        }
    }

    /// Says that everything before `slot`, up to `cursor`, is known not to be for this reader. Never moves it back. For the windows that
    /// [`Reader::read_at`] is for.
    pub fn skip_to(&mut self, slot: Slot, cursor: Cursor) {
        self.next = self.next.max(slot);
        let held_back = self.expected.is_some_and(|expected| expected.holds_back(cursor));
        // The slot moves all the same. Not the position: where `cursor` is held back the reader has more than that already.
        if held_back || slot < self.next || self.position.follows(cursor) {
            return;
        }
        self.expected = None;
        self.stand_at(cursor);
    }

    /// Moves the position. If that leads into another log, how far the reader came in the log it leaves is remembered.
    fn stand_at(&mut self, at: Cursor) {
        if at.epoch != self.position.epoch {
            self.left.leave(self.position);
        }
        self.position = at;
    }

    /// Crosses a gap behind which the window goes on at `at`, and answers where the *reader* goes on: never before what it had of that log.
    ///
    /// ```text
    /// the window:   … gap to b9  b10 …
    /// a reader that never was in b:               goes on at b9
    /// a reader that had b up to b12 elsewhere:    goes on at b12; b10, b11 and b12 are held back when they come
    /// ```
    fn cross_gap_to(&mut self, at: Cursor) -> Cursor {
        let to = if self.position.follows(at) { self.position } else { self.left.goes_on(at) };
        self.stand_at(to);
        self.expected = to.follows(at).then_some(Expected { cursor: to, meanwhile: to.epoch });
        to
    }

    /// Frames that were already decided on and only wait their turn.
    fn pending(&mut self, now: Now) -> Option<Control> {
        // Taken out, so that the gap moves into its frame instead of being copied; put back below where nothing was pending.
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
        self.note_sent(now);
        Some(control)
    }

    /// Sends a gap to a reader that the window has left behind: what it still wanted is gone.
    ///
    /// ```text
    /// the reader is to read slot 16 and stands at a525; the window begins at slot 20, its floor is a529
    ///   → gap(a525, a529] LAPPED, then slot 20 …
    /// the log turned from a into b within the slots 16 to 19, which are gone
    ///   → gap(a525, floor] EPOCH_CHANGED, whatever the positions say: nobody can count across two logs
    /// the reader expects a540, and all that was lost lies before that
    ///   → nothing: it has missed none of it
    /// ```
    fn lapped(&mut self, window: &Window, now: Now) -> Option<Control> {
        if self.next >= window.oldest() {
            return None;
        }
        let (from, floor) = (self.position, window.floor());
        // Asked before `next` moves: the turn lies among the slots that this reader never saw.
        let turned = window.turned_unseen(self.next);
        self.next = window.oldest();
        if self.expected.is_some_and(|expected| expected.holds_back(floor)) {
            if !turned {
                return None; // what was lost lies before the position this reader already holds
            }
            self.note_sent(now);
            return Some(Control::Gap(MissingRange::into_another_log(from, from)));
        }
        if self.phase == Phase::Live {
            // So that it says `CaughtUp` again at the end, where a live reader says no more than `Progress`.
            self.phase = Phase::Behind;
        }
        // A reader that has more than the floor, from elsewhere, is left where it is: then `between` finds nothing missing.
        let to = self.cross_gap_to(floor);
        let gap = if turned {
            MissingRange::into_another_log(from, to)
        } else {
            MissingRange::between(GapReason::Lapped, from, to)?
        };
        self.note_sent(now);
        Some(Control::Gap(gap))
    }

    /// Sends `FellBehind` once to a live reader that lags by more than a quarter of a bound. One entry alone is no lag in number, however
    /// large it is: it may just have been appended.
    fn fell_behind(&mut self, window: &Window, end: Slot, now: Now) -> Option<Control> {
        if self.phase != Phase::Live {
            return None;
        }
        let bounds = window.bounds();
        let next = self.first_wanted(window, end)?;
        let events = end.since(next);
        // One look at the next entry's age covers time; bytes are reckoned by the window's average, good enough to warn.
        let lag = window.appended_at(next).map_or(Duration::ZERO, |at| now.mono.saturating_sub(at));
        let bytes = (window.held_bytes() / window.len().max(1)).saturating_mul(events);
        let quarter = u64::from(FELL_BEHIND_AT);
        let behind = events > 1 && (events > bounds.events / quarter || bytes > bounds.bytes / quarter)
            || events > 0 && lag > bounds.age / FELL_BEHIND_AT;
        behind.then(|| {
            self.phase = Phase::Behind;
            self.note_sent(now);
            Control::FellBehind { cursor: self.position, events, lag }
        })
    }

    /// The next entry that it does not have yet: what is held back for an expected position is no lag. `None`: not within a step's
    /// scan.
    fn first_wanted(&self, window: &Window, end: Slot) -> Option<Slot> {
        let Some(mut expected) = self.expected else { return Some(self.next) };
        let near = self.next..end.min(self.next.plus(scan::SCAN_PER_STEP));
        for entry in window.entries(near) {
            if !expected.holds_back(entry.cursor) {
                return Some(entry.slot);
            }
            expected.comes_to(entry.cursor);
        }
        None
    }

    /// Nothing is left to read: `CaughtUp` after a replay, else `Progress` once it is due, else the time until then.
    fn at_end(&mut self, now: Now) -> Step {
        if self.phase != Phase::Live {
            self.phase = Phase::Live;
            self.note_sent(now);
            return Step::Control(Control::CaughtUp { cursor: self.position });
        }
        let due = self.last_sent.at + self.settings.heartbeat;
        if now.mono < due && !self.progress_requested {
            return Step::WaitUntil(due);
        }
        self.progress(now)
    }

    fn progress(&mut self, now: Now) -> Step {
        self.note_sent(now);
        Step::Control(Control::Progress { cursor: self.position })
    }

    /// Remembers that something was sent that says where the reader stands.
    fn note_sent(&mut self, now: Now) {
        self.last_sent = LastSent { at: now.mono, slot: self.next, bytes: 0, appended: None };
        self.progress_requested = false;
    }
}

impl Expected {
    /// Whether a position lies at or before the expected one: its reader has it. A gap into any third epoch ends the wait: it is sent.
    #[must_use]
    pub fn holds_back(&self, position: Cursor) -> bool {
        if position.epoch == self.cursor.epoch {
            !position.follows(self.cursor)
        } else {
            position.epoch == self.meanwhile
        }
    }

    /// The window has come to this position. Once it is in the expected epoch, a gap out of it is sent, also where it leads
    /// back.
    fn comes_to(&mut self, position: Cursor) {
        if position.epoch == self.cursor.epoch {
            self.meanwhile = position.epoch;
        }
    }
}
