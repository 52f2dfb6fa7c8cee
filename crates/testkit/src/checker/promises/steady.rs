//! **Live**, for whoever is slow but steady: a reader that takes bytes all the time is not given up.
//!
//! Its server may end a stream in words (a drain), and at once where a session ends: a slow reader is not waited for there.
//! What ends without a word, or as too slow, while nothing happened to either side that could explain it, was cut by whoever
//! judges slowness by something else than bytes.

use crate::checker::entitlement::governed::Governed;
use crate::checker::index::{Index, Stream};
use crate::checker::report::{Findings, Promise};
use crate::history::{GoodbyeReason, What};

/// Tokens count in whole seconds.
const TOKEN_ROUNDING_US: u64 = 1_000_000;

/// A fault may show this much after it is over.
const AFTERMATH_US: u64 = 20_000_000;

pub(super) fn check<'h>(index: &Index<'h>, findings: &mut Findings<'_, 'h>) {
    for stream in index.streams.iter().filter(|stream| stream.open.steady) {
        let cut = given_up(index, stream).filter(|&line| !is_disturbed(index, stream, line));
        let Some(line) = cut.filter(|&line| !may_be_signed_out(index, stream, line)) else { continue };
        let text = "its reader took bytes all the time, and was given up".to_owned();
        findings.on_stream(Promise::Live, stream, line, text);
    }
}

/// The record at which the stream was cut. Whoever is not even welcomed is not cut for being slow.
fn given_up(index: &Index<'_>, stream: &Stream<'_>) -> Option<usize> {
    let welcomed = |line: &&usize| matches!(index.records[**line].what, What::Welcome(_));
    stream.lines.iter().find(welcomed)?;
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

/// Whether its session may have ended when it was cut: by a record of that time, be it that the reader has presented a newer token
/// to a connection that was gone by then; or with the token it had last.
fn may_be_signed_out(index: &Index<'_>, stream: &Stream<'_>, cut: usize) -> bool {
    let (opened_us, cut_us) = (index.records[stream.open_line].at_us, index.records[cut].at_us);
    let mut governed = Governed::new(index, stream.open);
    let (mut ends, mut voided) = (false, false);
    let since_us = opened_us.saturating_sub(AFTERMATH_US);
    for &line in stream.lines.iter().take_while(|line| **line < cut) {
        match &index.records[line].what {
            What::Token(token) => {
                voided |= governed.may_have_ended(since_us, index.records[line].at_us);
                governed.issued(token.issued_us);
                ends = token.until_us.is_none_or(|until| until <= cut_us + TOKEN_ROUNDING_US);
            }
            What::Welcome(welcome) => governed.welcomed(index.pos(&welcome.head), index.records[line].at_us),
            _ => {}
        }
    }
    ends || voided || governed.may_have_ended(since_us, cut_us)
}

/// Whether something happened to the reader and its connection, or to the process of its server while they were connected.
fn is_disturbed(index: &Index<'_>, stream: &Stream<'_>, cut: usize) -> bool {
    let server = stream.open.at.as_deref().unwrap_or_default();
    let opened_us = index.records[stream.open_line].at_us;
    let since = opened_us.saturating_sub(AFTERMATH_US);
    let mut records = index.records[..cut].iter().rev().take_while(|record| record.at_us >= since);
    records.any(|record| match &record.what {
        What::Crash | What::Start => record.at_us >= opened_us && &*record.process == server,
        What::FaultStart(fault) | What::FaultStop(fault) => {
            fault.detail.contains(&**stream.process) || record.at_us >= opened_us && &*fault.detail == server
        }
        _ => false,
    })
}
