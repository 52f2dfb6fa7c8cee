//! **Gap true**, for users: what a gateway tells one of its users as missed, it did not have, or could not judge.
//!
//! A gateway lacks what its hub had lost when it began, what its hub told it as missed, and what its own window has let go.
//! Around a return to a log it cannot tell what its users had, and after a gap of its own not who belonged to a topic; there
//! gaps may be needless, and are not judged. All of that is of the life in which the gateway served the stream: what it sent may
//! be read when it has begun the next.
//!
//! And the counts, which gateways are owed as well: one wherever one epoch without holes is told, and none elsewhere.

use crate::checker::index::Pos;
use crate::checker::index::edges::{Life, SHOWS_WITHIN_US, is_held_at};
use crate::checker::report::{Findings, Promise};
use crate::checker::seen::Seen;
use crate::checker::sight::Sight;
use crate::checker::stream::Step;
use crate::history::{Gap, GapReason, Hop, What};

pub(super) fn check<'h>(step: &Step<'_, 'h>, findings: &mut Findings<'_, 'h>) {
    let What::Gap(gap) = step.what else { return };
    let faults = [uncounted(step, gap), needless(step, gap), not_concerned(step, gap)];
    for fault in faults.into_iter().flatten().filter_map(|judged| judged.fault) {
        findings.on_stream(Promise::GapTrue, step.stream, step.line, fault);
    }
}

/// What was judged of a gap, for those who count it.
pub(in crate::checker) fn sights(step: &Step<'_, '_>, seen: &mut Seen) {
    let What::Gap(gap) = step.what else { return };
    for judged in [uncounted(step, gap), needless(step, gap), not_concerned(step, gap)].into_iter().flatten()
    {
        seen.count(judged.sight);
    }
}

/// Something was judged, and was so unless there is a fault.
struct Judged {
    sight: Sight,
    fault: Option<String>,
}

/// Who reads one epoch without holes is told how much is missing at most; across epochs nobody knows.
fn uncounted(step: &Step<'_, '_>, gap: &Gap) -> Option<Judged> {
    step.index.edges.as_ref()?;
    let to = step.index.at(&gap.to)?;
    let from = step.index.at(&gap.from).filter(|from| from.epoch == to.epoch);
    let leads_on = !matches!(
        gap.reason,
        GapReason::Ahead | GapReason::EpochChanged | GapReason::CursorUnreadable | GapReason::Collapsed
    );
    let lies_there = leads_on && from.is_some();
    let is_known = lies_there && !step.index.has_holes(to.epoch);
    let fault = match gap.count {
        // What is too large is one event, however many positions lead to it.
        Some(_) if lies_there && gap.reason == GapReason::TooLarge => None,
        None if is_known => Some("it does not say how many are missing, though that can be known".to_owned()),
        Some(count) if !is_known => Some(format!("it says that {count} are missing, which nobody can know")),
        _ => None,
    };
    Some(Judged { sight: Sight::CountJudged, fault })
}

/// The gateway of a user, if it is known what happened there.
fn gateway<'h>(step: &Step<'_, 'h>) -> Option<&'h str> {
    step.index.edges.as_ref()?;
    step.stream.open.at.as_deref().filter(|_| step.stream.open.hop == Hop::User)
}

/// That gateway in the life in which it serves this stream.
fn server<'s>(step: &Step<'s, '_>, gateway: &str) -> Option<&'s Life> {
    let opened_us = step.index.opened_us(step.stream.open.stream);
    let welcomed_us = step.state.welcome_us.max(opened_us);
    step.index.edges.as_ref()?.serving(gateway, opened_us, welcomed_us)
}

fn needless(step: &Step<'_, '_>, gap: &Gap) -> Option<Judged> {
    let (gateway, to) = (gateway(step)?, step.index.at(&gap.to)?);
    match gap.reason {
        GapReason::Trimmed | GapReason::Lapped => held(step, gateway, gap, to),
        GapReason::Upstream => nothing_missed(step, gateway, to),
        GapReason::EpochChanged => stayed(step, gateway, gap, to),
        _ => None,
    }
}

/// The last position told as missing is in the window: it need not be told, and nothing before it either, or the gap goes too far.
fn held(step: &Step<'_, '_>, gateway: &str, gap: &Gap, to: Pos) -> Option<Judged> {
    let window = step.index.window_of(step.stream.open)?;
    let sight =
        if gap.reason == GapReason::Trimmed { Sight::UserTrimmedJudged } else { Sight::UserLappedJudged };
    let (here, server) = (step.index.show(to), (gateway, server(step, gateway)?));
    let fault = is_held_at(step.index, window, server, to, step.at_us)
        .then(|| format!("the window of {gateway} must have held {here} still"));
    Some(Judged { sight, fault })
}

/// Its hub told the gateway of nothing there, and no membership of the user can be in doubt.
fn nothing_missed(step: &Step<'_, '_>, gateway: &str, to: Pos) -> Option<Judged> {
    let index = step.index;
    let life = server(step, gateway)?;
    let is_in_doubt = step.state.entitlement.governed.recipients().next().is_some();
    let (here, needless) = (index.show(to), !is_in_doubt && !life.may_lack(to));
    let fault = needless.then(|| format!("{gateway} was told of nothing that its hub lacks up to {here}"));
    Some(Judged { sight: Sight::UserUpstreamJudged, fault })
}

/// The gateway has not been in the epoch that it leads to.
fn stayed(step: &Step<'_, '_>, gateway: &str, gap: &Gap, to: Pos) -> Option<Judged> {
    let from = step.index.at(&gap.from)?;
    let life = server(step, gateway)?;
    let visits = step.index.followed_in(gateway, life.began_us, step.at_us + SHOWS_WITHIN_US);
    // One that led back to where it was is judged as not ordered.
    if from.epoch == to.epoch || visits.is_empty() {
        return None;
    }
    let was_there = visits.iter().any(|visit| visit.epoch == to.epoch);
    let text = || format!("{gateway} has not been in the epoch of {}", step.index.show(to));
    Some(Judged { sight: Sight::UserEpochJudged, fault: (!was_there).then(text) })
}

/// A live user for whom there is nothing behind where it stands is not told that the window has moved on: its gateway knows what
/// was for it.
fn not_concerned(step: &Step<'_, '_>, gap: &Gap) -> Option<Judged> {
    let gateway = gateway(step)?;
    let (state, index) = (step.state, step.index);
    let (from, to) = (index.at(&gap.from)?, index.at(&gap.to)?);
    let is_live =
        state.caught_up && !state.behind && gap.reason == GapReason::Lapped && from.epoch == to.epoch;
    let life = server(step, gateway)?;
    if !is_live || life.may_lack(to) {
        return None;
    }
    let concerned = state.entitlement.may_concern(index, from, u64::MAX, step.at_us) || had_ephemeral(step);
    let text = || {
        let (from, to) = (from.seq, to.seq);
        format!("nothing behind {from} was for this user, who was live: it had not missed what leads to {to}")
    };
    Some(Judged { sight: Sight::QuietJudged, fault: (!concerned).then(text) })
}

/// Whether something without a position may have waited for the user: it fills its mailbox too.
fn had_ephemeral(step: &Step<'_, '_>) -> bool {
    let before = step.stream.lines.partition_point(|&line| line < step.line).checked_sub(1);
    let since = before.map_or(step.stream.open_line, |before| step.stream.lines[before]);
    // What was not answered by then may have been on its way.
    let since_us = step.index.records[since].at_us.saturating_sub(10_000_000);
    let mut records = step.index.records[..step.line].iter().rev();
    let mut records = records.by_ref().take_while(|record| record.at_us >= since_us);
    records.any(|record| {
        matches!(&record.what, What::PubCall(call) if call.ephemeral && step.state.entitlement.may_see(&call.to))
    })
}
