//! `store dump`: the log as JSON lines, in the form in which `tail` prints it.

use std::io::{self, BufWriter, Stdout, Write as _};
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};

use galaxy_push_core::cursor::{Cursor, StartFrom};
use galaxy_push_core::frame::{EventView, LogKind, message};
use galaxy_push_core::recipient::Pattern;
use galaxy_push_core::window::{GapReason, MissingRange};
use galaxy_push_proto::frame::gap_frame;
use galaxy_push_proto::{json, v1};
use galaxy_push_store::disk::OnProgress;
use galaxy_push_store::disk::inspect::Inspection;
use galaxy_push_store::{Committed, Sink};
use prost::Message as _;

use super::{Nobody, no_input, no_log, now_unix_ms, read, sound, view};
use crate::args::DumpArgs;

/// So many records are in one `standing` line at most.
const RECORDS_A_LINE: usize = 1_000;

pub(super) fn run(args: &DumpArgs) -> anyhow::Result<()> {
    let view = view(&args.dir)?;
    // Twice: the records that hold come before the events, and are known once all are read.
    let mut looked = read(&args.dir, &view, &(Arc::new(Nobody) as Arc<dyn Sink>))?;
    let mut lines = Lines(BufWriter::with_capacity(1 << 16, io::stdout()));
    let from = begin(&mut lines, &args.from, &mut looked)?;
    let state = Mutex::new((lines, Ok(())));
    let printer = Arc::new(Printer { from, to: args.to.clone(), state });
    let listener = printer.clone();
    let stop: OnProgress = Arc::new(move |_| match listener.has_failed() {
        true => ControlFlow::Break(()),
        false => ControlFlow::Continue(()),
    });
    let sink: Arc<dyn Sink> = printer.clone();
    let read = view.read(&sink, Some(stop));
    printer.end()?;
    read.map_err(no_input)?.ok_or_else(|| no_log(&args.dir))?;
    sound(&args.dir, &looked)
}

/// Prints what comes before the first entry, as a hub would tell it, and says behind which position that lies.
fn begin(lines: &mut Lines, from: &str, looked: &mut Inspection) -> anyhow::Result<Cursor> {
    let (first, last) = (looked.recovered.first.unwrap_or(looked.last), looked.last);
    let gap = |reason, to: Cursor, count| MissingRange {
        reason,
        from: from.to_owned(),
        to,
        count,
        repair_after: None,
    };
    let (begins, gap) = match StartFrom::parse(from)? {
        StartFrom::At(at) if at.epoch == first.epoch && at.follows(last) => {
            (last, Some(gap(GapReason::Ahead, last, None)))
        }
        StartFrom::At(at) if at.epoch == first.epoch && first.follows(at) => {
            (first, Some(gap(GapReason::Trimmed, first, first.since(at))))
        }
        StartFrom::At(at) if at.epoch == first.epoch => return Ok(at),
        StartFrom::At(_) | StartFrom::Foreign | StartFrom::Unreadable => {
            (first, Some(gap(GapReason::EpochChanged, first, None)))
        }
        StartFrom::Oldest | StartFrom::Head => (first, None),
    };
    lines.standing(begins, &looked.records(now_unix_ms()))?;
    if let Some(gap) = gap {
        lines.frame(&gap_frame(&gap))?;
    }
    Ok(begins)
}

/// Prints what lies behind a position.
struct Printer {
    from: Cursor,
    /// Patterns; none: everything.
    to: Vec<String>,
    /// And why nothing more can be printed.
    state: Mutex<(Lines, io::Result<()>)>,
}

impl Printer {
    fn print(&self, print: impl FnOnce(&mut Lines) -> io::Result<()>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.1.is_ok() {
            state.1 = print(&mut state.0);
        }
    }

    fn has_failed(&self) -> bool {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).1.is_err()
    }

    fn end(&self) -> io::Result<()> {
        self.print(|lines| lines.0.flush());
        std::mem::replace(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner).1, Ok(()))
    }

    /// Standing records are for everybody, as in a stream.
    fn is_wanted(&self, entry: &Committed) -> bool {
        let admits = |recipient: &str| {
            self.to.iter().any(|to| Pattern::parse(to).is_ok_and(|pattern| pattern.admits(recipient)))
        };
        self.to.is_empty()
            || entry.kind != LogKind::Event
            || EventView::of(entry.message()).recipients().any(admits)
    }
}

impl Sink for Printer {
    fn begin(&self, _: Cursor) {}

    fn committed(&self, batch: &[Committed]) {
        self.print(|lines| {
            let wanted = |entry: &&Committed| entry.cursor.follows(self.from) && self.is_wanted(entry);
            batch.iter().filter(wanted).try_for_each(|entry| lines.entry(entry))
        });
    }

    fn damaged(&self, from: Cursor, to: Cursor) {
        if to.follows(self.from) {
            let from = if self.from.follows(from) { self.from } else { from };
            let (reason, count) = (GapReason::Damaged, to.since(from));
            let gap = MissingRange { reason, from: from.to_string(), to, count, repair_after: None };
            self.print(|lines| lines.frame(&gap_frame(&gap)));
        }
    }
}

/// Frames on stdout, one a line.
struct Lines(BufWriter<Stdout>);

impl Lines {
    fn frame(&mut self, frame: &v1::PushEvent) -> io::Result<()> {
        let mut line = json::frame(frame, json::View::Full);
        line.push(b'\n');
        self.0.write_all(&line)
    }

    fn entry(&mut self, entry: &Committed) -> io::Result<()> {
        self.frame(&v1::PushEvent::decode(message(&entry.frame)).map_err(io::Error::other)?)
    }

    /// The records that hold, at a position.
    fn standing(&mut self, at: Cursor, records: &[(LogKind, bytes::Bytes)]) -> anyhow::Result<()> {
        let lines = records.len().div_ceil(RECORDS_A_LINE);
        for (index, records) in records.chunks(RECORDS_A_LINE).enumerate() {
            let mut standing = v1::Standing { more: index + 1 < lines, ..v1::Standing::default() };
            for (kind, message) in records {
                match kind {
                    LogKind::SessionInvalidation => {
                        standing.invalidations.push(v1::SessionInvalidation::decode(message.clone())?);
                    }
                    LogKind::Membership => {
                        standing.memberships.push(v1::Membership::decode(message.clone())?)
                    }
                    LogKind::Event => {}
                }
            }
            let kind = Some(v1::push_event::Kind::Standing(standing));
            self.frame(&v1::PushEvent { cursor: at.to_string(), kind, ..v1::PushEvent::default() })?;
        }
        Ok(())
    }
}
