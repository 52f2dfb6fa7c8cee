//! Streams whose last piece nobody has taken: HTTP asks for the next one only when it can send, and over HTTP/2 a peer
//! that gives no window, but answers pings, never lets it ask again.
//!
//! A stream that waits for events is not here, it is being polled; so there are few. One that stays too long is given up,
//! and one that has to end while it is here: what it held of the gateway goes, and with it the seat in the routes and its
//! hold on a drain. What is left is a goodbye, for whoever asks for it after all, unless it would stand in the middle of a
//! block. A piece that waits because the connection's socket is full is not the stream's fault: of that the listener
//! judges.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use galaxy_push_listener::AbandonedResponse;
use tokio::time::{Instant, sleep};

use super::Open;
use crate::connection::Ending;
use crate::gateway::Shared;
use crate::sync::{Mutex, MutexGuard};

/// How often it is looked for streams to give up, at most and at least.
const TICK: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// The streams of one gateway, by their connections' numbers.
#[derive(Debug, Default)]
pub(crate) struct Unread(Mutex<BTreeMap<u64, Waiting>>);

struct Waiting {
    since: Instant,
    stream: Left,
}

/// What there is of a stream.
pub(super) enum Left {
    /// All of it.
    Open(Box<Open>),
    /// Its last piece: it was given up, which its connection is told.
    Goodbye { goodbye: Bytes, _told: Option<AbandonedResponse> },
}

impl Unread {
    /// The last piece was handed out, or the stream is new.
    pub(super) fn put(&self, stream: Box<Open>) {
        let id = stream.connection.id();
        self.lock().insert(id, Waiting { since: Instant::now(), stream: Left::Open(stream) });
    }

    /// The next piece is asked for.
    pub(super) fn take(&self, id: u64) -> Option<Left> {
        let Waiting { since, mut stream } = self.lock().remove(&id)?;
        if let Left::Open(open) = &mut stream {
            open.carrier.sizes.taken_after(since.elapsed());
        }
        Some(stream)
    }

    /// Gives up those that are to be given up.
    pub(crate) fn look(&self, stall: Duration) {
        let given_up = self.give_up(stall);
        if given_up > 0 {
            tracing::info!(streams = given_up, "users took nothing for too long: their streams are given up");
        }
    }

    /// Lets go of those whose peer has given no room for longer than `stall`, and of those that have to end; how many the
    /// former were.
    fn give_up(&self, stall: Duration) -> usize {
        let now = Instant::now();
        let (mut given_up, mut slow) = (Vec::new(), 0);
        for waiting in self.lock().values_mut() {
            let Left::Open(stream) = &mut waiting.stream else { continue };
            if stream.carrier.outflow.is_blocked() {
                waiting.since = now;
            }
            let ending = if now.saturating_duration_since(waiting.since) > stall {
                slow += 1;
                Some(Ending::Slow)
            } else {
                stream.has_to_end()
            };
            let Some(ending) = ending else { continue };
            let left = stream.give_up(&ending);
            given_up.push(std::mem::replace(&mut waiting.stream, left));
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

/// Gives up unread streams for as long as the gateway lives.
pub(crate) async fn watch(shared: Weak<Shared>) {
    loop {
        let Some(gateway) = shared.upgrade() else { return };
        let stall = gateway.config.write_stall;
        gateway.unread.look(stall);
        drop(gateway);
        sleep((stall / 4).clamp(TICK.0, TICK.1)).await;
    }
}

/// Starts [`watch`].
pub(crate) fn start(shared: &Arc<Shared>) {
    tokio::spawn(watch(Arc::downgrade(shared)));
}

impl std::fmt::Debug for Waiting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Waiting").field("since", &self.since).finish_non_exhaustive()
    }
}
