//! **Resumable**: a presented cursor gets the outcome it deserves, and its gap leads to where reading goes on.
//!
//! Judged from the welcome's own `oldest`, `head` and `epoch`. A gateway may know more than its window shows (it asks
//! upstream, and its window may span epochs), so users have a little more leeway. That the first event after RESUMED
//! is the very next one is judged in `gap_free`, under this promise's name.

use std::collections::BTreeSet;

use crate::checker::index::Pos;
use crate::checker::report::{Findings, Promise};
use crate::checker::seen::Seen;
use crate::checker::sight::Sight;
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

/// A user's outcome is judged by what its gateway and its hub could know, where that is told.
pub(in crate::checker) fn sights(step: &Step<'_, '_>, seen: &mut Seen) {
    let is_known = step.index.edges.is_some() && step.stream.open.hop == Hop::User;
    if is_known && matches!((step.what, &step.stream.open.presented), (What::Welcome(_), Cursor::At(_))) {
        seen.count(Sight::UserOutcomeJudged);
    }
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
    // To a window that was cut where a log returned, the earlier stretch is another log; told once too often is safe.
    let is_cut = returned(step, held).is_some();
    let trimmed: &[Outcome] = if at_user {
        &[Outcome::Trimmed, Outcome::Resumed] // the rest may have been pulled from the hub
    } else {
        &[Outcome::Trimmed]
    };
    if held.epoch == oldest.epoch && held.seq < oldest.seq {
        let is_cut = is_cut || returned_since(step, held);
        return if is_cut { &[Outcome::Trimmed, Outcome::Resumed, Outcome::EpochChanged] } else { trimmed };
    }
    if held.epoch != head.epoch {
        if let Some(wanted) = of_another_epoch(step, held) {
            return wanted;
        }
        return if at_user && may_come_to(step, held.epoch, head.epoch) {
            &[Outcome::EpochChanged, Outcome::Resumed]
        } else {
            &[Outcome::EpochChanged]
        };
    }
    if held.seq <= head.seq {
        return if is_cut { &[Outcome::Resumed, Outcome::EpochChanged] } else { &[Outcome::Resumed] };
    }
    let log = step.index.log(held.epoch);
    let log_head = match &step.index.edges {
        Some(_) => step.index.head_at(held.epoch, step.at_us),
        None => log.map_or(0, |log| log.head),
    };
    let within_authority = log.is_some_and(|log| held.seq <= log_head || !log.is_whole_at(held.seq));
    // A gateway in an epoch that is over cannot tell any more how far that went: it waits to be told of the end.
    let over = at_user && step.index.is_over(held.epoch, step.at_us);
    match within_authority || over {
        true if is_cut => &[Outcome::Resumed, Outcome::Ahead, Outcome::EpochChanged],
        true => &[Outcome::Resumed, Outcome::Ahead],
        false => &[Outcome::Ahead],
    }
}

/// A user's position of another epoch than its gateway is in, where there is one log. `None`: that leaves it open.
fn of_another_epoch(step: &Step<'_, '_>, held: Pos) -> Option<&'static [Outcome]> {
    let index = step.index;
    let gateway = step.stream.open.at.as_deref().filter(|_| step.stream.open.hop == Hop::User)?;
    index.edges.as_ref().filter(|_| !index.has_several_logs())?;
    index.log(held.epoch)?.began?;
    let opened_us = index.records[step.stream.open_line].at_us;
    let was_there = index.followed(gateway, step.at_us).iter().any(|visit| visit.epoch == held.epoch);
    // The hub is asked, and in that epoch all the while: the gateway will come to it.
    if !index.is_over(held.epoch, step.at_us) && step.stream.issued.is_some_and(|issued| held.seq <= issued) {
        return Some(&[Outcome::Resumed]);
    }
    // Neither the gateway nor its hub can know anything of it any more.
    (index.is_over(held.epoch, opened_us) && !was_there).then_some(&[Outcome::EpochChanged])
}

/// How long a gateway may be in another log already before that shows.
const CHANGES_WITHIN_US: u64 = 2_000_000;

/// Whether a gateway may resume a position of another epoch than its window is in: it holds something of that still, or has
/// not come to it yet. Which of several logs it is going to it does not know before it goes.
fn may_come_to(step: &Step<'_, '_>, epoch: u32, present: u32) -> bool {
    let index = step.index;
    let Some(at) = step.stream.open.at.as_deref().filter(|_| index.has_several_logs()) else { return true };
    // A gateway that begins anew meanwhile has what it had until then.
    let there = |at_us| index.followed(at, at_us).iter().any(|visit| visit.epoch == epoch);
    let goes_there = there(step.at_us) || there(step.at_us + CHANGES_WITHIN_US);
    goes_there || index.is_over(present, step.at_us)
}

/// How many logs that it left a gateway remembers.
const LOGS_REMEMBERED: usize = 8;

/// Whether the gateway that was asked came back to the log of this position, and the position may be from before that: the
/// log had come to it by then, so that somebody may have had it. Answers where the gateway came back to. Once it has left
/// more logs than it remembers, each one may be one of those.
fn returned(step: &Step<'_, '_>, held: Pos) -> Option<Pos> {
    let at = step.stream.open.at.as_deref().filter(|_| step.stream.open.hop == Hop::User)?;
    let visits = step.index.followed(at, step.at_us);
    let back = visits.iter().rposition(|visit| visit.epoch == held.epoch)?;
    let left: BTreeSet<_> = visits[..back].iter().map(|visit| visit.epoch).collect();
    let came_back = left.contains(&held.epoch) || left.len() > LOGS_REMEMBERED;
    let back = &visits[back];
    let reached = step.index.head_at(held.epoch, back.began_us).max(back.from);
    (came_back && held.seq <= reached).then_some(Pos { epoch: back.epoch, seq: back.from })
}

/// Whether the gateway that was asked left the log of this position, and has come back to any other since: its window was cut there,
/// and the whole stretch lies before that.
fn returned_since(step: &Step<'_, '_>, held: Pos) -> bool {
    let Some(at) = step.stream.open.at.as_deref().filter(|_| step.stream.open.hop == Hop::User) else {
        return false;
    };
    let visits = step.index.followed(at, step.at_us);
    let Some(there) = visits.iter().rposition(|visit| visit.epoch == held.epoch) else { return false };
    (there + 1..visits.len()).any(|later| visits[..later].iter().any(|v| v.epoch == visits[later].epoch))
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
    let had = step.state.carried.was_at(to.epoch).filter(|_| step.stream.open.continues);
    // A window that was cut where a log returned goes on there, or at the position presented if that lies behind it.
    let presented = step.index.at(&step.stream.open.presented).filter(|held| held.epoch == to.epoch);
    let back = returned(step, presented.unwrap_or(to));
    let cut = back.map(|back| presented.map_or(back.seq, |presented| presented.seq.max(back.seq)));
    let farthest = goes_on.seq.max(had.unwrap_or(0)).max(cut.unwrap_or(0));
    let skips = to.epoch == goes_on.epoch && to.seq > farthest;
    let repeats = to.epoch == goes_on.epoch && to.seq < goes_on.seq && welcome.outcome == Outcome::Ahead;
    (skips || repeats).then(|| {
        format!("the gap leads to {}, but after {reason:?} reading goes on at {}", to.seq, goes_on.seq)
    })
}
