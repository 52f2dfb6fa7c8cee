//! The hub through its router, with a real gRPC client over a pipe in memory and with time that the tests own.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

mod access;
mod changed_access;
mod compressed;
mod convergence;
mod damaged;
mod drain;
mod embedding;
mod fencing;
mod flapping;
mod frozen;
mod http;
mod ids;
mod on_disk;
mod opening;
mod overload;
mod publish_stream;
mod publishing;
mod records;
mod refusals;
mod reports;
mod rotated;
mod seam;
mod services;
mod slow;
mod snapshot;
mod stale;
mod standing;
mod status;
mod stores;
mod streaming;
mod time;
mod unfinished;
mod warnings;
mod world;
