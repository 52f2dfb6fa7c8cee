//! One stream's promises as a state machine: what a reader of a window is sent next, and in which order.
//!
//! The hub runs one per gateway stream, the gateway one per user connection. A [`Reader`] owns no bytes and no queue;
//! it is a [`Slot`] and a cursor. [`Reader::step`] looks at the window, under whatever lock the caller holds, and says
//! the one thing to do next; the caller sends it and asks again. What it keeps:
//!
//! - `Welcome`, a `Gap` if something was missed, the replay, `CaughtUp` (always), then live events;
//! - the cursor of every frame is safe to resume from; only a `Gap` crosses a hole;
//! - a reader whose slot has left the window is told by a `Gap` before anything else;
//! - `Progress` when nothing was said for a heartbeat, and while a filter skips more than an eighth of the window;
//! - `FellBehind` once when the lag exceeds a quarter of any bound, `CaughtUp` when it is back.

use std::ops::Range;
use std::time::Duration;

use crate::Now;
use crate::cursor::{Ask, Cursor, Epoch};
use crate::frame::{EventView, FrameView, PREFIX_BYTES, message};
use crate::window::{Entry, Gap, GapReason, Outcome, Slot, Start, Traits, Window};

#[cfg(test)]
mod tests;

/// A filtered reader is told how far it has been scanned at least every 1/8 of any window bound.
const TOLD_AT_LEAST_EVERY: u32 = 8;

/// A reader has fallen behind when it lags by more than 1/4 of any window bound.
const FELL_BEHIND_AT: u32 = 4;

/// How many entries one step may look at in vain before it gives the caller's lock back.
const SCAN_PER_STEP: u64 = 4_096;

/// Which events a reader is entitled to.
pub trait Filter {
    /// Whether this event may be sent.
    fn admits(&self, event: EventView<'_>) -> bool;
}

/// How a stream is read.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// A `Progress` follows when nothing was sent for this long.
    pub heartbeat: Duration,
    /// The largest message the peer takes, in bytes without the prefix.
    pub message_max: usize,
    /// The most bytes one step hands out, unless a single frame is larger.
    pub turn_bytes: usize,
}

impl Default for Settings {
    /// 5 s, 4 MiB, 256 KiB.
    fn default() -> Self {
        Self { heartbeat: Duration::from_secs(5), message_max: 4 << 20, turn_bytes: 256 << 10 }
    }
}

/// A frame about the stream itself. Whoever encodes it adds what only it knows (generation, limits, …).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Control {
    /// Always first.
    Welcome {
        /// The presented cursor, echoed; for an empty request the head, for `oldest` the floor.
        cursor: String,
        /// What became of it.
        outcome: Outcome,
        /// The log's present life.
        epoch: Epoch,
        /// The last position known.
        head: Cursor,
        /// Just before the oldest held.
        oldest: Cursor,
    },
    /// What was missed; its cursor is [`Gap::to`].
    Gap(Gap),
    /// The replay is over, or the reader is back after falling behind.
    CaughtUp {
        /// The last position passed.
        cursor: Cursor,
    },
    /// Everything up to here was delivered.
    Progress {
        /// The position scanned to.
        cursor: Cursor,
    },
    /// The reader lags.
    FellBehind {
        /// The last position passed.
        cursor: Cursor,
        /// How many entries lie before it.
        events: u64,
        /// How old the next of them is.
        lag: Duration,
    },
}

/// The one thing to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Send this frame.
    Control(Control),
    /// Send the frames of these slots, which lie in one chunk: see [`Window::bytes`].
    Send(Range<Slot>),
    /// Nothing to send yet, but more to look at: give the lock back and call again.
    Again,
    /// Nothing to do until the window has grown, or until this time.
    WaitUntil(Duration),
}

/// What a reader left out, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Omitted {
    /// Events past their `ttl`.
    pub expired: u64,
    /// Events larger than the peer takes, told by a gap (or silently, if ephemeral).
    pub too_large: u64,
}

/// A reader's place and what it has been told.
#[derive(Clone, Debug)]
pub struct Reader {
    settings: Settings,
    next: Slot,
    /// Everything up to here that the reader is entitled to was handed out.
    passed: Cursor,
    phase: Phase,
    /// A cursor beyond what this window knows yet, but within the authority's head.
    awaited: Option<Awaited>,
    told: Told,
    omitted: Omitted,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Phase {
    Opening { welcome: Box<Control>, gap: Option<Gap> },
    Missed { gap: Gap },
    Replaying,
    Live,
    Behind,
}

/// Nothing up to `cursor` is handed out. Entries of `meanwhile`, the epoch the window still is in, lie before it.
#[derive(Clone, Copy, Debug)]
struct Awaited {
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

enum Verdict {
    Send,
    Skip,
    Expired,
    TooLarge,
}

impl Reader {
    /// Opens a stream for a cursor, given as it was asked and as its text.
    #[must_use]
    pub fn open(window: &Window, ask: Ask, text: &str, settings: Settings) -> Self {
        let start = window.find(ask, text);
        let echoed = match ask {
            Ask::Head | Ask::Oldest => start.passed.to_string(),
            Ask::At(_) | Ask::Foreign => text.to_owned(),
        };
        Self::start(window, start, echoed, settings)
    }

    /// Opens a stream at a cursor this window does not reach yet, but the authority's head does: resumed, and nothing
    /// is handed out before the window has passed it.
    #[must_use]
    pub fn open_awaiting(window: &Window, cursor: Cursor, settings: Settings) -> Self {
        let start = Start { outcome: Outcome::Resumed, next: window.end(), passed: cursor, gap: None };
        let mut reader = Self::start(window, start, cursor.to_string(), settings);
        reader.awaited = Some(Awaited { cursor, meanwhile: window.head().epoch });
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
        Self {
            settings,
            next: start.next,
            passed: start.passed,
            phase: Phase::Opening { welcome, gap: start.gap },
            awaited: None,
            told: Told { slot: start.next, ..Told::default() },
            omitted: Omitted::default(),
        }
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

    /// Whether it has caught up and not fallen behind since.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.phase == Phase::Live
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
    pub fn visit(&mut self, window: &Window, slot: Slot, filter: Option<&dyn Filter>, now: Now) -> Step {
        if slot >= self.next.max(window.oldest()) {
            self.next = slot;
        }
        self.step_until(window, slot.next(), filter, now)
    }

    /// Says that everything before `slot`, up to `cursor`, is known not to be for this reader.
    pub fn pass(&mut self, slot: Slot, cursor: Cursor) {
        self.next = self.next.max(slot);
        if self.awaited.is_some_and(|awaited| awaited.holds_back(cursor)) || slot < self.next {
            return;
        }
        (self.awaited, self.passed) = (None, cursor);
    }

    /// Frames that were already decided on and only wait their turn.
    fn pending(&mut self, now: Now) -> Option<Control> {
        let (control, next) = match std::mem::replace(&mut self.phase, Phase::Replaying) {
            Phase::Opening { welcome, gap: None } => (*welcome, Phase::Replaying),
            Phase::Opening { welcome, gap: Some(gap) } => (*welcome, Phase::Missed { gap }),
            Phase::Missed { gap } => (Control::Gap(gap), Phase::Replaying),
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
        self.next = window.oldest();
        if self.awaited.is_some_and(|awaited| awaited.holds_back(floor)) {
            return None; // what was lost lies before the position this reader already holds
        }
        if self.phase == Phase::Live {
            self.phase = Phase::Behind;
        }
        self.awaited = None;
        self.passed = floor;
        let gap = Gap::between(GapReason::Lapped, from, floor)?;
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
        if now.mono < due {
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
    }

    fn read(&mut self, window: &Window, end: Slot, filter: Option<&dyn Filter>, now: Now) -> Step {
        if filter.is_none() && self.awaited.is_none() {
            let run = window.plain_run(self.next, self.settings.message_max, self.settings.turn_bytes);
            let run = run.start..run.end.min(end);
            if let Some(last) = run.end.since(run.start).checked_sub(1) {
                let last = window.get(run.start.plus(last));
                return self.send(run, last.map_or(self.passed, |entry| entry.cursor), now);
            }
        }
        self.scan(window, end, filter, now)
    }

    fn send(&mut self, run: Range<Slot>, last: Cursor, now: Now) -> Step {
        self.next = run.end;
        self.passed = last;
        self.tell(now);
        Step::Send(run)
    }

    /// Looks at entries one by one: skips what is not for this reader, then takes the run that is.
    fn scan(&mut self, window: &Window, end: Slot, filter: Option<&dyn Filter>, now: Now) -> Step {
        let scan_end = end.min(self.next.plus(SCAN_PER_STEP));
        let (mut run, mut bytes) = (None::<Range<Slot>>, 0);
        let mut last = self.passed;
        for entry in window.entries(self.next..scan_end) {
            let verdict = self.judge(&entry, filter, now);
            if let Some(run) = &mut run {
                bytes += entry.frame.len();
                let same_chunk = !window.bytes_are_apart(run.start, entry.slot);
                if !matches!(verdict, Verdict::Send) || bytes > self.settings.turn_bytes || !same_chunk {
                    break;
                }
                run.end = entry.slot.next();
                last = entry.cursor;
                continue;
            }
            match verdict {
                Verdict::Send => {
                    run = Some(entry.slot..entry.slot.next());
                    (bytes, last) = (entry.frame.len(), entry.cursor);
                }
                Verdict::TooLarge if !entry.traits.has(Traits::EPHEMERAL) => {
                    return self.too_large(&entry, now);
                }
                skipped => {
                    self.omitted.count(&skipped);
                    self.skip(&entry);
                    if !entry.traits.has(Traits::CONTINUES) && self.is_untold_for_long(window, &entry) {
                        return self.progress(now);
                    }
                }
            }
        }
        match run {
            Some(run) => self.send(run, last, now),
            None => Step::Again,
        }
    }

    fn skip(&mut self, entry: &Entry<'_>) {
        self.next = entry.slot.next();
        self.told.bytes += entry.frame.len() as u64;
        self.told.appended.get_or_insert(entry.at);
        if self.awaited.is_none() {
            self.passed = entry.cursor;
        }
    }

    fn judge(&mut self, entry: &Entry<'_>, filter: Option<&dyn Filter>, now: Now) -> Verdict {
        if let Some(awaited) = self.awaited {
            if awaited.holds_back(entry.cursor) {
                return Verdict::Skip;
            }
            self.awaited = None;
        }
        if entry.traits.has(Traits::GAP) {
            return Verdict::Send;
        }
        if entry.traits.has(Traits::EPHEMERAL) && self.phase != Phase::Live {
            return Verdict::Skip;
        }
        let Ok(frame) = FrameView::read(message(entry.frame)) else { return Verdict::Send };
        let Some(event) = frame.event() else { return Verdict::Send };
        if filter.is_some_and(|filter| !filter.admits(event)) {
            return Verdict::Skip;
        }
        let expired = entry.traits.has(Traits::EXPIRES)
            && event.ttl_ms().is_some_and(|ttl| now.unix_ms > frame.appended_unix_ms().saturating_add(ttl));
        if expired {
            return Verdict::Expired;
        }
        if entry.frame.len() - PREFIX_BYTES > self.settings.message_max {
            Verdict::TooLarge
        } else {
            Verdict::Send
        }
    }

    fn too_large(&mut self, entry: &Entry<'_>, now: Now) -> Step {
        let from = self.passed;
        self.omitted.count(&Verdict::TooLarge);
        self.skip(entry);
        self.tell(now);
        let gap = Gap {
            reason: GapReason::TooLarge,
            from: from.to_string(),
            to: entry.cursor,
            count: Some(1),
            repair_after: None,
        };
        Step::Control(Control::Gap(gap))
    }

    /// Whether a reader whose filter skips everything has not been told for an eighth of any bound.
    fn is_untold_for_long(&self, window: &Window, scanned: &Entry<'_>) -> bool {
        let bounds = window.bounds();
        let part = u64::from(TOLD_AT_LEAST_EVERY);
        let age = self.told.appended.map_or(Duration::ZERO, |first| scanned.at.saturating_sub(first));
        self.next.since(self.told.slot) > bounds.events / part
            || self.told.bytes > bounds.bytes / part
            || age > bounds.age / TOLD_AT_LEAST_EVERY
    }
}

impl Omitted {
    const fn count(&mut self, verdict: &Verdict) {
        match verdict {
            Verdict::Expired => self.expired += 1,
            Verdict::TooLarge => self.too_large += 1,
            Verdict::Send | Verdict::Skip => {}
        }
    }
}

impl Awaited {
    /// Whether a position lies at or before the awaited one. A gap into any third epoch ends the wait: it is told.
    fn holds_back(&self, position: Cursor) -> bool {
        if position.epoch == self.cursor.epoch {
            !position.follows(self.cursor)
        } else {
            position.epoch == self.meanwhile
        }
    }
}
