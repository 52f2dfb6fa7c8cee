//! `kill -9` of a hub under load, at any moment of its life, again and again on the same folder.
//!
//! A kill keeps what the system was handed, synced or not: this proof sees what the process does wrong in its order of
//! doing things, and real files, threads and connections. What a disk loses shows in the simulated disk of the store's tests.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::follower::Follower;
use super::life::{Life, Program};
use super::load::{Publisher, Way, truth};
use super::reading::Reading;
use super::request::{SESSIONS_BEGAN, session};
use super::truth::Truth;
use crate::real::host_and_port;
use crate::rng::Rng;
use crate::users::token;

/// Small, so that segments come and go, and keys and standing records must be carried forward.
const WINDOW_BYTES: u64 = 12 << 20;

/// Who publishes.
const WAYS: [(Way, usize); 4] = [(Way::Single, 8), (Way::Batches, 2), (Way::Stream, 2), (Way::Records, 2)];

/// The longest pause of each between two calls.
const PAUSE: Duration = Duration::from_millis(12);

/// Everything that was owed is acknowledged once nothing is killed any more.
const SETTLED_WITHIN: Duration = Duration::from_secs(60);

/// A gateway admits nobody before it has caught up.
const ADMITS_WITHIN: Duration = Duration::from_secs(10);

/// What to do.
#[derive(Clone, Debug)]
pub struct Options {
    /// How often the hub is killed.
    pub kills: usize,
    /// Decides everything but what the system's scheduler does.
    pub seed: u64,
    /// The folder of the log, and of the processes' logs. Emptied first.
    pub out: PathBuf,
}

/// A hub with a gateway, those who publish, and one who reads.
struct Stage {
    program: Program,
    truth: Arc<Mutex<Truth>>,
    numbers: Arc<AtomicU64>,
    publishers: Vec<Publisher>,
    follower: Follower,
    rng: Rng,
    readings: u64,
    /// The times from a start to the moment it listens.
    starts: Vec<Duration>,
    killed_early: usize,
    refused_tokens: u64,
}

/// Kills, and judges what is found.
///
/// # Errors
///
/// When a promise is broken.
pub async fn run(options: &Options, tell: fn(&str)) -> anyhow::Result<String> {
    let begun = Instant::now();
    let mut stage = Stage::set(options)?;
    for kill in 1..=options.kills {
        stage.life(kill, options.kills).await.with_context(|| {
            format!("kill {kill}, seed {}; the log is in {}", options.seed, options.out.display())
        })?;
        if kill % 10 == 0 {
            tell(&format!("{kill} kills, {} acknowledged", truth(&stage.truth).counts.acked));
        }
    }
    stage.settle().await.context("after the last kill")?;
    Ok(stage.table(options, begun.elapsed()))
}

impl Stage {
    fn set(options: &Options) -> anyhow::Result<Self> {
        let binary = crate::real::binary()?;
        super::empty(&options.out)?;
        let keys = options.out.join("keys.json");
        std::fs::write(&keys, token::jwks())?;
        let (keys, bytes) = (keys.display().to_string(), WINDOW_BYTES.to_string());
        let args = ["serve", "--edge-addr", "127.0.0.1:0", "--user-keys", &keys, "--window-bytes", &bytes];
        let program = Program::new(&binary, &options.out, &args);
        let (truth, numbers) = (Arc::<Mutex<Truth>>::default(), Arc::<AtomicU64>::default());
        let mut publishers = Vec::new();
        for (way, count) in WAYS {
            for _ in 0..count {
                let rng = Rng::new(options.seed, &format!("publisher {}", publishers.len()));
                publishers.push(Publisher::new(way, rng, &numbers, &truth, PAUSE));
            }
        }
        Ok(Self {
            program,
            follower: Follower::new(&truth),
            truth,
            numbers,
            publishers,
            rng: Rng::new(options.seed, "kills"),
            readings: 0,
            starts: Vec::new(),
            killed_early: 0,
            refused_tokens: 0,
        })
    }

    /// Starts the hub, and kills it.
    async fn life(&mut self, kill: usize, kills: usize) -> anyhow::Result<()> {
        let begun = Instant::now();
        let mut life = self.program.start()?;
        if kill > 1 && self.rng.percent(15) {
            // In the middle of its start: it reads the log then, and takes away what is not needed.
            let typical = self.starts.last().copied().unwrap_or_default();
            sleep(self.rng.between(Duration::ZERO, typical)).await;
            self.killed_early += 1;
            return life.kill();
        }
        let urls = life.ready().await?;
        self.starts.push(begun.elapsed());
        // Now and then at once under load, and judged later.
        if kill == 1 || self.rng.percent(85) {
            self.judge(&urls.hub, &urls.edge).await?;
        }
        let longest = if kills > 20 { 1_500 } else { 700 };
        let lives = self.rng.between(Duration::ZERO, Duration::from_millis(longest));
        self.under_load(&mut life, &urls.hub, Some(lives)).await
    }

    /// Everybody publishes and reads until the hub is killed, or all is settled.
    async fn under_load(
        &mut self,
        life: &mut Life,
        hub: &str,
        kill_after: Option<Duration>,
    ) -> anyhow::Result<()> {
        let (hub, stop) = (Arc::<str>::from(hub), CancellationToken::new());
        let mut tasks = JoinSet::new();
        for publisher in self.publishers.drain(..) {
            tasks.spawn(publisher.publish(hub.clone(), stop.clone()));
        }
        let follow = self.follower.follow(&hub);
        let (truth, publishers) = (&self.truth, &mut self.publishers);
        let rest = async {
            match kill_after {
                Some(time) => {
                    sleep(time).await;
                    life.kill()?;
                    stop.cancel();
                }
                None => ensure!(truth_settles(truth).await, "not everything that was owed was acknowledged"),
            }
            let all_return = async {
                while let Some(done) = tasks.join_next().await {
                    publishers.push(done??);
                }
                anyhow::Ok(())
            };
            timeout(SETTLED_WITHIN, all_return).await.context("a publisher hangs")?
        };
        if kill_after.is_some() {
            tokio::try_join!(follow, rest).map(drop)
        } else {
            tokio::select! {
                biased;
                lost = follow => { lost?; bail!("the reader was sent away") }
                done = rest => done,
            }
        }
    }

    /// Reads everything, and holds it against all that was ever told.
    async fn judge(&mut self, hub: &str, edge: &str) -> anyhow::Result<()> {
        self.readings += 1;
        let reading = Reading::take(hub, self.readings).await.context("reading from the oldest event on")?;
        let ended = {
            let mut truth = truth(&self.truth);
            truth.judge(&reading, WINDOW_BYTES)?;
            truth.ended_sessions()
        };
        for _ in 0..3.min(ended.len()) {
            let session = self.rng.pick(&ended).clone();
            let status = admits(edge, &session).await?;
            ensure!(status == 401, "session {session} was ended, and its token is met with {status}");
            self.refused_tokens += 1;
        }
        let status = admits(edge, &session(u64::MAX)).await?;
        ensure!(status == 200, "a token that is good is met with {status}");
        Ok(())
    }

    /// Nothing is killed any more: whatever is owed is acknowledged, and all of it is there.
    async fn settle(&mut self) -> anyhow::Result<()> {
        let mut life = self.program.start()?;
        let urls = life.ready().await?;
        self.judge(&urls.hub, &urls.edge).await?;
        self.publishers.iter_mut().for_each(|publisher| publisher.is_settling = true);
        self.under_load(&mut life, &urls.hub, None).await?;
        life.kill()?;
        let mut life = self.program.start()?;
        let urls = life.ready().await?;
        self.judge(&urls.hub, &urls.edge).await?;
        ensure!(truth(&self.truth).open() == 0, "something is still owed");
        life.kill()
    }

    fn table(&mut self, options: &Options, took: Duration) -> String {
        let counts = truth(&self.truth).counts;
        self.starts.sort_unstable();
        let (median, slowest) = (self.starts[self.starts.len() / 2], self.starts[self.starts.len() - 1]);
        let rows = [
            ("`kill -9`", options.kills.to_string()),
            ("of these before it listened", self.killed_early.to_string()),
            ("requests", self.numbers.load(Ordering::Relaxed).to_string()),
            ("events and records acknowledged", counts.acked.to_string()),
            ("without an answer when it was killed, and there afterwards", counts.landed.to_string()),
            ("without an answer, and not there", counts.lost.to_string()),
            ("asked for again after they were acknowledged", counts.repeats.to_string()),
            ("delivered to the reader that went through all lives", counts.delivered.to_string()),
            ("readings from the oldest event on", counts.readings.to_string()),
            ("entries in them", counts.read.to_string()),
            ("positions that the window had left at the end", counts.left.to_string()),
            ("tokens of ended sessions that were refused", self.refused_tokens.to_string()),
            ("from the start to listening, median and slowest", format!("{median:.2?}, {slowest:.2?}")),
            ("promises broken", "0".to_owned()),
        ];
        let rows: String = rows.iter().map(|(what, count)| format!("| {what} | {count} |\n")).collect();
        format!("| what | how often |\n|---|---|\n{rows}\n{} s in all.\n", took.as_secs())
    }
}

async fn truth_settles(all: &Mutex<Truth>) -> bool {
    let due = Instant::now() + SETTLED_WITHIN;
    while truth(all).open() > 0 && Instant::now() < due {
        sleep(Duration::from_millis(10)).await;
    }
    truth(all).open() == 0
}

/// With which status the gateway meets the token of a session that was begun before everything.
async fn admits(edge: &str, session: &str) -> anyhow::Result<u16> {
    let began_ms = SESSIONS_BEGAN.unsigned_abs() * 1_000;
    let token = token::issue("1", session, began_ms, Duration::from_secs(4_000_000_000))?;
    let (host, port) = host_and_port(edge)?;
    let due = Instant::now() + ADMITS_WITHIN;
    loop {
        let mut stream = TcpStream::connect((host.as_str(), port)).await?;
        let request = format!(
            "GET /v1/stream HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\nconnection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await?;
        let mut answer = [0; 12];
        timeout(ADMITS_WITHIN, stream.read_exact(&mut answer)).await.context("the gateway is silent")??;
        let status: u16 = std::str::from_utf8(&answer[9..])?.parse()?;
        if status != 503 || Instant::now() > due {
            return Ok(status);
        }
        sleep(Duration::from_millis(5)).await;
    }
}
