//! `PushClient` in a process of its own, so that it can be killed: what its handler is given goes line by line to its
//! standard output, which outlives it, and its cursor to a file.
//!
//! [`run`] is that process; [`Running`] is its other end in the harness.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use galaxy_push_client::{Failure, FileCursorStore, HandlerError, Item, PushClient, State, backoff};
use galaxy_push_testkit::Recorder;
use galaxy_push_testkit::history::{Cursor, What};
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use crate::journal::Journal;
use crate::real::clock_us;

/// More than one item never gives: it is taken out after each.
const RECORDS_MAX: usize = 64;

/// What the process is told.
#[derive(Args, Clone, Debug)]
pub struct ClientArgs {
    /// Where the hub is.
    #[arg(long)]
    pub hub: String,
    /// The gateway id.
    #[arg(long)]
    pub id: String,
    /// Where its cursor is kept; without, it begins at the head and shows no finished items.
    #[arg(long)]
    pub cursor_file: Option<PathBuf>,
    /// The number of its first stream in the history.
    #[arg(long)]
    pub first_stream: u64,
    /// The longest wait between tries, in milliseconds.
    #[arg(long, default_value_t = 10_000)]
    pub backoff_cap_ms: u64,
}

/// One line of its standard output.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    /// For the history.
    Record(What),
    /// Where it stands now.
    Stands(Standing),
}

/// Where a client stands, and what went wrong last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// Its state, in words.
    pub state: String,
    /// The reason of the last status a hub sent.
    pub reason: String,
}

/// The process itself: reads until it is killed.
///
/// # Errors
///
/// When the client cannot be built or nobody reads what it says.
pub async fn run(args: ClientArgs) -> anyhow::Result<()> {
    let recorder = Recorder::new(RECORDS_MAX).numbered_from(args.first_stream);
    let dialed = Arc::new(AtomicU64::new(0));
    let start = if args.cursor_file.is_some() { Cursor::Oldest } else { Cursor::Empty };
    let mut journal = Journal::new(&args.id, recorder.clone(), clock_us, dialed.clone(), start.clone());
    let shows_finished = args.cursor_file.is_some();
    let handler = move |item: Item| {
        let done = journal.take(&item, false).and_then(|done| {
            let mut records: Vec<_> = recorder.finish()?.into_iter().map(|record| record.what).collect();
            records.extend(done.filter(|_| shows_finished).map(|(_, what)| what));
            records.into_iter().try_for_each(|what| say(&Line::Record(what)))
        });
        async move { done.map_err(|error| HandlerError::msg(format!("{error:#}"))) }
    };
    let mut waits = backoff::Config::default();
    waits.cap = Duration::from_millis(args.backoff_cap_ms);
    let mut builder = PushClient::builder(&args.id)
        .hub(&args.hub)
        .cursor(if start == Cursor::Oldest { "oldest" } else { "" })
        .backoff(waits)
        .connector(move |host: String, port: u16| {
            dialed.store(clock_us(), Ordering::Relaxed);
            TcpStream::connect((host, port))
        });
    if let Some(file) = args.cursor_file {
        builder = builder.cursor_store(FileCursorStore::new(file));
    }
    let client = builder.start(handler)?;
    let mut status = client.status();
    let mut said = Standing::default();
    while status.changed().await.is_ok() {
        let standing = {
            let status = status.borrow_and_update();
            let reason = match status.last_error.as_deref() {
                Some(Failure::Status(status)) => status.reason.clone(),
                _ => String::new(),
            };
            Standing { state: status.state.to_string(), reason }
        };
        if standing != said {
            say(&Line::Stands(standing.clone()))?;
            said = standing;
        }
    }
    Ok(())
}

fn say(line: &Line) -> anyhow::Result<()> {
    let mut text = serde_json::to_vec(line)?;
    text.push(b'\n');
    std::io::stdout().lock().write_all(&text).context("nobody listens")
}

/// A client process, from outside.
#[derive(Debug)]
pub(super) struct Running {
    child: Child,
    reading: Option<JoinHandle<()>>,
    recorder: Recorder,
    standing: Arc<Mutex<Standing>>,
    finished: Arc<AtomicU64>,
}

impl Running {
    /// Starts one; it records as `process`.
    pub(super) fn start(
        args: &ClientArgs,
        process: &str,
        recorder: &Recorder,
        log: &Path,
    ) -> anyhow::Result<Self> {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(log)?;
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["client", "--hub", &args.hub, "--id", &args.id]);
        command.args(["--first-stream", &args.first_stream.to_string()]);
        command.args(["--backoff-cap-ms", &args.backoff_cap_ms.to_string()]);
        if let Some(file) = &args.cursor_file {
            command.arg("--cursor-file").arg(file);
        }
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).spawn()?;
        let stdout = BufReader::new(child.stdout.take().context("no stdout")?);
        let recorder = recorder.process(process);
        recorder.record(clock_us(), What::Start);
        let (standing, finished) = (Arc::<Mutex<Standing>>::default(), Arc::<AtomicU64>::default());
        let (log, shown, count) = (recorder.clone(), standing.clone(), finished.clone());
        let reading = std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                match serde_json::from_str(&line) {
                    Ok(Line::Record(what)) => {
                        let is_finished = matches!(what, What::Handled { .. });
                        log.record(clock_us(), what);
                        count.fetch_add(u64::from(is_finished), Ordering::Relaxed);
                    }
                    Ok(Line::Stands(now)) => *shown.lock().unwrap_or_else(PoisonError::into_inner) = now,
                    Err(_) => {} // a line cut short by the kill
                }
            }
        });
        Ok(Self { child, reading: Some(reading), recorder, standing, finished })
    }

    /// Where it stands.
    pub(super) fn standing(&self) -> Standing {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether it is live.
    pub(super) fn is_live(&self) -> bool {
        self.standing().state == State::Live.to_string()
    }

    /// Whether it waits because another process has its gateway id, and the hub holds it off.
    pub(super) fn is_held_off(&self) -> bool {
        let standing = self.standing();
        standing.state == State::Conflicted.to_string() && standing.reason == "HELD_OFF"
    }

    /// `kill -9`; what it said before is written down.
    pub(super) fn kill(&mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        if let Some(reading) = self.reading.take() {
            let _ = reading.join();
        }
        self.recorder.record(clock_us(), What::Crash);
        Ok(())
    }

    /// `kill -9` right after its handler has finished an item, when its cursor is most likely not stored yet.
    pub(super) async fn kill_after_item(&mut self, within: Duration) -> anyhow::Result<()> {
        let (before, due) = (self.finished.load(Ordering::Relaxed), Instant::now() + within);
        while self.finished.load(Ordering::Relaxed) == before && Instant::now() < due {
            sleep(Duration::from_micros(100)).await;
        }
        self.kill()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
