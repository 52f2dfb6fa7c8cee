//! **Resumable**: a presented cursor gets the outcome it deserves, and its gap leads to where reading goes on.
//!
//! Judged from the welcome's own `oldest`, `head` and `epoch`. A gateway may know more than its window shows (it asks
//! upstream, and its window may span epochs), so users have a little more leeway. That the first event after RESUMED
//! is the very next one is judged in `gap_free`, under this promise's name.

use crate::checker::index::Pos;
use crate::checker::report::{Findings, Promise};
use crate::checker::stream::Step;
use crate::history::{Cursor, Gap, GapReason, Hop, Outcome, Welcome, What};

pub(super) fn check<'h>(step: &Step<'_, 'h>, findings: &mut Findings<'_, 'h>) {
    let fault = match step.what {
        What::Welcome(welcome) => outcome(step, welcome),
        What::Gap(gap) if step.state.gap_due => {
            step.state.welcome.and_then(|welcome| announced(step, welcome, gap))
        }
        What::Close(close) if step.state.welcome.is_none() => wedged(step, &close.code),
        _ => None,
    };
    if let Some(fault) = fault {
        findings.on_stream(Promise::Resumable, step.stream, step.line, fault);
    }
}

/// A reader that cannot drop its cursor comes back with it for ever.
fn wedged(step: &Step<'_, '_>, code: &str) -> Option<String> {
    let refused =
        ["INVALID_ARGUMENT", "CURSOR_MALFORMED", "http 400", "4400"].iter().any(|word| code.contains(word));
    let cannot_act = step.stream.open.presented == Cursor::Unreadable;
    (refused && cannot_act).then(|| format!("a reader that cannot drop its cursor was refused: {code}"))
}

fn outcome(step: &Step<'_, '_>, welcome: &Welcome) -> Option<String> {
    let got = welcome.outcome;
    let wanted: &[Outcome] = match &step.stream.open.presented {
        Cursor::Empty | Cursor::Oldest => &[Outcome::Fresh],
        Cursor::Foreign => &[Outcome::EpochChanged],
        Cursor::Unreadable => &[Outcome::EpochChanged],
        Cursor::Garbage => return Some("a cursor that is none must be refused, not welcomed".into()),
        Cursor::At(position) => {
            let held = step.index.pos(position);
            if got == Outcome::Ahead && step.stream.issued.is_some_and(|issued| held.seq <= issued) {
                return Some(format!("AHEAD, but {position} had been seen before this stream was opened"));
            }
            wanted(step, held, step.index.pos(&welcome.oldest), step.index.pos(&welcome.head))
        }
    };
    (!wanted.contains(&got)).then(|| {
        let (oldest, head) = (&welcome.oldest, &welcome.head);
        format!("the outcome is {got:?}; with the window ({oldest}, {head}] it must be one of {wanted:?}")
    })
}

fn wanted(step: &Step<'_, '_>, held: Pos, oldest: Pos, head: Pos) -> &'static [Outcome] {
    let at_user = step.stream.open.hop == Hop::User;
    let trimmed: &[Outcome] = if at_user {
        &[Outcome::Trimmed, Outcome::Resumed] // the rest may have been pulled from the hub
    } else {
        &[Outcome::Trimmed]
    };
    if held.epoch == oldest.epoch && held.seq < oldest.seq {
        return if is_cut(step, held.epoch) {
            &[Outcome::Trimmed, Outcome::Resumed, Outcome::EpochChanged]
        } else {
            trimmed
        };
    }
    if held.epoch != head.epoch {
        // A gateway's window may still hold the old epoch, or not have come to the new one yet.
        return if at_user { &[Outcome::EpochChanged, Outcome::Resumed] } else { &[Outcome::EpochChanged] };
    }
    if held.seq <= head.seq {
        // To a window that was cut where a log returned, the earlier stretch is another log; told once too often is safe.
        return if is_cut(step, held.epoch) {
            &[Outcome::Resumed, Outcome::EpochChanged]
        } else {
            &[Outcome::Resumed]
        };
    }
    let log = step.index.log(held.epoch);
    let within_authority = log.is_some_and(|log| held.seq <= log.head || !log.is_whole_at(held.seq));
    // A gateway in an epoch that is over cannot tell any more how far that went: it waits to be told of the end.
    let over = at_user && step.index.is_over(held.epoch, step.at_us);
    match within_authority || over {
        true if is_cut(step, held.epoch) => &[Outcome::Resumed, Outcome::Ahead, Outcome::EpochChanged],
        true => &[Outcome::Resumed, Outcome::Ahead],
        false => &[Outcome::Ahead],
    }
}

/// How many logs that it left a gateway remembers.
const LOGS_REMEMBERED: usize = 8;

/// Whether the gateway that was asked has left this epoch for another one, and come back; or may have, for all it remembers.
fn is_cut(step: &Step<'_, '_>, epoch: u32) -> bool {
    let visits = step.stream.open.at.as_deref().map_or(&[][..], |at| step.index.followed(at, step.at_us));
    let returned = visits.iter().filter(|visit| visit.epoch == epoch).count() > 1;
    let forgotten = visits.len() > LOGS_REMEMBERED + 1;
    step.stream.open.hop == Hop::User && (returned || forgotten)
}

/// The gap that an outcome announced.
fn announced(step: &Step<'_, '_>, welcome: &Welcome, gap: &Gap) -> Option<String> {
    let (reason, goes_on) = match welcome.outcome {
        Outcome::Trimmed => (GapReason::Trimmed, &welcome.oldest),
        Outcome::EpochChanged if step.stream.open.presented == Cursor::Unreadable => {
            (GapReason::CursorUnreadable, &welcome.oldest)
        }
        Outcome::EpochChanged => (GapReason::EpochChanged, &welcome.oldest),
        Outcome::Ahead => (GapReason::Ahead, &welcome.head),
        Outcome::Resumed | Outcome::Fresh => return None,
    };
    if gap.reason != reason {
        return Some(format!("the outcome is {:?}, but the gap says {:?}", welcome.outcome, gap.reason));
    }
    let (to, goes_on) = (step.index.at(&gap.to)?, step.index.pos(goes_on));
    // A client that comes back to a log it left has had some of what is held there, and its handler gets none of it twice.
    let had = step.stream.open.continues && step.state.carried.was_in(to.epoch);
    // A window that was cut where a log returned goes on there, or at the position presented.
    let cut = is_cut(step, to.epoch);
    let skips = to.epoch == goes_on.epoch && to.seq > goes_on.seq && !had && !cut;
    let repeats = to.epoch == goes_on.epoch && to.seq < goes_on.seq && welcome.outcome == Outcome::Ahead;
    (skips || repeats).then(|| {
        format!("the gap leads to {}, but after {reason:?} reading goes on at {}", to.seq, goes_on.seq)
    })
}
