//! The checker judged: it accepts what keeps the promises and finds what breaks each of them.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on stops where it is")]

mod across;
mod durable;
mod fencing;
mod files;
mod gaps;
mod handling;
mod model;
mod mutations;
mod publishing;
mod script;
mod sse;
mod standing;
mod streams;
mod time;
mod users;
