//! **Ended**: each end of a user's stream is one of the table of close codes and HTTP statuses, and was due.
//!
//! | word | due |
//! |---|---|
//! | 4400, HTTP 400 | for a cursor that is none, from whoever can drop it |
//! | 4401, HTTP 401, `SESSION_ENDED` | where a token has ended, or a record voids it |
//! | 1012, HTTP 503, `DRAINING` | while the gateway leaves |
//! | 1013, a goodbye alone | before the gateway has let anybody in, or for a cursor that it has not come to |
//! | 1013, `SLOW` | for a user that took nothing for a while |
//! | none | where a fault, a kill or the user itself explains it |
//!
//! Judged where the history tells of all faults. What a token grants and how many may connect it does not tell, so 4403, 4429 and
//! their statuses are let pass, and 1009 is the user's own word.

use crate::checker::index::edges::{Edges, Life};
use crate::checker::report::{Findings, Promise};
use crate::checker::seen::Seen;
use crate::checker::sight::Sight;
use crate::checker::stream::Step;
use crate::history::{Cursor, GoodbyeReason, Hop, What};

/// Tokens count in whole seconds.
const TOKEN_ROUNDING_US: u64 = 1_000_000;

/// Whoever has not said who it is by then is sent away.
const GREETING_US: u64 = 5_000_000;

/// What a fault held up may show so much later.
const AFTERMATH_US: u64 = 20_000_000;

/// A user of which nothing was heard for so long may have taken nothing for 5 s: what it reads it may have had for a while.
const QUIET_US: u64 = 1_000_000;

pub(super) fn check<'h>(step: &Step<'_, 'h>, findings: &mut Findings<'_, 'h>) {
    let Some(end) = End::of(step) else { return };
    let fault = match end.judge(step) {
        Some(true) => return,
        Some(false) => format!("{} was not due", end.word),
        None => format!("{} is no word of the table", end.word),
    };
    findings.on_stream(Promise::Ended, step.stream, step.line, fault);
}

/// What was judged, for those who count it.
pub(in crate::checker) fn sights(step: &Step<'_, '_>, seen: &mut Seen) {
    let sight = End::of(step).and_then(|end| end.kind.sight());
    sight.into_iter().for_each(|sight| seen.count(sight));
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// The reader's own, or not judged.
    Own,
    BadRequest,
    SignedOut,
    Draining,
    /// A browser is told to come back: its gateway leaves, or cannot serve it yet.
    Later,
    NotYet,
    Slow,
    Untold,
    Unknown,
}

struct End<'a> {
    word: &'a str,
    kind: Kind,
    gateway: &'a str,
    edges: &'a Edges,
}

impl Kind {
    const fn sight(self) -> Option<Sight> {
        Some(match self {
            Self::BadRequest => Sight::EndedBadRequest,
            Self::SignedOut => Sight::EndedSignedOut,
            Self::Draining => Sight::EndedDraining,
            Self::Later | Self::NotYet => Sight::EndedLater,
            Self::Slow => Sight::EndedSlow,
            Self::Untold => Sight::EndedUntold,
            Self::Own | Self::Unknown => return None,
        })
    }
}

impl<'a> End<'a> {
    fn of(step: &Step<'a, 'a>) -> Option<Self> {
        let edges = step.index.edges.as_ref()?;
        let gateway = step.stream.open.at.as_deref().filter(|_| step.stream.open.hop == Hop::User)?;
        let (word, kind) = match step.what {
            What::Goodbye(goodbye) => said(goodbye.reason, step.state.welcome.is_some()),
            What::Close(close) => (&*close.code, closed(&close.code, step.state.welcome.is_some())),
            _ => return None,
        };
        Some(Self { word, kind, gateway, edges })
    }

    /// Whether it was due; `None`: nobody knows the word.
    fn judge(&self, step: &Step<'_, '_>) -> Option<bool> {
        Some(match self.kind {
            Kind::Own => true,
            Kind::BadRequest => step.stream.open.presented == Cursor::Garbage,
            Kind::SignedOut => is_signed_out(step),
            Kind::Draining => self.leaves(step),
            Kind::Later => self.leaves(step) || self.not_yet(step),
            Kind::NotYet => self.not_yet(step),
            Kind::Slow => is_slow(step) || self.is_struck(step),
            Kind::Untold => {
                step.state.said_goodbye
                    || self.is_gone(step)
                    || self.is_struck(step)
                    || is_slow(step)
                    || is_signed_out(step)
            }
            Kind::Unknown => return None,
        })
    }

    fn life(&self, step: &Step<'_, '_>) -> Option<&Life> {
        self.edges.life(self.gateway, opened_us(step))
    }

    /// Its gateway was told to leave in the life in which the stream was opened, or came back only after that.
    fn leaves(&self, step: &Step<'_, '_>) -> bool {
        let since = self.life(step).map_or(0, |life| life.began_us);
        self.edges.strikes(Some("leave"), self.gateway, since, step.at_us)
    }

    /// Nobody was let in yet, or the cursor is one that its gateway has not shown anybody to have come to.
    fn not_yet(&self, step: &Step<'_, '_>) -> bool {
        let (opened_us, Some(life)) = (opened_us(step), self.edges.life(self.gateway, step.at_us)) else {
            return true;
        };
        let serves = life.serves_since_us.is_some_and(|since| since < opened_us);
        !serves
            || step.index.at(&step.stream.open.presented).is_some_and(|pos| !life.has_told(pos, opened_us))
    }

    /// Its gateway was not there, or ended, or came back meanwhile.
    fn is_gone(&self, step: &Step<'_, '_>) -> bool {
        let Some(life) = self.life(step) else { return true };
        let next = self.edges.next_began_us(self.gateway, life);
        life.killed_us.or(next).is_some_and(|ended| ended <= step.at_us) || self.leaves(step)
    }

    /// A fault struck the gateway or the reader, or was over only a moment ago.
    fn is_struck(&self, step: &Step<'_, '_>) -> bool {
        let since = opened_us(step).saturating_sub(AFTERMATH_US);
        [self.gateway, step.stream.process]
            .iter()
            .any(|name| self.edges.strikes(None, name, since, step.at_us))
    }
}

fn opened_us(step: &Step<'_, '_>) -> u64 {
    step.index.records[step.stream.open_line].at_us
}

const fn said(reason: GoodbyeReason, is_welcomed: bool) -> (&'static str, Kind) {
    match reason {
        GoodbyeReason::Draining if is_welcomed => ("a goodbye, DRAINING,", Kind::Draining),
        GoodbyeReason::Draining => ("a goodbye alone", Kind::Later),
        GoodbyeReason::SessionEnded => ("a goodbye, SESSION_ENDED,", Kind::SignedOut),
        GoodbyeReason::Slow => ("a goodbye, SLOW,", Kind::Slow),
        GoodbyeReason::Replaced => ("a goodbye, REPLACED,", Kind::Unknown),
    }
}

fn closed(code: &str, is_welcomed: bool) -> Kind {
    match code {
        "cut" | "1000" | "1001" | "1009" | "4403" | "4429" | "http 403" | "http 429" => Kind::Own,
        "4400" | "http 400" => Kind::BadRequest,
        "4401" | "http 401" => Kind::SignedOut,
        "1012" | "http 503" => Kind::Draining,
        "1013" if is_welcomed => Kind::Slow,
        "1013" => Kind::NotYet,
        "reset" | "end" | "silence" | "handshake failed" => Kind::Untold,
        code if code.starts_with("unreachable") => Kind::Untold,
        _ => Kind::Unknown,
    }
}

/// A token of this stream has ended, or may be void, or none came in time.
fn is_signed_out(step: &Step<'_, '_>) -> bool {
    let governed = &step.state.entitlement.governed;
    let slack_us = TOKEN_ROUNDING_US + step.index.rules.clock_skew_us;
    let before = step.stream.lines.iter().take_while(|line| **line < step.line);
    let mut tokens = before.filter_map(|&line| match &step.index.records[line].what {
        What::Token(token) => Some(token),
        _ => None,
    });
    let is_over = tokens.any(|token| {
        token.until_us.is_none_or(|until| until <= step.at_us + slack_us)
            || governed.may_be_void(token.issued_us)
    });
    // Without tokens each connection counts as one, and a record may void what comes until a moment that lies ahead.
    let is_too_early = governed.token_issued_us().is_none() && governed.may_be_void(opened_us(step));
    let is_late = step.state.welcome.is_none() && step.at_us - opened_us(step) >= GREETING_US;
    is_over || is_late || is_too_early || governed.may_have_ended(0, step.at_us)
}

/// Nothing was heard of it for a while, so that it may have taken nothing.
fn is_slow(step: &Step<'_, '_>) -> bool {
    let lines = step.stream.lines.iter().take_while(|line| **line <= step.line);
    let times: Vec<_> = lines.map(|&line| step.index.records[line].at_us).collect();
    step.stream.open.steady || times.windows(2).any(|pair| pair[1] - pair[0] >= QUIET_US)
}
