//! How much is asked of the hub at this moment: the bound behind `OVERLOADED`.
//!
//! A request holds a [`Share`] from the first byte read of its body until it is answered; it grows with what arrives, so
//! neither peers that never finish nor a store that is slow can pile up more than the bound. Nothing waits here: what
//! does not fit is refused, and told when to come back.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use galaxy_push_core::ambient::Ambient;
use galaxy_push_proto::{Failure, Reason};
use tonic::Code;

/// Whoever is refused comes back after this and up to as long again, so that they do not all come at once.
const COME_BACK_AFTER: Duration = Duration::from_millis(500);

/// A body that has begun counts as so many bytes at least: what is kept to go on with it.
const BODY_BYTES_MIN: usize = 4 << 10;

/// The requests under way. Cheap to clone: clones count together.
#[derive(Clone, Debug)]
pub(crate) struct UnderWay {
    /// What is asked, for messages.
    what: &'static str,
    requests_max: usize,
    bytes_max: usize,
    ambient: Ambient,
    amount: Arc<Mutex<Amount>>,
}

/// How much there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Amount {
    /// Those that have arrived.
    pub(crate) requests: usize,
    /// Of those, and of bodies on their way.
    pub(crate) bytes: usize,
}

/// One request's share, given back when dropped.
#[derive(Debug)]
pub(crate) struct Share {
    bytes: usize,
    has_arrived: bool,
    of: UnderWay,
}

/// The share of a request whose body was read before its handler was called, in the extensions of the request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Received {
    share: Arc<Mutex<Option<Share>>>,
    /// So many bytes were read of the request that came last.
    read: Arc<AtomicUsize>,
}

impl UnderWay {
    pub(crate) fn new(what: &'static str, requests_max: usize, bytes_max: usize, ambient: Ambient) -> Self {
        Self { what, requests_max, bytes_max, ambient, amount: Arc::default() }
    }

    /// The share of a body of which nothing has been read.
    pub(crate) fn share(&self) -> Share {
        Share { bytes: 0, has_arrived: false, of: self.clone() }
    }

    pub(crate) fn amount(&self) -> Amount {
        *self.lock()
    }

    fn lock(&self) -> MutexGuard<'_, Amount> {
        self.amount.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn overloaded(&self, amount: Amount) -> Failure {
        let message = format!(
            "{} {} and {} bytes are under way, as many as this hub takes: come back later, nothing was appended",
            amount.requests, self.what, amount.bytes
        );
        let spread = u64::try_from(COME_BACK_AFTER.as_millis()).unwrap_or(u64::MAX).max(1);
        let wait = COME_BACK_AFTER + Duration::from_millis(self.ambient.random() % spread);
        Failure::new(Reason::Overloaded, message).code(Code::ResourceExhausted).retry_after(wait)
    }
}

impl Share {
    /// Holds at least so many bytes of a body from now on.
    ///
    /// # Errors
    ///
    /// `OVERLOADED`: they do not fit beside the others.
    pub(crate) fn hold(&mut self, bytes: usize) -> Result<(), Failure> {
        self.raise(bytes.max(BODY_BYTES_MIN), self.has_arrived)
    }

    /// The request is complete, and needs so many bytes at least until it is answered.
    ///
    /// # Errors
    ///
    /// As [`Share::hold`], or there are too many requests.
    pub(crate) fn arrive(&mut self, bytes: usize) -> Result<(), Failure> {
        self.raise(bytes, true)
    }

    /// How many bytes it holds.
    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }

    fn raise(&mut self, bytes: usize, has_arrived: bool) -> Result<(), Failure> {
        let mut amount = self.of.lock();
        let more = bytes.saturating_sub(self.bytes);
        let arrives = has_arrived && !self.has_arrived;
        if (arrives && amount.requests >= self.of.requests_max)
            || amount.bytes.saturating_add(more) > self.of.bytes_max
        {
            return Err(self.of.overloaded(*amount));
        }
        amount.bytes += more;
        amount.requests += usize::from(arrives);
        drop(amount);
        self.bytes += more;
        self.has_arrived = has_arrived;
        Ok(())
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut amount = self.of.lock();
        amount.requests -= usize::from(self.has_arrived);
        amount.bytes -= self.bytes;
    }
}

impl Received {
    /// So many bytes were read of a request, which may be refused for it.
    pub(crate) fn note(&self, bytes: usize) {
        self.read.store(bytes, Ordering::Relaxed);
    }

    /// How many bytes were read of the request that came last.
    pub(crate) fn bytes(&self) -> usize {
        self.read.load(Ordering::Relaxed)
    }

    pub(crate) fn put(&self, share: Share) {
        *self.share.lock().unwrap_or_else(PoisonError::into_inner) = Some(share);
    }

    pub(crate) fn take(&self) -> Option<Share> {
        self.share.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn under_way(requests_max: usize, bytes_max: usize) -> UnderWay {
        UnderWay::new("publishes", requests_max, bytes_max, Ambient::new(|| 0, || 499))
    }

    #[test]
    fn what_does_not_fit_is_refused_until_something_is_answered() {
        let under_way = under_way(2, 100);
        let arrive = |bytes| {
            let mut share = under_way.share();
            share.arrive(bytes).map(|()| share)
        };
        let first = arrive(60).unwrap();
        let too_large = arrive(41).unwrap_err();
        assert_eq!((too_large.code, too_large.reason), (Code::ResourceExhausted, Some(Reason::Overloaded)));
        assert_eq!(too_large.retry_after, Some(Duration::from_millis(999)));
        let _second = arrive(40).unwrap();
        assert!(arrive(0).is_err(), "two requests");
        drop(first);
        let _third = arrive(60).unwrap();
        assert_eq!(under_way.amount(), Amount { requests: 2, bytes: 100 });
    }

    #[test]
    fn a_body_counts_as_it_arrives_and_not_again_when_it_has() {
        let under_way = under_way(1, 10_000);
        let mut share = under_way.share();
        share.hold(1).unwrap();
        assert_eq!(under_way.amount(), Amount { requests: 0, bytes: BODY_BYTES_MIN }, "no request yet");
        share.hold(9_000).unwrap();
        assert!(under_way.share().hold(1).is_err(), "no room for another that begins");
        assert!(share.hold(10_001).is_err());
        share.arrive(8_000).unwrap();
        assert_eq!(under_way.amount(), Amount { requests: 1, bytes: 9_000 });
        drop(share);
        assert_eq!(under_way.amount(), Amount::default());
    }
}
