//! What passes between the link and whoever takes its items: an item that goes out, what became of it, and one that is given up.
//!
//! Values only. When an item goes out is decided in `handing.rs`.

use std::sync::Arc;

use super::Item;

/// An item that was given up.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct DeadLetter<'a> {
    /// The item.
    pub item: &'a Item,
    /// What the handler said last.
    pub error: &'a Arc<str>,
    /// How often it failed by itself. Failures of a batch in which it was not alone are not among them.
    pub failures: u32,
}

/// An item that goes out to whoever reads the stream form.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Handed {
    /// Names it in its [`Verdict`].
    pub id: u64,
    /// The item.
    pub item: Item,
    /// How often it was handed out before, each time in vain.
    pub failures: u32,
}

/// What became of an item that was handed out. Each handing out has one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Names the item.
    pub id: u64,
    /// `Ok`: it is dealt with. Else why not.
    pub result: Result<(), Arc<str>>,
}
