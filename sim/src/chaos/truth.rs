//! The log as it must be, from what the hub acknowledged: its own word, and never what a reader received.
//!
//! A hub that is killed takes its log with it, and with it the place of what it appended and had not acknowledged. So the
//! history says how far the log of each life is known whole: up to the first place that no acknowledgement names.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use galaxy_push_client::Published;
use galaxy_push_proto::v1;
use galaxy_push_testkit::Recorder;
use galaxy_push_testkit::history::{LogKnown, LogLine, Name, What};

use crate::publisher::{hash, position};
use crate::real::clock_us;

/// What is known of the log.
#[derive(Debug)]
pub(super) struct Truth {
    recorder: Recorder,
    places: Mutex<BTreeMap<Name, BTreeSet<u64>>>,
}

/// How much of the log is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Known {
    /// How many lives the log had.
    pub(super) epochs: usize,
    /// How many places were acknowledged.
    pub(super) places: u64,
    /// How many places before an acknowledged one nobody acknowledged: lost with a hub that was killed.
    pub(super) unknown: u64,
}

impl Truth {
    pub(super) fn new(recorder: Recorder) -> Self {
        Self { recorder, places: Mutex::default() }
    }

    /// Writes down where these events lie. A place that was told before is not told again.
    pub(super) fn acknowledged(&self, events: &[v1::Event], published: &[Published]) {
        for (event, published) in events.iter().zip(published) {
            let Some(position) = position(&published.cursor) else { continue };
            let is_new = {
                let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
                places.entry(position.epoch.clone()).or_default().insert(position.seq)
            };
            if !is_new {
                continue;
            }
            self.recorder.record(clock_us(), What::Head(position.clone()));
            let line = LogLine {
                position,
                source: event.source.as_str().into(),
                id: event.id.as_str().into(),
                to: event.to.iter().map(|to| Name::from(to.as_str())).collect(),
                hash: hash(event),
                standing: false,
                collapse_key: None,
                expires_at_us: None,
                appended_us: None,
                bytes: 0,
            };
            self.recorder.record(clock_us(), What::Log(line));
        }
    }

    /// Writes down how far each life of the log is known.
    pub(super) fn conclude(&self) -> Known {
        let places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let mut known = Known { epochs: places.len(), places: 0, unknown: 0 };
        for (epoch, places) in places.iter() {
            let whole = (1..).zip(places).take_while(|(expected, place)| *expected == **place).count() as u64;
            let last = places.last().copied().unwrap_or_default();
            known.places += places.len() as u64;
            // Its positions have holes, and it outlives its hubs: what was published until it was answered is all there is.
            let has_holes = epoch.starts_with("pack");
            known.unknown += if has_holes { 0 } else { last - places.len() as u64 };
            let epoch = epoch.clone();
            let through = Some(if has_holes { last } else { whole });
            self.recorder.record(clock_us(), What::LogKnown(LogKnown { epoch, after: 0, through }));
        }
        known
    }
}
