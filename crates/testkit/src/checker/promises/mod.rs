//! The promises, one function each, named as in DESIGN.md §3.
//!
//! A promise of a stream looks at one step; a promise of a history looks at all of it. Each is judged by itself, so a
//! fault may break several.

mod acked;
mod across;
mod batch_whole;
mod behind;
mod bounded;
mod cursor_safe;
mod drained;
mod due;
mod durable;
mod ended;
mod fenced;
mod frame_order;
mod gap_free;
pub(super) mod gap_true;
mod gaps_of_users;
mod handled_once;
mod history;
mod isolated;
pub(super) mod live;
mod no_phantom;
mod ordered;
mod progress;
mod prompt;
mod resumable;
mod session_end;
mod signed_in;
mod spread;
mod standing;
mod steady;
mod unexpired;
mod unique;

use super::index::Index;
use super::report::Findings;
use super::seen::Seen;
use super::stream::Step;

type OfAStream = for<'h> fn(&Step<'_, 'h>, &mut Findings<'_, 'h>);
type OfAHistory = for<'h> fn(&Index<'h>, &mut Findings<'_, 'h>);

/// Judged at every record of a stream.
pub(super) const OF_A_STREAM: [OfAStream; 19] = [
    frame_order::check,
    ordered::check,
    unique::check,
    gap_free::check,
    across::check,
    gap_true::check,
    gaps_of_users::check,
    resumable::check,
    cursor_safe::check,
    progress::check,
    standing::check,
    isolated::check,
    unexpired::check,
    signed_in::check,
    drained::check,
    ended::check,
    due::check,
    prompt::check,
    behind::check,
];

/// Counts what the promises to users were judged on.
pub(super) fn count(step: &Step<'_, '_>, seen: &mut Seen) {
    gaps_of_users::sights(step, seen);
    ended::sights(step, seen);
    resumable::sights(step, seen);
}

/// Judged once.
pub(super) const OF_A_HISTORY: [OfAHistory; 14] = [
    history::check,
    fenced::check,
    acked::once,
    acked::order,
    batch_whole::check,
    durable::check,
    no_phantom::in_log,
    no_phantom::in_streams,
    handled_once::check,
    steady::check,
    bounded::check,
    session_end::check,
    spread::repairs,
    spread::returns,
];
