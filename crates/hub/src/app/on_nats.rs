//! A hub over a log that several hubs share, on NATS JetStream: opens it, and logs what happens to it.
//!
//! Called by [`Hub::on_nats`](crate::Hub::on_nats). How the log is kept on the brokers is the store's business. Each kind of
//! trouble is logged the first, second, fourth time and so on, with how many lines were left out before.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use galaxy_push_listener::LogLimiter;
use galaxy_push_store::jetstream::{Notice, OnDeath, OnNotice, OnProgress, Options};
use galaxy_push_store::{Maker, NatsStore, Store as _};
use tokio::runtime::Handle;
use tokio::time::Instant;

use crate::app::config::Config;
use crate::app::recovery::Recovery;
use crate::app::recovery::not_opened;

/// The longest silence of the log about the progress, and the shortest.
const TOLD_EVERY: Duration = Duration::from_secs(1);

/// Opens the log that these brokers have. The maker blocks its thread.
pub(crate) fn maker(config: &Config, mut options: Options, on_death: OnDeath, recovery: Recovery) -> Maker {
    options.window = config.window;
    options.event_bytes_max = config.event_bytes_max;
    options.records_max = config.standing_records_max;
    options.on_death = Some(on_death);
    options.on_notice = Some(saying());
    options.on_progress = Some(telling(recovery));
    Box::new(move |sink| {
        let begun = Instant::now();
        let opened = Handle::current().block_on(NatsStore::open(options, sink));
        let store = opened.map_err(|error| not_opened(&error))?;
        say(&store, begun);
        Ok(Arc::new(store))
    })
}

/// Passes the progress on, and says it in the log once a second.
fn telling(recovery: Recovery) -> OnProgress {
    let told = Mutex::new(Instant::now());
    Arc::new(move |bytes, bytes_total| {
        recovery.set(bytes, bytes_total);
        let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.elapsed() >= TOLD_EVERY {
            *told = Instant::now();
            let percent = bytes.saturating_mul(100) / bytes_total.max(1);
            tracing::info!(bytes, bytes_total, percent, "still reading the log from the brokers");
        }
    })
}

/// Logs how long reading took and what an acknowledgement means on these brokers; warns where that may be lost with one
/// machine.
fn say(store: &NatsStore, begun: Instant) {
    let meaning = store.meaning();
    let (stream, broker, acknowledged) = (store.stream(), &meaning.version, store.ack_meaning());
    tracing::info!(
        stream,
        broker,
        took_ms = begun.elapsed().as_millis() as u64,
        acknowledged,
        "the log was read from the brokers"
    );
    if !meaning.outlives_a_machine() || !meaning.is_synced() {
        tracing::warn!(
            stream,
            acknowledged,
            "what is acknowledged may be lost with a machine: three replicas, and sync_interval: always in the configuration of \
             every broker, keep it (docs/operations.md)"
        );
    }
}

/// Says what happens to the log, each kind of trouble not more often than it helps.
fn saying() -> OnNotice {
    let limiter = LogLimiter::default();
    Arc::new(move |notice| match notice {
        Notice::Connected => tracing::info!("connected to a broker"),
        Notice::Disconnected => {
            tracing::warn!("the connection to the broker is lost: another one is looked for")
        }
        Notice::Trouble(what) => {
            if let Some(left_out) = limiter.count("trouble") {
                tracing::warn!(what, left_out, "trouble with the brokers");
            }
        }
        Notice::ReadAnew { behind, why } => {
            if let Some(left_out) = limiter.count("read anew") {
                tracing::info!(behind, why, left_out, "reading the stream has begun anew");
            }
        }
        Notice::Skipped { message, why } => {
            if let Some(left_out) = limiter.count("skipped") {
                tracing::warn!(
                    message,
                    why,
                    left_out,
                    "a message of the stream is skipped, by every hub alike"
                );
            }
        }
        Notice::Unasked { subject } => {
            if let Some(left_out) = limiter.count("unasked") {
                tracing::warn!(
                    subject,
                    left_out,
                    "this hub cannot ask others whether a gateway there is alive: let its user publish and subscribe on this subject; \
                     until then a duel over hubs may not be ended (docs/operations.md)"
                );
            }
        }
        Notice::Lost { upto } => {
            if let Some(left_out) = limiter.count("lost") {
                tracing::error!(%upto, left_out, "messages of the stream are lost: readers are told a gap");
            }
        }
        Notice::Stale => tracing::error!(
            "no broker that leads the stream answers, or it has no majority: publishes are refused, and readers go on with what \
             there is"
        ),
        Notice::Fresh => tracing::info!("the stream has a leader again: publishes are taken"),
        other => tracing::info!(?other, "the brokers"),
    })
}
