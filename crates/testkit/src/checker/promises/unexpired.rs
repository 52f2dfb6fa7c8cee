//! **Unexpired**: an event that has expired is not sent any more.
//!
//! When a frame was sent no reader can tell, only that it was not before the stream was opened. So an event is too late on
//! a stream that was opened after it had expired; one that expires on the way is nobody's fault.

use crate::checker::report::{Findings, Promise};
use crate::checker::stream::Step;
use crate::history::What;

/// Clocks of the product count in milliseconds, and round.
const ROUNDING_US: u64 = 5_000;

pub(super) fn check<'h>(step: &Step<'_, 'h>, findings: &mut Findings<'_, 'h>) {
    let What::Event(event) = step.what else { return };
    let expires = step.event().and_then(|pos| step.index.entry(pos)?.line.expires_at_us);
    let Some(expires_us) = expires else { return };
    let opened_us = step.index.records[step.stream.open_line].at_us;
    let late_us = ROUNDING_US.saturating_add(step.index.rules.transit_us);
    if opened_us > expires_us.saturating_add(late_us) {
        let text = format!("{:?} expired at {expires_us} us, before this stream was opened", event.id);
        findings.on_stream(Promise::Unexpired, step.stream, step.line, text);
    }
}
