//! The binary itself, run as real processes on loopback, for tests that need a real network and a real `kill -9`.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde::Deserialize;

/// One `galaxy-push` process. Killed when dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    _stdout: BufReader<ChildStdout>,
    /// Where it listens.
    pub urls: Urls,
}

/// What `--ready-json` says.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Urls {
    /// The hub listener.
    pub hub: String,
    /// The edge listener.
    pub edge: String,
    /// The admin listener.
    pub admin: String,
}

impl Process {
    /// Starts `galaxy-push` with these arguments and waits until it listens. What it logs goes to `log`.
    ///
    /// # Errors
    ///
    /// When it does not start or does not say that it is ready.
    pub fn start(binary: &Path, args: &[&str], log: &Path) -> anyhow::Result<Self> {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(log)?;
        let mut child = Command::new(binary)
            .args(args)
            .args(["--admin-addr", "127.0.0.1:0", "--ready-json", "--log-format", "text"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {}; build it with `cargo build`", binary.display()))?;
        let mut stdout = BufReader::new(child.stdout.take().context("no stdout")?);
        let mut line = String::new();
        stdout.read_line(&mut line)?;
        let urls = serde_json::from_str(&line)
            .with_context(|| format!("{args:?} did not become ready: {line:?}"))?;
        Ok(Self { child, _stdout: stdout, urls })
    }

    /// Its number with the operating system.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal by name, such as `STOP`.
    ///
    /// # Errors
    ///
    /// When there is nobody to send it to, or no `kill` to send it with.
    pub fn signal(&self, name: &str) -> anyhow::Result<()> {
        let status = Command::new("kill").args([format!("-{name}"), self.id().to_string()]).status()?;
        if !status.success() {
            bail!("`kill -{name}` could not reach process {}", self.id());
        }
        Ok(())
    }

    /// Waits until it has ended by itself, and says whether it did so with success.
    ///
    /// # Errors
    ///
    /// When it has not ended in time.
    pub async fn ended(&mut self, within: Duration) -> anyhow::Result<bool> {
        let due = tokio::time::Instant::now() + within;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status.success());
            }
            if tokio::time::Instant::now() >= due {
                bail!("process {} did not end within {within:?}", self.id());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// `kill -9`.
    ///
    /// # Errors
    ///
    /// When there is nothing to kill.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The `galaxy-push` that was built together with the running program.
///
/// # Errors
///
/// When there is none.
pub fn binary() -> anyhow::Result<PathBuf> {
    let binary = std::env::current_exe()?.with_file_name("galaxy-push");
    if !binary.exists() {
        bail!("{} is missing; build it with `cargo build --workspace`", binary.display());
    }
    Ok(binary)
}

/// Host and port of a URL such as `http://127.0.0.1:7400`.
///
/// # Errors
///
/// When it has none.
pub fn host_and_port(url: &str) -> anyhow::Result<(String, u16)> {
    let authority = url.strip_prefix("http://").unwrap_or(url);
    let (host, port) = authority.rsplit_once(':').with_context(|| format!("{url} has no port"))?;
    Ok((host.to_owned(), port.parse()?))
}

/// Microseconds since this was first called.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "real processes run in real time")]
pub fn clock_us() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    Duration::as_micros(&START.get_or_init(Instant::now).elapsed()) as u64
}
