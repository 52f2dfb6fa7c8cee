//! **Live**, for whoever is slow but steady: a reader that takes bytes all the time is not given up.
//!
//! Its server may end a stream in words (a drain, the end of a session). What ends without one, or as too slow, while
//! nothing happened to either side that could explain it, was cut by whoever judges slowness by something else than bytes.

use crate::checker::index::{Index, Stream};
use crate::checker::report::{Findings, Promise};
use crate::history::{GoodbyeReason, What};

/// A fault may show this much after it is over.
const AFTERMATH_US: u64 = 20_000_000;

pub(super) fn check<'h>(index: &Index<'h>, findings: &mut Findings<'_, 'h>) {
    for stream in index.streams.iter().filter(|stream| stream.open.steady) {
        let Some(line) = given_up(index, stream).filter(|&line| !is_disturbed(index, stream, line)) else {
            continue;
        };
        let text = "its reader took bytes all the time, and was given up".to_owned();
        findings.on_stream(Promise::Live, stream, line, text);
    }
}

/// The record at which the stream was cut.
fn given_up(index: &Index<'_>, stream: &Stream<'_>) -> Option<usize> {
    for &line in &stream.lines {
        match &index.records[line].what {
            What::Goodbye(goodbye) => return (goodbye.reason == GoodbyeReason::Slow).then_some(line),
            What::Close(close) => {
                return matches!(&*close.code, "reset" | "end" | "1013" | "1006").then_some(line);
            }
            _ => {}
        }
    }
    None
}

/// Whether something happened to the reader or its server while the stream was open, or shortly before.
fn is_disturbed(index: &Index<'_>, stream: &Stream<'_>, cut: usize) -> bool {
    let at = stream.open.at.as_deref().unwrap_or_default();
    let names = [at, &**stream.process];
    let since = index.records[stream.open_line].at_us.saturating_sub(AFTERMATH_US);
    let mut records = index.records[..cut].iter().rev().take_while(|record| record.at_us >= since);
    let under_way = |record: &crate::history::Record| match &record.what {
        What::Crash | What::Start => &*record.process == at,
        What::FaultStart(fault) | What::FaultStop(fault) => {
            names.iter().any(|name| !name.is_empty() && fault.detail.contains(*name))
        }
        _ => false,
    };
    records.any(under_way)
}
