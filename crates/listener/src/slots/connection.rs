//! One connection on its place: what it asks, and until when it may rest.

mod request;

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::response::Response;
use http::request::Parts;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use super::{ConnectionSlots, EVICTABLE_AFTER, READ_WITHIN, RESERVED_FOR, SlotKind, no_slot};
pub(crate) use request::ActiveRequest;

/// Stands for "not at all" where a time is kept.
const NEVER: u64 = u64::MAX;

/// How often it is looked whether the head of another request has begun, and who is on a place that is kept back.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How often it is looked whether an answer is taken.
const LOOK_AT_ANSWERS_EVERY: Duration = Duration::from_secs(5);

/// Whoever is at the other end of a connection, in the extensions of every request. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ConnectionHandle {
    state: Arc<State>,
    /// What it asks is answered without a place, too.
    needs_no_slot: bool,
}

/// There is no place for somebody who has shown who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoSlot {
    /// All of them are taken.
    #[error("every place on this listener is taken: come back in a moment, or to another one")]
    All,
    /// It has as many as it may have beside others.
    #[error(
        "it has as many connections here as it may, and must leave places to others: use fewer, or come back in a moment"
    )]
    Own,
}

#[derive(Debug)]
struct State {
    slots: ConnectionSlots,
    id: u64,
    kind: AtomicU8,
    address: Option<IpAddr>,
    /// Who has one place of the known more by it.
    whose: OnceLock<Arc<str>>,
    accepted_ms: u64,
    /// When it last asked something or was answered.
    active_ms: AtomicU64,
    /// When the first byte came of a request whose head is not complete.
    head_begun_ms: AtomicU64,
    under_way: AtomicU32,
    /// Of these the app waits no longer for so many.
    abandoned: AtomicU32,
    /// Of these so many should be short, and are neither complete nor answered.
    unfinished: AtomicU32,
    /// Whole answers that the peer has not taken. Their requests are under way no more.
    unread: AtomicU32,
    /// When there was the first of them, or when something of one was taken last.
    unread_ms: AtomicU64,
    /// It was told that there is no place for what it asks.
    was_refused_slot: AtomicBool,
    was_served: AtomicBool,
    speaks_http1: AtomicBool,
    /// The last bytes it sent.
    tail: AtomicU32,
    /// Nothing is under way any more, for whoever waits for that.
    idle: Notify,
    is_waited_for: AtomicBool,
    gone: CancellationToken,
}

/// An answer that its app has given up, until this is dropped.
#[derive(Debug)]
pub struct AbandonedResponse(ConnectionHandle);

/// A taken place, given back when dropped.
#[derive(Debug)]
pub(crate) struct SlotGuard(ConnectionHandle);

impl ConnectionHandle {
    pub(super) fn new(slots: ConnectionSlots, id: u64, kind: SlotKind, address: Option<IpAddr>) -> Self {
        let now = slots.now_ms();
        let state = Arc::new(State {
            slots,
            id,
            kind: AtomicU8::new(kind as u8),
            address,
            whose: OnceLock::new(),
            accepted_ms: now,
            active_ms: AtomicU64::new(now),
            head_begun_ms: AtomicU64::new(NEVER),
            under_way: AtomicU32::new(0),
            abandoned: AtomicU32::new(0),
            unfinished: AtomicU32::new(0),
            unread: AtomicU32::new(0),
            unread_ms: AtomicU64::new(now),
            was_refused_slot: AtomicBool::new(false),
            was_served: AtomicBool::new(false),
            speaks_http1: AtomicBool::new(false),
            tail: AtomicU32::new(0),
            idle: Notify::new(),
            is_waited_for: AtomicBool::new(false),
            gone: CancellationToken::new(),
        });
        Self { state, needs_no_slot: false }
    }

    /// It has shown a credential that was accepted: it is no stranger any more.
    ///
    /// # Errors
    ///
    /// There is no place for it, and it asks for what needs one. It must be refused: as a stranger it would be cut off in
    /// the middle of what it asks, whenever others come.
    pub fn authenticate(&self) -> Result<(), NoSlot> {
        self.authenticate_as(None)
    }

    /// As [`ConnectionHandle::authenticate`], of somebody of this name: none may have more places than it leaves free, but for one.
    /// `None`: it need not leave any.
    ///
    /// # Errors
    ///
    /// As there; or it has too many itself.
    pub fn authenticate_as(&self, whose: Option<&Arc<str>>) -> Result<(), NoSlot> {
        if self.kind() == SlotKind::Authenticated {
            return Ok(());
        }
        match self.state.slots.authenticate(self, whose) {
            Err(full) if !self.needs_no_slot => {
                self.state.was_refused_slot.store(true, Ordering::SeqCst);
                Err(full)
            }
            _ => Ok(()),
        }
    }

    /// Returns when a connection that has shown no credential may stay no longer: it has to give way, or was on a place that
    /// is kept back for long enough. Whoever takes a connection over from HTTP waits for it, until it is known; the listener
    /// does no more. Cancel safe.
    pub async fn must_close(&self) {
        tokio::select! {
            biased;
            () = self.evicted() => {}
            () = self.idle_expired() => {}
        }
    }

    /// Says that the app waits no longer for this peer to take one of its answers: a drain then does not either, once
    /// nothing else is under way.
    #[must_use]
    pub fn abandon_response(&self) -> AbandonedResponse {
        self.state.abandoned.fetch_add(1, Ordering::Relaxed);
        AbandonedResponse(self.clone())
    }

    /// Closes the connection at once, with whatever is under way on it: for a peer that may not stay and cannot be told.
    pub fn close(&self) {
        self.evict();
    }

    /// Whether the peer alone keeps the connection: all that is under way was given up, or is an answer that it does not
    /// take.
    pub(crate) fn is_abandoned(&self) -> bool {
        let abandoned = self.state.abandoned.load(Ordering::Relaxed);
        let takes_nothing = || self.must_read_by().is_some_and(|until| until <= Instant::now());
        abandoned >= self.state.under_way.load(Ordering::Relaxed) && (abandoned > 0 || takes_nothing())
    }

    /// The same, as it asks this.
    pub(crate) fn for_request(&self, request: &Parts) -> Self {
        let always = self.state.slots.0.policy.always;
        Self { needs_no_slot: always.is_some_and(|always| always(request)), ..self.clone() }
    }

    /// A request comes. It is under way until what is returned is dropped.
    pub(crate) fn begin_request(&self, is_http1: bool, is_whole: bool) -> ActiveRequest {
        self.state.speaks_http1.store(is_http1, Ordering::Relaxed);
        self.state.under_way.fetch_add(1, Ordering::Relaxed);
        self.state.active_ms.store(self.state.slots.now_ms(), Ordering::Relaxed);
        self.state.head_begun_ms.store(NEVER, Ordering::Relaxed);
        ActiveRequest::new(self.clone(), is_whole)
    }

    /// Bytes came from it.
    pub(crate) fn received_bytes(&self, bytes: &[u8]) {
        let last = bytes.iter().rev().take(4).rev();
        let tail =
            last.fold(self.state.tail.load(Ordering::Relaxed), |tail, byte| tail << 8 | u32::from(*byte));
        self.state.tail.store(tail, Ordering::Relaxed);
        if self.state.under_way.load(Ordering::Relaxed) == 0
            && self.state.head_begun_ms.load(Ordering::Relaxed) == NEVER
        {
            self.state.head_begun_ms.store(self.state.slots.now_ms(), Ordering::Relaxed);
        }
    }

    /// Waits until it may rest no longer.
    pub(crate) async fn idle_expired(&self) {
        loop {
            let (now, deadline) = (Instant::now(), self.deadline());
            let is_kept = self.kind() == SlotKind::Reserved;
            // A nearer deadline comes with a head that begins, or an answer, and is looked for: to be told of each would
            // cost every request.
            let look = now
                + match self.state.speaks_http1.load(Ordering::Relaxed) || is_kept {
                    true => LOOK_EVERY,
                    false => LOOK_AT_ANSWERS_EVERY,
                };
            match deadline {
                Some(deadline) if deadline <= now => return,
                None if !is_kept => {
                    self.state.is_waited_for.store(true, Ordering::SeqCst);
                    if self.deadline().is_none() {
                        self.state.idle.notified().await;
                    }
                }
                deadline => {
                    let next = deadline.map_or(look, |deadline| deadline.min(look));
                    _ = timeout_at(next, self.state.idle.notified()).await;
                }
            }
        }
    }

    /// Whether it may rest no longer.
    pub(crate) fn is_idle_expired(&self) -> bool {
        self.deadline().is_some_and(|deadline| deadline <= Instant::now())
    }

    /// Returns when it has to give way.
    pub(crate) async fn evicted(&self) {
        self.state.gone.cancelled().await;
    }

    /// What it is answered if it may not ask this on the place it has. It may then go as soon as it has heard so.
    pub(crate) fn refusal(&self, request: &Parts) -> Option<Response> {
        let policy = &self.state.slots.0.policy;
        let may = |always: fn(&Parts) -> bool| {
            policy.anonymous.is_some() || always(request) || policy.app_decides.is_some_and(|by| by(request))
        };
        if self.kind() != SlotKind::Reserved || policy.always.is_none_or(may) {
            return None;
        }
        self.state.was_refused_slot.store(true, Ordering::SeqCst);
        Some(no_slot::refusal(request))
    }

    /// Until when it may rest; `None`: something is under way.
    fn deadline(&self) -> Option<Instant> {
        let (state, slots) = (&*self.state, &self.state.slots);
        let inner = &slots.0;
        let reserved_until =
            (self.kind() == SlotKind::Reserved).then(|| slots.at(state.accepted_ms) + RESERVED_FOR);
        if state.under_way.load(Ordering::SeqCst) > 0 {
            // Where credentials are shown, whoever has none does not stay by asking something without end; and nowhere by
            // not asking to the end.
            return reserved_until.filter(|_| inner.policy.anonymous.is_some() || self.is_only_unfinished());
        }
        if reserved_until.is_some() && state.was_refused_slot.load(Ordering::SeqCst) {
            return Some(slots.at(state.accepted_ms));
        }
        let was_served = state.was_served.load(Ordering::Relaxed);
        let rest = if was_served { inner.idle } else { inner.header_read };
        let rests_until = slots.at(self.last_active_ms()) + rest;
        let active = state.head_begun_ms.load(Ordering::Relaxed);
        let head = (active != NEVER && state.speaks_http1.load(Ordering::Relaxed))
            .then(|| slots.at(active) + inner.header_read);
        [Some(rests_until), head, reserved_until, self.must_read_by()].into_iter().flatten().min()
    }

    /// Until when it has to take something of its answers; `None`: there are none for it to take.
    fn must_read_by(&self) -> Option<Instant> {
        let since = self.state.unread_ms.load(Ordering::Relaxed);
        let unread = self.state.unread.load(Ordering::Relaxed) > 0;
        unread.then(|| self.state.slots.at(since) + READ_WITHIN)
    }

    /// Whether all that is under way are short requests of which it still owes a part.
    fn is_only_unfinished(&self) -> bool {
        let unfinished = self.state.unfinished.load(Ordering::Relaxed);
        unfinished > 0 && unfinished >= self.state.under_way.load(Ordering::SeqCst)
    }

    /// Whether it could be told to give way.
    pub(super) fn is_evictable(&self, now_ms: u64) -> bool {
        let is_old = |since: u64| Duration::from_millis(now_ms.saturating_sub(since)) >= EVICTABLE_AFTER;
        let may = match self.kind() {
            SlotKind::Anonymous => true,
            // Only where all are alike: then whoever asks nothing, or does not ask to the end.
            SlotKind::Authenticated => {
                self.state.slots.0.policy.anonymous.is_none()
                    && (self.state.under_way.load(Ordering::Relaxed) == 0
                        || self.is_only_unfinished() && is_old(self.last_active_ms()))
            }
            SlotKind::Reserved => false,
        };
        may && is_old(self.state.accepted_ms)
    }

    pub(super) fn evict(&self) {
        self.state.gone.cancel();
    }

    pub(super) fn is_evicted(&self) -> bool {
        self.state.gone.is_cancelled()
    }

    pub(super) fn last_active_ms(&self) -> u64 {
        self.state.active_ms.load(Ordering::Relaxed)
    }

    pub(super) fn id(&self) -> u64 {
        self.state.id
    }

    pub(super) fn address(&self) -> Option<IpAddr> {
        self.state.address
    }

    pub(super) fn kind(&self) -> SlotKind {
        match self.state.kind.load(Ordering::Relaxed) {
            kind if kind == SlotKind::Authenticated as u8 => SlotKind::Authenticated,
            kind if kind == SlotKind::Anonymous as u8 => SlotKind::Anonymous,
            _ => SlotKind::Reserved,
        }
    }

    pub(super) fn whose(&self) -> Option<&Arc<str>> {
        self.state.whose.get()
    }

    pub(super) fn belongs_to(&self, whose: &Arc<str>) {
        _ = self.state.whose.set(whose.clone()); // it becomes authenticated once
    }

    pub(super) fn set_authenticated(&self) {
        self.state.kind.store(SlotKind::Authenticated as u8, Ordering::Relaxed);
    }
}

impl SlotGuard {
    pub(super) fn new(connection: ConnectionHandle) -> Self {
        Self(connection)
    }

    pub(crate) fn connection(&self) -> &ConnectionHandle {
        &self.0
    }
}

impl Drop for SlotGuard {
    fn drop(&mut self) {
        self.0.state.slots.leave(&self.0);
    }
}

impl Drop for AbandonedResponse {
    fn drop(&mut self) {
        self.0.state.abandoned.fetch_sub(1, Ordering::Relaxed);
    }
}
