//! What the checker says: the promises by name, each violation with its surroundings, the report of a history.

use std::collections::BTreeMap;
use std::fmt;

use super::index::{Index, Stream};
use super::seen::{Seen, Unseen};
use super::sight::Sight;
use crate::history::{Hop, Name, Record, StreamId};

/// How many violations of one promise a report spells out. The rest are counted: one fault often breaks thousands.
const SHOWN_PER_PROMISE: u64 = 20;

/// A promise of DESIGN.md §3, by its name, and one of §4: [`Promise::Drained`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Promise {
    /// The history itself is sound: without this, nothing else can be judged.
    History,
    /// `Welcome`, `Standing`*, `Gap`?, replay, `CaughtUp`, live, `Goodbye`?, status.
    FrameOrder,
    /// Positions rise; the epoch changes only across a gap.
    Ordered,
    /// No event position twice, across resumes too.
    Unique,
    /// A hole in what the reader is entitled to is preceded by a gap.
    GapFreeOrTold,
    /// What a gap says is so: something lies in its range, its count fits, and the window had it no more.
    GapTrue,
    /// A presented cursor gets the outcome it deserves, and a good one is followed by the very next event.
    Resumable,
    /// Sending back the last cursor of any frame loses nothing.
    CursorSafe,
    /// At p: everything up to p was delivered, nothing up to p follows.
    Progress,
    /// Generations rise; nothing appended after a takeover reaches the older stream.
    Fenced,
    /// Whoever begins without a place, or lost it, is told the standing records that hold, before anything else.
    Standing,
    /// Nobody sees an event meant for others.
    Isolated,
    /// Nobody is sent an event after it has expired.
    Unexpired,
    /// Acknowledged: in the log, and only once while a repeat is recognised.
    AckedOnce,
    /// Refused: never in the log.
    NackedNever,
    /// Unanswered: in the log at most once.
    UnknownAtMostOnce,
    /// What was acknowledged before a publish began lies before it.
    AckOrder,
    /// A batch lies contiguously in the log or not at all.
    BatchWhole,
    /// Whatever is delivered was published.
    NoPhantom,
    /// One (epoch, seq) names one payload for ever.
    OnePayload,
    /// One committed outcome per item, in order, within one life of the reader's process.
    HandledOnce,
    /// After the last fault healed, every stream reaches the head.
    Live,
    /// A hub that leaves in order hands over what it has, as long as its drain may take.
    Drained,
    /// What is appended comes to every reader that has everything within a moment, and does not wait for anything else.
    Prompt,
    /// Whoever lags by a quarter of any bound of the window is told, once, and nobody else is.
    FellBehind,
    /// A session that has ended is over at its connections soon, and nothing is sent on them any more.
    SessionEnd,
    /// Where the log outlives its hub: acknowledged or delivered is on the disk, and stays there, in the same epoch.
    Durable,
    /// Nothing that has a bound is more than that.
    Bounded,
    /// Each end of a user's stream says why, in a word of the table of close codes, and that was so.
    Ended,
}

/// A broken promise.
#[derive(Clone, Debug)]
pub struct Violation {
    /// Which one.
    pub promise: Promise,
    /// On which stream, if it is about one.
    pub stream: Option<StreamId>,
    /// The record that shows it, counted from 1: the line in a saved history.
    pub line: usize,
    /// What was expected and what was seen.
    pub text: String,
    at: String,
    context: Vec<String>,
}

/// The verdict on a history.
#[derive(Debug)]
pub struct Report {
    /// The broken promises, in the order of the records that show them. At most 20 of each.
    pub violations: Vec<Violation>,
    /// How often each promise was broken, the ones not spelt out included.
    pub broken: BTreeMap<Promise, u64>,
    /// What happened at all: a run that never saw a resume did not test resuming.
    pub seen: Seen,
    /// How many records were judged.
    pub records: usize,
}

/// Violations while they are being collected.
pub(super) struct Findings<'a, 'h> {
    index: &'a Index<'h>,
    kept: Vec<Violation>,
    broken: BTreeMap<Promise, u64>,
    judged: Seen,
}

impl Report {
    /// Whether no promise was broken.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.broken.is_empty()
    }

    /// Whether this promise was broken.
    #[must_use]
    pub fn breaks(&self, promise: Promise) -> bool {
        self.broken.contains_key(&promise)
    }

    /// Demands that each of these was seen at least once.
    ///
    /// # Errors
    ///
    /// When some were not; the error names them.
    pub fn require_seen(&self, sights: &[Sight]) -> Result<(), Unseen> {
        self.seen.require(sights)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for violation in &self.violations {
            writeln!(f, "{violation}")?;
        }
        writeln!(f, "{} records judged", self.records)?;
        writeln!(f, "seen: {}", self.seen)?;
        if self.is_clean() {
            return write!(f, "no promise was broken");
        }
        write!(f, "broken:")?;
        for (promise, count) in &self.broken {
            write!(f, " {promise} {count}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {}: {}", self.promise, self.at, self.text)?;
        for line in &self.context {
            writeln!(f, "    {line}")?;
        }
        Ok(())
    }
}

impl Promise {
    /// Its name, as in the names of tests and in DESIGN.md.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::History => "history",
            Self::FrameOrder => "frame_order",
            Self::Ordered => "ordered",
            Self::Unique => "unique",
            Self::GapFreeOrTold => "gap_free_or_told",
            Self::GapTrue => "gap_true",
            Self::Resumable => "resumable",
            Self::CursorSafe => "cursor_safe",
            Self::Progress => "progress",
            Self::Fenced => "fenced",
            Self::Standing => "standing",
            Self::Isolated => "isolated",
            Self::Unexpired => "unexpired",
            Self::AckedOnce => "acked_once",
            Self::NackedNever => "nacked_never",
            Self::UnknownAtMostOnce => "unknown_at_most_once",
            Self::AckOrder => "ack_order",
            Self::BatchWhole => "batch_whole",
            Self::NoPhantom => "no_phantom",
            Self::OnePayload => "one_payload",
            Self::HandledOnce => "handled_once",
            Self::Live => "live",
            Self::Drained => "drained",
            Self::Prompt => "prompt",
            Self::FellBehind => "fell_behind",
            Self::SessionEnd => "session_end",
            Self::Durable => "durable",
            Self::Bounded => "bounded",
            Self::Ended => "ended",
        }
    }
}

impl fmt::Display for Promise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl<'a, 'h> Findings<'a, 'h> {
    pub(super) const fn new(index: &'a Index<'h>) -> Self {
        Self { index, kept: Vec::new(), broken: BTreeMap::new(), judged: Seen::new() }
    }

    /// A promise broken on a stream, as record `line` shows.
    pub(super) fn on_stream(&mut self, promise: Promise, stream: &Stream<'h>, line: usize, text: String) {
        if !self.shows(promise) {
            return;
        }
        let hop = match stream.open.hop {
            Hop::Gateway => "gateway",
            Hop::User => "user",
        };
        let at = format!("stream {} of {hop} {}", stream.open.stream, stream.open.reader);
        let here = stream.lines.partition_point(|&other| other < line);
        let around = here.saturating_sub(3)..(here + 2).min(stream.lines.len());
        let mut lines = stream.lines[around].to_vec();
        if !lines.contains(&stream.open_line) {
            lines.insert(0, stream.open_line);
        }
        self.keep(promise, Some(stream.open.stream), at, line, &lines, text);
    }

    /// A promise broken elsewhere, as the last of these records shows together with the others.
    pub(super) fn at(&mut self, promise: Promise, lines: &[usize], text: String) {
        if !self.shows(promise) {
            return;
        }
        let line = lines.last().copied().unwrap_or_default();
        let process: Option<&Name> = self.index.records.get(line).map(|record| &record.process);
        let at = process.map_or_else(String::new, |process| format!("at {process}"));
        self.keep(promise, None, at, line, lines, text);
    }

    /// Something was judged that a history may hold nothing of.
    pub(super) fn judged(&mut self, sight: Sight) {
        self.judged.count(sight);
    }

    pub(super) fn into_report(mut self, mut seen: Seen) -> Report {
        seen.merge(&self.judged);
        self.kept.sort_by_key(|violation| (violation.line, violation.promise));
        Report { violations: self.kept, broken: self.broken, seen, records: self.index.records.len() }
    }

    fn shows(&mut self, promise: Promise) -> bool {
        let count = self.broken.entry(promise).or_default();
        *count += 1;
        *count <= SHOWN_PER_PROMISE
    }

    fn keep(
        &mut self,
        promise: Promise,
        stream: Option<StreamId>,
        at: String,
        line: usize,
        lines: &[usize],
        text: String,
    ) {
        let context = lines.iter().filter_map(|&other| {
            let record = self.index.records.get(other)?;
            Some(format!("{}{}", if other == line { "> " } else { "  " }, show(other, record)))
        });
        let context = context.collect();
        self.kept.push(Violation { promise, stream, line: line + 1, text, at, context });
    }
}

/// A record as it is in the file, after its line number.
fn show(line: usize, record: &Record) -> String {
    let json = serde_json::to_string(record).unwrap_or_else(|error| error.to_string());
    format!("{:>6} {json}", line + 1)
}
