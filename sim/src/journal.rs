//! What the handler of a `PushClient` is given, as the records of a history.
//!
//! Used by the simulated application and by the one that is run as a process of its own.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use galaxy_push_client::Item;
use galaxy_push_proto::v1;
use galaxy_push_testkit::Recorder;
use galaxy_push_testkit::history::{Close, Cursor, Handled, Hop, How, Name, Open, What};
use prost::Message as _;

use crate::frames::{self, StreamLog};
use crate::unknown::is_unknown;

/// Writes down what the handler is given: its items are the frames of a stream, and a `Welcome` begins another one.
#[derive(Debug)]
pub struct Journal {
    reader: Name,
    recorder: Recorder,
    clock: fn() -> u64,
    /// What the client presents that has no cursor yet.
    start: Cursor,
    stream: Option<StreamLog>,
    /// A stream has ended before the present one.
    continues: bool,
    /// When the last connection was begun: before anything on its stream was sent.
    dialed: Arc<AtomicU64>,
    /// What the handler was given and has not finished: it comes again, and is the same frames.
    open: VecDeque<Bytes>,
    /// The cursor of the last item that it finished; in the stream form that it was given.
    finished: String,
}

/// What to write down once an item is finished.
pub type Done = Option<(Recorder, What)>;

impl Journal {
    /// For a client of this name. `dialed` is kept by its connector: when it began its last connection, on `clock`.
    #[must_use]
    pub fn new(
        name: &str,
        recorder: Recorder,
        clock: fn() -> u64,
        dialed: Arc<AtomicU64>,
        start: Cursor,
    ) -> Self {
        let reader = Name::from(name);
        Self {
            reader,
            recorder,
            clock,
            start,
            stream: None,
            continues: false,
            dialed,
            open: VecDeque::new(),
            finished: String::new(),
        }
    }

    /// Writes down an item that is given to the handler; returns what to write down when the handler has finished it.
    ///
    /// # Errors
    ///
    /// When the item does not have the form of a frame.
    pub fn take(&mut self, item: &Item, fails: bool) -> anyhow::Result<Done> {
        self.offer(std::slice::from_ref(item))?;
        Ok(if fails { None } else { self.finish(item, How::Success, None) })
    }

    /// Writes down items that are offered to a handler, those that were offered before aside.
    ///
    /// # Errors
    ///
    /// As [`Journal::take`], and when what was offered before and is not finished does not come first.
    pub fn offer(&mut self, items: &[Item]) -> anyhow::Result<()> {
        let known = self.open.len().min(items.len());
        for (item, open) in items.iter().zip(&self.open) {
            ensure!(item.frame().framed() == open, "offered in place of one that is not finished: {item:?}");
        }
        for item in &items[known..] {
            self.receive(item)?;
            self.open.push_back(item.frame().framed().clone());
        }
        Ok(())
    }

    /// What to write down of the first item offered, now that it has its outcome.
    #[must_use]
    pub fn finish(&mut self, item: &Item, how: How, call: Option<u64>) -> Done {
        self.open.pop_front();
        if !item.cursor().is_empty() {
            item.cursor().clone_into(&mut self.finished);
        }
        self.outcome(item, how, call)
    }

    /// Writes down an item that is delivered for the first time in the stream form.
    ///
    /// # Errors
    ///
    /// As [`Journal::take`].
    pub fn deliver(&mut self, item: &Item) -> anyhow::Result<()> {
        self.receive(item)?;
        if !item.cursor().is_empty() {
            item.cursor().clone_into(&mut self.finished);
        }
        Ok(())
    }

    /// What to write down of an item that has its outcome.
    #[must_use]
    pub fn outcome(&self, item: &Item, how: How, call: Option<u64>) -> Done {
        match (item, frames::cursor(item.cursor())) {
            (Item::Event(_) | Item::Gap(_), Cursor::At(position)) => {
                let reader = self.reader.clone();
                Some((self.recorder.clone(), What::Handled(Handled { reader, position, how, call })))
            }
            _ => None,
        }
    }

    /// The handler is not called for so long at most.
    pub fn pause(&self, length: Duration) {
        if let Some(stream) = &self.stream {
            stream.pause(length, None);
        }
    }

    fn receive(&mut self, item: &Item) -> anyhow::Result<()> {
        let frame = v1::PushEvent::decode(item.frame().message())?;
        if let Item::Gap(gap) = item
            && gap.is_local()
        {
            return self.unreadable(&frame);
        }
        if is_unknown(&frame) {
            self.recorder.record((self.clock)(), What::UnknownFrame(self.reader.clone()));
            if matches!(frame.kind, Some(v1::push_event::Kind::Goodbye(_))) {
                self.end("a goodbye that nobody knows");
            }
            return Ok(());
        }
        if let Some(v1::push_event::Kind::Welcome(welcome)) = &frame.kind {
            self.begin(&frame.cursor, welcome.outcome());
        }
        self.stream.as_ref().context("a frame before any welcome")?.proto(&frame)?;
        Ok(())
    }

    /// The hub refused what was presented, and the client tells of it by itself: a stream that never began.
    fn unreadable(&self, gap: &v1::PushEvent) -> anyhow::Result<()> {
        let stream = StreamLog::new(&self.recorder, self.clock);
        stream.record(What::Open(self.open(&stream, Cursor::Garbage, false)));
        stream.proto(gap)?;
        stream.record(What::Close(Close { stream: stream.stream, code: "a cursor that is none".into() }));
        Ok(())
    }

    /// Nothing more comes on the present stream.
    fn end(&mut self, code: &str) {
        if let Some(stream) = self.stream.take() {
            stream.record(What::Close(Close { stream: stream.stream, code: code.into() }));
            self.continues = true;
        }
    }

    fn open(&self, stream: &StreamLog, presented: Cursor, continues: bool) -> Open {
        Open {
            stream: stream.stream,
            hop: Hop::Gateway,
            reader: self.reader.clone(),
            recipients: Vec::new(),
            presented,
            standing: false,
            collapses: false,
            at: None,
            continues,
            steady: false,
        }
    }

    /// The client does not show what it presents, but the hub echoes it, unless it was asked for none.
    fn begin(&mut self, echo: &str, outcome: v1::Outcome) {
        self.end("ended");
        let stream = StreamLog::new(&self.recorder, self.clock);
        let presented = match (outcome, self.finished.as_str()) {
            (v1::Outcome::Fresh, "") => self.start.clone(),
            (v1::Outcome::Fresh, finished) => frames::cursor(finished),
            _ => frames::cursor(echo),
        };
        self.recorder.record(
            self.dialed.load(Ordering::Relaxed),
            What::Open(self.open(&stream, presented, self.continues)),
        );
        self.stream = Some(stream);
    }
}
