//! The log as readers see it: the window, who reads it under which gateway id, and the bell that rings when it grows.
//!
//! The store calls it as its [`Sink`]; subscriptions look at it. One lock guards the window and the gateways together,
//! so that a takeover and an append have an order: what comes after the takeover never reaches the older stream.
//!
//! Nothing is queued for anyone. An append rings the bell and returns; each reader looks when it can write.

use std::future::ready;
use std::sync::PoisonError;

use bytes::Bytes;
use futures_util::future::{BoxFuture, FutureExt as _};
use galaxy_push_core::Now;
use galaxy_push_core::cursor::{Cursor, Epoch};
use galaxy_push_core::frame::{LogKind, PREFIX_BYTES, message};
use galaxy_push_core::window::{Bounds, GapReason, MissingRange, Traits, Window};
use galaxy_push_proto::frame::{encode_framed, gap_frame};
use galaxy_push_store::fence::{Question, Stream};
use galaxy_push_store::{Committed, Holder, Sink};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::clock::Clock;
use crate::fence::{ANSWER_WITHIN, Claim, Gateways};
use crate::metrics::Metrics;
use crate::sync::{Mutex, MutexGuard};

/// The window behind its lock.
#[derive(Debug)]
pub(crate) struct Log {
    clock: Clock,
    bounds: Bounds,
    metrics: Metrics,
    state: Mutex<State>,
    grown: watch::Sender<()>,
}

/// What the lock guards.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) window: Window,
    pub(crate) gateways: Gateways,
}

/// Where a hub's log is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The last position given out: pair it with a snapshot of your own state.
    pub cursor: Cursor,
    /// The position just before the oldest event held.
    pub oldest: Cursor,
}

/// One entry of the log, as a dump shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Its position; for an ephemeral event, which has none, the position before it; for what the store has lost the last one
    /// of it.
    pub cursor: Cursor,
    /// For live readers only.
    pub ephemeral: bool,
    /// The encoded `PushEvent`, without the gRPC prefix. Of what the store has lost: the gap, as who reads from before it is told.
    pub message: Bytes,
}

impl Log {
    pub(crate) fn new(bounds: Bounds, clock: Clock, metrics: Metrics) -> Self {
        // No reader sees this epoch: the store begins the log before the hub exists.
        let window = Window::new(Cursor::start(Epoch(0)), bounds);
        let state = State { window, gateways: Gateways::default() };
        Self { clock, bounds, metrics, state: Mutex::new(state), grown: watch::Sender::new(()) }
    }

    /// Looks at the log as it is now: what is too old has left.
    pub(crate) fn look<T>(&self, at: impl FnOnce(&mut State, Now) -> T) -> T {
        let mut state = self.lock();
        let now = self.clock.now();
        state.window.trim(now.mono);
        at(&mut state, now)
    }

    /// Rings after each append. Mark it seen *before* looking, and no append is missed.
    pub(crate) fn grown(&self) -> watch::Receiver<()> {
        self.grown.subscribe()
    }

    pub(crate) fn head(&self) -> Head {
        self.look(|state, _| Head { cursor: state.window.head(), oldest: state.window.floor() })
    }

    pub(crate) fn dump(&self) -> Vec<Held> {
        self.look(|state, _| {
            let window = &state.window;
            let held = window.entries(window.oldest()..window.end()).map(|entry| Held {
                cursor: entry.cursor,
                ephemeral: entry.traits.has(Traits::EPHEMERAL),
                message: match entry.traits.has(Traits::DAMAGED) {
                    true => lost(window.before(entry.slot), entry.cursor),
                    false => Bytes::copy_from_slice(message(entry.frame)),
                },
            });
            held.collect()
        })
    }

    /// After a panic in `committed` the store takes nothing more, so no hole can follow; readers go on with what there is.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sink for Log {
    fn begin(&self, base: Cursor) {
        let mut window = Window::new(base, self.bounds);
        window.set_clock(Some(self.clock.log()));
        self.lock().window = window;
    }

    fn committed(&self, batch: &[Committed]) {
        let (mut bytes, mut unaware) = (0, Vec::new());
        {
            let mut state = self.lock();
            let State { window, gateways } = &mut *state;
            if batch.iter().any(|event| event.kind == LogKind::SessionInvalidation) {
                unaware = gateways.take_unaware();
            }
            let now = self.clock.now();
            for event in batch {
                window.append(event.cursor, event.traits, &event.frame, now.mono);
                bytes += event.frame.len() as u64;
            }
        }
        unaware.iter().for_each(tell_unaware);
        self.metrics.events_appended.inc_by(batch.len() as u64);
        self.metrics.bytes_appended.inc_by(bytes);
        self.grown.send_replace(());
    }

    fn restored(&self, batch: &[Committed]) {
        let mut state = self.lock();
        let now = self.clock.now().mono;
        for event in batch {
            let age = self.clock.log().age(event.appended_unix_ms, now);
            state.window.append(event.cursor, event.traits, &event.frame, now.saturating_sub(age));
        }
    }

    /// Behind `from` the window stands already.
    fn damaged(&self, _from: Cursor, to: Cursor) {
        let now = self.clock.now().mono;
        self.lock().window.lose(to, now);
        self.grown.send_replace(());
    }

    fn advanced(&self, to: Cursor) {
        self.lock().window.advance(to);
    }

    fn stamped_until(&self, unix_ms: u64) {
        self.clock.goes_on_from(unix_ms);
    }

    fn taken(&self, gateway: &str, by: &Holder) {
        self.lock().gateways.taken(gateway, by);
    }

    fn asked(&self, question: &Question) -> BoxFuture<'static, Option<Stream>> {
        let asked = self.look(|state, now| state.gateways.asked(question, now.mono));
        let (stream, mut contest) = match asked {
            Some((stream, Some(contest))) => (stream, contest),
            known => return ready(known.map(|(stream, _)| stream)).boxed(),
        };
        async move {
            let _late = timeout(ANSWER_WITHIN, contest.answered()).await;
            Some(Stream { is_alive: contest.is_answered(), ..stream })
        }
        .boxed()
    }
}

/// The gap that tells of what the store has lost, as a message.
fn lost(from: Cursor, to: Cursor) -> Bytes {
    let gap = MissingRange::between(GapReason::Damaged, from, to);
    gap.map(|gap| encode_framed(&gap_frame(&gap)).slice(PREFIX_BYTES..)).unwrap_or_default()
}

/// Sessions have ended, and this stream is not told which.
pub(crate) fn tell_unaware(claim: &Claim) {
    tracing::warn!(
        gateway = %claim.gateway, peer = %claim.peer,
        "session invalidations are in force, and this gateway's software is not told of them: users whose sessions were \
         ended stay connected there; let it list the features `standing` and `session_invalidation` (docs/migrating.md)"
    );
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use galaxy_push_core::ambient::Ambient;
    use galaxy_push_core::frame::put_log_frame;
    use galaxy_push_proto::v1;

    use super::*;
    use crate::{Config, Hub};

    fn at(seq: u64) -> Cursor {
        Cursor { seq: galaxy_push_core::cursor::Seq(seq), ..Cursor::start(Epoch(1)) }
    }

    fn entry(seq: u64, appended_unix_ms: u64) -> Committed {
        let (kind, mut frame) = (LogKind::Event, Vec::new());
        put_log_frame(&mut frame, kind, Some(at(seq)), b"\x0a\x03all", appended_unix_ms);
        let (traits, frame) = (Traits::PLAIN, frame.into());
        Committed { kind, cursor: at(seq), traits, frame, appended_unix_ms }
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_hub_gives_the_memory_of_old_events_back() {
        let bounds = Bounds { age: Duration::from_secs(60), ..Bounds::default() };
        let hub = Hub::in_memory(Config::default().window(bounds), Ambient::new(|| 0, || 4)).unwrap();
        let event = v1::Event {
            to: vec!["all".into()],
            id: "a".into(),
            source: "/s".into(),
            r#type: "t".into(),
            ..v1::Event::default()
        };
        hub.publish(vec![event]).await.unwrap();
        let held = || hub.shared.log.lock().window.len(); // not `look`, which trims
        tokio::time::sleep(Duration::from_secs(59)).await;
        assert_eq!(held(), 1);
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert_eq!(held(), 0);
    }

    /// The ages of an earlier life go on, its clock does not step back, and what is lost lies in its place as a gap.
    #[tokio::test(start_paused = true)]
    async fn what_an_earlier_life_has_left_is_as_old_as_it_is() {
        let bounds = Bounds { age: Duration::from_secs(60), ..Bounds::default() };
        let clock = Clock::start(Ambient::new(|| 1_000_000, || 4), bounds.age);
        let log = Log::new(bounds, clock.clone(), Metrics::default());
        log.stamped_until(1_005_000);
        log.begin(at(0));
        log.restored(&[entry(1, 950_000), entry(2, 1_004_000)]);
        log.damaged(at(2), at(5));
        log.restored(&[entry(6, 1_005_000)]);
        assert_eq!((clock.log_unix_ms(), log.look(|state, _| state.window.len())), (1_005_000, 4));
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_eq!(log.look(|state, _| (state.window.len(), state.window.floor())), (3, at(1)));
        let [_, lost, _] = &log.dump()[..] else { panic!("three entries") };
        let frame = <v1::PushEvent as prost::Message>::decode(lost.message.clone()).unwrap();
        let Some(v1::push_event::Kind::Gap(gap)) = frame.kind else { panic!("a gap") };
        assert_eq!((gap.reason(), gap.count, lost.cursor), (v1::GapReason::Damaged, Some(3), at(5)));
        assert_eq!((gap.from, gap.to), (at(2).to_string(), at(5).to_string()));
        let held = || log.look(|state, _| (state.window.len(), state.window.floor()));
        tokio::time::sleep(Duration::from_secs(50)).await;
        assert_eq!(held(), (2, at(2)), "what is lost stays as long as what lies behind it");
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(held(), (0, at(6)));
    }

    /// The fault: it was as young as the start, and what came behind it stayed as long.
    #[tokio::test(start_paused = true)]
    async fn what_is_lost_before_everything_else_holds_nothing_up() {
        let bounds = Bounds { age: Duration::from_secs(60), ..Bounds::default() };
        let log =
            Log::new(bounds, Clock::start(Ambient::new(|| 1_000_000, || 4), bounds.age), Metrics::default());
        log.stamped_until(950_000);
        log.begin(at(0));
        log.damaged(at(0), at(3));
        log.restored(&[entry(4, 950_000)]);
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_eq!(log.look(|state, _| (state.window.len(), state.window.floor())), (2, at(0)));
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(log.look(|state, _| (state.window.len(), state.window.floor())), (0, at(4)));
    }
}
