//! What becomes of items in a reader's process: who handles them in which form, with which outcome, and what is stored of it.

use serde::{Deserialize, Serialize};

use super::{Cursor, Name, Position};

/// How a reader hands over its items, from here on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Handler {
    /// The reader's name.
    pub reader: Name,
    /// In which form.
    #[serde(default)]
    pub form: Form,
    /// D: so many of its calls are repeated at most after a crash.
    #[serde(default = "one")]
    pub repeats: u64,
}

/// The form in which items are handed over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// One by one, in order.
    #[default]
    Items,
    /// Many in one call, in order.
    Batches,
    /// Many at a time, each acked by itself, in any order.
    Stream,
}

/// The reader finished the item at this position: one record per item.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Handled {
    /// The reader's name.
    pub reader: Name,
    /// The item's position.
    pub position: Position,
    /// Its outcome.
    #[serde(default, skip_serializing_if = "is_success")]
    pub how: How,
    /// Which call of the handler finished it. Items of one call have one number; without, each is a call of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call: Option<u64>,
}

/// The outcome of an item.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// It was dealt with.
    #[default]
    Success,
    /// It was given up, and the dead letter took it.
    DeadLetter,
}

/// What a reader's cursor store holds from here on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stored {
    /// The reader's name.
    pub reader: Name,
    /// The cursor.
    pub cursor: Cursor,
}

const fn one() -> u64 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_success(how: &How) -> bool {
    *how == How::Success
}
