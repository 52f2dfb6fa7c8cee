//! An application around `PushClient`. Its handler fails and dawdles now and then; its process is killed and started
//! again, and then goes on from the cursor that its client last showed.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use galaxy_push_client::{HandlerError, Item, PushClient};
use galaxy_push_testkit::Recorder;
use galaxy_push_testkit::history::{Cursor, What};
use tokio::time::sleep;

use crate::journal::Journal;
use crate::net;
use crate::rng::{Rng, now_us};

/// What outlives the process: the cursor it stored.
pub type Disk = Arc<Mutex<String>>;

/// A client calls a handler again within this time, if that did not fail several times.
const AGAIN_WITHIN: Duration = Duration::from_secs(1);

/// Runs until it is killed.
///
/// # Errors
///
/// When the client cannot be built.
pub async fn run(
    name: String,
    hubs: &'static [&'static str],
    leave_log_after: Duration,
    disk: Disk,
    recorder: Recorder,
    mut rng: Rng,
) -> anyhow::Result<()> {
    recorder.record(now_us(), What::Start);
    let mut stored = disk.lock().unwrap_or_else(PoisonError::into_inner).clone();
    if !stored.is_empty() && rng.percent(20) {
        stored.insert_str(0, "damaged "); // the disk has lost it
    }
    let dialed = Arc::new(AtomicU64::new(0));
    let mut jitter = Rng::new(rng.draw(), "jitter");
    let dialing = dialed.clone();
    let mut journal = Journal::new(&name, recorder, now_us, dialed, Cursor::Oldest);
    let handler = move |item: Item| {
        // Now and then, or it would be slower than what is published, and never reach the head.
        let (fails, dawdles) = (rng.percent(2), rng.percent(15));
        let pause = rng.between(Duration::from_millis(1), Duration::from_millis(20));
        let done = journal.take(&item, fails);
        if fails {
            journal.pause(AGAIN_WITHIN);
        }
        async move {
            if dawdles {
                sleep(pause).await;
            }
            if fails {
                return Err(HandlerError::msg("not today"));
            }
            let done = done.map_err(|error| HandlerError::msg(format!("{error:#}")))?;
            done.into_iter().for_each(|(recorder, what)| recorder.record(now_us(), what));
            Ok(())
        }
    };
    let client = PushClient::builder(name)
        .hub(&net::urls(hubs))
        .leave_log_after(leave_log_after)
        .cursor(if stored.is_empty() { "oldest" } else { &stored })
        .connector(move |host, port| {
            dialing.store(now_us(), Ordering::Relaxed);
            net::connect(host, port)
        })
        .random(move || jitter.draw())
        .start(handler)?;
    let mut status = client.status();
    while status.changed().await.is_ok() {
        disk.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&status.borrow_and_update().cursor);
    }
    Ok(())
}
