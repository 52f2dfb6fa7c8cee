//! What a reader saw, from a frame as it came over the wire into the history.
//!
//! SSE, WebSocket and gRPC readers all come through here, so that they are judged by the same words. Nothing is read with
//! the product's own code for cursors, frames or JSON: protobuf by the generated types, JSON by the names of the
//! contract (`forms`). A fault of the product's own encoding therefore shows as another payload.

mod forms;
mod prints;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use galaxy_push_proto::v1;
use galaxy_push_testkit::Recorder;
use galaxy_push_testkit::history::{Cursor, Pause, Position, StreamId, What};

pub use prints::{
    event as event_hash, explicit, invalidation as invalidation_hash, membership as membership_hash,
};

/// One stream as its reader writes it down.
#[derive(Clone, Debug)]
pub struct StreamLog {
    recorder: Recorder,
    /// The stream's number in the history.
    pub stream: StreamId,
    clock: fn() -> u64,
}

/// A frame as it was written down.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Its cursor.
    pub cursor: String,
    /// What it is.
    pub what: What,
}

impl StreamLog {
    /// A new stream of this history, on a clock in microseconds.
    #[must_use]
    pub fn new(recorder: &Recorder, clock: fn() -> u64) -> Self {
        Self { recorder: recorder.clone(), stream: recorder.next_stream(), clock }
    }

    /// Writes something down now.
    pub fn record(&self, what: What) {
        self.recorder.record((self.clock)(), what);
    }

    /// Writes down that the reader does not read for so long, and how much can be on its way to it meanwhile.
    pub fn pause(&self, length: Duration, ahead_bytes: Option<u64>) {
        let until_us = (self.clock)() + length.as_micros() as u64;
        self.record(What::Pause(Pause { stream: self.stream, until_us, ahead_bytes }));
    }

    /// Writes a frame in protobuf down.
    ///
    /// # Errors
    ///
    /// When it is no frame of the contract: that is a broken promise of its own.
    pub fn proto(&self, frame: &v1::PushEvent) -> anyhow::Result<Seen> {
        let what = forms::of_proto(self.stream, frame).with_context(|| format!("not a frame: {frame:?}"))?;
        self.record(what.clone());
        Ok(Seen { cursor: frame.cursor.clone(), what })
    }

    /// Writes a frame in its JSON form down.
    ///
    /// # Errors
    ///
    /// As [`StreamLog::proto`].
    pub fn json(&self, text: &str) -> anyhow::Result<Seen> {
        let (cursor, kind, body) = forms::split(text).with_context(|| format!("not a frame: {text}"))?;
        self.json_part(&cursor, &kind, body)
    }

    /// Writes a frame down that came in pieces: its cursor, its kind, and the JSON of the kind.
    ///
    /// # Errors
    ///
    /// As [`StreamLog::proto`].
    pub fn json_part(&self, cursor: &str, kind: &str, body: &str) -> anyhow::Result<Seen> {
        let what = forms::of_json(self.stream, cursor, kind, body);
        let what = what.with_context(|| format!("not a frame: {cursor:?} {kind} {body}"))?;
        self.record(what.clone());
        Ok(Seen { cursor: cursor.to_owned(), what })
    }
}

/// What a cursor text says. Reads `2.<epoch>.<letter><seq>` by hand.
#[must_use]
pub fn cursor(text: &str) -> Cursor {
    match text {
        "" => Cursor::Empty,
        "oldest" => Cursor::Oldest,
        _ => match position(text) {
            Ok(position) => Cursor::At(position),
            Err(_) if text.starts_with(|first: char| first.is_ascii_digit()) => Cursor::Foreign,
            Err(_) => Cursor::Garbage,
        },
    }
}

fn position(text: &str) -> anyhow::Result<Position> {
    let mut parts = text.split('.');
    let (Some("2"), Some(epoch), Some(seq), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        bail!("{text:?} is not a position");
    };
    // Before the number stands a letter for how many digits it has: `a` for one, `t` for twenty.
    let digits = seq.get(1..).unwrap_or_default();
    let letter = seq.bytes().next().map(|letter| usize::from(letter.wrapping_sub(b'a')) + 1);
    if letter != Some(digits.len()) {
        bail!("{text:?} does not count its digits");
    }
    Ok(Position { epoch: Arc::from(epoch), seq: digits.parse()? })
}
