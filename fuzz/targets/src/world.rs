//! What the targets with connections share: paused time, pipes in memory, and the way in which bytes are written.

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use galaxy_push_core::ambient::Ambient;
use galaxy_push_hub::{Config, Hub};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::time::{Instant, sleep, timeout};

/// The wall clock begins here, and follows the paused one.
pub(crate) const START_UNIX_MS: u64 = 1_700_000_000_000;

/// A connection whose peer has said everything ends within this time.
const ENDS_WITHIN: Duration = Duration::from_secs(3_600);

/// What a peer is sent on one connection, at most, in bytes: there is little to read.
const ANSWERED_MAX: usize = 16 << 20;

/// Runs on one thread, in paused time.
pub(crate) fn run<T>(future: impl Future<Output = T>) -> T {
    match tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build() {
        Ok(runtime) => runtime.block_on(future),
        Err(error) => panic!("no runtime: {error}"),
    }
}

/// The wall clock follows tokio's; randomness counts.
pub(crate) fn ambient() -> Ambient {
    let (origin, random) = (Instant::now(), AtomicU64::new(1));
    Ambient::new(
        move || START_UNIX_MS + origin.elapsed().as_millis() as u64,
        move || random.fetch_add(0x1_0001, Ordering::Relaxed),
    )
}

pub(crate) fn hub() -> Hub {
    match Hub::in_memory(Config::default(), ambient()) {
        Ok(hub) => hub,
        Err(error) => panic!("no hub: {error}"),
    }
}

/// Writes these bytes in pieces with a little time between them, says that there are no more, and reads until the other side has
/// ended too. Returns what was read.
pub(crate) async fn converse(pipe: DuplexStream, begin: &[u8], pieces: &[&[u8]], pause: Duration) -> Vec<u8> {
    let (mut reading, mut writing) = tokio::io::split(pipe);
    let mut answer = Vec::new();
    let write = async {
        if writing.write_all(begin).await.is_err() {
            return;
        }
        for piece in pieces {
            sleep(pause).await;
            if writing.write_all(piece).await.is_err() {
                return; // it has ended already
            }
        }
        sleep(pause).await;
        let _ = writing.shutdown().await;
    };
    let read = async {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = reading.read(&mut buffer).await {
            answer.extend_from_slice(&buffer[..count]);
            assert!(answer.len() <= ANSWERED_MAX, "an answer without end");
        }
    };
    let both = async { tokio::join!(write, read) };
    assert!(timeout(ENDS_WITHIN, both).await.is_ok(), "the connection does not end");
    answer
}
