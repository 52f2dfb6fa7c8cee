//! How a reader goes over the entries of a window: runs that may go out as they lie, and the look at each where not.
//!
//! The part of [`Reader`] below [`Reader::step`]; nobody else calls it.

use std::ops::Range;
use std::time::Duration;

use super::{Control, Entitled, Filter, Omitted, Phase, Reader, Step};
use crate::Now;
use crate::cursor::Cursor;
use crate::frame::{FrameView, GapView, PREFIX_BYTES, message};
use crate::window::{Entry, Gap, GapReason, Slot, Traits, Window};

/// A filtered reader is told how far it has been scanned at least every 1/8 of any window bound.
const TOLD_AT_LEAST_EVERY: u32 = 8;

/// How many entries one step may look at in vain before it gives the caller's lock back.
const SCAN_PER_STEP: u64 = 4_096;

enum Verdict {
    Send,
    Skip,
    Expired,
    TooLarge,
    /// To be told by a gap from where the reader stands: a gap of this window's own reader, met by one that stands elsewhere, or
    /// what the store has lost.
    Missed(GapReason),
    /// A gap of this window's own reader that begins before where this one stands: to be told from there.
    Inside,
    /// Nobody can tell whether it is for this reader.
    Unknown,
}

impl Reader {
    pub(super) fn read(&mut self, window: &Window, end: Slot, filter: Option<&dyn Filter>, now: Now) -> Step {
        if filter.is_none() && self.promised.is_none() {
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
        self.stand_at(last); // a run lies in one epoch
        self.tell(now);
        Step::Send(run)
    }

    /// Looks at entries one by one: skips what is not for this reader, then takes the run that is. A gap is a run of its own: what
    /// is told of it depends on where the reader stands, and who sends it may have more to say right behind it.
    fn scan(&mut self, window: &Window, end: Slot, filter: Option<&dyn Filter>, now: Now) -> Step {
        let scan_end = end.min(self.next.plus(SCAN_PER_STEP));
        let (mut run, mut bytes) = (None::<Range<Slot>>, 0);
        let mut last = self.passed;
        // What cannot be judged: after the one position, up to the other. It is told before anything that lies behind it.
        let mut unknown = None::<(Cursor, Cursor)>;
        for entry in window.entries(self.next..scan_end) {
            if run.is_some() && entry.traits.has(Traits::GAP) {
                break;
            }
            let verdict = match self.judge(window, &entry, filter, now) {
                Verdict::Send | Verdict::Missed(_) if self.stands_inside(&entry) => Verdict::Inside,
                Verdict::Send if self.stands_elsewhere(&entry, window) => {
                    Verdict::Missed(GapReason::Upstream)
                }
                verdict => verdict,
            };
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
                Verdict::Unknown => {
                    let from = unknown.map_or(self.passed, |(from, _)| from);
                    unknown = Some((from, entry.cursor));
                    self.skip(&entry);
                }
                Verdict::Send | Verdict::Missed(_) | Verdict::Inside | Verdict::TooLarge
                    if unknown.is_some() =>
                {
                    break;
                }
                Verdict::Send => {
                    run = Some(entry.slot..entry.slot.next());
                    (bytes, last) = (entry.frame.len(), entry.cursor);
                    if entry.traits.has(Traits::GAP) {
                        break;
                    }
                }
                Verdict::Missed(reason) => {
                    let (from, to) = (self.passed, self.goes_on(entry.cursor));
                    self.skip(&entry);
                    return self.missed(reason, from, to, now);
                }
                Verdict::Inside => return self.missed_the_rest(&entry, now),
                Verdict::TooLarge if !entry.traits.has(Traits::EPHEMERAL) => {
                    return self.too_large(&entry, now);
                }
                skipped => {
                    self.omitted.count(&skipped);
                    self.skip(&entry);
                    let may_tell = unknown.is_none() && !entry.traits.has(Traits::CONTINUES);
                    if may_tell && self.is_untold_for_long(window, &entry) {
                        return self.progress(now);
                    }
                }
            }
        }
        match (unknown, run) {
            (Some((from, to)), _) => self.missed(GapReason::Upstream, from, to, now),
            (None, Some(run)) => self.send(run, last, now),
            (None, None) => Step::Again,
        }
    }

    fn skip(&mut self, entry: &Entry<'_>) {
        self.next = entry.slot.next();
        self.told.bytes += entry.frame.len() as u64;
        self.told.appended.get_or_insert(entry.at);
        if self.promised.is_none() {
            self.stand_at(entry.cursor);
        }
    }

    fn judge(
        &mut self,
        window: &Window,
        entry: &Entry<'_>,
        filter: Option<&dyn Filter>,
        now: Now,
    ) -> Verdict {
        if let Some(promised) = &mut self.promised {
            if promised.holds_back(entry.cursor) {
                promised.comes_to(entry.cursor);
                return Verdict::Skip;
            }
            self.promised = None;
            if entry.traits.has(Traits::GAP) {
                return Verdict::Missed(GapReason::Upstream);
            }
        }
        if entry.traits.has(Traits::DAMAGED) {
            return Verdict::Missed(GapReason::Damaged);
        }
        if entry.traits.has(Traits::GAP) {
            return Verdict::Send;
        }
        if filter.is_none() && entry.traits.is_plain() {
            return self.fit(entry); // nothing in it could make a difference
        }
        if entry.traits.has(Traits::EPHEMERAL) && self.phase != Phase::Live {
            return Verdict::Skip;
        }
        let Ok(frame) = FrameView::read(message(entry.frame)) else { return Verdict::Send };
        if entry.traits.has(Traits::STANDING) {
            return if self.records.include(frame.kind()) { self.fit(entry) } else { Verdict::Skip };
        }
        let Some(event) = frame.event() else { return Verdict::Send };
        let entitled = filter.map_or(Entitled::Yes, |filter| filter.entitles(event, entry.slot));
        if entitled == Entitled::No {
            return Verdict::Skip;
        }
        let expired = entry.traits.has(Traits::EXPIRES)
            && event.ttl_ms().is_some_and(|ttl| {
                window.age(entry, frame.appended_unix_ms(), now.mono) > Duration::from_millis(ttl)
            });
        match entitled {
            _ if expired => Verdict::Expired,
            Entitled::Unknown if entry.traits.has(Traits::EPHEMERAL) => Verdict::Skip,
            Entitled::Unknown => Verdict::Unknown,
            Entitled::Yes | Entitled::No => self.fit(entry),
        }
    }

    const fn fit(&self, entry: &Entry<'_>) -> Verdict {
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

    /// Whether the entry is a gap that leads the window into another epoch, and the reader stands elsewhere than the window
    /// did, or has more of that epoch: it came with a cursor of somebody who missed less.
    fn stands_elsewhere(&self, entry: &Entry<'_>, window: &Window) -> bool {
        let (before, at) = (window.before(entry.slot), entry.cursor);
        entry.traits.has(Traits::GAP)
            && before.epoch != at.epoch
            && (self.passed.epoch != before.epoch
                || self.passed.follows(before)
                || self.been.goes_on(at) != at)
    }

    /// Whether the entry is a gap that begins before where the reader stands: it came with a cursor of somebody who missed less.
    fn stands_inside(&self, entry: &Entry<'_>) -> bool {
        let from = gap_of(entry).and_then(GapView::from);
        from.is_some_and(|from| self.passed.follows(from))
    }

    /// Tells what a gap in the window tells, of the part that lies behind the reader. That the window's own reader came too late is
    /// no fault of this one: to it the window itself has missed something.
    fn missed_the_rest(&mut self, entry: &Entry<'_>, now: Now) -> Step {
        let (from, to) = (self.passed, self.goes_on(entry.cursor));
        self.skip(entry);
        let told = gap_of(entry);
        let reason = match told.and_then(GapView::reason) {
            Some(reason @ (GapReason::Damaged | GapReason::TooLarge | GapReason::Collapsed)) => reason,
            _ => GapReason::Upstream,
        };
        let Some(mut gap) = Gap::between(reason, from, to) else { return Step::Again };
        gap.count = gap.count.zip(told.and_then(GapView::count)).map(|(lie_there, told)| lie_there.min(told));
        self.tell(now);
        Step::Control(Control::Gap(gap))
    }

    /// Tells of what the window's own reader missed, or has forgotten, and of what its store has lost. What is held in the window
    /// says from where that reader missed something, and where that goes on: who stands elsewhere is told from there, and is led
    /// no further back than it was.
    fn missed(&mut self, reason: GapReason, from: Cursor, to: Cursor, now: Now) -> Step {
        let Some(gap) = Gap::between(reason, from, to) else { return Step::Again };
        self.tell(now);
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

/// The gap that an entry of the window is.
fn gap_of<'a>(entry: &Entry<'a>) -> Option<GapView<'a>> {
    let frame = entry.traits.has(Traits::GAP).then(|| FrameView::read(message(entry.frame)).ok());
    frame.flatten().and_then(|frame| frame.gap())
}

impl Omitted {
    const fn count(&mut self, verdict: &Verdict) {
        match verdict {
            Verdict::Expired => self.expired += 1,
            Verdict::TooLarge => self.too_large += 1,
            Verdict::Send | Verdict::Skip | Verdict::Missed(_) | Verdict::Inside | Verdict::Unknown => {}
        }
    }
}
