//! **Isolated**: nobody sees an event whose recipients do not include them, however they came to its position; and no
//! user is shown who else receives one.

use crate::checker::entitlement::Right;
use crate::checker::report::{Findings, Promise};
use crate::checker::stream::Step;
use crate::history::{Event, Hop, What};

pub(super) fn check<'h>(step: &Step<'_, 'h>, findings: &mut Findings<'_, 'h>) {
    let What::Event(event) = step.what else { return };
    if let Some(fault) = leak(step, event) {
        findings.on_stream(Promise::Isolated, step.stream, step.line, fault);
    }
}

fn leak(step: &Step<'_, '_>, event: &Event) -> Option<String> {
    if step.stream.open.hop == Hop::User && !event.shown_to.is_empty() {
        return Some(format!("{:?} names its recipients {:?} to a user", event.id, event.shown_to));
    }
    let entitlement = &step.state.entitlement;
    let pos = step.event();
    if let Some(entry) = pos.and_then(|pos| step.index.entry(pos)) {
        let epoch = pos.map_or(0, |pos| pos.epoch);
        let leaked = entitlement.right(step.index, epoch, entry, step.at_us) == Right::None;
        return leaked.then(|| match entry.line.standing {
            _ if pos.is_some_and(|pos| entitlement.governed.is_void(pos, step.at_us)) => {
                format!("{} ({:?}) lies behind the record that ended this session", entry.seq, event.id)
            }
            true => format!("{} is a standing record, which this reader does not take", entry.seq),
            false => {
                format!("{} ({:?}) is for {:?}, not for this reader", entry.seq, event.id, entry.line.to)
            }
        });
    }
    let mut calls = step.index.publishes.of_payload(&event.id, event.hash);
    let first = calls.clone().next()?;
    let leaked = !calls.any(|call| entitlement.may_see(&call.call.to));
    leaked.then(|| format!("{:?} is for {:?}, not for this reader", event.id, first.call.to))
}
