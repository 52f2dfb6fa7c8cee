//! An application around `PushClient`, in one of its forms: items one by one, batches, or a stream of deliveries that are
//! acked in any order. It fails and dawdles now and then, gives items up where its retries are limited, and its process
//! is killed and started again; what it then goes on from is what its cursor store holds.

mod forms;
mod store;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use galaxy_push_client::{Builder, PushClient, RetryPolicy, Status};
use galaxy_push_testkit::Recorder;
use galaxy_push_testkit::history::{Cursor, Form, Handler, What};
use tokio::sync::watch;

use crate::journal::Journal;
use crate::net;
use crate::processes::note_unknown;
use crate::rng::{Rng, now_us};
use crate::scenario::Handlers;

use forms::{Batches, Desk};
use store::SimulatedStore;

pub use store::Disk;

/// What an event in flight costs at least: its frame, and what the client reckons beside it.
const IN_FLIGHT_LEAST: usize = 128 + 60;

/// How an application behaves.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Its gateway id, and its name in the history.
    pub name: String,
    /// The hubs it may connect to.
    pub hubs: &'static [&'static str],
    /// How long it stays with its log while no door to it answers.
    pub leave_log_after: Duration,
    /// Its disk behaves from here on, unless its outage lasts, and it fails seldom.
    pub calm_from: Duration,
    /// Its form, and what befalls its store.
    pub handlers: Handlers,
}

/// Runs until it is killed.
///
/// # Errors
///
/// When the client cannot be built.
pub async fn run(plan: Plan, disk: Disk, recorder: Recorder, mut rng: Rng) -> anyhow::Result<()> {
    recorder.record(now_us(), What::Start);
    let handlers = plan.handlers;
    let (reader, repeats) = (plan.name.as_str().into(), repeats(&handlers));
    recorder.record(now_us(), What::Handler(Handler { reader, form: handlers.form, repeats }));
    let dialed = Arc::new(AtomicU64::new(0));
    let journal = Journal::new(&plan.name, recorder.clone(), now_us, dialed.clone(), Cursor::Oldest);
    let rng_of_store = Rng::new(rng.draw(), "store");
    let store = SimulatedStore::new(handlers.store, plan.calm_from, disk, recorder.clone(), rng_of_store);
    let builder = client(&plan, dialed, Rng::new(rng.draw(), "jitter")).cursor_store(store);
    let desk = Arc::new(Mutex::new(Desk::new(handlers, plan.calm_from, journal, rng)));
    let builder = match handlers.retries {
        Some(retries) => {
            builder.retry(RetryPolicy::times(retries)).dead_letter(forms::dead_letter(desk.clone()))
        }
        None => builder,
    };
    match handlers.form {
        Form::Items => {
            let client = builder.start(forms::one_by_one(desk))?;
            watch(client.status(), &recorder).await;
        }
        Form::Batches => {
            let client = builder.start_batches(Batches::new(desk))?;
            watch(client.status(), &recorder).await;
        }
        Form::Stream => {
            let stream = builder.stream()?;
            let status = stream.client().status();
            tokio::join!(watch(status, &recorder), forms::acks(stream, desk));
        }
    }
    Ok(())
}

fn client(plan: &Plan, dialed: Arc<AtomicU64>, mut jitter: Rng) -> Builder {
    PushClient::builder(&*plan.name)
        .hub(&net::urls(plan.hubs))
        .leave_log_after(plan.leave_log_after)
        .cursor("oldest")
        .save_every(plan.handlers.save_every, Duration::from_secs(1))
        .in_flight_bytes(plan.handlers.in_flight_bytes)
        .connector(move |host, port| {
            dialed.store(now_us(), Ordering::Relaxed);
            net::connect(host, port)
        })
        .random(move || jitter.draw())
}

/// D: so many calls a crash repeats at most. In the stream form what was in flight, and beside it what left it together and
/// was being stored.
fn repeats(handlers: &Handlers) -> u64 {
    let calls = u64::from(handlers.save_every);
    match handlers.form {
        Form::Items | Form::Batches => calls,
        Form::Stream => calls + 2 * (handlers.in_flight_bytes / IN_FLIGHT_LEAST + 1) as u64,
    }
}

/// Until the client has stopped, which it never does by itself.
async fn watch(mut status: watch::Receiver<Status>, recorder: &Recorder) {
    let mut unknown = 0;
    while status.changed().await.is_ok() {
        note_unknown(&status.borrow_and_update(), &mut unknown, recorder);
    }
}
