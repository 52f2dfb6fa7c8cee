//! How a reader goes over the entries of a window: whole runs that may be sent as they lie, and one by one where they may not.
//!
//! The part of [`Reader`] below [`Reader::step`]; nobody else calls it.

use std::ops::Range;
use std::time::Duration;

use super::{Control, Entitled, Filter, Omitted, Phase, Reader, Step};
use crate::Now;
use crate::cursor::Cursor;
use crate::frame::{FrameView, GapView, PREFIX_BYTES, message};
use crate::window::{Entry, GapReason, MissingRange, Slot, Traits, Window};

/// A filtered reader gets a `Progress` at least every 1/8 of any window bound, so that its position never ages out in silence.
const PROGRESS_AT_LEAST_EVERY: u32 = 8;

/// How many entries one step may look at in vain before it gives the caller's lock back.
pub(super) const SCAN_PER_STEP: u64 = 4_096;

/// What becomes of one entry for one reader.
enum Decision {
    Send,
    Skip,
    Expired,
    TooLarge,
    /// Something is missing in the window here, and what its entry says is not true of this reader, which stands elsewhere: it gets a
    /// gap of its own, see [`Reader::own_gap`].
    Missed,
    /// Nobody can tell whether it is for this reader.
    Unknown,
}

impl Reader {
    /// Sends the next entries. A reader without a filter that expects nothing takes whole runs of plain entries unseen; every other one looks at
    /// each entry.
    pub(super) fn read(&mut self, window: &Window, end: Slot, filter: Option<&dyn Filter>, now: Now) -> Step {
        if filter.is_none() && self.expected.is_none() {
            let run = window.plain_run(self.next, self.settings.message_max, self.settings.turn_bytes);
            let run = run.start..run.end.min(end);
            if let Some(last) = run.end.since(run.start).checked_sub(1) {
                let last = window.get(run.start.plus(last));
                return self.send(run, last.map_or(self.position, |entry| entry.cursor), now);
            }
        }
        self.scan(window, end, filter, now)
    }

    fn send(&mut self, run: Range<Slot>, last: Cursor, now: Now) -> Step {
        self.next = run.end;
        self.stand_at(last); // a run lies in one epoch
        self.note_sent(now);
        Step::Send(run)
    }

    /// Looks at entries one by one: skips what is not for this reader, then takes the run that is.
    ///
    /// ```text
    /// the window:   18 for me   19 for me   20 not for me   21 for me
    /// first step:   Send(18..20)            the run ends before 20
    /// second step:  Send(21..22)            20 is skipped on the way
    ///
    /// the window:   18 not for me   19 nobody can tell   20 not for me   21 for me
    /// first step:   gap over 19, UPSTREAM   sent before anything behind it
    /// second step:  Send(21..22)
    /// ```
    ///
    /// A gap is a run of its own: what is said of it depends on where the reader stands, and who sends it may have more to say right behind it.
    fn scan(&mut self, window: &Window, end: Slot, filter: Option<&dyn Filter>, now: Now) -> Step {
        let scan_end = end.min(self.next.plus(SCAN_PER_STEP));
        let (mut run, mut bytes) = (None::<Range<Slot>>, 0);
        let mut last = self.position;
        // What cannot be judged: after the one position, up to the other. A gap over it is sent before anything that lies behind it.
        let mut unknown = None::<(Cursor, Cursor)>;
        for entry in window.entries(self.next..scan_end) {
            if run.is_some() && entry.traits.has(Traits::GAP) {
                break;
            }
            let decision = self.judge(window, &entry, filter, now);
            // Extends the run, or ends it: a run is sent as one piece of bytes, so it lies in one chunk and within `turn_bytes`.
            if let Some(run) = &mut run {
                bytes += entry.frame.len();
                let same_chunk = !window.bytes_are_apart(run.start, entry.slot);
                if !matches!(decision, Decision::Send) || bytes > self.settings.turn_bytes || !same_chunk {
                    break;
                }
                run.end = entry.slot.next();
                last = entry.cursor;
                continue;
            }
            match decision {
                Decision::Unknown => {
                    let from = unknown.map_or(self.position, |(from, _)| from);
                    unknown = Some((from, entry.cursor));
                    self.skip(&entry);
                }
                // The gap over what is unknown goes first. This entry is not passed: the next step begins with it.
                Decision::Send | Decision::Missed | Decision::TooLarge if unknown.is_some() => break,
                Decision::Send => {
                    run = Some(entry.slot..entry.slot.next());
                    (bytes, last) = (entry.frame.len(), entry.cursor);
                    if entry.traits.has(Traits::GAP) {
                        break;
                    }
                }
                Decision::Missed => return self.own_gap(&entry, now),
                // An ephemeral one is skipped below: it has no position that a gap could name.
                Decision::TooLarge if !entry.traits.has(Traits::EPHEMERAL) => {
                    return self.too_large(&entry, now);
                }
                skipped => {
                    self.omitted.count(&skipped);
                    self.skip(&entry);
                    // A `Progress` here would tell a position behind what is unknown, before the gap over it; or one inside a batch.
                    let may_tell = unknown.is_none() && !entry.traits.has(Traits::CONTINUES);
                    if may_tell && self.is_progress_due(window, &entry) {
                        return self.progress(now);
                    }
                }
            }
        }
        match (unknown, run) {
            (Some((from, to)), _) => self.missed(MissingRange::between(GapReason::Upstream, from, to), now),
            (None, Some(run)) => self.send(run, last, now),
            (None, None) => Step::Again,
        }
    }

    /// Passes one entry without sending it. The position follows, so that a `Progress` tells it, unless the entry lies before an expected one.
    fn skip(&mut self, entry: &Entry<'_>) {
        self.next = entry.slot.next();
        self.last_sent.bytes += entry.frame.len() as u64;
        self.last_sent.appended.get_or_insert(entry.at);
        if self.expected.is_none() {
            self.stand_at(entry.cursor);
        }
    }

    /// Decides about one entry. The order of the questions matters: a position that is expected comes first, because the reader has what lies
    /// before it; then what is no event; then whether the reader may see it; then whether it is still worth sending.
    fn judge(
        &mut self,
        window: &Window,
        entry: &Entry<'_>,
        filter: Option<&dyn Filter>,
        now: Now,
    ) -> Decision {
        if let Some(expected) = &mut self.expected {
            if expected.holds_back(entry.cursor) {
                expected.comes_to(entry.cursor);
                return Decision::Skip;
            }
            self.expected = None;
        }
        if entry.traits.has(Traits::DAMAGED) {
            return Decision::Missed;
        }
        if entry.traits.has(Traits::GAP) {
            return if self.stands_with(window, entry) { Decision::Send } else { Decision::Missed };
        }
        if filter.is_none() && entry.traits.is_plain() {
            return self.fit(entry); // nothing in it could make a difference
        }
        if entry.traits.has(Traits::EPHEMERAL) && self.phase != Phase::Live {
            return Decision::Skip;
        }
        // What cannot be read is sent and not hidden: to skip it would be a hole in silence, and whoever gets it checks it again.
        let Ok(frame) = FrameView::read(message(entry.frame)) else { return Decision::Send };
        if entry.traits.has(Traits::STANDING) {
            return if self.records.include(frame.kind()) { self.fit(entry) } else { Decision::Skip };
        }
        let Some(event) = frame.event() else { return Decision::Send };
        let entitled = filter.map_or(Entitled::Yes, |filter| filter.entitles(event, entry.slot));
        if entitled == Entitled::No {
            return Decision::Skip;
        }
        let expired = entry.traits.has(Traits::EXPIRES)
            && event.ttl_ms().is_some_and(|ttl| {
                window.age(entry, frame.appended_unix_ms(), now.mono) > Duration::from_millis(ttl)
            });
        match entitled {
            // Also where nobody can tell whose it is: what has expired is owed to nobody, so no gap need tell of it.
            _ if expired => Decision::Expired,
            Entitled::Unknown if entry.traits.has(Traits::EPHEMERAL) => Decision::Skip,
            Entitled::Unknown => Decision::Unknown,
            Entitled::Yes | Entitled::No => self.fit(entry),
        }
    }

    /// Whether the peer accepts a message of this size.
    const fn fit(&self, entry: &Entry<'_>) -> Decision {
        if entry.frame.len() - PREFIX_BYTES > self.settings.message_max {
            Decision::TooLarge
        } else {
            Decision::Send
        }
    }

    /// Sends a gap over one event that the peer cannot receive: without it the stream would end at the event, again and again.
    fn too_large(&mut self, entry: &Entry<'_>, now: Now) -> Step {
        let from = self.position;
        self.omitted.count(&Decision::TooLarge);
        self.skip(entry);
        self.note_sent(now);
        let gap = MissingRange {
            reason: GapReason::TooLarge,
            from: from.to_string(),
            to: entry.cursor,
            count: Some(1),
            repair_after: None,
        };
        Step::Control(Control::Gap(gap))
    }

    /// Whether a gap in the window is true of this reader as it lies: the reader stands where the window stood when it missed
    /// something, and goes on where the window went on.
    ///
    /// ```text
    /// the window:     …  2  gap(2, 5]  6     its own stream missed 3, 4 and 5
    /// reader A at 2:  sent gap(2, 5] as it lies: all of it is true of A
    /// reader B at 4:  not sent it: B has 3 and 4 from another gateway, and would think that it lost them
    /// ```
    fn stands_with(&self, window: &Window, gap: &Entry<'_>) -> bool {
        let before = window.before(gap.slot);
        // A gap may begin behind the entry before it, where upstream had nothing for this window.
        let from = gap_of(gap).and_then(GapView::from).filter(|from| from.epoch == before.epoch);
        self.position.epoch == before.epoch
            && !self.position.follows(from.unwrap_or(before))
            && self.left.goes_on(gap.cursor) == gap.cursor
    }

    /// The one rule for whatever is missing in the window, met by a reader that does not stand where the window stood. It gets a
    /// gap of its own: from where it stands to where the window goes on, and never back before what it had of that log.
    ///
    /// ```text
    /// the window:     …  2  gap(2, 5] DAMAGED, count 3  6
    /// reader B at 4:  gap(4, 5] DAMAGED, count 1, then 6
    /// reader C at 5:  nothing: C has missed none of it; then 6
    ///
    /// the window:     a1 a2  gap(a2, b9] EPOCH_CHANGED  b10
    /// reader D at b5: gap(b5, b9] UPSTREAM, count 4, then b10     it was in log b already
    /// reader E at a7: gap(a7, b9] EPOCH_CHANGED, then b10         it had more of log a than the window
    /// ```
    ///
    /// What became of the events (damaged, too large, collapsed) is true of everybody. That the window's own stream came too late, or
    /// changed its log, is no fault of this reader: to it the window itself has missed something, which is UPSTREAM. Whatever the
    /// reason, a gap that leads the reader into another epoch is EPOCH_CHANGED ([`MissingRange::between`]), as for E. The count is what lies
    /// in the range, and no more than the gap in the window says.
    fn own_gap(&mut self, entry: &Entry<'_>, now: Now) -> Step {
        // Crossed before it is skipped: where the reader has more of that log than the window, `skip` then leaves its position alone.
        let (from, to) = (self.position, self.cross_gap_to(entry.cursor));
        self.skip(entry);
        let in_window = gap_of(entry);
        let reason = match in_window.and_then(GapView::reason) {
            _ if entry.traits.has(Traits::DAMAGED) => GapReason::Damaged,
            Some(reason @ (GapReason::Damaged | GapReason::TooLarge | GapReason::Collapsed)) => reason,
            _ => GapReason::Upstream,
        };
        let mut gap = MissingRange::between(reason, from, to);
        if let Some(gap) = &mut gap {
            let at_most = in_window.and_then(GapView::count).unwrap_or(u64::MAX);
            // Where a log was left and came back within the gap, another one lies between: nobody can know.
            let is_return = in_window.is_some_and(|gap| {
                gap.reason() == Some(GapReason::EpochChanged)
                    && gap.from().is_some_and(|from| from.epoch == entry.cursor.epoch)
            });
            gap.count = gap.count.filter(|_| !is_return).map(|count| count.min(at_most));
        }
        // The standing records are sent anew behind it, and whoever needs them waits for `CaughtUp`: a live reader is to say it, too.
        if gap.is_some() && entry.traits.has(Traits::DAMAGED) && self.phase == Phase::Live {
            self.phase = Phase::Behind;
        }
        self.missed(gap, now)
    }

    /// Sends a gap, if anything is missing at all.
    fn missed(&mut self, gap: Option<MissingRange>, now: Now) -> Step {
        let Some(gap) = gap else { return Step::Again };
        self.note_sent(now);
        Step::Control(Control::Gap(gap))
    }

    /// Whether a reader whose filter skips everything has been sent nothing for an eighth of any bound.
    fn is_progress_due(&self, window: &Window, scanned: &Entry<'_>) -> bool {
        let bounds = window.bounds();
        let part = u64::from(PROGRESS_AT_LEAST_EVERY);
        let age = self.last_sent.appended.map_or(Duration::ZERO, |first| scanned.at.saturating_sub(first));
        self.next.since(self.last_sent.slot) > bounds.events / part
            || self.last_sent.bytes > bounds.bytes / part
            || age > bounds.age / PROGRESS_AT_LEAST_EVERY
    }
}

/// The gap that an entry of the window is.
fn gap_of<'a>(entry: &Entry<'a>) -> Option<GapView<'a>> {
    let frame = entry.traits.has(Traits::GAP).then(|| FrameView::read(message(entry.frame)).ok());
    frame.flatten().and_then(|frame| frame.gap())
}

impl Omitted {
    const fn count(&mut self, decision: &Decision) {
        match decision {
            Decision::Expired => self.expired += 1,
            Decision::TooLarge => self.too_large += 1,
            Decision::Send | Decision::Skip | Decision::Missed | Decision::Unknown => {}
        }
    }
}
