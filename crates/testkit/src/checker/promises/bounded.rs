//! **Bounded**: of nothing that has a bound there is more than that, whenever the harness looks.

use crate::checker::index::Index;
use crate::checker::report::{Findings, Promise};
use crate::history::What;

pub(super) fn check<'h>(index: &Index<'h>, findings: &mut Findings<'_, 'h>) {
    for (line, record) in index.records.iter().enumerate() {
        let What::Measured(measured) = &record.what else { continue };
        if measured.is > measured.most {
            let text = format!("{}: {}, and {} at most", measured.what, measured.is, measured.most);
            findings.at(Promise::Bounded, &[line], text);
        }
    }
}
