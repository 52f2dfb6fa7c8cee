//! **Session end**: a session that has ended, with its token or by a record, is over at its connections soon, and nothing is sent
//! on them any more.
//!
//! Judged where nothing befell the user, its gateway and what lies between, and by records where the gateway was fed.

use crate::checker::entitlement::governed::Governed;
use crate::checker::index::{Index, Stream};
use crate::checker::report::{Findings, Promise};
use crate::checker::sight::Sight;
use crate::history::{Hop, TimingRule, What};

/// What was sent just before the end may be on its way for so long: two hops of 30 ms, ticks, and a turn.
const ON_ITS_WAY_US: u64 = 500_000;

/// Tokens count in whole seconds.
const TOKEN_ROUNDING_US: u64 = 1_000_000;

/// A stream of a user, as far as its session is concerned.
struct Session<'h> {
    governed: Governed<'h>,
    welcome: Option<usize>,
    /// When the last of its tokens ends.
    until_us: Option<u64>,
    /// The record that ends it.
    end: Option<usize>,
}

pub(super) fn check<'h>(index: &Index<'h>, findings: &mut Findings<'_, 'h>) {
    let Some(rule) = index.rules.timing.as_ref().filter(|rule| rule.session_end_us > 0) else { return };
    for stream in index.streams.iter().filter(|stream| stream.open.hop == Hop::User && !stream.open.steady) {
        let session = Session::of(index, stream);
        let Some(welcome) = session.welcome else { continue };
        by_token(index, stream, &session, rule, findings);
        by_record(index, stream, &session, welcome, rule, findings);
    }
}

fn by_token<'h>(
    index: &Index<'h>,
    stream: &Stream<'h>,
    session: &Session<'h>,
    rule: &TimingRule,
    findings: &mut Findings<'_, 'h>,
) {
    let Some(until_us) = session.until_us.map(|until_us| until_us + index.rules.clock_skew_us) else {
        return;
    };
    if judge(index, stream, session, until_us, until_us, rule, findings) {
        findings.judged(Sight::TokenEndJudged);
    }
}

fn by_record<'h>(
    index: &Index<'h>,
    stream: &Stream<'h>,
    session: &Session<'h>,
    welcome: usize,
    rule: &TimingRule,
    findings: &mut Findings<'_, 'h>,
) {
    let What::Welcome(said) = &index.records[welcome].what else { return };
    let (head, welcome_us) = (index.pos(&said.head), index.records[welcome].at_us);
    let Some(gateway) = stream.open.at.as_deref().filter(|_| rule.deliver_us > 0) else { return };
    let Some(ended_us) = session.governed.ended_us(head, welcome_us, rule.session_end_us) else { return };
    let known_us = ended_us + rule.deliver_us;
    let follows =
        |at_us| index.followed(gateway, at_us).last().is_some_and(|visit| visit.epoch == head.epoch);
    let is_fed = follows(ended_us) && follows(known_us) && index.calm.is_fed(gateway, ended_us, known_us);
    if is_fed && judge(index, stream, session, ended_us, known_us, rule, findings) {
        findings.judged(Sight::RecordEndJudged);
    }
}

/// Whether it could be judged: it was there when its session ended, as its gateway knew at the latest at `known_us`.
fn judge<'h>(
    index: &Index<'h>,
    stream: &Stream<'h>,
    session: &Session<'h>,
    ended_us: u64,
    known_us: u64,
    rule: &TimingRule,
    findings: &mut Findings<'_, 'h>,
) -> bool {
    let opened_us = index.records[stream.open_line].at_us;
    let due_us = known_us + rule.session_end_us + ON_ITS_WAY_US;
    let over_us = match (session.end, index.run.end) {
        (Some(line), _) => index.records[line].at_us,
        (None, Some((end_us, _))) => end_us,
        (None, None) => return false,
    };
    let until_us = over_us.min(due_us);
    let is_calm = index.calm.is_calm(stream.process, stream.open, opened_us, until_us)
        && !index.calm.paused(stream.open.stream, ended_us, until_us)
        && !index.calm.stopped(stream.open.stream, until_us);
    if !is_calm || over_us + TOKEN_ROUNDING_US < ended_us {
        return false;
    }
    let last = stream.lines.last().copied().unwrap_or(stream.open_line);
    if over_us > due_us {
        let (line, late_us) = (session.end.unwrap_or(last), over_us - known_us);
        let text = format!("its session had ended, and its stream went on for {late_us} us");
        findings.on_stream(Promise::SessionEnd, stream, line, text);
        return true;
    }
    let behind = |line: &&usize| {
        let record = &index.records[**line];
        matches!(record.what, What::Event(_)) && record.at_us > known_us + ON_ITS_WAY_US
    };
    if let Some(&line) = stream.lines.iter().find(behind) {
        let text = "an event after the end of its session".to_owned();
        findings.on_stream(Promise::SessionEnd, stream, line, text);
    }
    true
}

impl<'h> Session<'h> {
    fn of(index: &Index<'h>, stream: &Stream<'h>) -> Self {
        let mut session =
            Self { governed: Governed::new(index, stream.open), welcome: None, until_us: None, end: None };
        let mut is_endless = false;
        for &line in &stream.lines {
            let record = &index.records[line];
            match &record.what {
                What::Welcome(welcome) => {
                    session.welcome = Some(line);
                    session.governed.welcomed(index.pos(&welcome.head), record.at_us);
                }
                What::Token(token) => {
                    session.governed.issued(token.issued_us);
                    is_endless |= token.until_us.is_none();
                    session.until_us = session.until_us.max(token.until_us);
                }
                What::Goodbye(_) | What::Close(_) => {
                    session.end.get_or_insert(line);
                }
                _ => {}
            }
        }
        session.until_us = session.until_us.filter(|_| !is_endless);
        session
    }
}
