//! How a stream opens: the gateway id is claimed and the cursor's position found, both at one moment of the log.
//!
//! ```text
//! check_reachable    a shared log whose register is out of reach lets in only the holder itself
//! ahead_cursor       is the cursor beyond this hub's window, but within the log? another hub is further on
//! read               of a shared log: the register, and whether the holder's stream elsewhere is alive
//! try_open           under the log's lock: claim the id; if admitted, place the reader
//!    ProbeHere       the holder must be pinged, at this hub: wait up to 2 s, try again
//!    ProbeRemote     the same at another hub: up to 2.5 s
//! write_ownership    of a shared log: make the takeover known to the other hubs
//! ```
//!
//! That the claim and the position are of one moment makes a takeover seamless:
//!
//! ```text
//! claim at position 7, then read the position separately: event 8 may lie between.
//!   The older stream was ended at 7 and the newer one begins at 8: nobody is sent 8.
//! under one lock: the older one ends at 7, the newer one begins at 7
//! ```
//!
//! It is the only caller of `Gateways::claim`. `push.rs` calls it with a checked request.

use std::net::SocketAddr;
use std::sync::Arc;

use galaxy_push_core::cursor::{Cursor, StartFrom};
use galaxy_push_core::reader::{Omitted, Reader, Settings};
use galaxy_push_core::window::Outcome;
use galaxy_push_listener::{ConnectionHandle, Outflow};
use galaxy_push_proto::frame::WelcomeInfo;
use galaxy_push_proto::{Failure, Reason, v1};
use tokio::time::timeout;

use super::request::SubscribeRequest;
use super::send_progress::SendProgress;
use super::turn_buffer::{TURN_BYTES, TurnBuffer};
use super::{Phase, Ping, Subscription};
use crate::app::publish;
use crate::app::shared::Shared;
use crate::state::log::warn_unaware;
use crate::state::ownership::{
    self, ANSWER_WITHIN, Admitted, Claim, ClaimOutcome, LivenessProbe, RemoteOwnership, Takeover,
    TakeoverKind,
};
use crate::surface::revocation;

impl Subscription {
    /// Claims the gateway id and finds the cursor's position. Where the id flaps, its holder is pinged first,
    /// which takes 2 s at most, and a second more where it is at another hub; and 5 s with all that the store takes.
    ///
    /// Cancel safe: until it returns nothing has changed but that an incumbent may have been asked.
    ///
    /// # Errors
    ///
    /// The claim is refused.
    pub(crate) async fn open(
        shared: &Arc<Shared>,
        wanted: SubscribeRequest,
        outflow: Outflow,
        handle: Option<&ConnectionHandle>,
    ) -> Result<Box<Self>, Failure> {
        let opened = Self::open_fenced(shared, &wanted).await;
        let mut opened = opened.inspect_err(|failure| report_refusal(shared, &wanted.claim, failure))?;
        opened.revocation_task = revocation::close_when_revoked(&opened.grant, handle);
        opened.send_progress = SendProgress::new(outflow, opened.reader.next());
        opened.gauge.attach(opened.send_progress.pieces());
        Ok(opened)
    }

    /// Claims the id, as often as probes make necessary. A probe answers for one stream: if another one has the id when it
    /// is answered, that one is probed.
    ///
    /// Where the log is shared, the takeover is written into the register afterwards. If that fails, the stream that was just
    /// admitted is dropped, which releases the id at this hub.
    async fn open_fenced(shared: &Arc<Shared>, wanted: &SubscribeRequest) -> Result<Box<Self>, Failure> {
        let (fence, claim) = (shared.store.fence(), &wanted.claim);
        if let Some(fence) = fence {
            ownership::register::check_reachable(fence, claim)?;
        }
        // Once, and outside the log's lock, for it may ask the store. It does not age: a log that has reached a position has reached it
        // for good.
        let ahead_cursor = ahead_cursor(shared, wanted.ask).await?;
        let mut remote = match fence {
            Some(fence) => RemoteOwnership::read(fence, claim, &shared.clock).await?,
            None => None,
        };
        let mut probe = None;
        let mut subscription = loop {
            // A probe takes time, and what the register counts is judged by the time of the judgement.
            if let Some(remote) = &mut remote {
                remote.refresh();
            }
            match Self::try_open(shared, wanted, ahead_cursor, probe.as_ref(), remote.as_mut()) {
                Ok(Opening::Open(subscription)) => break subscription,
                Ok(Opening::ProbeHere(mut sent)) => {
                    let _late = timeout(ANSWER_WITHIN, sent.answered()).await; // the next claim sees for itself
                    probe = Some(sent);
                }
                Ok(Opening::ProbeRemote) => {
                    if let (Some(fence), Some(remote)) = (fence, &mut remote) {
                        remote.ping(fence, claim).await;
                    }
                }
                Err(failure) => {
                    if let (Some(fence), Some(remote)) = (fence, &mut remote) {
                        remote.persist_hold_off(fence, &claim.gateway).await;
                    }
                    return Err(failure);
                }
            }
        };
        if let Some(fence) = fence {
            // From here on this stream may be superseded like any other: it is in the ownership table already.
            let own = subscription.generation;
            let has_it = || shared.log.with_state(|state, _| state.gateways.is_current(&claim.gateway, own));
            if let Some(taken) =
                ownership::register::write_ownership(fence, claim, own, remote, &has_it).await?
            {
                subscription.registered(taken);
            }
        }
        Ok(subscription)
    }

    /// The stream stands in the register of the shared log, unless it gave way before.
    pub(super) fn registered(&mut self, taken: ownership::register::Registered) {
        let (gateway, own) = (&self.claim.gateway, self.generation);
        let number =
            self.shared.log.with_state(|state, _| state.gateways.confirm_registration(gateway, own, taken));
        if let Some(number) = number {
            (self.generation, self.welcome.generation) = (number, number);
        }
    }

    /// Claims the id and places the reader, under one hold of the log's lock.
    fn try_open(
        shared: &Arc<Shared>,
        wanted: &SubscribeRequest,
        ahead_cursor: Option<Cursor>,
        probe: Option<&LivenessProbe>,
        remote: Option<&mut RemoteOwnership>,
    ) -> Result<Opening, Failure> {
        // Taken before the claim looks whether a drain has begun: a drain waits for every stream that was let in.
        let open = shared.streams.token();
        let SubscribeRequest { claim, ask, cursor, message_max, features, .. } = wanted;
        let (heartbeat, message_max) = (shared.config.heartbeat, *message_max);
        let settings = Settings { heartbeat, message_max, turn_bytes: TURN_BYTES };
        let claimed = shared.log.with_state(|state, now| {
            Ok::<_, Failure>(match state.gateways.claim(claim.clone(), probe, remote, now.mono)? {
                ClaimOutcome::ProbeHere(probe) => Err(Opening::ProbeHere(probe)),
                ClaimOutcome::ProbeRemote => Err(Opening::ProbeRemote),
                ClaimOutcome::Admitted(admitted) => {
                    // Looked up again under the lock: this hub may have come to that position meanwhile.
                    let (reader, outcome) = match (state.window.find(*ask, cursor).outcome, ahead_cursor) {
                        (Outcome::Ahead, Some(ahead_cursor)) => {
                            (Reader::open_awaiting(&state.window, ahead_cursor, settings), Outcome::Resumed)
                        }
                        (outcome, _) => (Reader::open(&state.window, *ask, cursor, settings), outcome),
                    };
                    let reader = reader.taking(features.records);
                    admitted.gauge.update(&reader);
                    Ok((admitted, reader, outcome))
                }
            })
        })?;
        let (admitted, reader, outcome) = match claimed {
            Ok(admitted) => admitted,
            Err(must_probe) => return Ok(must_probe),
        };
        let welcome = welcome(shared, admitted.generation, message_max);
        report_open(shared, claim, &admitted, cursor, outcome, &welcome.connection_id);
        if !claim.learns_of_invalidations
            && shared.store.standing_count(shared.clock.ambient().unix_ms()).invalidations > 0
        {
            shared.log.with_state(|state, _| state.gateways.drain_unaware()).iter().for_each(warn_unaware);
        }
        let Admitted { generation, signal, gauge, readiness, .. } = admitted;
        Ok(Opening::Open(Box::new(Self {
            welcome,
            turn_buffer: TurnBuffer::default(),
            snapshot: None,
            opening_gap: false,
            // An append since the claim is not signalled here, and not missed: the first turn looks before it waits.
            appends: shared.log.appends(),
            ping: Ping::Answered(0),
            omitted: Omitted::default(),
            phase: Phase::Open,
            _open: open,
            shared: shared.clone(),
            grant: shared.access.grant(wanted.caller.clone()),
            revocation_task: None,
            claim: claim.clone(),
            features: *features,
            filter: wanted.filter.clone(),
            generation,
            reader,
            message_max,
            signal,
            gauge,
            readiness,
            send_progress: SendProgress::default(),
        })))
    }
}

/// The presented cursor, if this hub has not come to it yet but the store's log has: another hub is further on.
///
/// ```text
/// the log ends at 9; this hub has read up to 7
/// cursor 5    in the window: None, and the reader resumes at 6
/// cursor 8    Some(8): RESUMED; the reader waits for 8 and is sent what follows it
/// cursor 12   None: AHEAD, beyond the log itself
/// ```
///
/// # Errors
///
/// The store does not say how far its log goes.
async fn ahead_cursor(shared: &Shared, ask: StartFrom) -> Result<Option<Cursor>, Failure> {
    let StartFrom::At(cursor) = ask else { return Ok(None) };
    if !cursor.follows(shared.log.head().cursor) {
        return Ok(None);
    }
    let head = publish::head(shared).await?;
    Ok((head.epoch == cursor.epoch && !cursor.follows(head)).then_some(cursor))
}

/// What one try to open has come to.
enum Opening {
    Open(Box<Subscription>),
    ProbeHere(LivenessProbe),
    ProbeRemote,
}

/// What the Welcome of a stream says besides its cursor and outcome.
fn welcome(shared: &Shared, generation: u64, message_max: usize) -> WelcomeInfo {
    let bounds = shared.config.window;
    WelcomeInfo {
        generation,
        heartbeat_interval: shared.config.heartbeat,
        limits: v1::Limits {
            max_event_bytes: u32::try_from(shared.config.event_bytes_max).unwrap_or(u32::MAX),
            max_frame_bytes: u32::try_from(message_max).unwrap_or(u32::MAX),
            window_events: bounds.events,
            window_bytes: bounds.bytes,
            window_age: bounds.age.try_into().ok(),
        },
        connection_id: format!("{:016x}", shared.clock.ambient().random()),
    }
}

/// Counts and logs a stream that opened, and the takeover by which it did. Operators are told what to change.
fn report_open(
    shared: &Shared,
    claim: &Claim,
    admitted: &Admitted,
    cursor: &str,
    outcome: Outcome,
    connection: &str,
) {
    let generation = admitted.generation;
    shared.metrics.streams.inc();
    shared.metrics.subscribed(outcome);
    // What is no cursor may be anything, and is not repeated.
    let cursor = if cursor.is_empty() || StartFrom::parse(cursor).is_ok() { cursor } else { "unreadable" };
    // The lines about a flapping id are rate-limited together: all three of each takeover, or none.
    if admitted.takeover.as_ref().is_none_or(Takeover::is_logged) {
        tracing::info!(gateway = %claim.gateway, instance = %claim.instance, attempt = claim.attempt, generation,
            connection, peer = %claim.peer, identity = %claim.identity, cursor, ?outcome, "stream opened");
    } else {
        tracing::debug!(gateway = %claim.gateway, instance = %claim.instance, attempt = claim.attempt, generation,
            connection, peer = %claim.peer, identity = %claim.identity, cursor, ?outcome, "stream opened");
    }
    let Some(Takeover { older, kind, log_count }) = &admitted.takeover else { return };
    shared.metrics.took_over(*kind);
    let Some(happenings) = log_count else { return };
    let next = match kind {
        // Once is nothing: the hub may not have seen yet that the older stream's connection is gone.
        TakeoverKind::ReconnectWhileAlive if *happenings != 1 => {
            "the same instance came although its stream was alive: two processes may use one instance id and one gateway \
             id, give each its own"
        }
        TakeoverKind::Reconnect | TakeoverKind::ReconnectWhileAlive => {
            tracing::info!(gateway = %claim.gateway, generation, peer = %claim.peer, older_peer = %older.peer,
                "the same instance came back; its older stream ends");
            return;
        }
        TakeoverKind::OtherInstance => {
            "two instances use one gateway id; the older stream ends, give each gateway an id of its own"
        }
        TakeoverKind::FlapUnnamed => {
            "instances keep taking one gateway id from each other, and without instance ids the last always wins: the \
             older stream ends and will be back, give each gateway an id of its own"
        }
        TakeoverKind::Unresponsive => {
            "instances keep taking one gateway id from each other, and the one that had it did not answer: its stream \
             ends, give each gateway an id of its own"
        }
    };
    tracing::warn!(gateway = %claim.gateway, generation, instance = %claim.instance, peer = %claim.peer, happenings,
        older_instance = %older.instance, older_peer = %older.peer, "{next}");
}

/// Counts and logs a refused claim. Refusals of a flapping id are rate-limited with everything else that happens to it; others
/// by the address that they come from.
fn report_refusal(shared: &Shared, claim: &Claim, failure: &Failure) {
    shared.metrics.subscribe_refused();
    if failure.reason == Some(Reason::HeldOff) {
        shared.metrics.held_off.inc();
    }
    // For who it is, which is rate-limited with all else that happens to the id; or for what the hub is at.
    let fought = matches!(failure.reason, Some(Reason::HeldOff | Reason::StaleAttempt));
    let (happenings, left_out) = if fought {
        (shared.log.with_state(|state, now| state.gateways.record_refusal(&claim.gateway, now.mono)), None)
    } else {
        (None, shared.refused(claim.peer.parse().ok().map(|peer: SocketAddr| peer.ip())))
    };
    if happenings.or(left_out).is_none() {
        return;
    }
    tracing::warn!(gateway = %claim.gateway, instance = %claim.instance, peer = %claim.peer, code = ?failure.code,
        reason = %failure, happenings, left_out, retry_after = ?failure.retry_after, "subscribe refused");
}
