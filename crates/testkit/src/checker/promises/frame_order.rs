//! **Frame order**: `Welcome`, `Standing`* (unless RESUMED), `Gap`?, replay, `CaughtUp`, live, `Goodbye`?, status; and
//! `Standing`* again after a gap that comes later.
//!
//! That an outcome's gap comes before any *event* is judged by `gap_free`; that `CaughtUp` comes at all, by `live`. An
//! ephemeral event is for live readers: it has no place in a replay.

use crate::checker::report::{Findings, Promise};
use crate::checker::stream::Step;
use crate::history::What;

pub(super) fn check<'h>(step: &Step<'_, 'h>, findings: &mut Findings<'_, 'h>) {
    if let Some(fault) = fault(step) {
        findings.on_stream(Promise::FrameOrder, step.stream, step.line, fault);
    }
}

fn fault(step: &Step<'_, '_>) -> Option<String> {
    let state = step.state;
    if !step.what.is_frame() {
        return None;
    }
    if state.closed {
        return Some("a frame on a stream that is closed".into());
    }
    if state.said_goodbye {
        return Some("a frame after Goodbye, which is the last one".into());
    }
    match (state.welcome, step.what) {
        // A stream that is not opened may say so in a goodbye, its only frame: a browser understands nothing else.
        (None, What::Welcome(_) | What::Goodbye(_)) => None,
        (None, _) => Some("the first frame is not a Welcome".into()),
        (Some(_), What::Welcome(_)) => Some("a second Welcome".into()),
        (Some(_), What::Standing(_)) => misplaced(step),
        (Some(_), What::Goodbye(_)) => None,
        (Some(_), _) if is_listing_due(step) => {
            Some("the standing records that hold must come before this frame".into())
        }
        (Some(_), What::Event(event)) if event.position.is_none() && (!state.caught_up || state.behind) => {
            Some(format!("the ephemeral event {:?} on a stream that is not live", event.id))
        }
        (Some(_), What::FellBehind(_)) if state.behind => {
            Some("a second FellBehind, and no CaughtUp since the first".into())
        }
        (
            Some(welcome),
            What::Progress(_) | What::CaughtUp(_) | What::FellBehind(_) | What::Subscribed(_),
        ) if state.gap_due => {
            Some(format!("the outcome is {:?}: a Gap must come before this frame", welcome.outcome))
        }
        _ => None,
    }
}

fn misplaced(step: &Step<'_, '_>) -> Option<String> {
    if !step.stream.open.standing {
        return Some("Standing to a reader that does not take standing records".into());
    }
    match &step.state.listing {
        None => {
            Some("Standing must come right after Welcome (unless it says RESUMED), or after a gap".into())
        }
        Some(listing) => (!listing.due).then(|| "Standing after the one that said it is the last".into()),
    }
}

fn is_listing_due(step: &Step<'_, '_>) -> bool {
    step.stream.open.standing && step.state.listing.as_ref().is_some_and(|listing| listing.due)
}
