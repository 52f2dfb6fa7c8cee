//! The binary as its users meet it: real processes on free ports of the loopback, real files, real signals.
//!
//! Nothing sleeps: a test waits for what it expects to read, and fails when that takes longer than [`world::PATIENCE`].

#![expect(clippy::unwrap_used, reason = "what goes wrong in a test fails it, in helpers too")]

mod anew;
mod bounded;
mod completions;
mod compressed;
mod crowded;
mod disk;
mod drain;
mod files;
mod guarded;
mod help;
mod http2;
mod metrics;
#[cfg(feature = "nats")]
mod nats;
#[cfg(feature = "nats")]
mod nats_fence;
mod nats_standing;
mod quick_start;
mod quiet;
mod records;
mod refusals;
mod secure;
mod settings;
mod sse;
mod standing;
mod store;
mod tail;
mod traces;
mod two_hubs;
mod websocket;
mod world;
