//! The generated messages and services of package `push.v1`, as `proto/push/v1/push.proto` describes them.
//!
//! `tests/it/codegen.rs` makes and checks the included file; nothing here is written by hand. The services are behind
//! the features `client` and `server`.
#![allow(
    clippy::all,
    clippy::allow_attributes_without_reason,
    clippy::too_many_lines,
    clippy::use_self,
    missing_docs,
    reason = "generated"
)]

include!("generated/push.v1.rs");
