//! How much is being received and answered at this moment: the bound behind `OVERLOADED`.
//!
//! A request holds a [`Permit`] from the first byte read of its body until it is answered. The permit grows with what
//! arrives, so neither peers that never finish nor a slow store can pile up more than the bound. Nothing waits here: what
//! does not fit is refused, and told when to come back. Bodies, publishes and questions of gateways take permits; scrapes
//! read the totals.
//!
//! ```text
//! bound: 64 MiB, 1,024 requests
//! first byte    permit.reserve(4 KiB)      counts at least 4 KiB
//! more bytes    permit.reserve(300 KiB)    counts what has arrived
//! complete      permit.admit(310 KiB)      counts as a request, with what it takes in memory until it is answered
//! answered      the permit is dropped      all of it is free again
//! ```
//!
//! Where several identities are told apart, none may hold more than it leaves free. So whatever one of them does, there is
//! room for another:
//!
//! ```text
//! bound 100     a holds 50     a asks for 5 more: refused, 55 would leave 45     b asks for 20: taken
//! ```
//!
//! One request of an identity is always taken, if it fits at all: otherwise the largest request would never fit where the
//! bound is small.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use galaxy_push_core::ambient::Ambient;
use galaxy_push_proto::{Code, Failure, Reason};

/// A refused peer comes back after this and a random part of as long again, so that not all of them come at once.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// A body that has begun counts as so many bytes at least: what is kept to go on with it.
const BODY_BYTES_MIN: usize = 4 << 10;

/// The bound of one kind of request, and what is held of it. Cheap to clone: clones count together.
#[derive(Clone, Debug)]
pub(crate) struct InFlight {
    /// Which kind of request it bounds.
    what: RequestKind,
    /// The most requests that have arrived and are not answered.
    requests_max: usize,
    /// The most bytes of all requests, arrived or not.
    bytes_max: usize,
    ambient: Ambient,
    /// What is held now.
    table: Arc<Mutex<Table>>,
}

/// The kind of request, for messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RequestKind {
    /// Events and standing records of publishers.
    Publishes,
    /// What gateways ask: subscribe, report, head, reflection.
    Questions,
    /// Questions about health, which anybody may ask.
    Probes,
}

/// What is held now, behind the lock.
#[derive(Debug, Default)]
struct Table {
    all: Usage,
    /// Of each identity that is told apart and holds something.
    of: BTreeMap<Arc<str>, IdentityUsage>,
}

/// What one identity holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct IdentityUsage {
    amount: Usage,
    /// How many permits of it hold something.
    shares: usize,
}

/// So many requests and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// Requests that have arrived and are not answered.
    pub(crate) requests: usize,
    /// Bytes of those, and of bodies that are still arriving.
    pub(crate) bytes: usize,
}

/// What one request holds of the bound; given back when dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    /// How many bytes it holds.
    bytes: usize,
    /// Its request has arrived whole.
    has_arrived: bool,
    /// It holds something: bytes, or that its request has arrived.
    is_counted: bool,
    /// Of which bound.
    of: InFlight,
    /// Whose it is, where several are told apart.
    whose: Option<Arc<str>>,
}

/// How the permit of a request gets from the body, which is read first, to the handler, which answers: in the extensions
/// of the request.
#[derive(Clone, Debug, Default)]
pub(crate) struct PermitSlot {
    permit: Arc<Mutex<Option<Permit>>>,
    /// So many bytes were read of the request that came last.
    read: Arc<AtomicUsize>,
}

impl InFlight {
    /// A bound of so many requests and bytes. The ambient draws when refused peers come back.
    pub(crate) fn new(what: RequestKind, requests_max: usize, bytes_max: usize, ambient: Ambient) -> Self {
        Self { what, requests_max, bytes_max, ambient, table: Arc::default() }
    }

    /// The permit of a body of which nothing has been read. `whose` must leave room for others; `None`: it need not.
    pub(crate) fn permit(&self, whose: Option<Arc<str>>) -> Permit {
        Permit { bytes: 0, has_arrived: false, is_counted: false, of: self.clone(), whose }
    }

    /// What is held now, for a scrape.
    pub(crate) fn usage(&self) -> Usage {
        self.lock().all
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether so much is above the bound.
    fn is_over(&self, amount: Usage) -> bool {
        amount.requests > self.requests_max || amount.bytes > self.bytes_max
    }

    /// The refusal, with a random wait so that refused peers do not come back together.
    fn overloaded(&self, amount: Usage, whose: Option<&str>) -> Failure {
        let Usage { requests, bytes } = amount;
        let (what, and_then) = match self.what {
            RequestKind::Publishes => {
                (format!("{requests} publishes and {bytes} bytes"), "come back later, nothing was appended")
            }
            RequestKind::Questions => (format!("{bytes} bytes of questions"), "ask again later"),
            RequestKind::Probes => (format!("{bytes} bytes of probes"), "ask again later"),
        };
        let message = match whose {
            None => format!("{what} are under way, as many as this hub takes: {and_then}"),
            Some(whose) => format!(
                "{what} of {whose} are under way, and it may have no more than it leaves to others: {and_then}"
            ),
        };
        let spread = u64::try_from(RETRY_AFTER.as_millis()).unwrap_or(u64::MAX).max(1);
        let wait = RETRY_AFTER + Duration::from_millis(self.ambient.random() % spread);
        Failure::new(Reason::Overloaded, message).code(Code::ResourceExhausted).retry_after(wait)
    }
}

impl Usage {
    fn plus(self, other: Self) -> Self {
        Self {
            requests: self.requests.saturating_add(other.requests),
            bytes: self.bytes.saturating_add(other.bytes),
        }
    }

    fn minus(self, other: Self) -> Self {
        Self {
            requests: self.requests.saturating_sub(other.requests),
            bytes: self.bytes.saturating_sub(other.bytes),
        }
    }
}

impl Permit {
    /// Holds at least so many bytes of a body from now on.
    ///
    /// # Errors
    ///
    /// `OVERLOADED`: they do not fit beside the others.
    pub(crate) fn reserve(&mut self, bytes: usize) -> Result<(), Failure> {
        self.raise(bytes.max(BODY_BYTES_MIN), self.has_arrived)
    }

    /// The request is complete, and needs so many bytes at least until it is answered.
    ///
    /// # Errors
    ///
    /// As [`Permit::reserve`], or there are too many requests.
    pub(crate) fn admit(&mut self, bytes: usize) -> Result<(), Failure> {
        self.raise(bytes, true)
    }

    /// How many bytes it holds.
    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Makes the permit hold at least so many bytes. Holding less than before changes nothing: what was received stays
    /// counted until it is answered.
    ///
    /// Both bounds are checked under one lock before anything is changed, so a refusal leaves no trace:
    ///
    /// ```text
    /// of all          all held + more  ≤ bound
    /// of an identity  all held + its own + more  ≤ bound, unless this is its only permit
    /// ```
    fn raise(&mut self, bytes: usize, has_arrived: bool) -> Result<(), Failure> {
        let arrives = has_arrived && !self.has_arrived;
        let more = Usage { requests: usize::from(arrives), bytes: bytes.saturating_sub(self.bytes) };
        let mut table = self.of.lock();
        let all = table.all.plus(more);
        if self.of.is_over(all) {
            return Err(self.of.overloaded(table.all, None));
        }
        if let Some(whose) = &self.whose {
            let own = table.of.get(whose).copied().unwrap_or_default();
            // One request is always taken: the largest would not fit otherwise where little is taken at all.
            let is_only = own.shares == usize::from(self.is_counted);
            if !is_only && self.of.is_over(all.plus(own.amount).plus(more)) {
                return Err(self.of.overloaded(own.amount, Some(whose)));
            }
            let shares = own.shares + usize::from(!self.is_counted);
            table.of.insert(whose.clone(), IdentityUsage { amount: own.amount.plus(more), shares });
        }
        table.all = all;
        drop(table);
        self.bytes += more.bytes;
        self.has_arrived = has_arrived;
        self.is_counted = true;
        Ok(())
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if !self.is_counted {
            return;
        }
        let had = Usage { requests: usize::from(self.has_arrived), bytes: self.bytes };
        let mut table = self.of.lock();
        table.all = table.all.minus(had);
        let Some(whose) = &self.whose else { return };
        let Some(own) = table.of.get_mut(whose) else { return };
        *own = IdentityUsage { amount: own.amount.minus(had), shares: own.shares - 1 };
        if own.shares == 0 {
            table.of.remove(whose);
        }
    }
}

impl PermitSlot {
    /// So many bytes were read of a request, which may be refused for it.
    pub(crate) fn note(&self, bytes: usize) {
        self.read.store(bytes, Ordering::Relaxed);
    }

    /// How many bytes were read of the request that came last.
    pub(crate) fn bytes(&self) -> usize {
        self.read.load(Ordering::Relaxed)
    }

    /// Leaves the permit of the message that was handed on.
    pub(crate) fn put(&self, permit: Permit) {
        *self.permit.lock().unwrap_or_else(PoisonError::into_inner) = Some(permit);
    }

    /// Takes the permit that was left, for the handler to hold until it has answered.
    pub(crate) fn take(&self) -> Option<Permit> {
        self.permit.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_flight(requests_max: usize, bytes_max: usize) -> InFlight {
        InFlight::new(RequestKind::Publishes, requests_max, bytes_max, Ambient::new(|| 0, || 499))
    }

    #[test]
    fn what_does_not_fit_is_refused_until_something_is_answered() {
        let in_flight = in_flight(2, 100);
        let arrive = |bytes| {
            let mut permit = in_flight.permit(None);
            permit.admit(bytes).map(|()| permit)
        };
        let first = arrive(60).unwrap();
        let too_large = arrive(41).unwrap_err();
        assert_eq!((too_large.code, too_large.reason), (Code::ResourceExhausted, Some(Reason::Overloaded)));
        assert_eq!(too_large.retry_after, Some(Duration::from_millis(999)));
        let _second = arrive(40).unwrap();
        assert!(arrive(0).is_err(), "two requests");
        drop(first);
        let _third = arrive(60).unwrap();
        assert_eq!(in_flight.usage(), Usage { requests: 2, bytes: 100 });
    }

    #[test]
    fn a_body_counts_as_it_arrives_and_not_again_when_it_has() {
        let in_flight = in_flight(1, 10_000);
        let mut permit = in_flight.permit(None);
        permit.reserve(1).unwrap();
        assert_eq!(in_flight.usage(), Usage { requests: 0, bytes: BODY_BYTES_MIN }, "no request yet");
        permit.reserve(9_000).unwrap();
        assert!(in_flight.permit(None).reserve(1).is_err(), "no room for another that begins");
        assert!(permit.reserve(10_001).is_err());
        permit.admit(8_000).unwrap();
        assert_eq!(in_flight.usage(), Usage { requests: 1, bytes: 9_000 });
        drop(permit);
        assert_eq!(in_flight.usage(), Usage::default());
    }

    /// The fault: one publisher that left its requests unfinished took the room of all.
    #[test]
    fn none_holds_more_than_it_leaves_free() {
        let room = InFlight::new(RequestKind::Publishes, 100, 100_000, Ambient::new(|| 0, || 499));
        let hold = |whose: &str, bytes| {
            let mut permit = room.permit(Some(whose.into()));
            permit.reserve(bytes).map(|()| permit)
        };
        let mut greedy = vec![hold("greedy", 30_000).unwrap(), hold("greedy", 20_000).unwrap()];
        let refused = hold("greedy", 5_000).unwrap_err();
        assert_eq!((refused.reason, refused.code), (Some(Reason::Overloaded), Code::ResourceExhausted));
        assert!(refused.retry_after.is_some() && refused.message.contains("of greedy"), "{refused}");
        assert!(greedy[1].reserve(20_001).is_err(), "nor does it grow");
        let other = hold("other", 20_000).unwrap();
        assert!(hold("other", 5_000).is_ok() && hold("other", 5_001).is_err(), "beside 50,000 of greedy");
        assert!(
            hold("third", 30_000).is_ok() && hold("third", 30_001).is_err(),
            "one request, as far as there is room"
        );
        let anybody = hold("", 1).unwrap();
        drop((greedy, other));
        assert!(hold("greedy", 60_000).is_ok(), "one request is always taken");
        drop(anybody);
        assert!(room.lock().of.is_empty());
        assert_eq!(room.usage(), Usage::default());
    }

    #[test]
    fn requests_are_shared_alike() {
        let room = InFlight::new(RequestKind::Publishes, 4, 100_000, Ambient::new(|| 0, || 499));
        let arrive = |whose: &str| {
            let mut permit = room.permit(Some(whose.into()));
            permit.admit(1).map(|()| permit)
        };
        let _greedy = [arrive("greedy").unwrap(), arrive("greedy").unwrap()];
        assert!(arrive("greedy").is_err());
        let _others = [arrive("a").unwrap(), arrive("b").unwrap()];
        assert!(arrive("c").unwrap_err().message.contains("this hub takes"));
    }

    #[test]
    fn a_question_is_not_told_that_nothing_was_appended() {
        let room = InFlight::new(RequestKind::Questions, usize::MAX, 5_000, Ambient::new(|| 0, || 499));
        let _first = {
            let mut permit = room.permit(None);
            permit.reserve(5_000).unwrap();
            permit
        };
        let refused = room.permit(None).reserve(1).unwrap_err();
        assert_eq!(
            refused.message,
            "5000 bytes of questions are under way, as many as this hub takes: ask again later"
        );
    }
}
