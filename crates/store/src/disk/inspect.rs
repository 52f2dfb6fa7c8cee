//! Looks at a log without touching it: takes no lock, writes nothing, and may stand beside the hub that writes.
//!
//! Called by `galaxy-push store`. What it finds is what a hub would find that opened the directory, because the same code
//! reads it; only the [`Files`] are others. They hold the segments open, so that one that the hub takes away meanwhile can be
//! read to its end, and they keep one reading of the last segment, which is being written. Of that one nothing is called
//! damaged that has changed a moment later.
//!
//! That reading goes from the end to the beginning, against the way in which it is written: a group that is seen has before it
//! whatever was durable when it was written.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use galaxy_push_core::cursor::Cursor;
use galaxy_push_core::frame::LogKind;

use super::files::{DirectoryError, FileAt, Files};
use super::format::{GROUPS_START, HeadError, SegmentHead, Sums};
use super::recover;
use super::recovery::Recovered;
use super::scan::{End, Piece, Scan};
use super::segments::number;
use super::visible::Visible;
use super::{OnProgress, OpenError, Options};
use crate::Sink;
use crate::standing::Count;

/// So many segments are held open, the oldest first, which go away first.
const OPEN_MAX: usize = 512;
/// What may be the hub's writing is looked at again after this long, and so often at most.
const PAUSE: Duration = Duration::from_millis(100);
const LOOKS: usize = 20;
/// Read at a time, from the end on.
const PIECE_BYTES: u64 = 1 << 20;

/// A log as it was at one moment.
#[derive(Debug)]
pub struct View {
    files: Held,
}

/// What is in a log.
#[derive(Debug)]
pub struct Inspection {
    /// The last position.
    pub last: Cursor,
    /// What was read, and what was damaged.
    pub recovered: Recovered,
    /// Keys by which repetitions are recognised.
    pub keys: usize,
    /// When the last entry was stamped, by the clock of the log, in milliseconds since the Unix epoch.
    pub stamped_unix_ms: u64,
    visible: Visible,
}

/// The segments of a directory, for reading only.
#[derive(Debug)]
struct Held {
    path: std::path::PathBuf,
    segments: BTreeMap<String, Option<File>>,
    /// One of them as it was read once.
    last: (String, Vec<u8>),
}

impl View {
    /// Holds what is in a directory now. `None`: no log was begun there. `pause` waits as long as it is told.
    ///
    /// # Errors
    ///
    /// The system says no, or a file is of another version.
    pub fn open(path: &Path, pause: impl Fn(Duration)) -> Result<Option<Self>, OpenError> {
        let mut suspect = None;
        for looks in 1.. {
            let Some(mut files) = Held::open(path)? else { return Ok(None) };
            let seen = files.settle()?;
            if seen.is_none() || seen == suspect || looks == LOOKS {
                return Ok(Some(Self { files }));
            }
            suspect = seen;
            pause(PAUSE);
        }
        Ok(None)
    }

    /// Reads all of it. `None`: the first segment was never finished, so there is no log.
    ///
    /// # Errors
    ///
    /// As [`DiskStore::open`](super::DiskStore::open).
    pub fn read(
        &self,
        sink: &Arc<dyn Sink>,
        on_progress: Option<OnProgress>,
    ) -> Result<Option<Inspection>, OpenError> {
        let options = Options { on_progress, ..Options::default() };
        let opened = recover::look(&self.files, &options, sink)?;
        Ok(opened.map(|opened| Inspection {
            last: opened.at.head,
            recovered: opened.recovered,
            keys: opened.visible.published.len(),
            stamped_unix_ms: opened.at.stamp_unix_ms,
            visible: opened.visible,
        }))
    }
}

impl Inspection {
    /// How many standing records hold at this time, in milliseconds since the Unix epoch.
    pub fn standing(&mut self, now_unix_ms: u64) -> Count {
        self.visible.standing.count(now_unix_ms)
    }

    /// The standing records that hold at this time, each with its kind and its encoded message.
    pub fn records(&mut self, now_unix_ms: u64) -> Vec<(LogKind, Bytes)> {
        self.visible.standing.page(None, usize::MAX, 0, now_unix_ms).records
    }
}

impl Held {
    fn open(path: &Path) -> Result<Option<Self>, OpenError> {
        let io = |source| DirectoryError::Io { path: path.to_owned(), source };
        let mut names = Vec::new();
        for entry in fs::read_dir(path).map_err(io)? {
            let name = entry.map_err(io)?.file_name().into_string();
            names.extend(name.ok().filter(|name| number(name).is_some()));
        }
        names.sort();
        let mut segments = BTreeMap::new();
        let last = names.last().cloned();
        for (index, name) in names.into_iter().enumerate() {
            if index >= OPEN_MAX && Some(&name) != last.as_ref() {
                segments.insert(name, None);
                continue;
            }
            match File::open(path.join(&name)) {
                Ok(file) => {
                    segments.insert(name, Some(file));
                }
                // The hub needs it no more.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(OpenError::io(&name, error)),
            }
        }
        let last = (String::new(), Vec::new());
        Ok((!segments.is_empty()).then(|| Self { path: path.to_owned(), segments, last }))
    }

    /// Keeps one reading of the last segment. `Some`: something in there is damaged, or is being written at this moment; the
    /// segment's number and the offset.
    fn settle(&mut self) -> Result<Option<(u64, u64)>, OpenError> {
        let Some(mut last) = self.read_last()? else { return Ok(None) };
        let mut unborn = None;
        if is_blank(&last.1) && self.segments.len() > 1 {
            // It is being made. Unless the one before it has ended by now, nothing was ever in it.
            unborn = self.segments.remove_entry(&last.0).map(|entry| (entry, last.1));
            let Some(before) = self.read_last()? else { return Ok(None) };
            last = before;
        }
        let seen = self.judge(&last)?;
        self.last = last;
        if let (Some((_, ENDED)), Some(((name, file), bytes))) = (seen, unborn) {
            let number = number(&name).unwrap_or_default();
            self.segments.insert(name.clone(), file);
            self.last = (name, bytes);
            return Ok(Some((number, 0)));
        }
        Ok(seen)
    }

    /// What of the last segment is not as it should be: where, or [`ENDED`].
    fn judge(&self, (name, bytes): &(String, Vec<u8>)) -> Result<Option<(u64, u64)>, OpenError> {
        let number = number(name).unwrap_or_default();
        let head = SegmentHead::decode(bytes).ok();
        let mut identity = head;
        for other in self.segments.keys().filter(|_| head.is_none()) {
            let front = self.read(other, GROUPS_START).map_err(|error| OpenError::io(other, error))?;
            identity = identity.or(SegmentHead::decode(&front).ok());
        }
        let Some(identity) = identity else { return Ok(None) };
        let sums = Sums::new(identity.epoch, identity.salt);
        let bytes_max = head.map_or(0, |head| head.bytes);
        let scan = Scan { file: bytes, sums: &sums, number, bytes: bytes_max, end_offset: None };
        let scanned = scan.run();
        let damaged = scanned.pieces.iter().find_map(|piece| match piece {
            Piece::Damaged { from, .. } => Some(*from),
            Piece::Group(_) => None,
        });
        let ended = (scanned.end == End::Continued).then_some(ENDED);
        let headless = head.is_none().then_some(0);
        Ok(damaged.or(ended).or(headless).map(|at| (number, at)))
    }

    fn read_last(&self) -> Result<Option<(String, Vec<u8>)>, OpenError> {
        let Some((name, file)) = self.segments.last_key_value() else { return Ok(None) };
        let read = || {
            let file = file.as_ref().ok_or(io::ErrorKind::NotFound)?; // the last one is open
            backwards(file)
        };
        Ok(Some((name.clone(), read().map_err(|error| OpenError::io(name, error))?)))
    }
}

/// It has ended, and another segment follows.
const ENDED: u64 = u64::MAX;

/// Whether a segment has neither a head nor anything else, as when it is being made.
fn is_blank(segment: &[u8]) -> bool {
    let groups = segment.get(GROUPS_START as usize..).unwrap_or_default();
    SegmentHead::decode(segment) == Err(HeadError::Unreadable) && groups.iter().all(|byte| *byte == 0)
}

/// Reads a file from its end to its beginning.
fn backwards(file: &File) -> io::Result<Vec<u8>> {
    let length = file.metadata()?.len();
    let mut bytes = vec![0; usize::try_from(length).map_err(|_| io::ErrorKind::FileTooLarge)?];
    for start in (0..length).step_by(PIECE_BYTES as usize).collect::<Vec<_>>().into_iter().rev() {
        let end = length.min(start + PIECE_BYTES);
        // What was cut off meanwhile reads as zeros, as it was.
        read_at(file, start, &mut bytes[start as usize..end as usize])?;
    }
    Ok(bytes)
}

/// Fills as much as there is. Returns how much that was.
fn read_at(file: &File, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < bytes.len() {
        match file.read_at(&mut bytes[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

impl Files for Held {
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.segments.keys().cloned().collect())
    }

    fn read(&self, name: &str, bytes_max: u64) -> io::Result<Vec<u8>> {
        if name == self.last.0 {
            let end = self.last.1.len().min(usize::try_from(bytes_max).unwrap_or(usize::MAX));
            return Ok(self.last.1[..end].to_vec());
        }
        let opened;
        let file = match self.segments.get(name) {
            Some(Some(file)) => file,
            _ => {
                opened = File::open(self.path.join(name))?;
                &opened
            }
        };
        let length = usize::try_from(file.metadata()?.len().min(bytes_max)).unwrap_or(usize::MAX);
        let mut bytes = vec![0; length];
        let filled = read_at(file, 0, &mut bytes)?;
        bytes.truncate(filled);
        Ok(bytes)
    }

    fn length(&self, name: &str) -> io::Result<u64> {
        match self.segments.get(name) {
            Some(Some(file)) => Ok(file.metadata()?.len()),
            _ => Ok(fs::metadata(self.path.join(name))?.len()),
        }
    }

    fn create(&self, _: &str, _: u64) -> io::Result<Box<dyn FileAt>> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn open(&self, _: &str) -> io::Result<Box<dyn FileAt>> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn cut(&self, _: &str, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    /// What opening a log takes away is not needed: it is passed over, and stays.
    fn remove(&self, _: &str) -> io::Result<()> {
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }
}
