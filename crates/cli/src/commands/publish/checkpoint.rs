//! A file that says how far the lines of another file were acknowledged, so that a run which was cut off can go on.
//!
//! It names the bytes up to there and their hash, because a number alone would skip the lines of any other file, too.

use std::fs::File;
use std::io::{ErrorKind, Read as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// Far more than a mark takes.
const BYTES_MAX: u64 = 4 << 10;

pub(super) struct Checkpoint {
    path: PathBuf,
    mark: Mark,
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
            // A line has a byte at least.
            Ok(text) => serde_json::from_slice(&text).ok().filter(|mark: &Mark| mark.lines <= mark.bytes),
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
        Ok(Self { path: path.to_owned(), mark })
    }

    pub(super) const fn mark(&self) -> &Mark {
        &self.mark
    }

    pub(super) fn path(&self) -> std::path::Display<'_> {
        self.path.display()
    }

    /// Writes what was read, which shows that more can be written once it matters.
    pub(super) fn try_out(&self) -> anyhow::Result<()> {
        self.write(&self.mark)
    }

    /// Notes how far the run got.
    pub(super) fn save(&mut self, reached: &Position) -> anyhow::Result<()> {
        if reached.bytes > self.mark.bytes {
            self.mark = reached.mark();
            self.write(&self.mark)?;
        }
        Ok(())
    }

    /// Writes into a new file that then takes the old one's place, so a crash leaves one of them. Nothing is written through
    /// a link: what another has put there is replaced, and what it leads to is left alone.
    fn write(&self, mark: &Mark) -> anyhow::Result<()> {
        let mut next = self.path.clone().into_os_string();
        next.push(".new");
        let write = || {
            match std::fs::remove_file(&next) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
            let mut file = File::create_new(&next)?;
            serde_json::to_writer(&mut file, mark)?;
            writeln!(file)?;
            file.sync_all()?;
            std::fs::rename(&next, &self.path)
        };
        write().with_context(|| format!("cannot write --checkpoint {}", self.path()))
    }
}
