//! Watches the history while it is written: which reader has which probe, and how often each connected.
//!
//! Probes are events for all, numbered; a reader that has one is live. Judges nothing: the checker does, at the end.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use galaxy_push_testkit::Recorder;
use galaxy_push_testkit::history::{Name, StreamId, What};
use tokio::time::{Instant, sleep};

/// How often the history is looked at while something is waited for.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// The ids of probes begin with this.
const PROBE: &str = "probe-";

/// What was seen so far.
#[derive(Debug)]
pub(super) struct Watch {
    recorder: Recorder,
    next: usize,
    streams: HashMap<StreamId, Name>,
    readers: BTreeMap<Name, Reader>,
}

/// One reader.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Reader {
    /// How many streams it asked for.
    pub(super) opened: u64,
    /// The last probe it was sent.
    pub(super) probe: u64,
}

/// The id of a probe.
pub(super) fn probe_id(number: u64) -> String {
    format!("{PROBE}{number}")
}

impl Watch {
    pub(super) fn new(recorder: Recorder) -> Self {
        Self { recorder, next: 0, streams: HashMap::new(), readers: BTreeMap::new() }
    }

    /// What was seen of a reader.
    pub(super) fn reader(&mut self, name: &str) -> Reader {
        self.look();
        self.readers.get(name).copied().unwrap_or_default()
    }

    /// How many streams these readers have asked for.
    pub(super) fn opened(&mut self, readers: &[Name]) -> u64 {
        readers.iter().map(|reader| self.reader(reader).opened).sum()
    }

    /// Waits until all of these readers have this probe; names those that have not.
    pub(super) async fn have(
        &mut self,
        readers: &[Name],
        probe: u64,
        within: Duration,
    ) -> Result<(), Vec<Name>> {
        let due = Instant::now() + within;
        loop {
            self.look();
            let lacks = |name: &&Name| self.readers.get(*name).is_none_or(|reader| reader.probe < probe);
            let behind: Vec<Name> = readers.iter().filter(lacks).cloned().collect();
            if behind.is_empty() {
                return Ok(());
            }
            if Instant::now() >= due {
                return Err(behind);
            }
            sleep(LOOK_EVERY).await;
        }
    }

    fn look(&mut self) {
        let records = self.recorder.since(self.next);
        self.next += records.len();
        for record in records {
            match record.what {
                What::Open(open) => {
                    self.readers.entry(open.reader.clone()).or_default().opened += 1;
                    self.streams.insert(open.stream, open.reader);
                }
                What::Event(event) => {
                    let number = event.id.strip_prefix(PROBE).and_then(|number| number.parse().ok());
                    let reader =
                        self.streams.get(&event.stream).and_then(|reader| self.readers.get_mut(reader));
                    if let (Some(number), Some(reader)) = (number, reader) {
                        reader.probe = reader.probe.max(number);
                    }
                }
                What::Close(close) => {
                    self.streams.remove(&close.stream);
                }
                _ => {}
            }
        }
    }
}
