//! From what a connection sends to the bytes its transport writes: one encoder per connection.
//!
//! It knows the form, the largest frame the peer accepts, and the last cursor that was sent, so that a frame that cannot be
//! sent is replaced by a gap over exactly its position:
//!
//! ```text
//! sent        event at 4
//! to send     event at 7, larger than the peer's limit       (5 and 6 are for others)
//! sent        gap from 4 to 7, TOO_LARGE, count 1
//! ```
//!
//! Called by `sse` and `ws`. It renders through the [`Renderer`] that all connections share, and does not ask
//! what a user may see: the connection's reader has decided that. It decides which entries cannot be sent in this form, because they are
//! larger than the peer takes (TOO_LARGE) or cannot be rendered (DAMAGED), and tells a gap for each that has a position.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use galaxy_push_core::ambient::Ambient;
use galaxy_push_core::cursor::Cursor;
use galaxy_push_core::frame::{FrameView, GapView, Kind, message};
use galaxy_push_core::reader::Control;
use galaxy_push_core::window::{GapReason, MissingRange, Slot};
use galaxy_push_proto::Failure;
use galaxy_push_proto::frame::{WelcomeInfo, control_frame, gap_frame, goodbye_frame, subscribed_frame};
use galaxy_push_proto::v1::{GoodbyeReason, PushEvent, push_event};
use prost::Message as _;

use crate::app::metrics::Metrics;
use crate::state::close::CloseReason;
use crate::state::connection::Outgoing;
use crate::state::too_large::LargestSent;
use crate::surface::problem::bad_request;
use crate::surface::render::{Form, Renderer};

/// Encodes what one connection sends.
#[derive(Debug)]
pub(crate) struct Encoder {
    renderer: Arc<Renderer>,
    metrics: Arc<Metrics>,
    form: Form,
    /// In bytes of the form that is sent; `None`: any.
    frame_max: Option<usize>,
    welcome: WelcomeInfo,
    repairs: Repairs,
    /// The last cursor sent.
    last_sent: String,
    /// Positions of events that were too large for this user before.
    skipped: Vec<Cursor>,
    largest_sent: LargestSent,
}

/// When each user is to fetch its state anew after a gap: not all at once.
#[derive(Debug)]
pub(crate) struct Repairs {
    pub(crate) ambient: Ambient,
    pub(crate) spread: Duration,
}

impl Repairs {
    /// How long one user waits before it fetches its state: a random time below `spread`.
    fn after(&self) -> Duration {
        let spread = u64::try_from(self.spread.as_millis()).unwrap_or(u64::MAX).max(1);
        Duration::from_millis(self.ambient.random() % spread)
    }
}

impl Encoder {
    pub(crate) fn new(
        renderer: Arc<Renderer>,
        metrics: Arc<Metrics>,
        form: Form,
        frame_max: Option<usize>,
        welcome: WelcomeInfo,
        repairs: Repairs,
    ) -> Self {
        let (last_sent, skipped, largest_sent) = (String::new(), Vec::new(), LargestSent::default());
        Self { renderer, metrics, form, frame_max, welcome, repairs, last_sent, skipped, largest_sent }
    }

    /// Tells a gap over each of these positions.
    pub(crate) fn skipping(mut self, positions: Vec<Cursor>) -> Self {
        self.skipped = positions;
        self
    }

    /// The largest events that were sent.
    pub(crate) const fn largest_sent(&self) -> &LargestSent {
        &self.largest_sent
    }

    /// The bytes of everything in `outgoing`, one piece per frame, in order.
    ///
    /// # Errors
    ///
    /// An answer that is too large for the peer, which only asking for less would make smaller. The rest is there.
    pub(crate) fn encode(&mut self, outgoing: Vec<Outgoing>, out: &mut Vec<Bytes>) -> Result<(), Failure> {
        let mut events = 0;
        let mut answered = Ok(());
        for outgoing in outgoing {
            match outgoing {
                Outgoing::Entry { slot, framed } => events += u64::from(self.entry(slot, &framed, out)),
                Outgoing::Control(control) => self.control(&control, out),
                Outgoing::Subscribed { cursor, topics } => {
                    let last_sent = self.last_sent.clone();
                    self.push(&subscribed_frame(cursor, topics), out);
                    let too_large = |answer: &mut Bytes| self.frame_max.is_some_and(|max| answer.len() > max);
                    if out.pop_if(too_large).is_some() {
                        self.last_sent = last_sent;
                        answered = Err(bad_request(ANSWER_TOO_LARGE).field("subscribe.topics"));
                        break;
                    }
                }
            }
        }
        self.metrics.delivered(self.form.transport(), events);
        answered
    }

    /// The last frame of a connection that this side ends.
    pub(crate) fn goodbye(&mut self, cursor: String, closed: &CloseReason, out: &mut Vec<Bytes>) {
        let (reason, retry_after) = match closed {
            CloseReason::Draining(wait) => (GoodbyeReason::Draining, Some(*wait)),
            CloseReason::TokenExpired | CloseReason::SessionInvalidated(_) => {
                (GoodbyeReason::SessionEnded, None)
            }
            CloseReason::TooSlow => (GoodbyeReason::Slow, Some(SLOW_RETRY)),
        };
        self.metrics.ended(closed.as_str());
        self.push(&goodbye_frame(cursor, reason, retry_after), out);
    }

    /// A connection that ended without a last frame.
    pub(crate) fn dropped(&self, closed: &CloseReason) {
        self.metrics.ended(closed.as_str());
    }

    /// Encodes an entry of the window. Whether it was an event, and is sent.
    fn entry(&mut self, slot: Slot, framed: &Bytes, out: &mut Vec<Bytes>) -> bool {
        let view = FrameView::read(message(framed)).ok();
        if let Some(view) = view.filter(|view| view.kind() == Kind::Gap) {
            self.upstream_gap(&view, framed, out);
            return false;
        }
        let rendered = self.renderer.entry(self.form, slot, framed);
        let reason = match &rendered {
            Some(bytes) if self.is_too_large(bytes, view) => GapReason::TooLarge,
            Some(bytes) => {
                if self.frame_max.is_some() {
                    self.largest_sent.note(slot, bytes.len());
                }
                out.extend(rendered);
                let Some(view) = view else { return true };
                if !view.cursor().is_empty() {
                    view.cursor().clone_into(&mut self.last_sent);
                }
                return view.kind() == Kind::Event;
            }
            None => GapReason::Damaged,
        };
        // Only a gap may cross the position; an ephemeral event has none, and is left out.
        if let Some(Ok(to)) = view.map(|view| Cursor::parse(view.cursor())) {
            let gap =
                MissingRange { reason, from: self.last_sent.clone(), to, count: Some(1), repair_after: None };
            self.control(&Control::Gap(gap), out);
        }
        false
    }

    /// Whether the peer does not take it: by its word, or because it could not before.
    fn is_too_large(&self, rendered: &Bytes, view: Option<FrameView<'_>>) -> bool {
        let is_left_out = |view: FrameView<'_>| {
            let position = Cursor::parse(view.cursor());
            position.is_ok_and(|position| self.skipped.contains(&position))
        };
        self.frame_max.is_some_and(|max| rendered.len() > max)
            || !self.skipped.is_empty() && view.is_some_and(is_left_out)
    }

    /// A gap that lies in the window is the same for all but for the time to repair it, so it is not shared.
    fn upstream_gap(&mut self, view: &FrameView<'_>, framed: &Bytes, out: &mut Vec<Bytes>) {
        // What an upstream that is newer says is counted as no reason at all.
        let reason = view.gap().and_then(GapView::reason);
        self.metrics.gap(reason.map(Into::into).unwrap_or_default());
        let Ok(mut frame) = PushEvent::decode(message(framed)) else { return };
        if let Some(push_event::Kind::Gap(gap)) = &mut frame.kind {
            gap.repair_after = self.repairs.after().try_into().ok();
        }
        self.push(&frame, out);
    }

    /// Encodes a frame about the stream. A gap that has no time for its repair gets one.
    fn control(&mut self, control: &Control, out: &mut Vec<Bytes>) {
        if let Control::Gap(gap) = control {
            self.metrics.gap(gap.reason.into());
            let repair_after = gap.repair_after.unwrap_or_else(|| self.repairs.after());
            return self
                .push(&gap_frame(&MissingRange { repair_after: Some(repair_after), ..gap.clone() }), out);
        }
        self.push(&control_frame(control, &self.welcome), out);
    }

    /// Renders a frame that is this connection's alone.
    fn push(&mut self, frame: &PushEvent, out: &mut Vec<Bytes>) {
        frame.cursor.clone_into(&mut self.last_sent);
        out.push(self.renderer.frame(self.form, frame));
    }
}

const ANSWER_TOO_LARGE: &str = "the names of all topics asked for are more than the peer's `maxReceiveBytes`: raise it, or ask \
                                for fewer topics";

/// A peer that was too slow once is given this long to recover.
const SLOW_RETRY: Duration = Duration::from_secs(5);
