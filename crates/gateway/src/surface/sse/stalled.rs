//! Streams whose last piece nobody has taken yet, and the end of those that stall.
//!
//! HTTP asks for the next piece only when it can send. Over HTTP/2 a peer that gives no window, but answers pings, never
//! lets it ask again. A stream that waits for events is not here, it is being polled; so there are few.
//!
//! One that stays here too long is given up, and so is one that has to close while it is here: what it held of the gateway
//! goes, and with it its registration in the routes and its hold on a drain. What is kept is a goodbye, for whoever asks
//! for it after all, unless it would stand in the middle of a block. A piece that waits because the connection's socket is
//! full is not the stream's fault: of that the listener judges.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, Weak};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::open::{Kept, OpenStream};
use crate::state::close::CloseReason;
use crate::state::sync::{Mutex, MutexGuard};

/// How often the streams are looked at, at most and at least.
const TICK: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// The streams of one gateway, by their connections' numbers. At most one for each connection.
#[derive(Debug, Default)]
pub(crate) struct StalledStreams(Mutex<BTreeMap<u64, Waiting>>);

struct Waiting {
    /// When the last piece was handed to HTTP.
    since: Instant,
    stream: Kept,
}

impl StalledStreams {
    /// Also starts the task that ends streams whose peers take nothing for `stall`. It ends with the last reference.
    pub(crate) fn start(stall: Duration) -> Arc<Self> {
        let streams = Arc::new(Self::default());
        tokio::spawn(watch(Arc::downgrade(&streams), stall));
        streams
    }

    /// The stream's last piece was handed to HTTP, or the stream is new.
    pub(super) fn insert(&self, stream: Box<OpenStream>) {
        let waiting = |stream| Waiting { since: Instant::now(), stream: Kept::Open(stream) };
        self.lock().insert(stream.id(), waiting(stream));
    }

    /// HTTP asks for the next piece.
    pub(super) fn remove(&self, id: u64) -> Option<Kept> {
        let Waiting { since, mut stream } = self.lock().remove(&id)?;
        if let Kept::Open(open) = &mut stream {
            open.asked_after(since.elapsed());
        }
        Some(stream)
    }

    /// Ends the streams whose peers have taken nothing for longer than `stall`, and those that have to close.
    pub(crate) fn end_stalled(&self, stall: Duration) {
        let given_up = self.give_up(stall);
        if given_up > 0 {
            tracing::info!(streams = given_up, "users took nothing for too long: their streams are given up");
        }
    }

    /// As [`StalledStreams::end_stalled`]; how many had stalled.
    fn give_up(&self, stall: Duration) -> usize {
        let now = Instant::now();
        let (mut given_up, mut slow) = (Vec::new(), 0);
        for waiting in self.lock().values_mut() {
            let Kept::Open(stream) = &mut waiting.stream else { continue };
            if stream.is_blocked() {
                waiting.since = now;
            }
            let reason = if now.saturating_duration_since(waiting.since) > stall {
                slow += 1;
                Some(CloseReason::TooSlow)
            } else {
                stream.must_close()
            };
            let Some(reason) = reason else { continue };
            let kept = stream.give_up(&reason);
            given_up.push(std::mem::replace(&mut waiting.stream, kept));
        }
        slow // and they are dropped, without the lock
    }

    #[cfg(all(test, shuttle))]
    pub(super) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Waiting>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends stalled streams for as long as the gateway lives.
async fn watch(streams: Weak<StalledStreams>, stall: Duration) {
    loop {
        let Some(streams) = streams.upgrade() else { return };
        streams.end_stalled(stall);
        drop(streams);
        sleep((stall / 4).clamp(TICK.0, TICK.1)).await;
    }
}

impl std::fmt::Debug for Waiting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Waiting").field("since", &self.since).finish_non_exhaustive()
    }
}
