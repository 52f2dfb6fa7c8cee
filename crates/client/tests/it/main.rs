//! The client against a scripted hub, on paused time and without sockets, but for the one test that proves TCP.
#![expect(clippy::unwrap_used, reason = "a test's helpers may panic")]

mod hub;
mod publish;
mod refusals;
mod stop;
mod stream;
mod tcp;
