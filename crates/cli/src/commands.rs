//! The commands that end by themselves; `roles` has those that serve.

pub(crate) mod completions;
pub(crate) mod cursor;
mod patience;
pub(crate) mod publish;
pub(crate) mod records;
pub(crate) mod tail;
pub(crate) mod token;
