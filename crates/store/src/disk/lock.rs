//! Locks a mutex that a panic elsewhere may have poisoned.
//!
//! Called by every file of the disk store that shares state between threads. What must not go on after a panic says so itself, as
//! [`Engine`](super::engine::Engine) does; everything else is whole at any time, and may still be read.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Waits for the lock. A panic of whoever held it before is ignored.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
