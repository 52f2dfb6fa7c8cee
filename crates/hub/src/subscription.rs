//! One gateway's stream: a reader of the window, driven by what the peer takes.
//!
//! HTTP/2 asks for the next piece when the peer has room, and only then does the stream look at the window; so it holds
//! a position and at most one turn of frames, never a queue. What a frame says and when is decided by
//! [`Reader`]; this file adds the waiting, the takeover and the end.

use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream;
use galaxy_push_core::reader::{Control, Filter, Omitted, Reader, Settings, Step};
use galaxy_push_core::window::Outcome;
use galaxy_push_proto::frame::{WelcomeInfo, control_frame, encode_framed, goodbye_frame};
use galaxy_push_proto::{Failure, Reason, v1};
use http_body::Frame;
use http_body_util::StreamBody;
use tokio::sync::watch;
use tokio::time::sleep_until;
use tokio_util::task::task_tracker::TaskTrackerToken;
use tonic::Status;

use crate::fence::{Admitted, Claim, Ending, Takeover};
use crate::gathered::{Gathered, TURN_BYTES};
use crate::grpc;
use crate::push::{Asked, Patterns};
use crate::shared::Shared;

/// An open stream. Its end, however it comes, frees the gateway id unless a newer stream has it.
#[derive(Debug)]
pub(crate) struct Subscription {
    shared: Arc<Shared>,
    claim: Claim,
    generation: u64,
    reader: Reader,
    filter: Option<Patterns>,
    welcome: WelcomeInfo,
    gathered: Gathered,
    grown: watch::Receiver<()>,
    ending: watch::Receiver<Option<Ending>>,
    omitted: Omitted,
    phase: Phase,
    _open: TaskTrackerToken,
}

#[derive(Debug)]
enum Phase {
    Open,
    /// The goodbye is out; this status follows.
    Closing(Status),
    Closed,
}

/// What to do next.
enum Turn {
    Data(Bytes),
    /// Other streams first, then look on.
    Again,
    /// Nothing to do before this time, unless something happens.
    WaitUntil(Duration),
    End(Ending),
}

impl Subscription {
    /// Takes the gateway id and finds the cursor's place, both at one moment of the log.
    ///
    /// # Errors
    ///
    /// The claim is refused: nothing has changed.
    pub(crate) fn open(shared: &Arc<Shared>, asked: Asked) -> Result<Box<Self>, Failure> {
        let Asked { claim, ask, cursor, filter, message_max } = asked;
        let settings = Settings { heartbeat: shared.config.heartbeat, message_max, turn_bytes: TURN_BYTES };
        let (admitted, reader, outcome) = shared.log.look(|state, _| {
            let admitted = state.gateways.admit(claim.clone())?;
            let outcome = state.window.find(ask, &cursor).outcome;
            Ok::<_, Failure>((admitted, Reader::open(&state.window, ask, &cursor, settings), outcome))
        })?;
        let Admitted { generation, ending, takeover } = admitted;
        report_open(shared, &claim, generation, &cursor, outcome, takeover.as_ref());
        Ok(Box::new(Self {
            welcome: welcome(shared, generation, message_max),
            gathered: Gathered::default(),
            grown: shared.log.grown(),
            omitted: Omitted::default(),
            phase: Phase::Open,
            _open: shared.streams.token(),
            shared: shared.clone(),
            claim,
            generation,
            reader,
            filter,
            ending,
        }))
    }

    /// The stream as the body of a response.
    pub(crate) fn into_body(self: Box<Self>) -> Body {
        let frames = stream::unfold(self, async |mut subscription| {
            let frame = subscription.next().await?;
            Some((Ok::<_, Infallible>(frame), subscription))
        });
        Body::new(StreamBody::new(Box::pin(frames)))
    }

    /// The next piece to send, or `None` after the trailers.
    ///
    /// Cancel safe: nothing is taken from the reader without being returned.
    async fn next(&mut self) -> Option<Frame<Bytes>> {
        match std::mem::replace(&mut self.phase, Phase::Closed) {
            Phase::Open => self.phase = Phase::Open,
            Phase::Closing(status) => return Some(Frame::trailers(grpc::trailers(&status))),
            Phase::Closed => return None,
        }
        loop {
            let turn = self.turn();
            self.count_omitted();
            let data = match turn {
                Turn::Data(data) => data,
                Turn::End(ending) => self.say_goodbye(&ending),
                Turn::Again => {
                    tokio::task::yield_now().await;
                    continue;
                }
                Turn::WaitUntil(due) => {
                    self.wait(due).await;
                    continue;
                }
            };
            self.shared.metrics.bytes_sent.inc_by(data.len() as u64);
            return Some(Frame::data(data));
        }
    }

    /// Gathers what is ready, under the log's lock.
    fn turn(&mut self) -> Turn {
        if let Some(data) = self.gathered.take() {
            return Turn::Data(data);
        }
        self.grown.borrow_and_update();
        let Self { shared, reader, filter, welcome, gathered, ending, .. } = self;
        let filter = filter.as_ref().map(|patterns| patterns as &dyn Filter);
        shared.log.look(|state, now| {
            let ending = ending.borrow_and_update().clone();
            if ending.as_ref().is_some_and(|ending| ending.is_due(now.mono)) {
                return ending.map_or(Turn::Again, Turn::End);
            }
            loop {
                let (done, idle) = match reader.step(&state.window, filter, now) {
                    Step::Control(control) => {
                        gathered.push(encode(shared, control, welcome));
                        (gathered.is_full(), Turn::Again)
                    }
                    Step::Send(slots) => {
                        gathered.push(state.window.bytes(slots));
                        (gathered.is_full(), Turn::Again)
                    }
                    Step::Again => (true, Turn::Again),
                    Step::WaitUntil(due) => (true, Ending::once_idle(ending.as_ref(), now.mono, due)),
                };
                if done {
                    return gathered.take().map_or(idle, Turn::Data);
                }
            }
        })
    }

    async fn wait(&mut self, due: Duration) {
        let due = self.shared.clock.instant(due);
        tokio::select! {
            biased;
            () = changed(&mut self.ending) => {}
            () = changed(&mut self.grown) => {}
            () = sleep_until(due) => {}
        }
    }

    fn say_goodbye(&mut self, ending: &Ending) -> Bytes {
        let (reason, failure) = match ending {
            Ending::Replaced { rival } => {
                (v1::GoodbyeReason::Replaced, Failure::replaced(&rival.instance, &rival.peer))
            }
            Ending::Draining { retry_after, .. } => {
                let message =
                    "this hub is shutting down: subscribe again with the last cursor, another will answer";
                let failure = Failure::new(Reason::Draining, message).retry_after(*retry_after);
                (v1::GoodbyeReason::Draining, failure)
            }
        };
        let passed = self.reader.passed();
        tracing::info!(gateway = %self.claim.gateway, generation = self.generation, peer = %self.claim.peer,
            %passed, cause = ?reason, "stream ended by the hub; the gateway may subscribe again");
        self.phase = Phase::Closing(failure.status());
        encode_framed(&goodbye_frame(passed.to_string(), reason, failure.retry_after))
    }

    fn count_omitted(&mut self) {
        let (before, now) = (self.omitted, self.reader.omitted());
        self.shared.metrics.skipped("expired", now.expired - before.expired);
        self.shared.metrics.skipped("too_large", now.too_large - before.too_large);
        self.omitted = now;
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.shared.log.look(|state, _| state.gateways.leave(&self.claim.gateway, self.generation));
        self.shared.metrics.streams.dec();
        if matches!(self.phase, Phase::Open) {
            tracing::info!(gateway = %self.claim.gateway, generation = self.generation, peer = %self.claim.peer,
                passed = %self.reader.passed(), "stream ended by the gateway; its id is free");
        }
    }
}

impl Ending {
    /// Whether the stream ends now, whatever it still had to be handed.
    fn is_due(&self, now: Duration) -> bool {
        match self {
            Self::Replaced { .. } => true,
            Self::Draining { close_by, .. } => now >= *close_by,
        }
    }

    /// What a stream does that has been handed everything and has nothing to do before `due`.
    fn once_idle(ending: Option<&Self>, now: Duration, due: Duration) -> Turn {
        match ending {
            Some(Self::Draining { close_at, .. }) if now < *close_at => Turn::WaitUntil(due.min(*close_at)),
            Some(ending) => Turn::End(ending.clone()),
            None => Turn::WaitUntil(due),
        }
    }
}

/// The value has changed. One that never will again changes never.
async fn changed<T>(value: &mut watch::Receiver<T>) {
    if value.changed().await.is_err() {
        pending().await
    }
}

fn encode(shared: &Shared, mut control: Control, info: &WelcomeInfo) -> Bytes {
    if let Control::Gap(gap) = &mut control {
        let spread = u64::try_from(shared.config.repair_spread.as_millis()).unwrap_or(u64::MAX).max(1);
        gap.repair_after = Some(Duration::from_millis(shared.clock.ambient.random() % spread));
        shared.metrics.gap(gap.reason);
    }
    encode_framed(&control_frame(&control, info))
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
    generation: u64,
    cursor: &str,
    outcome: Outcome,
    takeover: Option<&Takeover>,
) {
    shared.metrics.streams.inc();
    shared.metrics.subscribed(outcome);
    tracing::info!(gateway = %claim.gateway, instance = %claim.instance, attempt = claim.attempt, generation,
        peer = %claim.peer, cursor, ?outcome, "stream opened");
    let Some(Takeover { older, quiet }) = takeover else { return };
    shared.metrics.took_over(*quiet);
    if *quiet {
        tracing::info!(gateway = %claim.gateway, generation, peer = %claim.peer, older_peer = %older.peer,
            "the same instance came back; its older stream ends");
    } else {
        tracing::warn!(gateway = %claim.gateway, generation, instance = %claim.instance, peer = %claim.peer,
            older_instance = %older.instance, older_peer = %older.peer,
            "two instances use one gateway id; the older stream ends, give each gateway an id of its own");
    }
}
