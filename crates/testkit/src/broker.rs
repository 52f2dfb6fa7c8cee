//! Real NATS servers with JetStream, for tests: started on free ports of the loopback in folders of their own, killed, stopped and
//! started again, and gone with the test.
//!
//! Called by the tests of the store, the hub and the binary. The program is the one that `NATS_SERVER` names, or the one that
//! `cargo xtask tools` has installed; [`program`] says what happens where there is none. Nothing here speaks NATS.

mod cluster;
mod way;

pub use cluster::Cluster;
pub use way::Way;

use std::fmt::Write as _;
use std::fs;
use std::io::{self, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

/// Where `cargo xtask tools` puts the program.
const INSTALLED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/tools/nats/nats-server");

/// How long a server may take to serve, on a machine that is busy with other things.
const PATIENCE: Duration = Duration::from_secs(30);

/// So many lines of a server's log are kept for whoever looks for one; what is beyond them is let go of.
const LINES_MAX: usize = 4_096;

/// How long it waits for what takes a moment, and how often: a port that somebody else has, a signal.
const PAUSE: Duration = Duration::from_millis(20);
const PAUSES_MAX: u32 = 1_500;

/// How often a port is drawn that somebody else had taken meanwhile.
const DRAWS: usize = 20;

/// The program, or `None` where tests that need it are left out. They say so on standard error, with how to get it.
///
/// # Panics
///
/// Where continuous integration runs (`CI=true`) nothing may be left out.
#[must_use]
pub fn program() -> Option<PathBuf> {
    let named = std::env::var_os("NATS_SERVER").map(PathBuf::from);
    let found = named.clone().unwrap_or_else(|| PathBuf::from(INSTALLED));
    if found.is_file() {
        return Some(found);
    }
    assert!(named.is_none(), "NATS_SERVER names {}, which is no file", found.display());
    let ci = std::env::var("CI").is_ok_and(|ci| matches!(ci.as_str(), "true" | "1"));
    assert!(
        !ci,
        "there is no nats-server, and with CI=true nothing may be left out: cargo xtask tools installs it"
    );
    tell_of_the_skip();
    None
}

#[expect(clippy::print_stderr, reason = "a test that is left out says so")]
fn tell_of_the_skip() {
    eprintln!("skipped: there is no nats-server (cargo xtask tools installs it, or set NATS_SERVER)");
}

/// How a server is started.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Settings {
    /// When it syncs what it has stored: `always`, before it acknowledges; or a time, such as `2m`.
    pub sync_interval: String,
    /// The largest message it takes, in bytes.
    pub max_payload: u32,
    /// Lines of its configuration besides: who may connect, for one.
    pub more: String,
}

impl Default for Settings {
    /// Syncs before it acknowledges; messages of at most 1 MiB, as servers have it by themselves; nothing besides.
    fn default() -> Self {
        Self { sync_interval: "always".to_owned(), max_payload: 1 << 20, more: String::new() }
    }
}

impl Settings {
    /// Sets [`Settings::sync_interval`].
    #[must_use]
    pub fn sync_interval(mut self, interval: &str) -> Self {
        self.sync_interval = interval.to_owned();
        self
    }

    /// Sets [`Settings::max_payload`].
    #[must_use]
    pub fn max_payload(mut self, bytes: u32) -> Self {
        self.max_payload = bytes;
        self
    }

    /// Adds lines to its configuration.
    #[must_use]
    pub fn more(mut self, lines: &str) -> Self {
        self.more.push_str(lines);
        self.more.push('\n');
        self
    }
}

/// One server. It and its folder are gone when this is dropped.
#[derive(Debug)]
pub struct Broker {
    program: PathBuf,
    folder: TempDir,
    port: u16,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    child: Child,
    lines: Receiver<String>,
}

impl Broker {
    /// Starts a server that is no part of a cluster, and waits until it serves.
    ///
    /// # Errors
    ///
    /// It does not start, or does not serve within 30 s.
    pub fn start(program: &Path, settings: &Settings) -> io::Result<Self> {
        let mut refused = io::Error::other("no port was tried");
        for _ in 0..DRAWS {
            let mut broker = Self::new(program, free_ports(1)?[0])?;
            broker.configure(settings, None, "")?;
            match broker.try_start() {
                Ok(()) => return Ok(broker),
                Err(error) => refused = error, // its port may be somebody else's by now
            }
        }
        Err(refused)
    }

    /// A server that was not started yet.
    fn new(program: &Path, port: u16) -> io::Result<Self> {
        Ok(Self { program: program.to_owned(), folder: tempfile::tempdir()?, port, running: None })
    }

    fn configure(&self, settings: &Settings, name: Option<&str>, cluster: &str) -> io::Result<()> {
        let Settings { sync_interval, max_payload, more } = settings;
        let store = self.store();
        let mut text = format!("listen: \"127.0.0.1:{}\"\nmax_payload: {max_payload}\n", self.port);
        let mut line = |line: std::fmt::Arguments<'_>| text.write_fmt(line).map_err(io::Error::other);
        if let Some(name) = name {
            line(format_args!("server_name: {name}\n"))?;
        }
        line(format_args!("jetstream {{ store_dir: {store:?}, sync_interval: {sync_interval} }}\n"))?;
        line(format_args!("{cluster}\n{more}\n"))?;
        fs::write(self.config(), text)
    }

    fn config(&self) -> PathBuf {
        self.folder.path().join("server.conf")
    }

    /// The folder of what it has stored: to be copied, or put back, while it does not run.
    #[must_use]
    pub fn store(&self) -> PathBuf {
        self.folder.path().join("store")
    }

    /// Where it is reached.
    #[must_use]
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Starts it again where it was, with what it had stored, and waits until it serves. One that runs is killed first.
    ///
    /// # Errors
    ///
    /// As [`Broker::start`].
    pub fn restart(&mut self) -> io::Result<()> {
        for _ in 0..PAUSES_MAX {
            match self.try_start() {
                // While it did not run, a connection of somebody else was given its port. That one ends.
                Err(error) if is_taken(&error) => thread::park_timeout(PAUSE),
                started => return started,
            }
        }
        self.try_start()
    }

    fn try_start(&mut self) -> io::Result<()> {
        self.begin()?;
        self.find("Server is ready")
    }

    /// Starts it and does not wait.
    fn begin(&mut self) -> io::Result<()> {
        self.kill();
        let mut command = Command::new(&self.program);
        command.arg("--config").arg(self.config());
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        let log = child.stderr.take().ok_or_else(|| io::Error::other("its log cannot be read"))?;
        let (send, lines) = sync_channel(LINES_MAX);
        thread::spawn(move || pass_on(BufReader::new(log), &send));
        self.running = Some(Running { child, lines });
        Ok(())
    }

    /// Waits for a line of its log.
    ///
    /// # Errors
    ///
    /// There was none for 30 s, or it has ended.
    pub fn find(&self, part: &str) -> io::Result<()> {
        let running = self.running.as_ref().ok_or_else(|| io::Error::other("it does not run"))?;
        let mut seen = String::new();
        loop {
            let line = running.lines.recv_timeout(PATIENCE);
            let line =
                line.map_err(|_| io::Error::other(format!("its log does not say {part:?}: {seen}")))?;
            if line.contains(part) {
                return Ok(());
            }
            seen.push_str(&line);
            seen.push('\n');
        }
    }

    /// Kills it at once (`SIGKILL`), as a crash would. What it had stored stays.
    pub fn kill(&mut self) {
        if let Some(mut running) = self.running.take() {
            let _ = running.child.kill(); // it may have ended by itself
            let _ = running.child.wait();
        }
    }

    /// Asks it to leave (`SIGTERM`), and waits until it has.
    ///
    /// # Errors
    ///
    /// It does not run, or no signal can be sent.
    pub fn stop(&mut self) -> io::Result<()> {
        self.signal("TERM")?;
        if let Some(mut running) = self.running.take() {
            running.child.wait()?;
        }
        Ok(())
    }

    /// Stops it where it is (`SIGSTOP`): its connections stay, and nothing answers once this returns.
    ///
    /// # Errors
    ///
    /// No signal can be sent, or it does not stop within 30 s.
    pub fn pause(&self) -> io::Result<()> {
        let pid = self.signal("STOP")?;
        for _ in 0..PAUSES_MAX {
            if is_stopped(&pid)? {
                return Ok(());
            }
            thread::park_timeout(PAUSE);
        }
        Err(io::Error::other("it does not stop"))
    }

    /// Lets it go on.
    ///
    /// # Errors
    ///
    /// No signal can be sent.
    pub fn resume(&self) -> io::Result<()> {
        self.signal("CONT").map(drop)
    }

    /// Sends a signal. Returns whom.
    fn signal(&self, name: &str) -> io::Result<String> {
        let running = self.running.as_ref().ok_or_else(|| io::Error::other("it does not run"))?;
        let pid = running.child.id().to_string();
        let status = Command::new("kill").args(["-s", name, &pid]).status()?;
        if status.success() { Ok(pid) } else { Err(io::Error::other(format!("kill -s {name}: {status}"))) }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.kill();
    }
}

/// So many ports that nobody had a moment ago, each another one.
fn free_ports(count: usize) -> io::Result<Vec<u16>> {
    let held = (0..count).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<io::Result<Vec<_>>>()?;
    held.iter().map(|listener| Ok(listener.local_addr()?.port())).collect()
}

/// Whether a server has not started because somebody else has its port.
fn is_taken(error: &io::Error) -> bool {
    error.to_string().contains("address already in use")
}

/// Whether all threads of a process are stopped: after the signal each of them goes on until the system gets to it. Where the system
/// does not say, they are taken to be.
fn is_stopped(pid: &str) -> io::Result<bool> {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return Ok(true) };
    for thread in threads {
        // The name before it may hold anything.
        let stat = fs::read_to_string(thread?.path().join("stat"))?;
        if !stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('T')) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Reads a log to its end, so that whoever writes it never waits. A line for which there is no room is let go of.
fn pass_on(log: impl io::BufRead, to: &SyncSender<String>) {
    for line in log.lines().map_while(Result::ok) {
        if let Err(TrySendError::Disconnected(_)) = to.try_send(line) {
            return; // nobody will look; the server is killed, too
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The fault: a test failed now and then because a connection of another one had the port of its server while that was away.
    #[test]
    fn a_server_waits_for_its_port_while_somebody_else_has_it() {
        let Some(program) = program() else { return };
        let mut broker = Broker::start(&program, &Settings::default()).unwrap();
        broker.kill();
        let taken = TcpListener::bind(("127.0.0.1", broker.port)).unwrap();
        thread::spawn(move || {
            thread::park_timeout(25 * PAUSE);
            drop(taken);
        });
        broker.restart().unwrap();
    }
}
