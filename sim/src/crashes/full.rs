//! A disk that is full, for real: a small file system in memory, filled by the log and by a file beside it.
//!
//! The file system is mounted here, so the process needs a mount namespace of its own. What is refused is refused; streams and
//! standing records stay; once there is room it goes on, without a restart; and a hub that is killed on a full disk opens again.
//! Where nobody makes room it makes some itself, as soon as what fills the disk has left the window.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use galaxy_push_proto::v1::publisher_client::PublisherClient;
use tokio::time::{Instant, sleep, timeout};
use tonic::transport::Channel;

use super::follower::Follower;
use super::life::Program;
use super::load::{call, is_refusal, truth};
use super::reading::{Reading, connect};
use super::request::Request;
use super::truth::Truth;
use crate::rng::Rng;

/// The log alone would need 12 to 16 MiB; the file beside it leaves it fewer.
const DISK_BYTES: u64 = 24 << 20;
const BESIDE_BYTES: usize = 18 << 20;
const WINDOW_BYTES: u64 = 8 << 20;

/// It fills long before.
const REQUESTS_MAX: u64 = 2_000;

/// A log that has taken so many lives on what its window gives back: from then on whatever is given back is taken from it.
const TAKEN_FREELY: u64 = 300;

/// So many are refused one after the other before anybody calls it full.
const REFUSED: usize = 5;

/// So long ids count. A log that has lived on what its window gives back has carried all of them into few segments, and to carry them on
/// takes more than each keeps for that: such a disk gives nothing back before they are too old (docs/operations.md).
const IDS: Duration = Duration::from_secs(120);

const PIECE_BYTES: usize = 4 << 10;

const WITHIN: Duration = Duration::from_secs(20);

/// Longer than it takes to fill the disk, and no longer than anybody waits for what leaves the window.
const AGE: &str = "8s";

/// So often it is read until nothing leaves meanwhile.
const READINGS_MAX: usize = 20;

/// What to do.
#[derive(Clone, Debug)]
pub struct Options {
    /// How often it fills.
    pub rounds: u32,
    /// Where the file system is mounted. Emptied first.
    pub out: PathBuf,
}

#[derive(Debug, Default)]
struct Seen {
    filled: u64,
    refused: u64,
    killed_full: u64,
    went_on: u64,
    gave_back: u64,
}

/// Fills the disk, and judges what is found.
///
/// # Errors
///
/// When a promise is broken, or nothing can be mounted here.
pub async fn run(options: &Options, tell: fn(&str)) -> anyhow::Result<String> {
    let begun = Instant::now();
    super::empty(&options.out)?;
    let disk = options.out.join("disk");
    mount(&disk)?;
    let beside = disk.join("beside");
    let mut program =
        Program::new(&crate::real::binary()?, &disk, &["hub", "--window-bytes", &WINDOW_BYTES.to_string()]);
    program.log = options.out.join("hub.log");
    let mut room = Room {
        truth: Arc::default(),
        rng: Rng::new(1, "full"),
        number: 0,
        beside,
        gives_back_within: WITHIN,
        seen: Seen::default(),
        readings: 0,
    };
    let mut follower = Follower::new(&room.truth);
    for round in 0..options.rounds {
        let mut life = program.start()?;
        let urls = life.ready().await?;
        room.judge(&urls.hub).await?;
        let mut client = PublisherClient::new(connect(&urls.hub).await?);
        // Half of the rounds end with the kill of a hub that has no room, and the next begins there.
        let frees = round % 2 == 0;
        tokio::select! {
            biased;
            lost = follower.follow(&urls.hub) => { lost?; bail!("the reader was sent away") }
            done = room.round(&urls.hub, &mut client, frees) => done.context(format!("round {round}"))?,
        }
        life.kill()?;
        let mut life = program.start().context("on a disk that is full")?;
        let urls = life.ready().await?;
        room.judge(&urls.hub).await?;
        let mut client = PublisherClient::new(connect(&urls.hub).await?);
        room.free();
        room.publish(&mut client).await?.context("there is room, and it is refused")?;
        life.kill()?;
        tell(&format!("filled {} times, {} refused", room.seen.filled, room.seen.refused));
    }
    // The next two lives have a window that is soon over. One fills the disk and waits; one begins on a disk that is full.
    program.args.extend(["--window-age", AGE].map(Into::into));
    for fills in [true, false] {
        let mut life = program.start().context("on a disk that is full")?;
        let urls = life.ready().await?;
        room.waits(&urls.hub, fills).await.context("nobody makes room")?;
        life.kill()?;
    }
    let counts = truth(&room.truth).counts;
    let Seen { filled, refused, killed_full, went_on, gave_back } = room.seen;
    let rows = [
        ("the disk was full", filled),
        ("requests refused by it, none of which is in the log", refused),
        ("went on without a restart once there was room", went_on),
        ("killed while it was full, and opened again before there was room", killed_full),
        ("took events again once what filled it had left the window, with not one byte free", gave_back),
        ("events and records acknowledged", counts.acked),
        ("delivered to the reader that went through all lives", counts.delivered),
        ("readings from the oldest event on, some of them on the full disk", counts.readings),
        ("promises broken", 0),
    ];
    let rows: String = rows.iter().map(|(what, count)| format!("| {what} | {count} |\n")).collect();
    Ok(format!("| what | how often |\n|---|---|\n{rows}\n{} s in all.\n", begun.elapsed().as_secs()))
}

fn mount(disk: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(disk)?;
    let size = format!("size={DISK_BYTES}");
    let status = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(disk).status()?;
    ensure!(status.success(), "no file system can be mounted here: run it in a mount namespace of its own");
    Ok(())
}

/// Writes a file of so many bytes, or of as many as there is room for.
fn take_room(file: &Path, bytes: usize) -> std::io::Result<()> {
    std::fs::write(file, vec![1; bytes]).or_else(|error| match error.kind() {
        std::io::ErrorKind::StorageFull => Ok(()),
        _ => Err(error),
    })
}

/// Writes behind this file as long as there is room.
fn take_what_is_free(file: &Path) -> std::io::Result<()> {
    let mut file = std::fs::File::options().create(true).append(true).open(file)?;
    loop {
        match file.write_all(&[1; PIECE_BYTES]) {
            Err(error) if error.kind() == std::io::ErrorKind::StorageFull => return Ok(()),
            written => written?,
        }
    }
}

/// The disk with what is on it.
struct Room {
    truth: Arc<Mutex<Truth>>,
    rng: Rng,
    number: u64,
    /// A file that takes the room.
    beside: PathBuf,
    /// How long it may take until something is given back.
    gives_back_within: Duration,
    seen: Seen,
    readings: u64,
}

impl Room {
    /// Publishes until the disk is full; with `frees`, makes room then.
    async fn round(
        &mut self,
        hub: &str,
        client: &mut PublisherClient<Channel>,
        frees: bool,
    ) -> anyhow::Result<()> {
        self.fill(client).await?;
        // Who comes new reads everything, standing records too.
        self.judge(hub).await?;
        if frees {
            self.free();
            for _ in 0..20 {
                self.publish(client).await?.context("there is room, and it is refused")?;
            }
            self.judge(hub).await?;
            self.seen.went_on += 1;
        } else {
            self.seen.killed_full += 1;
        }
        Ok(())
    }

    /// Takes most of the room, and publishes until there is no more.
    async fn fill(&mut self, client: &mut PublisherClient<Channel>) -> anyhow::Result<()> {
        take_room(&self.beside, BESIDE_BYTES)?;
        let mut refused = 0;
        for number in 0..REQUESTS_MAX {
            match self.publish(client).await? {
                Ok(()) => {
                    refused = 0;
                    if number >= TAKEN_FREELY {
                        self.gives_back_within = IDS + WITHIN;
                        take_what_is_free(&self.rest())?;
                    }
                }
                Err(_) => refused += 1,
            }
            if refused == REFUSED {
                break;
            }
        }
        ensure!(refused == REFUSED, "the disk does not fill");
        self.seen.filled += 1;
        Ok(())
    }

    /// Not one byte is free, and nobody makes room: events are taken again when those that fill the disk have left the window. The
    /// next life begins where this one has ended.
    async fn waits(&mut self, hub: &str, fills: bool) -> anyhow::Result<()> {
        let mut client = PublisherClient::new(connect(hub).await?);
        if fills {
            self.fill(&mut client).await?;
        }
        let taken = self.rest();
        let begun = Instant::now();
        let mut is_full = false;
        loop {
            if !is_full {
                take_room(&taken, DISK_BYTES as usize)?;
                is_full = self.publish_large(&mut client).await?.is_err();
            } else if self.publish_large(&mut client).await?.is_ok() {
                break;
            }
            ensure!(
                begun.elapsed() < self.gives_back_within,
                "nothing is given back, or the disk does not fill"
            );
            sleep(Duration::from_millis(100)).await;
        }
        ensure!(self.beside.exists() && taken.exists(), "somebody else has made room");
        self.seen.gave_back += 1;
        // It holds what is young, be it ever so little. What is about to leave may do so while it is read.
        for _ in 0..READINGS_MAX {
            self.readings += 1;
            match Reading::take(hub, self.readings).await {
                Err(error) if error.to_string().contains("reason: Lapped") => {}
                reading => return truth(&self.truth).judge(&reading?, 0),
            }
        }
        bail!("whoever reads from the oldest event on is lapped {READINGS_MAX} times")
    }

    fn free(&self) {
        // Neither is there in every round.
        _ = std::fs::remove_file(&self.beside);
        _ = std::fs::remove_file(self.rest());
    }

    /// Another file that takes room.
    fn rest(&self) -> PathBuf {
        self.beside.with_extension("rest")
    }

    /// One request; the inner error is a refusal.
    async fn publish(&mut self, client: &mut PublisherClient<Channel>) -> anyhow::Result<anyhow::Result<()>> {
        self.number += 1;
        let (number, rng) = (self.number, &mut self.rng);
        let request = match number % 4 {
            0 => Request::record(number, rng),
            1 => Request::events(number, 1, rng),
            // Few ids: they count for 2 minutes, so what lets a segment go here carries all that lie in it, and has 16 KiB for that.
            _ => Request::sized(number, 2, 20_000, rng),
        };
        self.ask(client, request).await
    }

    /// One request that needs more room than the log keeps for itself.
    async fn publish_large(
        &mut self,
        client: &mut PublisherClient<Channel>,
    ) -> anyhow::Result<anyhow::Result<()>> {
        self.number += 1;
        let request = Request::sized(self.number, 10, 40_000, &mut self.rng);
        self.ask(client, request).await
    }

    /// The inner error is a refusal.
    async fn ask(
        &mut self,
        client: &mut PublisherClient<Channel>,
        request: Request,
    ) -> anyhow::Result<anyhow::Result<()>> {
        truth(&self.truth).asks(&request);
        match timeout(WITHIN, call(client, &request)).await.context("no answer")? {
            Ok(told) => {
                truth(&self.truth).acknowledged(&request, &told)?;
                Ok(Ok(()))
            }
            Err(status) if is_refusal(&status) && format!("{status:?}").contains("STORE_UNAVAILABLE") => {
                ensure!(truth(&self.truth).refused(&request), "a first try is surely not in the log");
                self.seen.refused += 1;
                Ok(Err(status.into()))
            }
            Err(status) => bail!("a full disk is told as {status:?}"),
        }
    }

    async fn judge(&mut self, hub: &str) -> anyhow::Result<()> {
        self.readings += 1;
        let reading = Reading::take(hub, self.readings).await?;
        truth(&self.truth).judge(&reading, WINDOW_BYTES)
    }
}
