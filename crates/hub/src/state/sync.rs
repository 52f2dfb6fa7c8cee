//! The locks and atomics in which this crate's threads meet: those of `std`, or, in the models that `cargo xtask threads` runs
//! (`--cfg shuttle`), those of shuttle, which decides at each of them which thread goes on.
//!
//! Where one thread must never wait for another's schedule, as inside one counter, `std` is taken directly: to a model that is one
//! step. So is whatever tokio, the store and other crates lock.

#[cfg(all(test, shuttle))]
pub(crate) use shuttle::sync::{Mutex, MutexGuard, atomic::AtomicU64};
#[cfg(not(all(test, shuttle)))]
pub(crate) use std::sync::{Mutex, MutexGuard, atomic::AtomicU64};
