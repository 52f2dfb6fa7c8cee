//! The log as readers see it: the window, which stream reads it under which gateway id, and the signal that it grew.
//!
//! The store calls it as its [`Sink`], one call after the other, in the order of the log. Streams, scrapes and the drain
//! look at it through [`Log::with_state`]. It appends nothing by itself and knows no request. `with_state` hands out
//! `&mut State`, because the fence changes under the same lock: that nobody but the store appends is by review.
//!
//! # One lock for the window and the ownership table
//!
//! A takeover and an append must have an order: what is appended after the takeover never reaches the older stream.
//!
//! ```text
//! append 7      with_state: b takes "gw" from a      append 8
//! a, in its next turn, sees under the same lock that it must end: it is never shown 8
//! b was opened at the position after 7: it is sent 8
//! ```
//!
//! With two locks a could look at the table before the takeover and at the window after append 8.
//!
//! # Nothing is queued for anyone
//!
//! An append signals and returns. Each stream looks at the window when HTTP/2 can take something of it. To miss no append,
//! a stream marks the signal as seen *before* it looks:
//!
//! ```text
//! right:   mark seen · look (nothing) · append signals · wait returns at once
//! wrong:   look (nothing) · append signals · mark seen · wait sleeps until the next heartbeat
//! ```
//!
//! And [`Sink::committed`] signals *after* the append, outside the lock: a stream that it wakes finds the entry there.

use std::future::ready;
use std::sync::PoisonError;

use bytes::Bytes;
use futures_util::future::{BoxFuture, FutureExt as _};
use galaxy_push_core::Now;
use galaxy_push_core::cursor::{Cursor, Epoch};
use galaxy_push_core::frame::{LogKind, PREFIX_BYTES, message};
use galaxy_push_core::window::{Bounds, GapReason, MissingRange, Traits, Window};
use galaxy_push_listener::Clock;
use galaxy_push_proto::frame::{encode_framed, gap_frame};
use galaxy_push_store::fence::{Question, Stream};
use galaxy_push_store::{Committed, Holder, Sink};
use prometheus_client::metrics::counter::Counter;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::state::ownership::{ANSWER_WITHIN, Claim, Gateways};
use crate::state::sync::{Mutex, MutexGuard};

/// The window and the ownership table behind their lock.
///
/// A hub has one. The store holds it as its sink, the hub in its shared part.
#[derive(Debug)]
pub(crate) struct Log {
    /// What time it is, and what events are stamped with.
    clock: Clock,
    /// What the window holds.
    bounds: Bounds,
    /// How much was appended.
    appended: AppendCounters,
    /// The window and the ownership table.
    state: Mutex<State>,
    /// Signals each append.
    appends: watch::Sender<()>,
}

/// How much was appended since the hub began. Cheap to clone: clones count together.
#[derive(Clone, Debug, Default)]
pub(crate) struct AppendCounters {
    /// Events and standing records.
    pub(crate) events: Counter,
    /// Bytes of their frames.
    pub(crate) bytes: Counter,
}

/// What the lock guards.
#[derive(Debug)]
pub(crate) struct State {
    /// The recent entries of the log, bounded by age, count and bytes.
    pub(crate) window: Window,
    /// Which stream has which gateway id.
    pub(crate) gateways: Gateways,
}

/// Where a hub's log is now.
///
/// ```text
/// log:   1  2  3  4  5  6        the window holds 3 to 6
///           ^           ^
///           oldest      cursor   a reader that resumes at `oldest` is sent 3 to 6 and no gap
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The last position given out: pair it with a snapshot of your own state.
    pub cursor: Cursor,
    /// The position just before the oldest event held.
    pub oldest: Cursor,
}

/// One entry of the log, as a dump shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    /// Its position; for an ephemeral event, which has none, the position before it; for what the store has lost the last one
    /// of it.
    pub cursor: Cursor,
    /// For live readers only.
    pub ephemeral: bool,
    /// The encoded `PushEvent`, without the gRPC prefix. Of what the store has lost: the gap, as a reader from before it is
    /// sent it.
    pub message: Bytes,
}

impl Log {
    /// A log without an epoch. The store begins it when it opens, before the hub exists.
    pub(crate) fn new(bounds: Bounds, clock: Clock, appended: AppendCounters) -> Self {
        // No reader sees this epoch: the store begins the log before the hub exists.
        let window = Window::new(Cursor::start(Epoch(0)), bounds);
        let state = State { window, gateways: Gateways::default() };
        Self { clock, bounds, appended, state: Mutex::new(state), appends: watch::Sender::new(()) }
    }

    /// Runs `at` with the state of the log as it is now: what is too old has left the window before.
    ///
    /// Publishers, streams, scrapes and claims share this lock, so `at` must be short: a turn of a stream gives it back
    /// after some 4,096 entries. Only [`Log::dump`], which tests call, looks at the whole window at once.
    pub(crate) fn with_state<T>(&self, at: impl FnOnce(&mut State, Now) -> T) -> T {
        let mut state = self.lock();
        let now = self.clock.now();
        state.window.trim(now.mono);
        at(&mut state, now)
    }

    /// Signals after each append. Mark it seen *before* looking, and no append is missed.
    pub(crate) fn appends(&self) -> watch::Receiver<()> {
        self.appends.subscribe()
    }

    /// Where the log is now, at this hub: another hub of the same log may be further.
    pub(crate) fn head(&self) -> Head {
        self.with_state(|state, _| Head { cursor: state.window.head(), oldest: state.window.floor() })
    }

    /// A copy of every entry held, oldest first.
    pub(crate) fn dump(&self) -> Vec<LogEntry> {
        self.with_state(|state, _| {
            let window = &state.window;
            let held = window.entries(window.oldest()..window.end()).map(|entry| LogEntry {
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
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sink for Log {
    /// The store opens a log that goes on behind `base`: an empty window there.
    fn begin(&self, base: Cursor) {
        let mut window = Window::new(base, self.bounds);
        window.set_clock(Some(self.clock.log()));
        self.lock().window = window;
    }

    /// The store has made a batch durable: append it and wake the streams. Never waits for a reader; it knows none.
    ///
    /// Called by one thread of the store at a time, in the order of positions.
    fn committed(&self, batch: &[Committed]) {
        let (mut bytes, mut unaware) = (0, Vec::new());
        {
            let mut state = self.lock();
            let State { window, gateways } = &mut *state;
            // Under the lock of the append, so that no stream is missed: one that is admitted later is warned about when
            // it opens.
            if batch.iter().any(|event| event.kind == LogKind::SessionInvalidation) {
                unaware = gateways.drain_unaware();
            }
            let now = self.clock.now();
            for event in batch {
                window.append(event.cursor, event.traits, &event.frame, now.mono);
                bytes += event.frame.len() as u64;
            }
        }
        // Logging and counting may take a while: not under the lock that every stream waits for.
        unaware.iter().for_each(warn_unaware);
        self.appended.events.inc_by(batch.len() as u64);
        self.appended.bytes.inc_by(bytes);
        self.appends.send_replace(());
    }

    /// Entries of an earlier life, read when the store opens. They are as old as they are:
    ///
    /// ```text
    /// window age 60 s · entry stamped 50 s ago · it leaves the window 10 s after the start, not 60 s
    /// ```
    fn restored(&self, batch: &[Committed]) {
        let mut state = self.lock();
        let now = self.clock.now().mono;
        for event in batch {
            let age = self.clock.log().age(event.appended_unix_ms, now);
            state.window.append(event.cursor, event.traits, &event.frame, now.saturating_sub(age));
        }
    }

    /// The store has lost what lies between. The window stands at `from` already, so only `to` is needed.
    fn damaged(&self, _from: Cursor, to: Cursor) {
        let now = self.clock.now().mono;
        self.lock().window.lose(to, now);
        self.appends.send_replace(());
    }

    /// Positions up to `to` were given to nothing, as in a log whose positions have holes: readers pass them without a gap.
    fn advanced(&self, to: Cursor) {
        // No signal: there is no entry, so no stream has anything to do.
        self.lock().window.advance(to);
    }

    /// An earlier life stamped events up to here: stamps go on from there, though the wall clock may say less.
    fn stamped_until(&self, unix_ms: u64) {
        self.clock.continue_from(unix_ms);
    }

    /// Another hub of the log, or this one, has taken the id: an older stream here ends.
    fn taken(&self, gateway: &str, by: &Holder) {
        self.lock().gateways.end_if_superseded(gateway, by);
    }

    /// Another hub asks whether the stream of an instance is here and alive. Where it must be pinged for that, the answer
    /// comes within [`ANSWER_WITHIN`].
    fn asked(&self, question: &Question) -> BoxFuture<'static, Option<Stream>> {
        // The lock is released before the probe is awaited: no lock is held across an await.
        let asked = self.with_state(|state, now| state.gateways.answer_liveness_query(question, now.mono));
        let (stream, mut probe) = match asked {
            Some((stream, Some(probe))) => (stream, probe),
            known => return ready(known.map(|(stream, _)| stream)).boxed(),
        };
        async move {
            let _late = timeout(ANSWER_WITHIN, probe.answered()).await;
            Some(Stream { is_alive: probe.is_answered(), ..stream })
        }
        .boxed()
    }
}

/// The gap that tells of what the store has lost, as a message.
fn lost(from: Cursor, to: Cursor) -> Bytes {
    let gap = MissingRange::between(GapReason::Damaged, from, to);
    gap.map(|gap| encode_framed(&gap_frame(&gap)).slice(PREFIX_BYTES..)).unwrap_or_default()
}

/// Warns that invalidations are in force of which this gateway never learns. Once for each of its streams.
pub(crate) fn warn_unaware(claim: &Claim) {
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

    fn at(seq: u64) -> Cursor {
        Cursor { seq: galaxy_push_core::cursor::Seq(seq), ..Cursor::start(Epoch(1)) }
    }

    fn entry(seq: u64, appended_unix_ms: u64) -> Committed {
        let (kind, mut frame) = (LogKind::Event, Vec::new());
        put_log_frame(&mut frame, kind, Some(at(seq)), b"\x0a\x03all", appended_unix_ms);
        let (traits, frame) = (Traits::PLAIN, frame.into());
        Committed { kind, cursor: at(seq), traits, frame, appended_unix_ms }
    }

    /// The ages of an earlier life go on, its clock does not step back, and what is lost lies in its place as a gap.
    #[tokio::test(start_paused = true)]
    async fn what_an_earlier_life_has_left_is_as_old_as_it_is() {
        let bounds = Bounds { age: Duration::from_secs(60), ..Bounds::default() };
        let clock = Clock::start(Ambient::new(|| 1_000_000, || 4), bounds.age);
        let log = Log::new(bounds, clock.clone(), AppendCounters::default());
        log.stamped_until(1_005_000);
        log.begin(at(0));
        log.restored(&[entry(1, 950_000), entry(2, 1_004_000)]);
        log.damaged(at(2), at(5));
        log.restored(&[entry(6, 1_005_000)]);
        assert_eq!((clock.log_unix_ms(), log.with_state(|state, _| state.window.len())), (1_005_000, 4));
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_eq!(log.with_state(|state, _| (state.window.len(), state.window.floor())), (3, at(1)));
        let [_, lost, _] = &log.dump()[..] else { panic!("three entries") };
        let frame = <v1::PushEvent as prost::Message>::decode(lost.message.clone()).unwrap();
        let Some(v1::push_event::Kind::Gap(gap)) = frame.kind else { panic!("a gap") };
        assert_eq!((gap.reason(), gap.count, lost.cursor), (v1::GapReason::Damaged, Some(3), at(5)));
        assert_eq!((gap.from, gap.to), (at(2).to_string(), at(5).to_string()));
        let held = || log.with_state(|state, _| (state.window.len(), state.window.floor()));
        tokio::time::sleep(Duration::from_secs(50)).await;
        assert_eq!(held(), (2, at(2)), "what is lost stays as long as what lies behind it");
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(held(), (0, at(6)));
    }

    /// The fault: it was as young as the start, and what came behind it stayed as long.
    #[tokio::test(start_paused = true)]
    async fn what_is_lost_before_everything_else_holds_nothing_up() {
        let bounds = Bounds { age: Duration::from_secs(60), ..Bounds::default() };
        let log = Log::new(
            bounds,
            Clock::start(Ambient::new(|| 1_000_000, || 4), bounds.age),
            AppendCounters::default(),
        );
        log.stamped_until(950_000);
        log.begin(at(0));
        log.damaged(at(0), at(3));
        log.restored(&[entry(4, 950_000)]);
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_eq!(log.with_state(|state, _| (state.window.len(), state.window.floor())), (2, at(0)));
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(log.with_state(|state, _| (state.window.len(), state.window.floor())), (0, at(4)));
    }
}
