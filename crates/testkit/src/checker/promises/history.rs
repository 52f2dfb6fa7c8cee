//! The history itself: records that make no sense mean that the harness is wrong, and prove nothing about the product.

use crate::checker::index::Index;
use crate::checker::report::{Findings, Promise};

pub(super) fn check<'h>(index: &Index<'h>, findings: &mut Findings<'_, 'h>) {
    for &(line, fault) in index.unsound.iter().chain(&index.publishes.unsound) {
        findings.at(Promise::History, &[line], fault.to_owned());
    }
}
