//! The client against a scripted hub, on paused time and without sockets, but for the one test that proves TCP.
#![expect(clippy::unwrap_used, reason = "a test's helpers may panic")]

mod acks;
mod crash;
mod dead_letters;
mod defects;
mod doors;
mod fields;
mod for_ever;
mod hub;
mod log;
mod publish;
mod publish_stream;
mod refusals;
mod reports;
mod stop;
mod store;
mod stream;
mod tcp;
#[cfg(feature = "tls")]
mod tls;
mod traces;
