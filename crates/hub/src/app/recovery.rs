//! A hub that is not there yet: how far it has come in reading its log from the disk, or from brokers.
//!
//! Made by whoever opens the hub, before it does. `on_disk.rs` and `on_nats.rs` tell it how far they are; probes ask it
//! meanwhile, and `surface/starting.rs` answers everybody else with it. It knows nothing of what is in the log.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use galaxy_push_listener::{Check, Health};
use galaxy_push_proto::{Failure, Reason};
use galaxy_push_store::{Error, Refused};

/// How soon a peer that comes meanwhile may come again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Why a log was not opened, with everything that led to it.
pub(crate) fn not_opened(error: &dyn std::error::Error) -> Error {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    Refused::NotOpened(text).into()
}

/// How far a hub has come in reading its log. Cheap to clone: clones are the same one.
///
/// ```
/// use galaxy_push_hub::Recovery;
///
/// let recovery = Recovery::of(std::path::Path::new("data"));
/// let meanwhile = recovery.router(); // answers 503 and UNAVAILABLE: serve it until Hub::on_disk_telling returns
/// assert!(!recovery.health().checks()[0].ok);
/// # drop(meanwhile);
/// ```
#[derive(Clone, Debug, Default)]
pub struct Recovery(Arc<State>);

/// Written by the thread that reads, read by probes: relaxed, since nothing is ordered by it.
#[derive(Debug, Default)]
struct State {
    place: String,
    bytes: AtomicU64,
    bytes_total: AtomicU64,
}

impl Recovery {
    /// Of the log in this folder.
    #[must_use]
    pub fn of(folder: &Path) -> Self {
        Self::reading(folder.display().to_string())
    }

    /// Of a log that is read from elsewhere, as people call it.
    #[must_use]
    pub fn reading(place: String) -> Self {
        Self(Arc::new(State { place, ..State::default() }))
    }

    /// What the probes are told while there is no hub: that it is not ready, and how far it is.
    #[must_use]
    pub fn health(&self) -> Arc<dyn Health> {
        Arc::new(self.clone())
    }

    /// So many bytes of so many are read.
    pub(crate) fn set(&self, bytes: u64, bytes_total: u64) {
        self.0.bytes.store(bytes, Ordering::Relaxed);
        self.0.bytes_total.store(bytes_total, Ordering::Relaxed);
    }

    /// MiB read, and to be read.
    fn mebibytes(&self) -> (u64, u64) {
        let mebibytes = |bytes: &AtomicU64| bytes.load(Ordering::Relaxed) >> 20;
        (mebibytes(&self.0.bytes), mebibytes(&self.0.bytes_total))
    }

    /// The refusal of everything that comes meanwhile.
    pub(crate) fn failure(&self) -> Failure {
        let (read, all) = self.mebibytes();
        let message = format!("the hub starts and reads its log ({read} of {all} MiB): try again soon");
        Failure::new(Reason::StoreUnavailable, message).retry_after(RETRY_AFTER)
    }
}

impl Health for Recovery {
    fn checks(&self) -> Vec<Check> {
        let (read, all) = self.mebibytes();
        let detail = match self.0.place.as_str() {
            "" => "starting".to_owned(),
            place => format!("reading the log from {place}: {read} of {all} MiB"),
        };
        vec![Check { name: "hub", ok: false, needed: true, detail }]
    }
}
