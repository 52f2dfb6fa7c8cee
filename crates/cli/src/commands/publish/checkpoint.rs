//! A file that says how far the lines of another file were acknowledged, so that a run which was cut off can go on.
//!
//! It names the bytes up to there and their hash, because a number alone would skip the lines of any other file, too.

use std::fs::{File, TryLockError};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// Far more than a mark takes.
const BYTES_MAX: u64 = 4 << 10;

pub(super) struct Checkpoint {
    path: PathBuf,
    mark: Mark,
    /// The file at `path`, locked for as long as this run may write there. `None`: not yet, or there are no locks there.
    lock: Option<File>,
}

/// A place in a file, and what the file holds before it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mark {
    pub(super) lines: u64,
    pub(super) bytes: u64,
    /// The SHA-256 of these bytes, in hexadecimal digits.
    pub(super) sha256: String,
}

/// A place in a file that is being read.
#[derive(Clone, Debug, Default)]
pub(super) struct Position {
    pub(super) lines: u64,
    pub(super) bytes: u64,
    hash: Sha256,
}

impl Position {
    pub(super) fn pass(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        self.hash.update(bytes);
    }

    pub(super) fn mark(&self) -> Mark {
        let digest = self.hash.clone().finalize();
        let sha256 = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        Mark { lines: self.lines, bytes: self.bytes, sha256 }
    }
}

/// The beginning of a file, which is all that a checkpoint takes. What is no file might never end.
fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    if !std::fs::metadata(path)?.is_file() {
        return Ok(Vec::new()); // which is no mark
    }
    let mut text = Vec::new();
    File::open(path)?.take(BYTES_MAX).read_to_end(&mut text)?;
    Ok(text)
}

impl Checkpoint {
    /// Reads an earlier run's checkpoint; none is the start.
    pub(super) fn open(path: &Path) -> anyhow::Result<Self> {
        let mark = match read(path) {
            Ok(text) => Mark::parse(&text),
            Err(error) if error.kind() == ErrorKind::NotFound => Some(Position::default().mark()),
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read --checkpoint {}", path.display()));
            }
        };
        let Some(mark) = mark else {
            bail!(
                "--checkpoint {} does not say how much of which file was acknowledged: delete it to start over",
                path.display()
            );
        };
        Ok(Self { path: path.to_owned(), mark, lock: None })
    }

    pub(super) const fn mark(&self) -> &Mark {
        &self.mark
    }

    pub(super) fn path(&self) -> std::path::Display<'_> {
        self.path.display()
    }

    /// Makes it this run's own, and writes what was read, which shows that more can be written once it matters.
    pub(super) fn try_out(&mut self) -> anyhow::Result<()> {
        let owned = self.own();
        let used = || {
            format!(
                "another run uses --checkpoint {}: wait for its end, or give this one a checkpoint of its own",
                self.path()
            )
        };
        if !owned.with_context(|| format!("cannot write --checkpoint {}", self.path()))? {
            bail!(used());
        }
        self.write()
    }

    /// Locks the file. `false`: another run has locked it, or has written there since it was read.
    fn own(&mut self) -> std::io::Result<bool> {
        let file = match File::create_new(&self.path) {
            Ok(mut file) => {
                write(&mut file, &self.mark)?;
                file
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => File::open(&self.path)?,
            Err(error) => return Err(error),
        };
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(false),
            // Not every file system has locks.
            Err(TryLockError::Error(_)) => return Ok(true),
        }
        // Whoever wrote meanwhile has put another file in its place.
        let (locked, present) = (file.metadata()?, std::fs::metadata(&self.path)?);
        let is_present = (locked.dev(), locked.ino()) == (present.dev(), present.ino());
        self.lock = Some(file);
        Ok(is_present && Mark::parse(&read(&self.path)?).as_ref() == Some(&self.mark))
    }

    /// Notes how far the run got.
    pub(super) fn save(&mut self, reached: &Position) -> anyhow::Result<()> {
        if reached.bytes > self.mark.bytes {
            self.mark = reached.mark();
            self.write()?;
        }
        Ok(())
    }

    /// Writes into a new file that then takes the old one's place, so a crash leaves one of them. Nothing is written through
    /// a link: what another has put there is replaced, and what it leads to is left alone.
    fn write(&mut self) -> anyhow::Result<()> {
        let mut next = self.path.clone().into_os_string();
        next.push(".new");
        let replace = || {
            match std::fs::remove_file(&next) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
            let mut file = File::create_new(&next)?;
            // Nobody else knows it, so where it is not locked there are no locks.
            let _ = file.try_lock();
            write(&mut file, &self.mark)?;
            std::fs::rename(&next, &self.path)?;
            Ok(file)
        };
        self.lock =
            Some(replace().with_context(|| format!("cannot write --checkpoint {}", self.path.display()))?);
        Ok(())
    }
}

impl Mark {
    /// `None`: it is none.
    fn parse(text: &[u8]) -> Option<Self> {
        // A line has a byte at least.
        serde_json::from_slice(text).ok().filter(|mark: &Self| mark.lines <= mark.bytes)
    }
}

fn write(file: &mut File, mark: &Mark) -> std::io::Result<()> {
    serde_json::to_writer(&mut *file, mark)?;
    writeln!(file)?;
    file.sync_all()
}
