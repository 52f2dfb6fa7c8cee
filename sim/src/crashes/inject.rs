//! System calls that fail, one after the other: `strace` lets the n-th of them return an error to a hub under load.
//!
//! A thread at a time is counted, and one call of each fails: the store writes small groups with one thread, large ones with
//! another. So each number is tried with both.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use galaxy_push_proto::v1::publisher_client::PublisherClient;
use tokio::time::{Instant, timeout};
use tonic::Status;
use tonic::transport::Channel;

use super::follower::Follower;
use super::life::{Injection, Life, Program};
use super::load::{call, is_refusal, truth};
use super::reading::{Reading, connect};
use super::request::Request;
use super::truth::Truth;
use crate::rng::Rng;

/// The exit code of a process whose disk has failed (`EX_IOERR`).
const DISK_FAILED: i32 = 74;

/// A process whose disk has failed ends at once.
const ENDS_WITHIN: Duration = Duration::from_secs(10);

/// And so does a call to it.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);

/// So many calls more than it takes for the one that fails.
const MORE: u32 = 4;

/// Segments are an eighth of it, and no smaller than 1 MiB.
const WINDOW_BYTES: u64 = 8 << 20;

/// What to do.
#[derive(Clone, Debug)]
pub struct Options {
    /// Which numbers: the first to the last.
    pub nth: (u32, u32),
    /// Only every so many of them.
    pub step: u32,
    /// Where logs go. Emptied first.
    pub out: PathBuf,
}

/// One kind of failure.
#[derive(Clone, Copy, Debug)]
struct Kind {
    call: &'static str,
    error: &'static str,
    /// What the store does with this call.
    what: &'static str,
    /// How many such calls a start on an empty folder makes: when one of them fails, it does not start.
    at_start: u32,
    /// What is published, so that each publish makes one such call.
    sizes: &'static [Size],
    then: Then,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Size {
    /// Written by the thread that takes batches.
    Small,
    /// By the one that writes large groups.
    Large,
    /// Which needs a segment of its own.
    Segment,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    /// Nothing is acknowledged any more, and the process ends.
    Dies,
    /// That publish is refused, and nothing else happens.
    GoesOn,
}

const KINDS: [Kind; 7] = [
    Kind {
        call: "fdatasync",
        error: "EIO",
        what: "a group is made durable",
        at_start: 1,
        sizes: &[Size::Small, Size::Large],
        then: Then::Dies,
    },
    Kind {
        call: "fdatasync",
        error: "ENOSPC",
        what: "the same, on a file system that finds no room only then",
        at_start: 1,
        sizes: &[Size::Small, Size::Large],
        then: Then::Dies,
    },
    Kind {
        call: "fsync",
        error: "EIO",
        what: "the name of a segment is made durable",
        at_start: 2,
        sizes: &[Size::Segment],
        then: Then::Dies,
    },
    Kind {
        call: "pwrite64",
        error: "EIO",
        what: "a group is written",
        at_start: 1,
        sizes: &[Size::Small, Size::Large],
        then: Then::Dies,
    },
    Kind {
        call: "pwrite64",
        error: "ENOSPC",
        what: "a group is written",
        at_start: 1,
        sizes: &[Size::Small, Size::Large],
        then: Then::GoesOn,
    },
    Kind {
        call: "fallocate",
        error: "ENOSPC",
        what: "a segment gets its space",
        at_start: 1,
        sizes: &[Size::Segment],
        then: Then::GoesOn,
    },
    Kind {
        call: "fallocate",
        error: "EDQUOT",
        what: "the same, and the quota is used up",
        at_start: 1,
        sizes: &[Size::Segment],
        then: Then::GoesOn,
    },
];

/// What one number came to.
#[derive(Debug, Default)]
struct Seen {
    refused_to_start: u64,
    died: u64,
    refused: u64,
    acked: u64,
    landed: u64,
    lost: u64,
}

/// Lets each call fail, and judges what is found.
///
/// # Errors
///
/// When a promise is broken.
pub async fn run(options: &Options, tell: fn(&str)) -> anyhow::Result<String> {
    super::empty(&options.out)?;
    let begun = Instant::now();
    let mut rows = String::from(
        "| call | error | what it does | each n of | runs | refused to start | ended with 74 | one publish refused, all \
         else went on | acknowledged, and all there | open, and there | open, and not there | promises broken |\n\
         |---|---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    let (first, last) = options.nth;
    for kind in KINDS {
        let (mut seen, mut runs) = (Seen::default(), 0);
        for nth in (first..=last).step_by(options.step.max(1) as usize) {
            for size in kind.sizes {
                let out = options.out.join(format!("{}-{}-{nth}-{size:?}", kind.call, kind.error));
                super::empty(&out)?;
                let mut case = Case::new(kind, *size, nth, out.clone())?;
                case.run(&mut seen).await.with_context(|| format!("see {}", out.display()))?;
                std::fs::remove_dir_all(&out)?;
                runs += 1;
            }
        }
        let Seen { refused_to_start, died, refused, acked, landed, lost } = seen;
        let Kind { call, error, what, .. } = kind;
        tell(&format!("{call} {error}: {runs} runs, {died} died, {refused} refused"));
        rows += &format!(
            "| `{call}` | {error} | {what} | {first} to {last} | {runs} | {refused_to_start} | {died} | {refused} | {acked} | \
             {landed} | {lost} | 0 |\n"
        );
    }
    Ok(format!("{rows}\n{} s in all.\n", begun.elapsed().as_secs()))
}

/// One number.
struct Case {
    kind: Kind,
    size: Size,
    injection: Injection,
    program: Program,
    truth: Arc<Mutex<Truth>>,
    rng: Rng,
}

impl Case {
    fn new(kind: Kind, size: Size, nth: u32, out: PathBuf) -> anyhow::Result<Self> {
        let bytes = WINDOW_BYTES.to_string();
        let program = Program::new(&crate::real::binary()?, &out, &["hub", "--window-bytes", &bytes]);
        let (call, error, calls) = (kind.call, kind.error, out.join("calls"));
        let injection = Injection { call, error, nth, calls };
        let rng = Rng::new(u64::from(nth), call);
        Ok(Self { kind, size, injection, program, truth: Arc::default(), rng })
    }

    async fn run(&mut self, seen: &mut Seen) -> anyhow::Result<()> {
        let mut life = self.program.start_with(&self.injection)?;
        let owed = match life.ready().await {
            Ok(urls) => {
                ensure!(self.injection.nth > self.kind.at_start, "it starts as if nothing had failed");
                let owed = match self.kind.then {
                    Then::Dies => Some(self.until_it_dies(&mut life, &urls.hub).await?),
                    Then::GoesOn => self.goes_on(&urls.hub).await.map(|()| None)?,
                };
                life.kill()?;
                let is_dead = self.kind.then == Then::Dies;
                seen.died += u64::from(is_dead);
                seen.refused += u64::from(!is_dead);
                owed
            }
            Err(error) => {
                ensure!(self.injection.nth <= self.kind.at_start, "it does not start: {error:#}");
                let status = life.ended(ENDS_WITHIN).await?;
                ensure!(!status.success(), "it ended without a complaint");
                seen.refused_to_start += 1;
                None
            }
        };
        self.next_life(owed).await?;
        let counts = truth(&self.truth).counts;
        seen.acked += counts.acked;
        seen.landed += counts.landed;
        seen.lost += counts.lost;
        Ok(())
    }

    fn request(&mut self, number: u32) -> Request {
        let (number, rng) = (u64::from(number), &mut self.rng);
        match self.size {
            Size::Small => Request::sized(number, 1, 100, rng),
            Size::Large => Request::sized(number, 12, 1_000, rng),
            Size::Segment => Request::sized(number, 30, 40_000, rng),
        }
    }

    async fn ask(&self, client: &mut PublisherClient<Channel>, request: &Request) -> anyhow::Result<Status> {
        truth(&self.truth).asks(request);
        let answer = timeout(ANSWER_WITHIN, call(client, request)).await.context("no answer")?;
        match answer {
            Ok(told) => {
                truth(&self.truth).acknowledged(request, &told)?;
                Ok(Status::ok(""))
            }
            Err(status) => Ok(status),
        }
    }

    /// Publishes one request after the other until the process is gone. Returns the one whose answer is open.
    async fn until_it_dies(&mut self, life: &mut Life, hub: &str) -> anyhow::Result<Request> {
        let mut client = PublisherClient::new(connect(hub).await?);
        for number in 1..=self.injection.nth + MORE {
            let request = self.request(number);
            let status = self.ask(&mut client, &request).await?;
            if status.code() == tonic::Code::Ok {
                continue;
            }
            ensure!(!is_refusal(&status), "what failed may be in the log, and is refused: {status:?}");
            _ = truth(&self.truth).unknown(&request);
            let ended = life.ended(ENDS_WITHIN).await?;
            ensure!(ended.code() == Some(DISK_FAILED), "its disk has failed, and it ended with {ended}");
            self.none_was_early()?;
            return Ok(request);
        }
        bail!("{:?} failed, and everything was acknowledged", self.injection)
    }

    /// Nothing was acknowledged without a call of its own that had succeeded: one is made for the segment at the start.
    fn none_was_early(&self) -> anyhow::Result<()> {
        if self.kind.call != "fdatasync" {
            return Ok(());
        }
        let calls = std::fs::read_to_string(&self.injection.calls)?;
        let good = calls.lines().filter(|line| line.ends_with("= 0")).count() as u64;
        let (acked, each) = (truth(&self.truth).counts.acked, if self.size == Size::Small { 1 } else { 12 });
        ensure!(acked == (good - 1) * each, "{acked} events were acknowledged, by {good} syncs");
        Ok(())
    }

    /// Publishes one request after the other: one is refused, the reader goes on with the rest.
    async fn goes_on(&mut self, hub: &str) -> anyhow::Result<()> {
        let mut client = PublisherClient::new(connect(hub).await?);
        let mut follower = Follower::new(&self.truth);
        let mut progress = follower.progress.subscribe();
        let publish = async {
            let mut refused = Vec::new();
            let mut last = 0;
            for number in 1..=self.injection.nth + MORE {
                let request = self.request(number);
                let status = self.ask(&mut client, &request).await?;
                if status.code() == tonic::Code::Ok {
                    last = number;
                    // Whoever reads all along has it, in one stream.
                    let head = truth(&self.truth).head();
                    let has_it = timeout(ANSWER_WITHIN, progress.wait_for(|at| *at >= head)).await;
                    has_it.context("the reader is behind")??;
                    continue;
                }
                ensure!(
                    is_refusal(&status) && format!("{status:?}").contains("STORE_UNAVAILABLE"),
                    "a full disk is told as {status:?}"
                );
                truth(&self.truth).refused(&request);
                refused.push(number);
            }
            ensure!(refused.len() == 1 && refused[0] < last, "{refused:?} were refused, {last} was not");
            anyhow::Ok(())
        };
        tokio::select! {
            biased;
            lost = follower.follow(hub) => { lost?; bail!("the reader was sent away") }
            done = publish => done,
        }
    }

    /// The next process has everything acknowledged; what was open is found out by its id; and it goes on.
    async fn next_life(&mut self, owed: Option<Request>) -> anyhow::Result<()> {
        for life in 0..2 {
            let mut process = self.program.start()?;
            let urls = process.ready().await?;
            let reading = Reading::take(&urls.hub, life).await?;
            truth(&self.truth).judge(&reading, WINDOW_BYTES)?;
            let mut client = PublisherClient::new(connect(&urls.hub).await?);
            let more = self.request(self.injection.nth + MORE + 1 + life as u32);
            for request in owed.iter().chain([&more]) {
                let status = self.ask(&mut client, request).await?;
                ensure!(status.code() == tonic::Code::Ok, "the next process refuses: {status:?}");
            }
            process.kill()?;
        }
        Ok(())
    }
}
