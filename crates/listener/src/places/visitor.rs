//! One connection on its place: what it asks, and until when it may rest.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use http::request::Parts;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::{Kind, LEASH, Places, YOUNG};

/// Stands for "not at all" where a time is kept.
const NEVER: u64 = u64::MAX;

/// How often it is looked whether the head of another request has begun.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Whoever is at the other end of a connection, in the extensions of every request. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Visitor {
    state: Arc<State>,
    /// What it asks is answered without a place, too.
    asks_little: bool,
}

/// All places of those who have shown who they are, are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("every place on this listener is taken: come back in a moment, or to another one")]
pub struct Full;

#[derive(Debug)]
struct State {
    places: Places,
    id: u64,
    kind: AtomicU8,
    address: Option<IpAddr>,
    entered_ms: u64,
    /// When it last asked something or was answered.
    asked_ms: AtomicU64,
    /// When the first byte came of a request whose head is not complete.
    begun_ms: AtomicU64,
    under_way: AtomicU32,
    /// Of these the app waits no longer for so many.
    given_up: AtomicU32,
    was_served: AtomicBool,
    speaks_http1: AtomicBool,
    /// The last bytes it sent.
    tail: AtomicU32,
    /// Nothing is under way any more, for whoever waits for that.
    rests: Notify,
    is_awaited: AtomicBool,
    gone: CancellationToken,
}

/// An answer that its app has given up, until this is dropped.
#[derive(Debug)]
pub struct GivenUp(Visitor);

/// A taken place, given back when dropped.
#[derive(Debug)]
pub(crate) struct Place(Visitor);

/// A request that is under way until this is dropped.
#[derive(Debug)]
pub(crate) struct Begun {
    visitor: Visitor,
    /// The head is all there is of it.
    is_whole: bool,
}

impl Visitor {
    pub(super) fn new(places: Places, id: u64, kind: Kind, address: Option<IpAddr>) -> Self {
        let now = places.now_ms();
        let state = Arc::new(State {
            places,
            id,
            kind: AtomicU8::new(kind as u8),
            address,
            entered_ms: now,
            asked_ms: AtomicU64::new(now),
            begun_ms: AtomicU64::new(NEVER),
            under_way: AtomicU32::new(0),
            given_up: AtomicU32::new(0),
            was_served: AtomicBool::new(false),
            speaks_http1: AtomicBool::new(false),
            tail: AtomicU32::new(0),
            rests: Notify::new(),
            is_awaited: AtomicBool::new(false),
            gone: CancellationToken::new(),
        });
        Self { state, asks_little: false }
    }

    /// It has shown a credential that was accepted: it is no stranger any more.
    ///
    /// # Errors
    ///
    /// There is no place for it, and it asks for what needs one. It must be refused: as a stranger it would be cut off in
    /// the middle of what it asks, whenever others come.
    pub fn becomes_known(&self) -> Result<(), Full> {
        let is_known = self.kind() == Kind::Known || self.state.places.make_known(self);
        if is_known || self.asks_little { Ok(()) } else { Err(Full) }
    }

    /// Returns when a connection that has shown no credential may stay no longer: it has to give way, or was on a place that
    /// is kept back for long enough. Whoever takes a connection over from HTTP waits for it, until it is known; the listener
    /// does no more. Cancel safe.
    pub async fn has_to_leave(&self) {
        tokio::select! {
            biased;
            () = self.gives_way() => {}
            () = self.overstays() => {}
        }
    }

    /// Says that the app waits no longer for this peer to take one of its answers: a drain then does not either, once
    /// nothing else is under way.
    #[must_use]
    pub fn give_up(&self) -> GivenUp {
        self.state.given_up.fetch_add(1, Ordering::Relaxed);
        GivenUp(self.clone())
    }

    /// Closes the connection at once, with whatever is under way on it: for a peer that may not stay and cannot be told.
    pub fn dismiss(&self) {
        self.go();
    }

    /// Whether all that is under way was given up.
    pub(crate) fn is_given_up(&self) -> bool {
        let given_up = self.state.given_up.load(Ordering::Relaxed);
        given_up > 0 && given_up >= self.state.under_way.load(Ordering::Relaxed)
    }

    /// The same, as it asks this.
    pub(crate) fn asking(&self, request: &Parts) -> Self {
        let always = self.state.places.0.house.always;
        Self { asks_little: always.is_some_and(|always| always(request)), ..self.clone() }
    }

    /// A request comes. It is under way until what is returned is dropped.
    pub(crate) fn begin(&self, is_http1: bool, is_whole: bool) -> Begun {
        self.state.speaks_http1.store(is_http1, Ordering::Relaxed);
        self.state.under_way.fetch_add(1, Ordering::Relaxed);
        self.state.asked_ms.store(self.state.places.now_ms(), Ordering::Relaxed);
        self.state.begun_ms.store(NEVER, Ordering::Relaxed);
        Begun { visitor: self.clone(), is_whole }
    }

    /// Bytes came from it.
    pub(crate) fn sent(&self, bytes: &[u8]) {
        let last = bytes.iter().rev().take(4).rev();
        let tail =
            last.fold(self.state.tail.load(Ordering::Relaxed), |tail, byte| tail << 8 | u32::from(*byte));
        self.state.tail.store(tail, Ordering::Relaxed);
        if self.state.under_way.load(Ordering::Relaxed) == 0
            && self.state.begun_ms.load(Ordering::Relaxed) == NEVER
        {
            self.state.begun_ms.store(self.state.places.now_ms(), Ordering::Relaxed);
        }
    }

    /// Waits until it may rest no longer.
    pub(crate) async fn overstays(&self) {
        loop {
            let now = Instant::now();
            match self.deadline() {
                Some(deadline) if deadline <= now => return,
                // A head that begins has a nearer deadline, and is looked for: to be told of each would cost every request.
                Some(deadline) if self.state.speaks_http1.load(Ordering::Relaxed) => {
                    sleep_until(deadline.min(now + LOOK_EVERY)).await;
                }
                Some(deadline) => sleep_until(deadline).await,
                None => {
                    self.state.is_awaited.store(true, Ordering::SeqCst);
                    if self.deadline().is_none() {
                        self.state.rests.notified().await;
                    }
                }
            }
        }
    }

    /// Whether it may rest no longer.
    pub(crate) fn is_over(&self) -> bool {
        self.deadline().is_some_and(|deadline| deadline <= Instant::now())
    }

    /// Returns when it has to give way.
    pub(crate) async fn gives_way(&self) {
        self.state.gone.cancelled().await;
    }

    /// Whether it may ask this on the place it has.
    pub(crate) fn may_ask(&self, request: &Parts) -> bool {
        let house = &self.state.places.0.house;
        let may = |always: fn(&Parts) -> bool| house.strangers.is_some() || always(request);
        self.kind() != Kind::Kept || house.always.is_none_or(may)
    }

    /// Until when it may rest; `None`: something is under way.
    fn deadline(&self) -> Option<Instant> {
        let (state, places) = (&*self.state, &self.state.places);
        let inner = &places.0;
        let leash = (self.kind() == Kind::Kept).then(|| places.at(state.entered_ms) + LEASH);
        if state.under_way.load(Ordering::SeqCst) > 0 {
            // Where credentials are shown, whoever has none does not stay by asking something without end.
            return leash.filter(|_| inner.house.strangers.is_some());
        }
        let was_served = state.was_served.load(Ordering::Relaxed);
        let rest = if was_served { inner.idle } else { inner.header_read };
        let rests_until = places.at(self.asked_at()) + rest;
        let begun = state.begun_ms.load(Ordering::Relaxed);
        let head = (begun != NEVER && state.speaks_http1.load(Ordering::Relaxed))
            .then(|| places.at(begun) + inner.header_read);
        [Some(rests_until), head, leash].into_iter().flatten().min()
    }

    /// Whether it could be told to give way.
    pub(super) fn may_go(&self, now_ms: u64) -> bool {
        let is_old = Duration::from_millis(now_ms.saturating_sub(self.state.entered_ms)) >= YOUNG;
        let may = match self.kind() {
            Kind::Stranger => true,
            // Only where all are alike: then whoever asks nothing.
            Kind::Known => {
                self.state.places.0.house.strangers.is_none()
                    && self.state.under_way.load(Ordering::Relaxed) == 0
            }
            Kind::Kept => false,
        };
        is_old && may
    }

    pub(super) fn go(&self) {
        self.state.gone.cancel();
    }

    pub(super) fn is_gone(&self) -> bool {
        self.state.gone.is_cancelled()
    }

    pub(super) fn asked_at(&self) -> u64 {
        self.state.asked_ms.load(Ordering::Relaxed)
    }

    pub(super) fn id(&self) -> u64 {
        self.state.id
    }

    pub(super) fn address(&self) -> Option<IpAddr> {
        self.state.address
    }

    pub(super) fn kind(&self) -> Kind {
        match self.state.kind.load(Ordering::Relaxed) {
            kind if kind == Kind::Known as u8 => Kind::Known,
            kind if kind == Kind::Stranger as u8 => Kind::Stranger,
            _ => Kind::Kept,
        }
    }

    pub(super) fn set_known(&self) {
        self.state.kind.store(Kind::Known as u8, Ordering::Relaxed);
    }
}

impl Place {
    pub(super) fn new(visitor: Visitor) -> Self {
        Self(visitor)
    }

    pub(crate) fn visitor(&self) -> &Visitor {
        &self.0
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.state.places.leave(&self.0);
    }
}

impl Drop for GivenUp {
    fn drop(&mut self) {
        self.0.state.given_up.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Begun {
    /// It was not refused.
    pub(crate) fn was_served(&self) {
        self.visitor.state.was_served.store(true, Ordering::Relaxed);
    }

    /// The connection is another protocol's from here on, which knows when it ends.
    pub(crate) fn leaves_to_another_protocol(self) {
        self.was_served();
        self.visitor.state.under_way.fetch_add(1, Ordering::SeqCst); // what is never ended is under way
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        let state = &*self.visitor.state;
        let now = state.places.now_ms();
        state.asked_ms.store(now, Ordering::Relaxed);
        let tail = state.tail.load(Ordering::Relaxed).to_be_bytes();
        // Something came behind its head: the beginning of another.
        if self.is_whole && !tail.ends_with(b"\n\r\n") && !tail.ends_with(b"\n\n") {
            state.begun_ms.store(now, Ordering::Relaxed);
        }
        if state.under_way.fetch_sub(1, Ordering::SeqCst) == 1
            && state.is_awaited.swap(false, Ordering::SeqCst)
        {
            state.rests.notify_one();
        }
    }
}
