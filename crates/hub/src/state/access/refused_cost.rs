//! What a refused request costs its publisher's rate.
//!
//! A request that is refused for what it holds was read, inflated and checked like any other. Were it free, a publisher
//! could send such requests without an end. So it counts as one event, with the bytes that were read of it. A request that
//! was refused for the rate itself, or because the hub is full or drains, costs nothing: that is not its content's fault.
//!
//! Every surface for publishers asks [`Caller::check_rate`] before it reads a body, and counts with the others afterwards.

use std::time::Duration;

use galaxy_push_proto::{Code, Failure};

use super::Caller;

impl Caller {
    /// Whether a request of this caller may be read: one that owes for earlier requests would be refused, however small it
    /// is.
    ///
    /// # Errors
    ///
    /// RESOURCE_EXHAUSTED: above its rate. Nothing is counted then.
    pub(crate) fn check_rate(&self, now: Duration) -> Result<(), Failure> {
        self.first().map_or(Ok(()), |known| known.check([1, 1], now))
    }

    /// Counts a request that was refused: as one event, and by what was read of it, in bytes. Not one that was refused for its
    /// rate, or that the hub has no room for.
    pub(crate) fn count_refused(&self, failure: &Failure, bytes: usize, now: Duration) {
        self.count_refused_with(failure.code, bytes, now);
    }

    /// As [`Caller::count_refused`], by the code that it was refused with.
    pub(crate) fn count_refused_with(&self, code: Code, bytes: usize, now: Duration) {
        let is_its_own = matches!(
            code,
            Code::InvalidArgument | Code::NotFound | Code::PermissionDenied | Code::OutOfRange
        );
        if let Some(known) = self.first().filter(|_| is_its_own) {
            known.count([1, bytes as u64], now);
        }
    }
}
