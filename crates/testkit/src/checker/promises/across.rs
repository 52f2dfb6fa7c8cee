//! **Gap-free or told** and **unique**, from one stream of a reader to its next, and across the logs that its gateway
//! followed.
//!
//! Inside a stream they are judged elsewhere; here is what no single stream shows: a cursor that was given and leads past
//! what was never delivered, or back to what was; and a gateway that went to another log and came back, to whose window a
//! reader's cursor says nothing of the time between.

use crate::checker::index::{Pos, following::Visit};
use crate::checker::report::{Findings, Promise};
use crate::checker::stream::Step;
use crate::history::{GapReason, Hop, Outcome, Welcome, What};

pub(super) fn check<'h>(step: &Step<'_, 'h>, findings: &mut Findings<'_, 'h>) {
    let fault = match step.what {
        What::Welcome(welcome) => lost_between(step, welcome).or_else(|| left_out(step, welcome)),
        What::Event(_) => step.event().and_then(|pos| {
            again(step, pos).or_else(|| behind(step, pos)).or_else(|| passed_over(step, pos))
        }),
        What::Gap(gap) if gap.reason != GapReason::EpochChanged => {
            step.index.at(&gap.to).and_then(|to| passed_over(step, to))
        }
        _ => None,
    };
    if let Some((promise, fault)) = fault {
        findings.on_stream(promise, step.stream, step.line, fault);
    }
}

/// Reading goes on behind what the reader was never given.
fn lost_between(step: &Step<'_, '_>, welcome: &Welcome) -> Option<(Promise, String)> {
    let before = step.before?;
    let place = step.state.carried.place?;
    if !matches!(welcome.outcome, Outcome::Resumed | Outcome::Fresh) {
        return None;
    }
    let begins = step.index.at(&welcome.cursor)?;
    let (here, there) = (step.index.show(place), step.index.show(begins));
    if begins.epoch != place.epoch {
        let silent = step.stream.open.continues;
        let text = format!("its handler stands at {here}, goes on at {there}, and no gap told the change");
        return silent.then_some((Promise::GapFreeOrTold, text));
    }
    let lost = before.entitlement.owed(step.index, place, begins.seq, step.at_us).next()?;
    let (seq, id) = (lost.seq, &lost.line.id);
    let text = format!("the reader stands at {here} and goes on at {there}: {seq} ({id:?}) is lost");
    Some((Promise::GapFreeOrTold, text))
}

/// A gateway that followed another log since this position does not say so.
fn left_out(step: &Step<'_, '_>, welcome: &Welcome) -> Option<(Promise, String)> {
    let open = step.stream.open;
    let begins = step.index.at(&welcome.cursor)?;
    if welcome.outcome != Outcome::Resumed || open.hop != Hop::User {
        return None;
    }
    // What the gateway went to while the connection was opened is told in the stream, or not known yet.
    let opened_us = step.index.records[step.stream.open_line].at_us;
    let visits = step.index.followed(open.at.as_deref()?, opened_us);
    // It lies in what the gateway had before it left, or was in the log before that, and somebody may have had it elsewhere.
    let stood =
        |visit: &Visit| visit.epoch == begins.epoch && visit.left.is_some_and(|left| begins.seq <= left);
    let appended = |us| visits.partition_point(|visit| visit.began_us <= us);
    let since = visits.iter().position(stood).map(|stood| stood + 1);
    let since = since.or_else(|| step.index.entry(begins).map(|entry| appended(entry.at_us)))?;
    // One that comes to a log for the first time in its life has not come back to it: to it that log is a new one.
    let came = visits.iter().position(|visit| visit.epoch == begins.epoch)?;
    let later = &visits[since.max(came)..];
    let back = later.iter().any(|visit| visit.epoch == begins.epoch);
    let told_us = step.state.carried.entered_us.unwrap_or(0);
    let mut elsewhere = later.iter().filter(|visit| visit.epoch != begins.epoch && visit.began_us > told_us);
    let (visit, lost) = elsewhere.find_map(|visit| Some((visit, of_visit(step, visit)?))).filter(|_| back)?;
    let from = step.index.show(Pos { epoch: visit.epoch, seq: visit.from });
    let (gateway, here) = (open.at.as_deref().unwrap_or_default(), step.index.show(begins));
    let text =
        format!("resumed at {here}, but since then {gateway} was at {from}, where {lost} is missing untold");
    Some((Promise::GapFreeOrTold, text))
}

/// A reader that its gateway led past another log and back is told nothing of that one.
fn passed_over(step: &Step<'_, '_>, pos: Pos) -> Option<(Promise, String)> {
    let open = step.stream.open;
    let gateway = open.at.as_deref().filter(|_| open.hop == Hop::User)?;
    let held = step.stretch_of(pos)?.passed();
    let told_us = step.state.carried.entered_us.unwrap_or(0).max(step.state.welcome_us);
    let visits = step.index.followed_for(gateway, open.stream, step.at_us);
    let returned = |visit: &Visit| visit.epoch == pos.epoch && held.seq <= visit.from && visit.from < pos.seq;
    let back = visits.iter().rposition(returned)?;
    let mut elsewhere =
        visits[..back].iter().filter(|visit| visit.epoch != pos.epoch && visit.began_us > told_us);
    let (visit, lost) = elsewhere.find_map(|visit| Some((visit, of_visit(step, visit)?)))?;
    let there = step.index.show(Pos { epoch: visit.epoch, seq: visit.from });
    let (here, next) = (step.index.show(held), step.index.show(pos));
    let text = format!(
        "{next} follows {here}, but between them {gateway} was at {there}, where {lost} is missing untold"
    );
    Some((Promise::GapFreeOrTold, text))
}

/// Something that a gateway got from another log and that is for this reader.
fn of_visit(step: &Step<'_, '_>, visit: &Visit) -> Option<String> {
    let from = Pos { epoch: visit.epoch, seq: visit.from };
    let entitlement = &step.state.entitlement;
    let lost = entitlement.owed(step.index, from, visit.left?, step.at_us).next()?;
    Some(format!("{} ({:?})", lost.seq, lost.line.id))
}

/// Delivered before, on this stream in an earlier stay in the epoch, or on the one whose cursor it was opened with.
fn again(step: &Step<'_, '_>, pos: Pos) -> Option<(Promise, String)> {
    let on_this_stretch = step.stretch_of(pos).is_some_and(|stretch| stretch.has(pos.seq));
    let again = !on_this_stretch && !step.stream.open.continues && step.state.carried.has(pos);
    again.then(|| {
        let here = step.index.show(pos);
        (
            Promise::Unique,
            format!("{here} was delivered to this reader before, and comes again across a resume"),
        )
    })
}

/// At or before the cursor that the stream was opened with, in a later stay in that epoch.
fn behind(step: &Step<'_, '_>, pos: Pos) -> Option<(Promise, String)> {
    let presented = step.index.at(&step.stream.open.presented)?;
    let may_go_back = step.stream.open.continues || step.state.welcome?.outcome == Outcome::Ahead;
    let later_stay = step.stretch_of(pos)?.start < presented.seq;
    let again = presented.epoch == pos.epoch && pos.seq <= presented.seq && later_stay && !may_go_back;
    again.then(|| {
        let (here, there) = (step.index.show(pos), step.index.show(presented));
        (Promise::Unique, format!("{here} comes to a reader that held {there} when this stream was opened"))
    })
}
