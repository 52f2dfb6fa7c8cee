//! Where a harness writes its history while it runs.
//!
//! Shared by every part of a harness; a clone per process. Time is given by the caller. It judges nothing.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{CallId, Name, Record, StreamId, What};

/// A cap for ordinary runs: about 200 MiB of records.
pub const DEFAULT_CAP: usize = 1_000_000;

/// A cheap handle to a growing history.
///
/// Memory is bounded by the cap given to [`Recorder::new`], at about 200 bytes a record. A history that would grow
/// beyond it is useless (what is missing looks like loss), so [`Recorder::finish`] then fails.
#[derive(Clone, Debug)]
pub struct Recorder {
    shared: Arc<Mutex<Shared>>,
    process: Name,
}

/// More was observed than the recorder holds.
#[derive(Debug, thiserror::Error)]
#[error("the history is full: {refused} records beyond the cap of {cap}; raise the cap or shorten the run")]
pub struct Full {
    cap: usize,
    refused: usize,
}

#[derive(Debug)]
struct Shared {
    records: Vec<Record>,
    cap: usize,
    refused: usize,
    next_stream: StreamId,
    next_call: CallId,
}

impl Recorder {
    /// An empty history of at most `cap` records, observed by a process named `world`.
    #[must_use]
    pub fn new(cap: usize) -> Self {
        let shared = Shared { records: Vec::new(), cap, refused: 0, next_stream: 1, next_call: 1 };
        Self { shared: Arc::new(Mutex::new(shared)), process: "world".into() }
    }

    /// Stream and call numbers from `first` on, for a history that several recorders write into one directory.
    #[must_use]
    pub fn numbered_from(self, first: u64) -> Self {
        {
            let mut shared = self.lock();
            shared.next_stream = first;
            shared.next_call = first;
        }
        self
    }

    /// A handle to the same history that records as another process.
    #[must_use]
    pub fn process(&self, name: impl Into<Name>) -> Self {
        Self { shared: Arc::clone(&self.shared), process: name.into() }
    }

    /// The process this handle records as.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.process
    }

    /// Writes down what was observed at `at_us`, in microseconds of the harness's clock.
    pub fn record(&self, at_us: u64, what: What) {
        let mut shared = self.lock();
        if shared.records.len() >= shared.cap {
            shared.refused += 1;
            return;
        }
        let process = Arc::clone(&self.process);
        shared.records.push(Record { at_us, process, what });
    }

    /// A stream number that no other stream of this history has.
    #[must_use]
    pub fn next_stream(&self) -> StreamId {
        let mut shared = self.lock();
        shared.next_stream += 1;
        shared.next_stream - 1
    }

    /// A call number that no other publish call of this history has.
    #[must_use]
    pub fn next_call(&self) -> CallId {
        let mut shared = self.lock();
        shared.next_call += 1;
        shared.next_call - 1
    }

    /// Copies what was recorded from record `from` on, counted from 0: for a harness that waits until something is seen.
    #[must_use]
    pub fn since(&self, from: usize) -> Vec<Record> {
        self.lock().records.get(from..).unwrap_or_default().to_vec()
    }

    /// Takes the history out; what is recorded later starts an empty one.
    ///
    /// # Errors
    ///
    /// When more was observed than the cap allows. The records are gone then: a history with holes proves nothing.
    pub fn finish(&self) -> Result<Vec<Record>, Full> {
        let mut shared = self.lock();
        let records = std::mem::take(&mut shared.records);
        match std::mem::take(&mut shared.refused) {
            0 => Ok(records),
            refused => Err(Full { cap: shared.cap, refused }),
        }
    }

    /// A panic elsewhere while recording cannot leave a record half written, so the history stays good.
    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
