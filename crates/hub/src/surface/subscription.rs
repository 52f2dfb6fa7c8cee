//! One gateway's stream: a reader of the window, driven by what the peer takes.
//!
//! HTTP/2 asks for the next piece when the peer has room, and only then does the stream look at the window. So it holds a
//! position and at most one turn of frames, never a queue. What a frame says and when is decided by the core's [`Reader`];
//! this file adds the waiting, the standing records, the answer to a ping, and the end.
//!
//! `opening.rs` makes one for each accepted subscribe; `push.rs` hands its body to the response.
//!
//! # A turn
//!
//! ```text
//! HTTP/2 asks for a piece
//!   still in the buffer?         send it
//!   mark the append signal seen, then take the log's lock
//!     the stream must end?       Goodbye, then the status                        nothing appended later is looked at
//!     standing records to send?  the next frame of them
//!     else                       ask the reader, until 224 KiB, a large piece or some 4,096 entries
//!   nothing to send              wait: an append · a signal of the ownership table · lost access · the next heartbeat
//! ```
//!
//! # The states of its end
//!
//! ```text
//! Open ── StreamEnd is due, or the grant is lost ──► Closing(status) ── the trailers are out ──► Closed
//!   └──── the peer goes: the stream is dropped, its id is released
//! ```
//!
//! | [`StreamEnd`] | Goodbye | status | due |
//! |---|---|---|---|
//! | `Replaced` by another instance | `REPLACED` | `REPLACED` | at once |
//! | `Replaced` by its own instance | none | `STALE_ATTEMPT` | at once |
//! | `Draining` | `DRAINING` | `DRAINING` | from its turn on, once it has taken everything; at the limit in any case |
//! | `AccessChanged` | none | UNAVAILABLE | at once |
//!
//! The end has to be looked at under the same lock as the window. Otherwise:
//!
//! ```text
//! a looks: no end · b takes the id · event 8 is appended · a looks at the window and sends 8      forbidden
//! ```

use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream;
use galaxy_push_core::reader::{Control, Filter, Omitted, Reader, Step};
use galaxy_push_core::window::{GapReason, MissingRange, Outcome};
use galaxy_push_core::{FOR_EVER, Now};
use galaxy_push_proto::frame::{WelcomeInfo, control_frame, encode_framed, goodbye_frame};
use galaxy_push_proto::{Failure, Reason, error, v1};
use http_body::Frame;
use http_body_util::StreamBody;
use tokio::sync::watch;
use tokio::time::sleep_until;
use tokio_util::task::AbortOnDropHandle;
use tokio_util::task::task_tracker::TaskTrackerToken;
use tonic::Status;

use self::request::Features;
use self::send_progress::SendProgress;
use self::standing::StandingSnapshot;
use self::turn_buffer::TurnBuffer;
use crate::app::drain;
use crate::app::shared::Shared;
use crate::state::access::Grant;
use crate::state::log::State;
use crate::state::ownership::{Claim, SendReadiness, StreamEnd, StreamSignal};
use crate::state::patterns::Patterns;
use crate::state::stream_gauge::StreamGauge;
use crate::surface::grpc;
use crate::surface::revocation;

mod opening;
pub(crate) mod request;
mod send_progress;
mod standing;
#[cfg(test)]
mod tests;
#[cfg(all(test, shuttle))]
mod threads;
mod turn_buffer;

/// A turn that has looked at so many entries gives the log's lock back, however few of them were for this stream. One step
/// of the reader looks at no more than that by itself, so a turn looks at less than twice as many.
const ENTRIES_PER_TURN: u64 = 4_096;

/// During a drain, how often a stream looks whether its connection has written what it was handed.
const POLL_EVERY: Duration = Duration::from_millis(20);

/// An open stream. Its end, however it comes, frees the gateway id unless a newer stream has it.
#[derive(Debug)]
pub(crate) struct Subscription {
    shared: Arc<Shared>,
    /// By which claim it has the gateway id.
    claim: Claim,
    /// Whether its gateway may still be here.
    grant: Grant,
    /// Closes the connection if the gateway loses its access and does not take the end of the stream.
    revocation_task: Option<AbortOnDropHandle<()>>,
    /// Which ownership of the id this is. It releases the id only under this number.
    generation: u64,
    /// Where it stands, and what it sends next.
    reader: Reader,
    /// Which recipients it is sent events of; `None`: all.
    filter: Option<Patterns>,
    /// What its peer understands.
    features: Features,
    /// The largest message that its peer takes, in bytes.
    message_max: usize,
    /// What its Welcome says.
    welcome: WelcomeInfo,
    /// What is left of the turn: at most 480 KiB, unless a single frame is larger.
    turn_buffer: TurnBuffer,
    /// Standing records that are being sent: nothing else is sent before the last of them.
    snapshot: Option<StandingSnapshot>,
    /// The Welcome said TRIMMED, EPOCH_CHANGED or AHEAD, and its Gap is still to come. The records are sent before that Gap, and not
    /// again after it.
    opening_gap: bool,
    /// Signals when the log grows.
    appends: watch::Receiver<()>,
    /// What the ownership table tells it: that it must end, or must answer a ping.
    signal: watch::Receiver<StreamSignal>,
    /// How far the latest ping has come.
    ping: Ping,
    /// Where it shows how far it has read.
    gauge: Arc<StreamGauge>,
    /// Where it shows whether its peer takes what it is sent.
    readiness: Arc<SendReadiness>,
    /// How much of what it handed over is written.
    send_progress: SendProgress,
    /// What the reader had left out when it was counted last.
    omitted: Omitted,
    /// How far its end has come.
    phase: Phase,
    /// A drain waits for it.
    _open: TaskTrackerToken,
}

/// How far the end of the stream has come.
#[derive(Debug)]
enum Phase {
    /// Frames are sent.
    Open,
    /// The goodbye is out; this status follows.
    Closing(Status),
    /// Everything was sent, the status included.
    Closed,
}

/// A ping of the ownership table, by its number.
///
/// ```text
/// Answered(1) ── the table asks for 2 ──► Requested(2) ── a piece is handed over ──► Sent(2)
///      Answered(2) ◄── HTTP/2 asks for more: the peer has made room ────────────────────┘
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ping {
    /// The latest is answered.
    Answered(u64),
    /// The next piece carries it.
    Requested(u64),
    /// HTTP/2 has it. To ask for more is the answer.
    Sent(u64),
}

/// What one turn has come to.
enum Turn {
    /// A piece to send.
    Data(Bytes),
    /// Let other streams have their turn, then look on.
    Again,
    /// Nothing to do before this time, unless something happens.
    WaitUntil(Duration),
    End(StreamEnd),
}

impl Subscription {
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
        // HTTP/2 asks for a piece only when it has taken the one before.
        self.readiness.wants_more();
        loop {
            // `Closed` stays in place wherever `Open` is not put back, so the trailers are sent once.
            match std::mem::replace(&mut self.phase, Phase::Closed) {
                Phase::Open => self.phase = Phase::Open,
                Phase::Closing(status) => return Some(Frame::trailers(grpc::trailers(&status))),
                Phase::Closed => return None,
            }
            let turn = match self.grant.is_valid() {
                true => self.turn(),
                false => Turn::End(StreamEnd::AccessChanged),
            };
            self.count_omitted();
            let data = match turn {
                Turn::Data(data) => data,
                Turn::End(stream_end) => match self.end(&stream_end) {
                    Some(goodbye) => goodbye,
                    None => continue,
                },
                Turn::Again => {
                    tokio::task::yield_now().await;
                    continue;
                }
                Turn::WaitUntil(due) => {
                    self.wait(due).await;
                    continue;
                }
            };
            // The Progress that answers a ping is in this piece at the latest: the reader was asked for it before.
            if let Ping::Requested(ping) = self.ping {
                self.ping = Ping::Sent(ping);
            }
            self.readiness.sent(self.shared.clock.now().mono);
            self.shared.metrics.bytes_sent.inc_by(data.len() as u64);
            // A turn may be two pieces. Only with the last of them is everything before the reader handed over.
            let upto = self.turn_buffer.is_empty().then(|| self.reader.next());
            return Some(Frame::data(self.send_progress.track(data, upto)));
        }
    }

    /// Gathers what is ready, under the log's lock.
    fn turn(&mut self) -> Turn {
        if let Some(data) = self.turn_buffer.pop() {
            return Turn::Data(data);
        }
        // Before the look at the window: what is appended from here on wakes the wait that may follow.
        self.appends.borrow_and_update();
        // Read before the look at the end: if the id was taken meanwhile, the page of records that was just made is dropped,
        // and what was appended after the takeover is not sent.
        let page = self.snapshot.as_mut().map(|snapshot| snapshot.next(&self.shared));
        // Cloned, because the closure takes all of `self`.
        let shared = self.shared.clone();
        let turn = shared.log.with_state(|state, now| {
            self.answer_pings(state);
            let stream_end = self.signal.borrow().stream_end.clone();
            if stream_end.as_ref().is_some_and(|stream_end| stream_end.is_due(now.mono)) {
                if let Some(StreamEnd::Draining { .. }) = stream_end {
                    drain::cut_off(&state.window, &self.gauge, &self.claim.gateway, &self.claim.peer);
                }
                return stream_end.map_or(Turn::Again, Turn::End);
            }
            if let Some((frame, is_last)) = page {
                self.snapshot.take_if(|_| is_last);
                return Turn::Data(frame);
            }
            self.fill_turn(state, now, stream_end.as_ref())
        });
        self.gauge.update(&self.reader);
        turn
    }

    /// Asks the reader for frames until there is enough for one turn.
    ///
    /// Two bounds end a turn: bytes, so that DATA frames are large but other streams are not starved, and entries looked
    /// at, so that a filter that matches little does not keep the lock.
    fn fill_turn(&mut self, state: &State, now: Now, stream_end: Option<&StreamEnd>) -> Turn {
        let begun_at = self.reader.next();
        loop {
            let filter = self.filter.as_ref().map(|patterns| patterns as &dyn Filter);
            let looked_at = self.reader.next().since(begun_at);
            if looked_at >= ENTRIES_PER_TURN {
                return self.turn_buffer.pop().map_or(Turn::Again, Turn::Data);
            }
            let (done, idle) = match self.reader.step(&state.window, filter, now) {
                Step::Control(control) => {
                    // None is under way: while one is, `turn` sends its pages and does not come here.
                    self.snapshot = self.snapshot_after(&control);
                    let frame = self.encode(control);
                    self.turn_buffer.push(frame);
                    (self.turn_buffer.is_full() || self.snapshot.is_some(), Turn::Again)
                }
                Step::Send(slots) => {
                    self.turn_buffer.push(state.window.bytes(slots));
                    (self.turn_buffer.is_full(), Turn::Again)
                }
                Step::Again => (true, Turn::Again),
                Step::WaitUntil(due) => (true, self.once_idle(stream_end, now.mono, due)),
            };
            if done {
                return self.turn_buffer.pop().map_or(idle, Turn::Data);
            }
        }
    }

    /// The standing records to send after this frame, if any. A reader that begins without a position, or has lost it, may
    /// have missed some, and is sent all that hold:
    ///
    /// ```text
    /// RESUMED                        none: it has them
    /// FRESH                          Welcome · records · replay
    /// TRIMMED, EPOCH_CHANGED, AHEAD  Welcome · records · Gap · replay (after AHEAD nothing is left to replay)
    /// lapped while it reads          … · Gap · records · …
    /// ```
    ///
    /// An event that is too large for the peer hides no record, so its gap is followed by none.
    fn snapshot_after(&mut self, control: &Control) -> Option<StandingSnapshot> {
        let cursor = match control {
            Control::Welcome { cursor, outcome, .. } if *outcome != Outcome::Resumed => {
                self.opening_gap = *outcome != Outcome::Fresh;
                cursor.clone()
            }
            Control::Gap(_) if std::mem::take(&mut self.opening_gap) => return None,
            Control::Gap(gap) if gap.reason != GapReason::TooLarge => gap.to.to_string(),
            _ => return None,
        };
        self.features.standing.then(|| StandingSnapshot::new(cursor, self.message_max))
    }

    /// What the stream does when it has been handed everything and has nothing to do before `due`.
    fn once_idle(&self, stream_end: Option<&StreamEnd>, now: Duration, due: Duration) -> Turn {
        match stream_end {
            Some(StreamEnd::Draining { close_at, .. }) if now < *close_at => {
                Turn::WaitUntil(due.min(*close_at))
            }
            // The connection would end with what it holds.
            Some(StreamEnd::Draining { close_by, .. }) if self.send_progress.is_pending() => {
                Turn::WaitUntil(due.min(*close_by).min(now + POLL_EVERY))
            }
            Some(stream_end) => Turn::End(stream_end.clone()),
            None => Turn::WaitUntil(due),
        }
    }

    /// Answers the ping that HTTP/2 has taken, and has the reader send a Progress for one that is new.
    fn answer_pings(&mut self, state: &State) {
        // This turn runs because HTTP/2 asked for more: it has taken the piece that carried the ping.
        if let Ping::Sent(ping) = self.ping {
            state.gateways.record_pong(&self.claim.gateway, self.generation, ping);
            self.ping = Ping::Answered(ping);
        }
        // Marked seen under the log's lock, under which alone it is sent: none falls between this and the look at the end.
        let latest = self.signal.borrow_and_update().ping;
        if let Ping::Answered(before) = self.ping
            && latest > before
        {
            self.reader.request_progress();
            self.ping = Ping::Requested(latest);
        }
    }

    /// Waits until there may be something to do. Cancel safe.
    async fn wait(&mut self, due: Duration) {
        let due = self.shared.clock.instant(due);
        tokio::select! {
            biased;
            () = changed(&mut self.signal) => {}
            () = changed(&mut self.appends) => {}
            () = self.grant.revoked() => {}
            () = sleep_until(due) => {}
        }
    }

    /// Encodes a control frame, with what only this stream knows: when to repair after a gap, whether the store is reached,
    /// and the time.
    fn encode(&self, mut control: Control) -> Bytes {
        if let Control::Gap(gap) = &mut control {
            let (config, metrics) = (&self.shared.config, &self.shared.metrics);
            let spread =
                u64::try_from(config.repair_spread.min(FOR_EVER).as_millis()).unwrap_or(u64::MAX).max(1);
            gap.repair_after = Some(Duration::from_millis(self.shared.clock.ambient().random() % spread));
            metrics.gap(gap.reason);
            if self.features.is_old {
                metrics.gaps_to_untold_readers.inc();
                self.warn_of_a_gap(gap);
            }
        }
        let tells_time =
            matches!(control, Control::Welcome { .. } | Control::Progress { .. } | Control::CaughtUp { .. });
        let mut frame = control_frame(&control, &self.welcome);
        if let Some(v1::push_event::Kind::Progress(progress)) = &mut frame.kind {
            progress.stale = self.shared.store.is_stale();
        }
        if tells_time {
            frame.appended_unix_ms = self.shared.clock.log_unix_ms();
        }
        encode_framed(&frame)
    }

    /// A gap goes to a reader that will not understand it.
    fn warn_of_a_gap(&self, gap: &MissingRange) {
        let (gateway, peer, reason) = (&self.claim.gateway, &self.claim.peer, gap.reason);
        if let Some(left_out) = self.shared.unread_gaps.count(&format!("{reason:?} {gateway}")) {
            tracing::warn!(
                %gateway, %peer, ?reason, from = %gap.from, to = %gap.to, count = gap.count, left_out,
                "a gateway that most likely cannot read gaps has missed a part of the log, and does not know: let its \
                 software handle `gap` (docs/migrating.md)"
            );
        }
    }

    /// Ends the stream: what it says last, if it says anything, before the status.
    fn end(&mut self, stream_end: &StreamEnd) -> Option<Bytes> {
        let (reason, failure) = match stream_end {
            StreamEnd::Replaced { rival, .. } if rival.is_same_instance(&self.claim) => {
                let message = format!(
                    "attempt {} of the same instance, {}, has the stream",
                    rival.attempt,
                    error::who(&rival.instance, &rival.peer)
                );
                let failure = Failure::new(Reason::StaleAttempt, message)
                    .metadata(error::RIVAL_INSTANCE, &rival.instance)
                    .metadata(error::RIVAL_PEER, &rival.peer);
                (None, failure)
            }
            StreamEnd::Replaced { rival, .. } => {
                (Some(v1::GoodbyeReason::Replaced), Failure::replaced(&rival.instance, &rival.peer))
            }
            StreamEnd::Draining { back_at, .. } => {
                let message =
                    "this hub is shutting down: subscribe again with the last cursor, another will answer";
                let wait = back_at.saturating_sub(self.shared.clock.now().mono);
                let failure = Failure::new(Reason::Draining, message).retry_after(wait);
                (Some(v1::GoodbyeReason::Draining), failure)
            }
            StreamEnd::AccessChanged => (None, revocation::access_changed()),
        };
        if matches!(stream_end, StreamEnd::Replaced { logged: false, .. }) {
            tracing::debug!(gateway = %self.claim.gateway, generation = self.generation, peer = %self.claim.peer,
                connection = self.welcome.connection_id, passed = %self.reader.position(), cause = %failure.message, "stream ended by the hub");
        } else {
            tracing::info!(gateway = %self.claim.gateway, generation = self.generation, peer = %self.claim.peer,
                connection = self.welcome.connection_id, passed = %self.reader.position(), cause = %failure.message, "stream ended by the hub");
        }
        // Before the early return below: a stream that says no goodbye ends with a status, too.
        self.phase = Phase::Closing(failure.status());
        // A stream that was not welcomed has no place to say goodbye from; its client still holds the cursor it sent.
        let cursor = self.reader.resumes_from()?;
        Some(encode_framed(&goodbye_frame(cursor, reason?, failure.retry_after)))
    }

    /// Counts what the reader left out since the last turn.
    fn count_omitted(&mut self) {
        let (before, now) = (self.omitted, self.reader.omitted());
        self.shared.metrics.skipped("expired", now.expired - before.expired);
        self.shared.metrics.skipped("too_large", now.too_large - before.too_large);
        self.omitted = now;
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.shared
            .log
            .with_state(|state, now| state.gateways.release(&self.claim.gateway, self.generation, now.mono));
        self.shared.metrics.streams.dec();
        if matches!(self.phase, Phase::Open) {
            tracing::info!(gateway = %self.claim.gateway, generation = self.generation, peer = %self.claim.peer,
                connection = self.welcome.connection_id, passed = %self.reader.position(), "stream ended by the gateway; its id is free");
        }
    }
}

impl StreamEnd {
    /// Whether the stream ends now, whatever it still had to be handed.
    fn is_due(&self, now: Duration) -> bool {
        match self {
            Self::Replaced { .. } | Self::AccessChanged => true,
            Self::Draining { close_by, .. } => now >= *close_by,
        }
    }
}

/// The value has changed. One that never will again changes never.
async fn changed<T>(value: &mut watch::Receiver<T>) {
    if value.changed().await.is_err() {
        pending().await
    }
}
