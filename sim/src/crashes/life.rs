//! One life of the process that has the log: started on a folder, killed at any moment, its end waited for.
//!
//! Unlike [`Process`](crate::real::Process) it can be killed before it listens, run with system calls that fail
//! (`strace`), and it says how it ended.

use std::ffi::OsString;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};

use crate::real::Urls;

/// A start takes milliseconds, and a loaded machine gets more.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// What is run, and on which folder.
#[derive(Clone, Debug)]
pub(super) struct Program {
    pub(super) binary: PathBuf,
    /// The role and its own arguments.
    pub(super) args: Vec<OsString>,
    /// Where it logs.
    pub(super) log: PathBuf,
}

/// A system call that fails, in whichever thread makes it for the n-th time.
#[derive(Clone, Debug)]
pub(super) struct Injection {
    /// Such as `fdatasync`.
    pub(super) call: &'static str,
    /// Such as `EIO`.
    pub(super) error: &'static str,
    pub(super) nth: u32,
    /// Where each such call is written down.
    pub(super) calls: PathBuf,
}

/// A process. Killed when dropped.
#[derive(Debug)]
pub(super) struct Life {
    child: Child,
    urls: oneshot::Receiver<String>,
}

impl Program {
    /// A hub, or a hub with a gateway (`serve`), whose log is in `out/data`.
    pub(super) fn new(binary: &Path, out: &Path, args: &[&str]) -> Self {
        let data = out.join("data");
        let mut args: Vec<OsString> = args.iter().map(OsString::from).collect();
        args.extend(["--store".into(), "disk".into(), "--data-dir".into(), data.into()]);
        args.extend(["--hub-addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0"].map(OsString::from));
        args.extend(["--ready-json", "--log-format", "text"].map(OsString::from));
        Self { binary: binary.to_owned(), args, log: out.join("hub.log") }
    }

    /// Starts it.
    ///
    /// # Errors
    ///
    /// When there is no such program.
    pub(super) fn start(&self) -> anyhow::Result<Life> {
        Life::start(Command::new(&self.binary), self)
    }

    /// Starts it with a system call that fails. It is a child of this process all the same.
    ///
    /// # Errors
    ///
    /// When there is no such program, or no `strace`.
    pub(super) fn start_with(&self, injection: &Injection) -> anyhow::Result<Life> {
        let Injection { call, error, nth, calls } = injection;
        let mut strace = Command::new("strace");
        strace.args(["-D", "-f", "--seccomp-bpf", "-qq", "-o"]).arg(calls);
        strace.args(["-e", &format!("trace={call}")]);
        strace.args(["-e", &format!("inject={call}:error={error}:when={nth}")]);
        Life::start(
            {
                strace.arg(&self.binary);
                strace
            },
            self,
        )
    }
}

impl Life {
    fn start(mut command: Command, program: &Program) -> anyhow::Result<Self> {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(&program.log)?;
        let mut child = command
            .args(&program.args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {}", command.get_program().display()))?;
        let mut stdout = BufReader::new(child.stdout.take().context("no stdout")?);
        let (told, urls) = oneshot::channel();
        std::thread::spawn(move || {
            let mut line = String::new();
            if stdout.read_line(&mut line).is_ok_and(|bytes| bytes > 0) {
                _ = told.send(line);
            }
        });
        Ok(Self { child, urls })
    }

    /// Waits until it listens.
    ///
    /// # Errors
    ///
    /// When it ends before, or does not come so far.
    pub(super) async fn ready(&mut self) -> anyhow::Result<Urls> {
        match timeout(READY_WITHIN, &mut self.urls).await {
            Ok(Ok(line)) => serde_json::from_str(&line).with_context(|| format!("not ready: {line:?}")),
            Ok(Err(_)) => bail!("it ended before it listened: {}", self.child.wait()?),
            Err(_) => bail!("it did not listen within {READY_WITHIN:?}"),
        }
    }

    /// `kill -9`, and waits until it is gone and its folder is free.
    pub(super) fn kill(&mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Waits until it has ended by itself.
    ///
    /// # Errors
    ///
    /// When it has not ended in time.
    pub(super) async fn ended(&mut self, within: Duration) -> anyhow::Result<ExitStatus> {
        let due = Instant::now() + within;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if Instant::now() >= due {
                bail!("it did not end within {within:?}");
            }
            sleep(Duration::from_millis(2)).await;
        }
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}
