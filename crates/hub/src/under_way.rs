//! How much is being published at this moment: the bound behind `OVERLOADED`.
//!
//! Every surface passes through [`UnderWay::enter`] before anything is checked or appended. A request is under way from
//! there until it is answered, so what a store that is slow can pile up is bounded in requests and in bytes. Nothing
//! waits here: what does not fit is refused, and told when to come back.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use galaxy_push_core::ambient::Ambient;
use galaxy_push_proto::{Failure, Reason};
use tonic::Code;

/// Whoever is refused comes back after this and up to as long again, so that they do not all come at once.
const COME_BACK_AFTER: Duration = Duration::from_millis(500);

/// The requests under way. Cheap to clone: clones count together.
#[derive(Clone, Debug)]
pub(crate) struct UnderWay {
    requests_max: usize,
    bytes_max: usize,
    amount: Arc<Mutex<Amount>>,
}

/// How much there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Amount {
    pub(crate) requests: usize,
    pub(crate) bytes: usize,
}

/// One request's share, given back when dropped.
#[derive(Debug)]
pub(crate) struct Share {
    bytes: usize,
    amount: Arc<Mutex<Amount>>,
}

impl UnderWay {
    pub(crate) fn new(requests_max: usize, bytes_max: usize) -> Self {
        Self { requests_max, bytes_max, amount: Arc::default() }
    }

    /// Takes a share for a request of so many bytes.
    ///
    /// # Errors
    ///
    /// `OVERLOADED`: it does not fit beside the others.
    pub(crate) fn enter(&self, bytes: usize, ambient: &Ambient) -> Result<Share, Failure> {
        let mut amount = self.amount.lock().unwrap_or_else(PoisonError::into_inner);
        if amount.requests >= self.requests_max || amount.bytes.saturating_add(bytes) > self.bytes_max {
            return Err(overloaded(*amount, ambient));
        }
        amount.requests += 1;
        amount.bytes += bytes;
        Ok(Share { bytes, amount: self.amount.clone() })
    }

    pub(crate) fn amount(&self) -> Amount {
        *self.amount.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut amount = self.amount.lock().unwrap_or_else(PoisonError::into_inner);
        amount.requests -= 1;
        amount.bytes -= self.bytes;
    }
}

fn overloaded(amount: Amount, ambient: &Ambient) -> Failure {
    let message = format!(
        "{} publishes of {} bytes are under way, as many as this hub takes: come back later, nothing was appended",
        amount.requests, amount.bytes
    );
    let spread = u64::try_from(COME_BACK_AFTER.as_millis()).unwrap_or(u64::MAX).max(1);
    let wait = COME_BACK_AFTER + Duration::from_millis(ambient.random() % spread);
    Failure::new(Reason::Overloaded, message).code(Code::ResourceExhausted).retry_after(wait)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_refused_until_something_is_answered() {
        let ambient = Ambient::new(|| 0, || 499);
        let under_way = UnderWay::new(2, 100);
        let first = under_way.enter(60, &ambient).unwrap();
        let too_large = under_way.enter(41, &ambient).unwrap_err();
        assert_eq!((too_large.code, too_large.reason), (Code::ResourceExhausted, Some(Reason::Overloaded)));
        assert_eq!(too_large.retry_after, Some(Duration::from_millis(999)));
        let _second = under_way.enter(40, &ambient).unwrap();
        assert!(under_way.enter(0, &ambient).is_err(), "two requests");
        drop(first);
        let _third = under_way.enter(60, &ambient).unwrap();
        assert_eq!(under_way.amount(), Amount { requests: 2, bytes: 100 });
    }
}
