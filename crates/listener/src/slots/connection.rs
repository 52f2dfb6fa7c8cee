//! One connection and its slot: what it asks, and until when it may be idle.
//!
//! `serve.rs` notes what happens on the connection and waits for its end here; `slots.rs` evicts through it; the app holds
//! it as [`ConnectionHandle`]. Everything is an atomic: a request must not wait for a lock of its listener.
//!
//! | what happens | the deadline |
//! |---|---|
//! | nothing was asked yet, or everything was refused | the time for a request's head, from the last request on |
//! | a request was served, and nothing is active | [`Limits::idle`](crate::Limits) from the end of the last one on |
//! | the head of a request has begun (HTTP/1) | the time for a request's head, from its first byte on |
//! | a complete response is not read | 5 s from the last byte read on |
//! | the slot is a reserved one | 2 s from accept on, where credentials are needed whatever it asks |
//! | anything else is active | none |

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

/// How often HTTP/1 connections and reserved slots are checked: for the head of another request, and for their deadline.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How often it is checked whether a response is being read.
const LOOK_AT_ANSWERS_EVERY: Duration = Duration::from_secs(5);

/// A connection as the app sees it, in the extensions of every request. Cheap to clone; clones are the same connection.
#[derive(Clone, Debug)]
pub struct ConnectionHandle {
    state: Arc<State>,
    /// This request is answered on a reserved slot, too.
    needs_no_slot: bool,
}

/// There is no slot for a peer that has shown who it is.
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
    /// The identity that its authenticated slot counts for.
    whose: OnceLock<Arc<str>>,
    accepted_ms: u64,
    /// When it last asked something or was answered.
    active_ms: AtomicU64,
    /// When the first byte came of a request whose head is not complete.
    head_begun_ms: AtomicU64,
    under_way: AtomicU32,
    /// Of the active requests, those whose response the app has abandoned.
    abandoned: AtomicU32,
    /// Of the active requests, those that should be short and have neither arrived whole nor been answered.
    unfinished: AtomicU32,
    /// Complete responses that the peer has not read. Their requests are no longer active.
    unread: AtomicU32,
    /// When there was the first of them, or when something of one was read last.
    unread_ms: AtomicU64,
    /// It was refused because it has no slot for what it asks.
    was_refused_slot: AtomicBool,
    was_served: AtomicBool,
    speaks_http1: AtomicBool,
    /// The last bytes it sent.
    tail: AtomicU32,
    /// Notified when nothing is active any more.
    idle: Notify,
    is_waited_for: AtomicBool,
    gone: CancellationToken,
}

/// A response that its app has abandoned, until this is dropped.
#[derive(Debug)]
pub struct AbandonedResponse(ConnectionHandle);

/// A slot that is taken, given back when dropped.
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

    /// Its peer has shown a credential that was accepted: it moves to an authenticated slot.
    ///
    /// # Errors
    ///
    /// There is none, and its request needs one. It must be refused: on an anonymous slot it could be evicted in the middle
    /// of its response whenever others come.
    pub fn authenticate(&self) -> Result<(), NoSlot> {
        self.authenticate_as(None)
    }

    /// As [`ConnectionHandle::authenticate`], of this identity: none may have more slots than it leaves free, but for one.
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

    /// Returns when a connection that has shown no credential must close: it is evicted, or its time on a reserved slot is
    /// over. Code that takes a connection over from HTTP (WebSocket) waits for it until the peer is authenticated, because
    /// the listener no longer does. Cancel safe.
    pub async fn must_close(&self) {
        tokio::select! {
            biased;
            () = self.evicted() => {}
            () = self.idle_expired() => {}
        }
    }

    /// Says that the app waits no longer for this peer to read one of its responses. A drain then does not either, once
    /// nothing else is active.
    #[must_use]
    pub fn abandon_response(&self) -> AbandonedResponse {
        self.state.abandoned.fetch_add(1, Ordering::Relaxed);
        AbandonedResponse(self.clone())
    }

    /// Closes the connection at once, with whatever is active on it: for a peer that may not stay and cannot be told.
    pub fn close(&self) {
        self.evict();
    }

    /// Whether only the peer keeps the connection open: every active response was abandoned, or is not read.
    pub(crate) fn is_abandoned(&self) -> bool {
        let abandoned = self.state.abandoned.load(Ordering::Relaxed);
        let takes_nothing = || self.must_read_by().is_some_and(|until| until <= Instant::now());
        abandoned >= self.state.under_way.load(Ordering::Relaxed) && (abandoned > 0 || takes_nothing())
    }

    /// The same connection, as the one that makes this request.
    pub(crate) fn for_request(&self, request: &Parts) -> Self {
        let always = self.state.slots.0.policy.always;
        Self { needs_no_slot: always.is_some_and(|always| always(request)), ..self.clone() }
    }

    /// A request has come. It is active until what is returned is dropped.
    pub(crate) fn begin_request(&self, is_http1: bool, is_whole: bool) -> ActiveRequest {
        self.state.speaks_http1.store(is_http1, Ordering::Relaxed);
        self.state.under_way.fetch_add(1, Ordering::Relaxed);
        self.state.active_ms.store(self.state.slots.now_ms(), Ordering::Relaxed);
        self.state.head_begun_ms.store(NEVER, Ordering::Relaxed);
        ActiveRequest::new(self.clone(), is_whole)
    }

    /// Bytes came from the peer.
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

    /// Returns when its deadline is over. Cancel safe.
    pub(crate) async fn idle_expired(&self) {
        loop {
            let (now, deadline) = (Instant::now(), self.deadline());
            let is_kept = self.kind() == SlotKind::Reserved;
            // A head that begins, or a response, may bring a nearer deadline. It is looked for now and then: to be notified
            // of each would cost every request.
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

    /// Whether its deadline is over.
    pub(crate) fn is_idle_expired(&self) -> bool {
        self.deadline().is_some_and(|deadline| deadline <= Instant::now())
    }

    /// Returns when it is evicted, or closed by the app. Cancel safe.
    pub(crate) async fn evicted(&self) {
        self.state.gone.cancelled().await;
    }

    /// The refusal of a request that its slot is not for. The connection may close as soon as that was read.
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

    /// Until when it may be idle; `None`: something is active. The table at the head of this file says it.
    fn deadline(&self) -> Option<Instant> {
        let (state, slots) = (&*self.state, &self.state.slots);
        let inner = &slots.0;
        let reserved_until =
            (self.kind() == SlotKind::Reserved).then(|| slots.at(state.accepted_ms) + RESERVED_FOR);
        if state.under_way.load(Ordering::SeqCst) > 0 {
            // Where credentials are needed, a peer without any does not keep a reserved slot by a request without an end; and
            // nowhere does one by a request that it never finishes.
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

    /// Until when it must read something of its responses; `None`: there are none to read.
    fn must_read_by(&self) -> Option<Instant> {
        let since = self.state.unread_ms.load(Ordering::Relaxed);
        let unread = self.state.unread.load(Ordering::Relaxed) > 0;
        unread.then(|| self.state.slots.at(since) + READ_WITHIN)
    }

    /// Whether every active request is a short one that has not arrived whole.
    fn is_only_unfinished(&self) -> bool {
        let unfinished = self.state.unfinished.load(Ordering::Relaxed);
        unfinished > 0 && unfinished >= self.state.under_way.load(Ordering::SeqCst)
    }

    /// Whether it could be evicted.
    pub(super) fn is_evictable(&self, now_ms: u64) -> bool {
        let is_old = |since: u64| Duration::from_millis(now_ms.saturating_sub(since)) >= EVICTABLE_AFTER;
        let may = match self.kind() {
            SlotKind::Anonymous => true,
            // Only where all are alike: then one that is idle, or never finishes its request.
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
