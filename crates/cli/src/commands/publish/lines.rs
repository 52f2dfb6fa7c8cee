//! Where many events come from: lines of a file or stdin, and how far an earlier run got.

use std::fs::File;
use std::io::{BufRead, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, bail};
use galaxy_push_proto::v1;

/// A line longer than any event can be: 1 MiB of data in base64, and room for the rest.
const LINE_BYTES_MAX: u64 = 4 << 20;

pub(super) struct Lines {
    input: Box<dyn BufRead>,
    name: String,
    number: u64,
    bytes_total: Option<u64>,
    /// A line that did not fit into the batch before.
    held: Option<(v1::Event, usize)>,
}

/// Events of consecutive lines.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) events: Vec<v1::Event>,
    /// The first and the last line read for it, counted from 1; empty lines count.
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) bytes: u64,
}

/// Why there is no further batch.
pub(super) enum Stop {
    End,
    Bad(anyhow::Error),
}

impl Lines {
    /// Opens a file, or stdin, behind its first `skip` lines.
    pub(super) fn open(file: Option<&Path>, skip: u64) -> anyhow::Result<Self> {
        let path = file.filter(|path| path.as_os_str() != "-");
        let (input, bytes_total): (Box<dyn BufRead>, _) = match path {
            Some(path) => {
                let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
                let bytes = file.metadata().ok().map(|metadata| metadata.len());
                (Box::new(BufReader::with_capacity(1 << 16, file)), bytes)
            }
            None => (Box::new(BufReader::new(std::io::stdin())), None),
        };
        let name = path.map_or_else(|| "stdin".to_owned(), |path| path.display().to_string());
        let mut lines = Self { input, name, number: 0, bytes_total, held: None };
        for _ in 0..skip {
            if lines.read_line()?.is_none() {
                bail!("the checkpoint is at line {skip}, but {} has fewer: is it another file?", lines.name);
            }
        }
        Ok(lines)
    }

    pub(super) const fn bytes_total(&self) -> Option<u64> {
        self.bytes_total
    }

    /// The next events, up to a count and a size, and why they are the last, if they are.
    pub(super) fn next_batch(&mut self, events_max: usize, bytes_max: usize) -> (Batch, Option<Stop>) {
        let mut batch = Batch { first: self.number + 1, last: self.number, ..Batch::default() };
        let mut size = 0;
        if let Some((event, length)) = self.held.take() {
            (batch.first, size) = (self.number, length);
            batch.bytes += length as u64;
            batch.events.push(event);
        }
        while batch.events.len() < events_max {
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
            batch.bytes += length as u64;
            batch.last = self.number;
            batch.events.push(event);
        }
        (batch, None)
    }

    fn next_event(&mut self) -> anyhow::Result<Option<(v1::Event, usize)>> {
        while let Some(line) = self.read_line()? {
            let event = super::parse_line(&line, self.number).with_context(|| self.name.clone())?;
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

/// A file that says how many lines were acknowledged.
pub(super) struct Checkpoint {
    path: PathBuf,
    lines: u64,
}

impl Checkpoint {
    /// Reads an earlier run's checkpoint; none is the start.
    pub(super) fn open(path: &Path) -> anyhow::Result<Self> {
        let lines = match std::fs::read_to_string(path) {
            Ok(text) => text.trim().parse().map_err(|_| {
                anyhow!("{} is not a checkpoint (a line number): delete it to start over", path.display())
            })?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => 0,
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        };
        Ok(Self { path: path.to_owned(), lines })
    }

    pub(super) const fn lines(&self) -> u64 {
        self.lines
    }

    /// Writes how far the run got: into a new file that then takes the old one's place, so a crash leaves one of them.
    pub(super) fn save(&mut self, lines: u64) -> anyhow::Result<()> {
        if lines <= self.lines {
            return Ok(());
        }
        let mut next = self.path.clone().into_os_string();
        next.push(".new");
        let write = || {
            let mut file = File::create(&next)?;
            writeln!(file, "{lines}")?;
            file.sync_all()?;
            std::fs::rename(&next, &self.path)
        };
        write().with_context(|| format!("cannot write {}", self.path.display()))?;
        self.lines = lines;
        Ok(())
    }
}
