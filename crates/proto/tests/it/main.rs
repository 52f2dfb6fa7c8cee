//! The contract's integration tests: generated code is fresh, and the contract keeps its golden names and numbers.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod codegen;
mod golden;
