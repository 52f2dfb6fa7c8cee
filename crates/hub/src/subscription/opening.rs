//! How a stream comes about: the gateway id is claimed and the cursor's place found, both at one moment of the log.

use std::net::SocketAddr;
use std::sync::Arc;

use galaxy_push_core::cursor::{Cursor, StartFrom};
use galaxy_push_core::reader::{Omitted, Reader, Settings};
use galaxy_push_core::window::Outcome;
use galaxy_push_listener::{Outflow, Visitor};
use galaxy_push_proto::frame::WelcomeInfo;
use galaxy_push_proto::{Failure, Reason, v1};
use tokio::time::timeout;

use super::handed::Handed;
use super::{Phase, Ping, Subscription};
use crate::access::current;
use crate::fence::{self, ANSWER_WITHIN, Abroad, Admitted, Claim, Claimed, Contest, How, Takeover};
use crate::gathered::{Gathered, TURN_BYTES};
use crate::log::tell_unaware;
use crate::publish;
use crate::push::Asked;
use crate::shared::Shared;

impl Subscription {
    /// Takes the gateway id and finds the cursor's place. Where the id is fought over, its incumbent is asked first,
    /// which takes 2 s at most, and a second more where it is at another hub; and 5 s with all that the store takes.
    ///
    /// Cancel safe: until it returns nothing has changed but that an incumbent may have been asked.
    ///
    /// # Errors
    ///
    /// The claim is refused.
    pub(crate) async fn open(
        shared: &Arc<Shared>,
        asked: Asked,
        outflow: Outflow,
        visitor: Option<&Visitor>,
    ) -> Result<Box<Self>, Failure> {
        let opened = Self::open_fenced(shared, &asked).await;
        let mut opened = opened.inspect_err(|failure| report_refusal(shared, &asked.claim, failure))?;
        opened.seen_off = current::see_off(&opened.pass, visitor);
        opened.handed = Handed::new(outflow, opened.reader.next());
        opened.place.takes(opened.handed.pieces());
        Ok(opened)
    }

    async fn open_fenced(shared: &Arc<Shared>, asked: &Asked) -> Result<Box<Self>, Failure> {
        let (fence, claim) = (shared.store.fence(), &asked.claim);
        if let Some(fence) = fence {
            fence::shared::check(fence, claim)?;
        }
        let early = early(shared, asked.ask).await?;
        let mut abroad = match fence {
            Some(fence) => Abroad::find(fence, claim, &shared.clock).await?,
            None => None,
        };
        let mut contest = None;
        let mut subscription = loop {
            if let Some(abroad) = &mut abroad {
                abroad.refresh();
            }
            match Self::try_open(shared, asked, early, contest.as_ref(), abroad.as_mut()) {
                Ok(Opening::Open(subscription)) => break subscription,
                Ok(Opening::Contested(mut asked_first)) => {
                    let _late = timeout(ANSWER_WITHIN, asked_first.answered()).await; // the fence sees for itself
                    contest = Some(asked_first);
                }
                Ok(Opening::ContestedAbroad) => {
                    if let (Some(fence), Some(abroad)) = (fence, &mut abroad) {
                        abroad.ping(fence, claim).await;
                    }
                }
                Err(failure) => {
                    if let (Some(fence), Some(abroad)) = (fence, &mut abroad) {
                        abroad.keep(fence, &claim.gateway).await;
                    }
                    return Err(failure);
                }
            }
        };
        if let Some(fence) = fence {
            let own = subscription.generation;
            let has_it = || shared.log.look(|state, _| state.gateways.has(&claim.gateway, own));
            if let Some(taken) = fence::shared::take(fence, claim, own, abroad, &has_it).await? {
                subscription.registered(taken);
            }
        }
        Ok(subscription)
    }

    /// The stream stands in the register of the shared log, unless it gave way before.
    pub(super) fn registered(&mut self, taken: fence::shared::Taken) {
        let (gateway, own) = (&self.claim.gateway, self.generation);
        let number = self.shared.log.look(|state, _| state.gateways.registered(gateway, own, taken));
        if let Some(number) = number {
            (self.generation, self.welcome.generation) = (number, number);
        }
    }

    fn try_open(
        shared: &Arc<Shared>,
        asked: &Asked,
        early: Option<Cursor>,
        contest: Option<&Contest>,
        abroad: Option<&mut Abroad>,
    ) -> Result<Opening, Failure> {
        // Taken before the fence looks whether a drain has begun, which waits for whom it has let in.
        let open = shared.streams.token();
        let Asked { claim, ask, cursor, message_max, features, .. } = asked;
        let (heartbeat, message_max) = (shared.config.heartbeat, *message_max);
        let settings = Settings { heartbeat, message_max, turn_bytes: TURN_BYTES };
        let claimed = shared.log.look(|state, now| {
            Ok::<_, Failure>(match state.gateways.claim(claim.clone(), contest, abroad, now.mono)? {
                Claimed::Contested(contest) => Err(Opening::Contested(contest)),
                Claimed::ContestedAbroad => Err(Opening::ContestedAbroad),
                Claimed::Admitted(admitted) => {
                    let (reader, outcome) = match (state.window.find(*ask, cursor).outcome, early) {
                        (Outcome::Ahead, Some(early)) => {
                            (Reader::open_awaiting(&state.window, early, settings), Outcome::Resumed)
                        }
                        (outcome, _) => (Reader::open(&state.window, *ask, cursor, settings), outcome),
                    };
                    let reader = reader.taking(features.records);
                    admitted.place.set(&reader);
                    Ok((admitted, reader, outcome))
                }
            })
        })?;
        let (admitted, reader, outcome) = match claimed {
            Ok(admitted) => admitted,
            Err(contested) => return Ok(contested),
        };
        let welcome = welcome(shared, admitted.generation, message_max);
        report_open(shared, claim, &admitted, cursor, outcome, &welcome.connection_id);
        if !claim.learns_of_invalidations
            && shared.store.standing_count(shared.clock.ambient.unix_ms()).invalidations > 0
        {
            shared.log.look(|state, _| state.gateways.take_unaware()).iter().for_each(tell_unaware);
        }
        let Admitted { generation, signal, place, uptake, .. } = admitted;
        Ok(Opening::Open(Box::new(Self {
            welcome,
            gathered: Gathered::default(),
            pages: None,
            opening_gap: false,
            grown: shared.log.grown(),
            ping: Ping::Answered(0),
            omitted: Omitted::default(),
            phase: Phase::Open,
            _open: open,
            shared: shared.clone(),
            pass: shared.access.pass(asked.caller.clone()),
            seen_off: None,
            claim: claim.clone(),
            features: *features,
            filter: asked.filter.clone(),
            generation,
            reader,
            message_max,
            signal,
            place,
            uptake,
            handed: Handed::default(),
        })))
    }
}

/// The presented position, if this hub has not come to it yet but the store's log has: another door is further on.
///
/// # Errors
///
/// The store does not say how far its log goes.
async fn early(shared: &Shared, ask: StartFrom) -> Result<Option<Cursor>, Failure> {
    let StartFrom::At(cursor) = ask else { return Ok(None) };
    if !cursor.follows(shared.log.head().cursor) {
        return Ok(None);
    }
    let head = publish::head(shared).await?;
    Ok((head.epoch == cursor.epoch && !cursor.follows(head)).then_some(cursor))
}

enum Opening {
    Open(Box<Subscription>),
    Contested(Contest),
    ContestedAbroad,
}

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
        connection_id: format!("{:016x}", shared.clock.ambient.random()),
    }
}

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
    // The lines of a duel are damped, all three of each takeover together.
    if admitted.takeover.as_ref().is_none_or(Takeover::is_told) {
        tracing::info!(gateway = %claim.gateway, instance = %claim.instance, attempt = claim.attempt, generation,
            connection, peer = %claim.peer, identity = %claim.identity, cursor, ?outcome, "stream opened");
    } else {
        tracing::debug!(gateway = %claim.gateway, instance = %claim.instance, attempt = claim.attempt, generation,
            connection, peer = %claim.peer, identity = %claim.identity, cursor, ?outcome, "stream opened");
    }
    let Some(Takeover { older, how, told }) = &admitted.takeover else { return };
    shared.metrics.took_over(*how);
    let Some(happenings) = told else { return };
    let next = match how {
        // Once is nothing: the hub may not have seen yet that the older stream's connection is gone.
        How::Again if *happenings != 1 => {
            "the same instance came although its stream was alive: two processes may use one instance id and one gateway \
             id, give each its own"
        }
        How::Quiet | How::Again => {
            tracing::info!(gateway = %claim.gateway, generation, peer = %claim.peer, older_peer = %older.peer,
                "the same instance came back; its older stream ends");
            return;
        }
        How::Rival => {
            "two instances use one gateway id; the older stream ends, give each gateway an id of its own"
        }
        How::Duel => {
            "instances keep taking one gateway id from each other, and without instance ids the last always wins: the \
             older stream ends and will be back, give each gateway an id of its own"
        }
        How::Unanswered => {
            "instances keep taking one gateway id from each other, and the one that had it did not answer: its stream \
             ends, give each gateway an id of its own"
        }
    };
    tracing::warn!(gateway = %claim.gateway, generation, instance = %claim.instance, peer = %claim.peer, happenings,
        older_instance = %older.instance, older_peer = %older.peer, "{next}");
}

fn report_refusal(shared: &Shared, claim: &Claim, failure: &Failure) {
    shared.metrics.subscribe_refused();
    if failure.reason == Some(Reason::HeldOff) {
        shared.metrics.held_off.inc();
    }
    // For who it is, which is damped with all else that happens to the id; or for what the hub is at.
    let fought = matches!(failure.reason, Some(Reason::HeldOff | Reason::StaleAttempt));
    let (happenings, left_out) = if fought {
        (shared.log.look(|state, now| state.gateways.refused(&claim.gateway, now.mono)), None)
    } else {
        (None, shared.refused(claim.peer.parse().ok().map(|peer: SocketAddr| peer.ip())))
    };
    if happenings.or(left_out).is_none() {
        return;
    }
    tracing::warn!(gateway = %claim.gateway, instance = %claim.instance, peer = %claim.peer, code = ?failure.code,
        reason = %failure, happenings, left_out, retry_after = ?failure.retry_after, "subscribe refused");
}
