//! What processes of a world did that no record of its history tells: counted by name, so that a run says what it tested.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Counts. Clones count together.
#[derive(Clone, Debug, Default)]
pub struct Met(Arc<Mutex<BTreeMap<&'static str, u64>>>);

impl Met {
    /// It happened once more.
    pub fn meets(&self, what: &'static str) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(what).or_default() += 1;
    }

    /// Everything that happened, and how often.
    #[must_use]
    pub fn all(&self) -> BTreeMap<&'static str, u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
