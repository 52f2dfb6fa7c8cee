//! **Unique**: no event position twice on a stream, and none at or before the cursor it resumed from.
//!
//! Each stream is judged from its own presented cursor: a reader that presents an older one asks for a repeat, and
//! whether its handler then sees it twice is judged by `handled_once`. Ephemeral events have no position and are known
//! by id and payload.

use crate::checker::report::{Findings, Promise};
use crate::checker::stream::Step;
use crate::history::{Event, What};

pub(super) fn check<'h>(step: &Step<'_, 'h>, findings: &mut Findings<'_, 'h>) {
    let What::Event(event) = step.what else { return };
    let fault = match step.event() {
        Some(pos) => step.stretch_of(pos).and_then(|stretch| {
            let here = step.index.show(pos);
            if stretch.has(pos.seq) {
                Some(format!("{here} was delivered on this stream before"))
            } else if pos.seq <= stretch.start && stretch.gap.is_none_or(|gap| pos.seq > gap) {
                Some(format!("{here} is not after {}, where this stream began", stretch.start))
            } else {
                None
            }
        }),
        None => repeated(step, event),
    };
    if let Some(fault) = fault {
        findings.on_stream(Promise::Unique, step.stream, step.line, fault);
    }
}

/// An ephemeral event may come as often as it was published: a repeat is recognised only within one life of the hub.
fn repeated(step: &Step<'_, '_>, event: &Event) -> Option<String> {
    let before = *step.state.ephemerals.get(&(&*event.id, event.hash))?;
    let calls = step.index.publishes.of_payload(&event.id, event.hash).filter(|call| call.may_land()).count();
    (before >= calls.max(1))
        .then(|| format!("ephemeral event {:?} was delivered on this stream before", event.id))
}
