//! Runs the tests of a crate with one mutant in it, until one fails.
//!
//! Called by `mutants`. Builds nothing.

#![expect(clippy::disallowed_methods, reason = "processes are waited for in real time")]

use std::{
    io::{BufRead as _, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use crate::planted::common::VARIABLE;

/// A test binary may take so many times what it takes without any mutant, and this much more.
const SLOWER: u32 = 6;
const AND: Duration = Duration::from_secs(10);

/// How often it is looked whether a process has ended.
const LOOK: Duration = Duration::from_millis(20);

/// A test binary, the folder it runs in, and how long it takes.
#[derive(Clone, Debug)]
pub(super) struct Tests {
    pub(super) binary: PathBuf,
    pub(super) folder: PathBuf,
    /// The NATS server that tests of the store start.
    broker: PathBuf,
    pub(super) time: Duration,
}

/// What became of a mutant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Caught,
    Endless,
    Survived,
}

impl Tests {
    /// Measures a binary without any mutant.
    ///
    /// # Errors
    ///
    /// When it fails.
    pub(super) fn measured(binary: &Path, folder: &Path, broker: &Path) -> Result<Self> {
        let started = Instant::now();
        let mut tests = Self {
            binary: binary.into(),
            folder: folder.into(),
            broker: broker.into(),
            time: Duration::from_secs(600),
        };
        let fate = tests.with(None)?;
        anyhow::ensure!(fate == Fate::Survived, "{} fails without any mutant", binary.display());
        tests.time = started.elapsed();
        Ok(tests)
    }

    /// Runs them with the mutant of this number, up to the first failure.
    pub(super) fn with(&self, number: Option<u32>) -> Result<Fate> {
        let mut command = Command::new(&self.binary);
        command.current_dir(&self.folder).args(["--format", "pretty"]);
        command
            .env("NATS_SERVER", &self.broker)
            .env_remove(VARIABLE)
            .envs(number.map(|number| (VARIABLE, number.to_string())));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().with_context(|| format!("cannot start {}", self.binary.display()))?;
        let fate = wait(&mut child, self.time * SLOWER + AND);
        // Whatever became of it, it ends here.
        let _ = child.kill();
        child.wait()?;
        fate
    }
}

fn wait(child: &mut Child, time: Duration) -> Result<Fate> {
    let (failed, failure) = mpsc::channel();
    if let Some(output) = child.stdout.take() {
        thread::spawn(move || {
            if has_failure(output) {
                let _ = failed.send(()); // whoever waited may have seen the end before
            }
        });
    }
    let started = Instant::now();
    loop {
        match failure.recv_timeout(LOOK) {
            Ok(()) => return Ok(Fate::Caught),
            Err(RecvTimeoutError::Timeout) => {}
            // It says no more, and mostly has ended.
            Err(RecvTimeoutError::Disconnected) => thread::sleep(LOOK),
        }
        if let Some(status) = child.try_wait()? {
            return Ok(if status.success() { Fate::Survived } else { Fate::Caught });
        }
        if started.elapsed() > time {
            return Ok(Fate::Endless);
        }
    }
}

/// Whether the harness says of some test that it failed.
fn has_failure(output: impl Read) -> bool {
    let lines = BufReader::new(output).lines().map_while(Result::ok);
    lines.into_iter().any(|line| line.starts_with("test ") && line.ends_with(" ... FAILED"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_failure_ends_it() {
        let run = |script: &str| {
            let mut child = Command::new("sh").args(["-c", script]).stdout(Stdio::piped()).spawn().unwrap();
            let fate = wait(&mut child, Duration::from_millis(300)).unwrap();
            let _ = child.kill();
            let _ = child.wait();
            fate
        };
        assert_eq!(run("echo 'test a::b ... FAILED'; exec sleep 60"), Fate::Caught);
        assert_eq!(run("echo 'test a::b ... ok'; exit 101"), Fate::Caught);
        assert_eq!(run("echo 'test a::b ... ok'"), Fate::Survived);
        assert_eq!(run("exec sleep 60"), Fate::Endless);
    }
}
