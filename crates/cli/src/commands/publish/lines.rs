//! Where many events come from: lines of a file or stdin.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read};
use std::path::Path;

use anyhow::{Context as _, bail};
use galaxy_push_proto::v1;

use super::checkpoint::{Checkpoint, Mark, Position};
use crate::Usage;

/// A line longer than any event can be: 1 MiB of data in base64, and room for the rest.
const LINE_BYTES_MAX: u64 = 4 << 20;

/// As much as a pipe gives at once.
const READ_BYTES: usize = 64 << 10;

/// Why what is no file has no checkpoint.
const ONCE_ONLY: &str = "what was read of it once cannot be read and compared again. Without --checkpoint a repetition \
                         within two minutes is recognised by the events' ids";

pub(super) struct Lines {
    input: BufReader<Box<dyn Read + Send>>,
    /// More lines may be a long time coming: what is there is sent.
    live: bool,
    name: String,
    /// Behind the last line that was read.
    position: Position,
    bytes_total: Option<u64>,
    /// A line that did not fit into the batch before.
    held: Option<Line>,
}

/// A line that is an event.
struct Line {
    event: v1::Event,
    length: usize,
    /// Behind it.
    position: Position,
}

/// Events of consecutive lines.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) events: Vec<v1::Event>,
    /// Where each event's line ends.
    pub(super) ends: Vec<Position>,
    /// The number of the first line read for it, from 1; empty lines count.
    pub(super) first: u64,
    /// Behind the last line read for it.
    pub(super) last: Position,
}

/// Why there is no further batch.
pub(super) enum Stop {
    End,
    Bad(anyhow::Error),
}

impl Batch {
    fn push(&mut self, line: Line) {
        self.events.push(line.event);
        self.ends.push(line.position.clone());
        self.last = line.position;
    }
}

impl Lines {
    /// Opens a file, or stdin, behind what was acknowledged of it.
    pub(super) fn open(file: Option<&Path>, checkpoint: Option<&Checkpoint>) -> anyhow::Result<Self> {
        let path = file.filter(|path| path.as_os_str() != "-");
        let (input, bytes_total): (Box<dyn Read + Send>, _) = match path {
            Some(path) => {
                let file =
                    File::open(path).with_context(|| format!("cannot read --file {}", path.display()))?;
                let metadata = file.metadata().ok();
                if checkpoint.is_some() && metadata.as_ref().is_none_or(|metadata| !metadata.is_file()) {
                    bail!(Usage(format!(
                        "--checkpoint is for files, and {} is none: {ONCE_ONLY}",
                        path.display()
                    )));
                }
                (Box::new(file), metadata.map(|metadata| metadata.len()))
            }
            None if checkpoint.is_some() => {
                bail!(Usage(format!("--checkpoint is for files, and --file - is stdin: {ONCE_ONLY}")))
            }
            None => (Box::new(std::io::stdin()), None),
        };
        let name = path.map_or_else(|| "stdin".to_owned(), |path| path.display().to_string());
        let input = BufReader::with_capacity(READ_BYTES, input);
        let live = path.is_none();
        let mut lines = Self { input, live, name, position: Position::default(), bytes_total, held: None };
        if let Some(checkpoint) = checkpoint {
            lines.skip(checkpoint)?;
        }
        Ok(lines)
    }

    /// Passes over what was acknowledged, if it is what the checkpoint was written for.
    fn skip(&mut self, checkpoint: &Checkpoint) -> anyhow::Result<()> {
        let mark: &Mark = checkpoint.mark();
        let (mut left, mut last) = (mark.bytes, b'\n');
        while left > 0 {
            let buffer = self.input.fill_buf().with_context(|| format!("cannot read {}", self.name))?;
            let length = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let Some(end) = buffer[..length].last() else { break };
            last = *end;
            self.position.pass(&buffer[..length]);
            self.input.consume(length);
            left -= length as u64;
        }
        self.position.lines = mark.lines;
        if self.position.mark() != *mark {
            bail!(
                "--checkpoint {} is of another file: {} does not begin with the {} bytes that were acknowledged. Name \
                 the file that it belongs to, or another checkpoint, or delete this one to publish everything",
                checkpoint.path(),
                self.name,
                mark.bytes
            );
        }
        if last != b'\n' {
            // The last line had no end yet, and may have got one since.
            self.position.lines = mark.lines.saturating_sub(1);
            match self.input.fill_buf().with_context(|| format!("cannot read {}", self.name))? {
                [] | [b'\n' | b'\r', ..] => {}
                _ => bail!(
                    "{}: line {} was acknowledged, and has grown since: what belongs to it cannot be told. End it, and \
                     delete --checkpoint {} to publish everything",
                    self.name,
                    mark.lines,
                    checkpoint.path()
                ),
            }
        }
        Ok(())
    }

    /// What the input is called in messages.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) const fn bytes_total(&self) -> Option<u64> {
        self.bytes_total
    }

    /// The next events, up to a count and a size, and why they are the last, if they are.
    pub(super) fn next_batch(&mut self, events_max: usize, bytes_max: usize) -> (Batch, Option<Stop>) {
        let first = self.held.as_ref().map_or(self.position.lines + 1, |line| line.position.lines);
        let mut batch = Batch { first, last: self.position.clone(), ..Batch::default() };
        let mut size = 0;
        if let Some(line) = self.held.take() {
            size = line.length;
            batch.push(line);
        }
        while batch.events.len() < events_max && (batch.events.is_empty() || !self.would_wait()) {
            let line = match self.next_event() {
                Ok(Some(line)) => line,
                Ok(None) => {
                    batch.last = self.position.clone();
                    return (batch, Some(Stop::End));
                }
                Err(error) => return (batch, Some(Stop::Bad(error))),
            };
            if size + line.length > bytes_max && !batch.events.is_empty() {
                self.held = Some(line);
                return (batch, None);
            }
            size += line.length;
            batch.push(line);
        }
        (batch, None)
    }

    fn would_wait(&self) -> bool {
        self.live && !self.input.buffer().contains(&b'\n')
    }

    fn next_event(&mut self) -> anyhow::Result<Option<Line>> {
        while let Some(line) = self.read_line()? {
            let event = super::parse_line(&line, self.position.lines, &self.name)?;
            if let Some(event) = event {
                return Ok(Some(Line { event, length: line.len(), position: self.position.clone() }));
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
        self.position.lines += 1;
        self.position.pass(&line);
        if read as u64 == LINE_BYTES_MAX && !line.ends_with(b"\n") {
            bail!(
                "{}, line {}: longer than {LINE_BYTES_MAX} bytes, which no event can be",
                self.name,
                self.position.lines
            );
        }
        Ok(Some(line))
    }
}
