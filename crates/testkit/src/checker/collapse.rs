//! Superseded events a collapsing reader did not get: they must be told by a COLLAPSED gap before their survivor.

use std::collections::HashMap;

/// What was left out on one stream and what was said of it.
#[derive(Default)]
pub(super) struct Collapsed<'h> {
    /// By collapse key: left out, and no survivor delivered yet.
    hidden: HashMap<&'h str, u64>,
    /// How many the gaps so far spoke of, beyond those whose survivor has come.
    told: u64,
}

impl<'h> Collapsed<'h> {
    /// An entry with this key was left out.
    pub(super) fn hide(&mut self, key: &'h str) {
        *self.hidden.entry(key).or_default() += 1;
    }

    /// A COLLAPSED gap spoke of `count` events; without a count, of all.
    pub(super) fn tell(&mut self, count: Option<u64>) {
        let told = count.unwrap_or_else(|| self.hidden.values().sum());
        self.told = self.told.saturating_add(told);
    }

    /// How many with this key were left out and never told, if `more` are left out now.
    pub(super) fn untold(&self, key: &str, more: u64) -> u64 {
        (self.hidden.get(key).copied().unwrap_or_default() + more).saturating_sub(self.told)
    }

    /// The newest with this key was delivered.
    pub(super) fn survived(&mut self, key: &str) {
        let hidden = self.hidden.remove(key).unwrap_or_default();
        self.told = self.told.saturating_sub(hidden);
    }
}
