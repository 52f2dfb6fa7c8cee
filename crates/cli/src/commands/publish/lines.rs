//! Where many events come from: lines of a file or stdin.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read};
use std::path::Path;

use anyhow::{Context as _, bail};
use galaxy_push_proto::v1;

/// A line longer than any event can be: 1 MiB of data in base64, and room for the rest.
const LINE_BYTES_MAX: u64 = 4 << 20;

/// As much as a pipe gives at once.
const READ_BYTES: usize = 64 << 10;

pub(super) struct Lines {
    input: BufReader<Box<dyn Read>>,
    /// More lines may be a long time coming: what is there is sent.
    live: bool,
    name: String,
    number: u64,
    bytes_read: u64,
    bytes_total: Option<u64>,
    /// A line that did not fit into the batch before.
    held: Option<(v1::Event, usize)>,
}

/// Events of consecutive lines.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) events: Vec<v1::Event>,
    /// The line of each event, counted from 1.
    pub(super) numbers: Vec<u64>,
    /// The first and the last line read for it; empty lines count.
    pub(super) first: u64,
    pub(super) last: u64,
}

/// Why there is no further batch.
pub(super) enum Stop {
    End,
    Bad(anyhow::Error),
}

impl Batch {
    fn push(&mut self, event: v1::Event, number: u64) {
        self.events.push(event);
        self.numbers.push(number);
    }
}

impl Lines {
    /// Opens a file, or stdin, behind its first `skip` lines.
    pub(super) fn open(file: Option<&Path>, skip: u64) -> anyhow::Result<Self> {
        let path = file.filter(|path| path.as_os_str() != "-");
        let (input, bytes_total): (Box<dyn Read>, _) = match path {
            Some(path) => {
                let file =
                    File::open(path).with_context(|| format!("cannot read --file {}", path.display()))?;
                let bytes = file.metadata().ok().map(|metadata| metadata.len());
                (Box::new(file), bytes)
            }
            None => (Box::new(std::io::stdin()), None),
        };
        let name = path.map_or_else(|| "stdin".to_owned(), |path| path.display().to_string());
        let input = BufReader::with_capacity(READ_BYTES, input);
        let live = path.is_none();
        let mut lines = Self { input, live, name, number: 0, bytes_read: 0, bytes_total, held: None };
        for _ in 0..skip {
            if lines.read_line()?.is_none() {
                bail!(
                    "the checkpoint is at line {skip}, but {} has fewer: it belongs to another file",
                    lines.name
                );
            }
        }
        Ok(lines)
    }

    /// What the input is called in messages.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) const fn bytes_total(&self) -> Option<u64> {
        self.bytes_total
    }

    pub(super) const fn bytes_read(&self) -> u64 {
        self.bytes_read
    }

    /// The next events, up to a count and a size, and why they are the last, if they are.
    pub(super) fn next_batch(&mut self, events_max: usize, bytes_max: usize) -> (Batch, Option<Stop>) {
        let mut batch = Batch { first: self.number + 1, last: self.number, ..Batch::default() };
        let mut size = 0;
        if let Some((event, length)) = self.held.take() {
            (batch.first, size) = (self.number, length);
            batch.push(event, self.number);
        }
        while batch.events.len() < events_max && (batch.events.is_empty() || !self.would_wait()) {
            let (event, length) = match self.next_event() {
                Ok(Some((event, length))) => (event, length),
                Ok(None) => {
                    batch.last = self.number;
                    return (batch, Some(Stop::End));
                }
                Err(error) => return (batch, Some(Stop::Bad(error))),
            };
            if size + length > bytes_max && !batch.events.is_empty() {
                batch.last = self.number - 1;
                self.held = Some((event, length));
                return (batch, None);
            }
            size += length;
            batch.last = self.number;
            batch.push(event, self.number);
        }
        (batch, None)
    }

    fn would_wait(&self) -> bool {
        self.live && !self.input.buffer().contains(&b'\n')
    }

    fn next_event(&mut self) -> anyhow::Result<Option<(v1::Event, usize)>> {
        while let Some(line) = self.read_line()? {
            let event = super::parse_line(&line, self.number, &self.name)?;
            if let Some(event) = event {
                return Ok(Some((event, line.len())));
            }
        }
        Ok(None)
    }

    fn read_line(&mut self) -> anyhow::Result<Option<Vec<u8>>> {
        let mut line = Vec::new();
        let mut limited = self.input.by_ref().take(LINE_BYTES_MAX);
        let read =
            limited.read_until(b'\n', &mut line).with_context(|| format!("cannot read {}", self.name))?;
        if read == 0 {
            return Ok(None);
        }
        self.number += 1;
        self.bytes_read += read as u64;
        if read as u64 == LINE_BYTES_MAX && !line.ends_with(b"\n") {
            bail!(
                "{}, line {}: longer than {LINE_BYTES_MAX} bytes, which no event can be",
                self.name,
                self.number
            );
        }
        Ok(Some(line))
    }
}
