//! One gateway's stream: a reader of the window, driven by what the peer takes.
//!
//! HTTP/2 asks for the next piece when the peer has room, and only then does the stream look at the window; so it holds
//! a position and at most one turn of frames, never a queue. What a frame says and when is decided by
//! [`Reader`]; this file adds the waiting, the standing records, the answer to a ping, and the end.

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

use self::handed::Handed;
use self::standing::Pages;
use crate::access::{Pass, current};
use crate::fence::{Claim, Ending, Signal, Uptake};
use crate::gathered::Gathered;
use crate::log::State;
use crate::patterns::Patterns;
use crate::place::Place;
use crate::push::Features;
use crate::shared::Shared;
use crate::{drain, grpc};

mod handed;
mod opening;
mod standing;
#[cfg(test)]
mod tests;
#[cfg(all(test, shuttle))]
mod threads;

/// A turn that has looked at so many entries gives the log's lock back, however little of them was for this stream. One
/// step of the reader looks at no more than that by itself, so a turn looks at less than twice as many.
const ENTRIES_PER_TURN: u64 = 4_096;

/// How often a drain looks whether a slow connection has taken what it was handed.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// An open stream. Its end, however it comes, frees the gateway id unless a newer stream has it.
#[derive(Debug)]
pub(crate) struct Subscription {
    shared: Arc<Shared>,
    claim: Claim,
    /// By what it stays.
    pass: Pass,
    /// Closes the connection if the stream may not stay and its end is not taken.
    seen_off: Option<AbortOnDropHandle<()>>,
    generation: u64,
    reader: Reader,
    filter: Option<Patterns>,
    features: Features,
    message_max: usize,
    welcome: WelcomeInfo,
    gathered: Gathered,
    /// Standing records on their way: nothing else is sent before the last of them.
    pages: Option<Pages>,
    /// The gap that belongs to the outcome is still to come.
    opening_gap: bool,
    grown: watch::Receiver<()>,
    signal: watch::Receiver<Signal>,
    ping: Ping,
    place: Arc<Place>,
    uptake: Arc<Uptake>,
    handed: Handed,
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

/// A ping on its way to being answered, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ping {
    /// The latest is answered.
    Answered(u64),
    /// The next piece carries it.
    Asked(u64),
    /// HTTP/2 has it. To ask for more is the answer.
    HandedOver(u64),
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
        self.uptake.asked();
        loop {
            match std::mem::replace(&mut self.phase, Phase::Closed) {
                Phase::Open => self.phase = Phase::Open,
                Phase::Closing(status) => return Some(Frame::trailers(grpc::trailers(&status))),
                Phase::Closed => return None,
            }
            let turn = match self.pass.may_stay() {
                true => self.turn(),
                false => Turn::End(Ending::Unknown),
            };
            self.count_omitted();
            let data = match turn {
                Turn::Data(data) => data,
                Turn::End(ending) => match self.end(&ending) {
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
            if let Ping::Asked(ping) = self.ping {
                self.ping = Ping::HandedOver(ping);
            }
            self.uptake.handed_over(self.shared.clock.now().mono);
            self.shared.metrics.bytes_sent.inc_by(data.len() as u64);
            let upto = self.gathered.is_empty().then(|| self.reader.next());
            return Some(Frame::data(self.handed.over(data, upto)));
        }
    }

    /// Gathers what is ready, under the log's lock.
    fn turn(&mut self) -> Turn {
        if let Some(data) = self.gathered.take() {
            return Turn::Data(data);
        }
        self.grown.borrow_and_update();
        // Taken before the look at the end: what was appended after a takeover is then seen to be too late.
        let page = self.pages.as_mut().map(|pages| pages.next(&self.shared));
        let shared = self.shared.clone();
        let turn = shared.log.look(|state, now| {
            self.answer_pings(state);
            let ending = self.signal.borrow().ending.clone();
            if ending.as_ref().is_some_and(|ending| ending.is_due(now.mono)) {
                if let Some(Ending::Draining { .. }) = ending {
                    drain::cut_off(&state.window, &self.place, &self.claim.gateway, &self.claim.peer);
                }
                return ending.map_or(Turn::Again, Turn::End);
            }
            if let Some((frame, is_last)) = page {
                self.pages.take_if(|_| is_last);
                return Turn::Data(frame);
            }
            self.gather(state, now, ending.as_ref())
        });
        self.place.set(&self.reader);
        turn
    }

    fn gather(&mut self, state: &State, now: Now, ending: Option<&Ending>) -> Turn {
        let begun_at = self.reader.next();
        loop {
            let filter = self.filter.as_ref().map(|patterns| patterns as &dyn Filter);
            let looked_at = self.reader.next().since(begun_at);
            if looked_at >= ENTRIES_PER_TURN {
                return self.gathered.take().map_or(Turn::Again, Turn::Data);
            }
            let (done, idle) = match self.reader.step(&state.window, filter, now) {
                Step::Control(control) => {
                    self.pages = self.pages_after(&control);
                    let frame = self.encode(control);
                    self.gathered.push(frame);
                    (self.gathered.is_full() || self.pages.is_some(), Turn::Again)
                }
                Step::Send(slots) => {
                    self.gathered.push(state.window.bytes(slots));
                    (self.gathered.is_full(), Turn::Again)
                }
                Step::Again => (true, Turn::Again),
                Step::WaitUntil(due) => (true, self.once_idle(ending, now.mono, due)),
            };
            if done {
                return self.gathered.take().map_or(idle, Turn::Data);
            }
        }
    }

    /// Whoever begins without a place, or has lost it, may have missed standing records, and is sent those that hold:
    /// before an opening gap, after any other. An event too large for the peer hides no record.
    fn pages_after(&mut self, control: &Control) -> Option<Pages> {
        let cursor = match control {
            Control::Welcome { cursor, outcome, .. } if *outcome != Outcome::Resumed => {
                self.opening_gap = *outcome != Outcome::Fresh;
                cursor.clone()
            }
            Control::Gap(_) if std::mem::take(&mut self.opening_gap) => return None,
            Control::Gap(gap) if gap.reason != GapReason::TooLarge => gap.to.to_string(),
            _ => return None,
        };
        self.features.standing.then(|| Pages::new(cursor, self.message_max))
    }

    /// What the stream does when it has been handed everything and has nothing to do before `due`.
    fn once_idle(&self, ending: Option<&Ending>, now: Duration, due: Duration) -> Turn {
        match ending {
            Some(Ending::Draining { close_at, .. }) if now < *close_at => Turn::WaitUntil(due.min(*close_at)),
            // The connection would end with what it holds.
            Some(Ending::Draining { close_by, .. }) if self.handed.waits() => {
                Turn::WaitUntil(due.min(*close_by).min(now + LOOK_EVERY))
            }
            Some(ending) => Turn::End(ending.clone()),
            None => Turn::WaitUntil(due),
        }
    }

    fn answer_pings(&mut self, state: &State) {
        if let Ping::HandedOver(ping) = self.ping {
            state.gateways.answer(&self.claim.gateway, self.generation, ping);
            self.ping = Ping::Answered(ping);
        }
        let latest = self.signal.borrow_and_update().ping;
        if let Ping::Answered(before) = self.ping
            && latest > before
        {
            self.reader.request_progress();
            self.ping = Ping::Asked(latest);
        }
    }

    async fn wait(&mut self, due: Duration) {
        let due = self.shared.clock.instant(due);
        tokio::select! {
            biased;
            () = changed(&mut self.signal) => {}
            () = changed(&mut self.grown) => {}
            () = self.pass.is_lost() => {}
            () = sleep_until(due) => {}
        }
    }

    fn encode(&self, mut control: Control) -> Bytes {
        if let Control::Gap(gap) = &mut control {
            let (config, metrics) = (&self.shared.config, &self.shared.metrics);
            let spread =
                u64::try_from(config.repair_spread.min(FOR_EVER).as_millis()).unwrap_or(u64::MAX).max(1);
            gap.repair_after = Some(Duration::from_millis(self.shared.clock.ambient.random() % spread));
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
    fn end(&mut self, ending: &Ending) -> Option<Bytes> {
        let (reason, failure) = match ending {
            Ending::Replaced { rival, .. } if rival.is_same_instance(&self.claim) => {
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
            Ending::Replaced { rival, .. } => {
                (Some(v1::GoodbyeReason::Replaced), Failure::replaced(&rival.instance, &rival.peer))
            }
            Ending::Draining { back_at, .. } => {
                let message =
                    "this hub is shutting down: subscribe again with the last cursor, another will answer";
                let wait = back_at.saturating_sub(self.shared.clock.now().mono);
                let failure = Failure::new(Reason::Draining, message).retry_after(wait);
                (Some(v1::GoodbyeReason::Draining), failure)
            }
            Ending::Unknown => (None, current::has_changed()),
        };
        if matches!(ending, Ending::Replaced { told: false, .. }) {
            tracing::debug!(gateway = %self.claim.gateway, generation = self.generation, peer = %self.claim.peer,
                connection = self.welcome.connection_id, passed = %self.reader.position(), cause = %failure.message, "stream ended by the hub");
        } else {
            tracing::info!(gateway = %self.claim.gateway, generation = self.generation, peer = %self.claim.peer,
                connection = self.welcome.connection_id, passed = %self.reader.position(), cause = %failure.message, "stream ended by the hub");
        }
        self.phase = Phase::Closing(failure.status());
        // A stream that was not welcomed has no place to say goodbye from; its client still holds the cursor it sent.
        let cursor = self.reader.resumes_from()?;
        Some(encode_framed(&goodbye_frame(cursor, reason?, failure.retry_after)))
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
        self.shared
            .log
            .look(|state, now| state.gateways.leave(&self.claim.gateway, self.generation, now.mono));
        self.shared.metrics.streams.dec();
        if matches!(self.phase, Phase::Open) {
            tracing::info!(gateway = %self.claim.gateway, generation = self.generation, peer = %self.claim.peer,
                connection = self.welcome.connection_id, passed = %self.reader.position(), "stream ended by the gateway; its id is free");
        }
    }
}

impl Ending {
    /// Whether the stream ends now, whatever it still had to be handed.
    fn is_due(&self, now: Duration) -> bool {
        match self {
            Self::Replaced { .. } | Self::Unknown => true,
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
