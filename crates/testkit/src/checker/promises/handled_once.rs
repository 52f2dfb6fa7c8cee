//! **Handled once**: within one life of a reader's process each item has exactly one outcome, success or dead letter; in
//! order, but for the stream form; and none that was delivered is passed over.
//!
//! Judged only for readers that record `handled`. A crash of the process begins a new life, which may finish again what
//! at most D calls of an earlier one had, and more only while that one's store failed; it begins after nothing that
//! none of them had. A stored cursor never runs ahead of what has no outcome, and nothing up to it is repeated.

use crate::checker::handling::{Noted, walk};
use crate::checker::index::Index;
use crate::checker::report::{Findings, Promise};

pub(super) fn check<'h>(index: &Index<'h>, findings: &mut Findings<'_, 'h>) {
    walk(index, &mut |noted| {
        if let Noted::Wrong { lines, text } = noted {
            findings.at(Promise::HandledOnce, &lines, text);
        }
    });
}
