//! What passes between the link and whoever takes its items: an item that goes out, what became of it, and one that is given up.
//!
//! Values only. When an item goes out is decided in `outcomes.rs`.

use std::sync::Arc;

use super::Item;

/// An item that was given up.
///
/// Lent to the dead-letter callback by [`Link::dead_letter`](super::Link::dead_letter); the item's cursor commits once the callback has
/// accepted it.
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

/// An item that goes out to whoever reads the stream form. It comes again, with more `failures`, until its [`AckResult`] is `Ok` or it is
/// given up.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Delivery {
    /// Names it in its [`AckResult`].
    pub id: u64,
    /// The item.
    pub item: Item,
    /// How often it was delivered before, each time in vain.
    pub failures: u32,
}

/// What became of one delivery. Each delivery has exactly one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AckResult {
    /// Names the item.
    pub id: u64,
    /// `Ok`: it is dealt with. Else why not.
    pub result: Result<(), Arc<str>>,
}
