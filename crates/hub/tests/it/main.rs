//! The hub through its router, with a real gRPC client over a pipe in memory and with time that the tests own.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

mod drain;
mod fencing;
mod http;
mod opening;
mod publishing;
mod refusals;
mod seam;
mod services;
mod slow;
mod streaming;
mod world;
