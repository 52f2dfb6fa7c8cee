//! A file that says how many lines were acknowledged, so that a run which was cut off can go on.

use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

pub(super) struct Checkpoint {
    path: PathBuf,
    lines: u64,
}

impl Checkpoint {
    /// Reads an earlier run's checkpoint; none is the start.
    pub(super) fn open(path: &Path) -> anyhow::Result<Self> {
        let lines = match std::fs::read(path) {
            Ok(text) => std::str::from_utf8(&text).ok().and_then(|text| text.trim().parse().ok()),
            Err(error) if error.kind() == ErrorKind::NotFound => Some(0),
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read --checkpoint {}", path.display()));
            }
        };
        let Some(lines) = lines else {
            bail!("--checkpoint {} does not hold a number of lines: delete it to start over", path.display());
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
        write().with_context(|| format!("cannot write --checkpoint {}", self.path.display()))?;
        self.lines = lines;
        Ok(())
    }
}
