//! The operating system's clock and randomness, for processes that do not run in a simulation.

use std::time::{SystemTime, UNIX_EPOCH};

use galaxy_push_core::ambient::Ambient;

/// The wall clock and random numbers of the operating system.
///
/// A clock set before 1970 reads as 1970. Should the operating system refuse randomness, the process ends: epochs and
/// tickets must not be guessable, and nothing sensible can follow.
#[must_use]
pub fn ambient() -> Ambient {
    let unix_ms = || {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    };
    let random = || getrandom::u64().unwrap_or_else(|error| panic!("no randomness from the system: {error}"));
    Ambient::new(unix_ms, random)
}
