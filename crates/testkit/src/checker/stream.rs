//! What a reader knows at each record of its stream: the state that every promise is judged against.
//!
//! Promises look at a [`Step`], the record together with the state *before* it. After a violation the state goes on
//! from what was seen, so that one fault is reported once and not again by everything behind it.

mod carried;

use std::collections::HashMap;

use super::collapse::Collapsed;
use super::entitlement::{Entitlement, Owed};
use super::index::{Index, Pos, Stream, following::Visit};
use crate::history::{Cursor, Gap, GapReason, Hash, Hop, Outcome, Record, Welcome, What};
use carried::Carried;

/// One record of a stream, and what the reader knew before it.
pub(super) struct Step<'a, 'h> {
    pub(super) index: &'a Index<'h>,
    pub(super) stream: &'a Stream<'h>,
    pub(super) state: &'a State<'h>,
    /// What the stream of this reader before this one came to.
    pub(super) before: Option<&'a State<'h>>,
    pub(super) line: usize,
    pub(super) at_us: u64,
    pub(super) what: &'h What,
}

/// The state of a stream.
pub(super) struct State<'h> {
    pub(super) welcome: Option<&'h Welcome>,
    pub(super) welcome_us: u64,
    /// The welcome announced a gap that has not come yet.
    pub(super) gap_due: bool,
    /// Standing records belong here: right after the welcome, or after a gap in mid-stream.
    pub(super) listing: Option<Listing<'h>>,
    pub(super) caught_up: bool,
    pub(super) behind: bool,
    /// Since when it has had everything there was, and missed nothing.
    pub(super) live_since_us: Option<u64>,
    /// When a frame came last.
    pub(super) heard_us: u64,
    /// Bytes of the log that it was handed since it paused last.
    pub(super) since_pause_bytes: u64,
    pub(super) said_goodbye: bool,
    pub(super) closed: bool,
    /// `None` until a position is known.
    pub(super) stretch: Option<Stretch>,
    pub(super) entitlement: Entitlement<'h>,
    pub(super) ephemerals: HashMap<(&'h str, Hash), usize>,
    pub(super) collapsed: Collapsed<'h>,
    /// What the reader has from its streams before, and from this one.
    pub(super) carried: Carried,
    collapses: bool,
}

/// The standing records that a reader is being told apart from the log.
pub(super) struct Listing<'h> {
    /// The cursor that their frames carry.
    pub(super) cursor: &'h Cursor,
    /// Where reading goes on: later records come in their place.
    pub(super) from: Option<Pos>,
    /// What was told so far.
    pub(super) records: Vec<Hash>,
    /// The last of them has not come.
    pub(super) due: bool,
}

/// The part of a stream that lies in one epoch and in which positions rise.
pub(super) struct Stretch {
    pub(super) epoch: u32,
    /// Where it began: everything after this is judged.
    pub(super) start: u64,
    /// The highest position that was delivered, told as missing, or declared passed.
    pub(super) passed: u64,
    /// The positions delivered, rising.
    pub(super) delivered: Vec<u64>,
    /// The highest position told as missing.
    pub(super) gap: Option<u64>,
    /// The highest `Progress`.
    pub(super) progress: Option<u64>,
    /// The highest cursor of `CaughtUp`, `FellBehind`, `Subscribed`, `Goodbye`.
    pub(super) mark: Option<u64>,
}

impl<'a, 'h> Step<'a, 'h> {
    pub(super) fn new(
        index: &'a Index<'h>,
        stream: &'a Stream<'h>,
        state: &'a State<'h>,
        before: Option<&'a State<'h>>,
        line: usize,
    ) -> Self {
        let record = &index.records[line];
        Self { index, stream, state, before, line, at_us: record.at_us, what: &record.what }
    }

    /// A gap that a client tells of by itself, its own cursor being unreadable: no server sent it.
    pub(super) fn is_local(&self) -> bool {
        let unwelcomed = self.state.welcome.is_none();
        unwelcomed && matches!(self.what, What::Gap(gap) if gap.reason == GapReason::CursorUnreadable)
    }

    /// The position of an event, if this record is one and has one.
    pub(super) fn event(&self) -> Option<Pos> {
        match self.what {
            What::Event(event) => event.position.as_ref().map(|position| self.index.pos(position)),
            _ => None,
        }
    }

    /// What lies between where the reader stands and `upto`, and is owed to it.
    pub(super) fn owed(&self, stretch: &Stretch, upto: u64) -> Owed<'a, 'h> {
        self.owed_after(stretch.passed(), upto)
    }

    /// What lies in `(after, upto]` and is owed to the reader.
    pub(super) fn owed_after(&self, after: Pos, upto: u64) -> Owed<'a, 'h> {
        self.state.entitlement.owed(self.index, after, upto, self.at_us)
    }

    /// Whether its gateway came into the epoch of this position, where the reader stands, since the reader was told of that
    /// last; or earlier, but beyond where the reader stands. A reader may have waited for the epoch elsewhere.
    pub(super) fn was_entered(&self, held: Pos) -> bool {
        let open = self.stream.open;
        let followed = |gateway| self.index.followed_for(gateway, open.stream, self.at_us);
        let visits = open.at.as_deref().map_or(&[][..], followed);
        let opened_us = self.index.records[self.stream.open_line].at_us;
        let told_us = self.state.carried.entered_us.map_or(opened_us, |told| told.max(opened_us));
        let untold = |visit: &Visit| visit.began_us > told_us || visit.from >= held.seq;
        let mut pairs = visits.windows(2);
        pairs.any(|pair| pair[0].epoch != held.epoch && pair[1].epoch == held.epoch && untold(&pair[1]))
    }

    /// Whether nothing befell its reader, its connection and its server since the stream was asked for, and the reader did
    /// not pause since then.
    pub(super) fn is_calm(&self, awake_since_us: u64) -> bool {
        let (calm, open) = (&self.index.calm, self.stream.open);
        let opened_us = self.index.records[self.stream.open_line].at_us.min(awake_since_us);
        !open.steady
            && !calm.paused(open.stream, awake_since_us, self.at_us)
            && calm.is_calm(self.stream.process, open, opened_us, self.at_us)
    }

    /// Whether what was appended to the log of an epoch at this time, and since, was there for its server to hand on.
    pub(super) fn is_fed(&self, epoch: u32, since_us: u64) -> bool {
        let open = self.stream.open;
        if open.hop == Hop::Gateway {
            return true;
        }
        let gateway = open.at.as_deref();
        self.follows(epoch, since_us)
            && self.follows(epoch, self.at_us)
            && gateway.is_some_and(|gateway| self.index.calm.is_fed(gateway, since_us, self.at_us))
    }

    /// Whether its gateway was in the log of this epoch at a time.
    pub(super) fn follows(&self, epoch: u32, at_us: u64) -> bool {
        let gateway = self.stream.open.at.as_deref();
        let visits = gateway.map_or(&[][..], |gateway| self.index.followed(gateway, at_us));
        visits.last().is_some_and(|visit| visit.epoch == epoch)
    }

    /// The stretch the reader is in, if `pos` is of its epoch.
    pub(super) fn stretch_of(&self, pos: Pos) -> Option<&'a Stretch> {
        self.state.stretch.as_ref().filter(|stretch| stretch.epoch == pos.epoch)
    }
}

impl<'h> State<'h> {
    pub(super) fn new(index: &Index<'h>, stream: &Stream<'h>, before: Option<&Self>) -> Self {
        Self {
            carried: Carried::to(index, stream, before),
            welcome: None,
            welcome_us: 0,
            gap_due: false,
            listing: None,
            caught_up: false,
            behind: false,
            live_since_us: None,
            heard_us: 0,
            since_pause_bytes: 0,
            said_goodbye: false,
            closed: false,
            stretch: None,
            entitlement: Entitlement::new(index, stream.open),
            ephemerals: HashMap::new(),
            collapsed: Collapsed::default(),
            collapses: stream.open.collapses,
        }
    }

    /// Takes a record in, whether it was right or not.
    pub(super) fn apply(&mut self, index: &Index<'h>, line: usize) {
        let record = &index.records[line];
        self.list(index, &record.what);
        if self.collapses {
            self.collapse(index, &record.what, record.at_us);
        }
        self.keep_time(index, record);
        match &record.what {
            What::Welcome(welcome) => self.welcomed(index, welcome, record.at_us),
            What::Event(event) => match &event.position {
                Some(position) => self.delivered(index.pos(position)),
                None => *self.ephemerals.entry((&event.id, event.hash)).or_default() += 1,
            },
            What::Gap(gap) => self.missed(index, gap),
            What::Progress(mark) => self.passed(index.at(&mark.cursor), |stretch| &mut stretch.progress),
            What::CaughtUp(mark) => {
                (self.caught_up, self.behind) = (true, false);
                self.marked(index, &mark.cursor);
            }
            What::FellBehind(mark) => {
                self.behind = true;
                self.marked(index, &mark.cursor);
            }
            What::Goodbye(goodbye) => {
                self.said_goodbye = true;
                self.marked(index, &goodbye.cursor);
            }
            What::Subscribed(subscribed) => {
                self.marked(index, &subscribed.cursor);
                for recipient in &subscribed.recipients {
                    self.entitlement.grant(index, recipient, index.at(&subscribed.cursor));
                }
            }
            What::Grant(grant) => {
                self.entitlement.grant(index, &grant.recipient, Some(index.pos(&grant.after)))
            }
            What::Ungrant(ungrant) => {
                self.entitlement
                    .ungrant(&ungrant.recipient, ungrant.after.as_ref().map(|after| index.pos(after)));
            }
            What::Token(token) => self.entitlement.governed.issued(token.issued_us),
            What::Close(_) => self.closed = true,
            _ => {}
        }
        let knows = self.welcome.is_some() && !self.gap_due;
        let stands = self.stretch.as_ref().map(Stretch::passed).filter(|_| knows);
        self.carried.apply(index, &record.what, stands, record.at_us);
    }

    /// What promises about time need.
    fn keep_time(&mut self, index: &Index<'h>, record: &Record) {
        if record.what.is_frame() {
            self.heard_us = record.at_us;
        }
        match &record.what {
            What::CaughtUp(_) => self.live_since_us = Some(record.at_us),
            What::Gap(gap) if gap.reason == GapReason::Lapped => self.live_since_us = None,
            What::Gap(_) => self.live_since_us = self.live_since_us.map(|_| record.at_us),
            What::FellBehind(_) | What::Goodbye(_) | What::Close(_) => self.live_since_us = None,
            What::Pause(_) => self.since_pause_bytes = 0,
            What::Event(event) => {
                let pos = event.position.as_ref().map(|position| index.pos(position));
                let bytes = pos.and_then(|pos| index.entry(pos)).map_or(0, |entry| entry.line.bytes);
                self.since_pause_bytes += bytes;
            }
            _ => {}
        }
    }

    /// Whoever has no place, or lost it, is told what holds.
    fn list(&mut self, index: &Index<'h>, what: &'h What) {
        let begin = |cursor, from| Some(Listing { cursor, from, records: Vec::new(), due: true });
        match what {
            What::Welcome(welcome) => {
                let from = match welcome.outcome {
                    Outcome::Resumed => return,
                    Outcome::Fresh => index.at(&welcome.cursor),
                    Outcome::Ahead => Some(index.pos(&welcome.head)),
                    Outcome::Trimmed | Outcome::EpochChanged => Some(index.pos(&welcome.oldest)),
                };
                self.listing = begin(&welcome.cursor, from);
            }
            What::Gap(gap) if !self.gap_due && gap.reason.loses_the_place() => {
                self.listing = begin(&gap.cursor, index.at(&gap.to));
            }
            What::Standing(frame) => {
                if let Some(listing) = &mut self.listing {
                    listing.records.extend(&frame.records);
                    listing.due = frame.more;
                }
            }
            What::Claim(_) | What::Token(_) | What::Grant(_) | What::Ungrant(_) | What::Pause(_) => {}
            _ => self.listing = None,
        }
    }

    /// Counts the superseded entries that this record passes over.
    fn collapse(&mut self, index: &Index<'h>, what: &'h What, at_us: u64) {
        let (upto, event) = match what {
            What::Event(event) => (event.position.as_ref().map(|position| index.pos(position)), true),
            What::Gap(gap) if gap.reason == GapReason::Collapsed => (index.at(&gap.to), false),
            What::Progress(mark) | What::CaughtUp(mark) | What::FellBehind(mark) => {
                (index.at(&mark.cursor), false)
            }
            _ => return,
        };
        let (Some(upto), Some(stretch)) = (upto, &self.stretch) else { return };
        if upto.epoch == stretch.epoch {
            let before = if event { upto.seq.saturating_sub(1) } else { upto.seq };
            for entry in self.entitlement.superseded(index, stretch.passed(), before, at_us) {
                self.collapsed.hide(entry.line.collapse_key.as_deref().unwrap_or_default());
            }
        }
        match what {
            What::Gap(gap) => self.collapsed.tell(gap.count),
            What::Event(_) => {
                let key = index.entry(upto).and_then(|entry| entry.line.collapse_key.as_deref());
                self.collapsed.survived(key.unwrap_or_default());
            }
            _ => {}
        }
    }

    fn welcomed(&mut self, index: &Index<'h>, welcome: &'h Welcome, at_us: u64) {
        self.welcome = Some(welcome);
        self.welcome_us = at_us;
        self.entitlement.governed.welcomed(index.pos(&welcome.head), at_us);
        self.stretch = None;
        match welcome.outcome {
            Outcome::Resumed | Outcome::Fresh => self.stretch = index.at(&welcome.cursor).map(Stretch::new),
            Outcome::Trimmed | Outcome::EpochChanged | Outcome::Ahead => self.gap_due = true,
        }
    }

    fn delivered(&mut self, pos: Pos) {
        let stretch = self.stretch_at(pos, pos.seq.saturating_sub(1));
        if stretch.delivered.last().is_none_or(|last| *last < pos.seq) {
            stretch.delivered.push(pos.seq);
        }
        stretch.passed = stretch.passed.max(pos.seq);
        self.gap_due = false;
    }

    fn missed(&mut self, index: &Index<'h>, gap: &Gap) {
        self.gap_due = false;
        let Some(to) = index.at(&gap.to) else { return };
        if gap.reason == GapReason::Ahead {
            self.stretch = None; // the reader goes back: its old positions mean nothing here
        }
        let stretch = self.stretch_at(to, to.seq);
        stretch.gap = stretch.gap.max(Some(to.seq));
        stretch.passed = stretch.passed.max(to.seq);
    }

    fn marked(&mut self, index: &Index<'h>, cursor: &Cursor) {
        if !self.gap_due {
            self.passed(index.at(cursor), |stretch| &mut stretch.mark);
        }
    }

    fn passed(&mut self, pos: Option<Pos>, which: impl Fn(&mut Stretch) -> &mut Option<u64>) {
        let Some(pos) = pos else { return };
        let stretch = self.stretch_at(pos, pos.seq);
        let told = which(stretch);
        *told = (*told).max(Some(pos.seq));
        stretch.passed = stretch.passed.max(pos.seq);
    }

    /// The stretch of this epoch, begun at `start` if the stream was elsewhere.
    fn stretch_at(&mut self, pos: Pos, start: u64) -> &mut Stretch {
        let stretch = self.stretch.take().filter(|stretch| stretch.epoch == pos.epoch);
        self.stretch.insert(stretch.unwrap_or_else(|| Stretch::new(Pos { epoch: pos.epoch, seq: start })))
    }
}

impl Stretch {
    const fn new(start: Pos) -> Self {
        Self {
            epoch: start.epoch,
            start: start.seq,
            passed: start.seq,
            delivered: Vec::new(),
            gap: None,
            progress: None,
            mark: None,
        }
    }

    /// Where the reader stands.
    pub(super) const fn passed(&self) -> Pos {
        Pos { epoch: self.epoch, seq: self.passed }
    }

    /// Whether this position was delivered before.
    pub(super) fn has(&self, seq: u64) -> bool {
        self.delivered.binary_search(&seq).is_ok()
    }

    /// Whether nothing has moved the reader since the stretch began.
    pub(super) const fn is_untouched(&self) -> bool {
        self.delivered.is_empty() && self.gap.is_none() && self.progress.is_none() && self.mark.is_none()
    }
}
