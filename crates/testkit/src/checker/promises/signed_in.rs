//! **Live**, for whoever signs in anew: a record voids what was issued before it, and no token that was issued since.
//!
//! Judged where a token is refused within a second of its issue, before it can have ended by itself.

use crate::checker::report::{Findings, Promise};
use crate::checker::stream::Step;
use crate::history::What;

/// No token is meant to live shorter than this.
const LIVES_US: u64 = 1_000_000;

pub(super) fn check<'h>(step: &Step<'_, 'h>, findings: &mut Findings<'_, 'h>) {
    let What::Close(close) = step.what else { return };
    let refused = step.state.welcome.is_none() && matches!(&*close.code, "4401" | "http 401");
    let governed = &step.state.entitlement.governed;
    let Some(issued_us) = governed.token_issued_us().filter(|_| refused) else { return };
    if step.at_us.saturating_sub(issued_us) < LIVES_US && !governed.may_be_void(issued_us) {
        let text = format!("a token issued at {issued_us} us was refused, and no record voids it");
        findings.on_stream(Promise::Live, step.stream, step.line, text);
    }
}
