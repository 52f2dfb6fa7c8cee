//! Many clients of one hub lose it at the same moment: sent away by a drain while another hub waits, and by `kill -9`.
//!
//! Each `PushClient` has a connection of its own and writes down which events it has, by their numbers; at the end every
//! acknowledged event was received by every client, once and in order, or lies in a gap that the client was told of.
//! Run by `galaxy-push-chaos storm`. Judges by counting, not with the history checker.

mod flock;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use galaxy_push_client::Publisher;
use galaxy_push_proto::v1;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use self::flock::{Acked, Counted, Flock};
use crate::publisher::position;
use crate::real::{self, Process, host_and_port};

/// All are live again within this.
const LIVE_WITHIN: Duration = Duration::from_secs(15);

/// A process that was told to leave ends within this.
const LEAVES_WITHIN: Duration = Duration::from_secs(25);

/// The pause between two events.
const PUBLISH_EVERY: Duration = Duration::from_millis(50);

/// How long nothing happens before a storm.
const PEACE: Duration = Duration::from_secs(2);

/// A hub that is away for this long: every wait of its clients has come to its cap.
const LONG_OUTAGE: Duration = Duration::from_secs(20);

/// After a drain, at most one client of so many is back within the same 100 ms.
const HERD_SHARE: usize = 4;

/// So often may they come in a larger bunch before the drain is to blame: one that does not spread them fails each time.
const CHANCES: u32 = 3;

/// What to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// How many clients; the return slots of fewer than 1,000 lie too close together to be told apart.
    pub clients: usize,
    /// Whether a hub is also away for long.
    pub long: bool,
    /// Where the hubs' logs go.
    pub out: PathBuf,
}

/// What one storm came to.
#[derive(Debug)]
struct Storm {
    what: &'static str,
    live_after: Duration,
    dials: usize,
    /// The most streams that began within so long.
    back_in_100_ms: usize,
    back_in_1_s: usize,
    /// From the first stream that ended to the last, if the hub sent them away.
    sent_away_over: Option<Duration>,
}

/// Runs both storms and judges them; returns a table, as Markdown.
///
/// # Errors
///
/// When a client is not live again in time, or lacks an event.
pub async fn run(options: &Options, tell: fn(&str)) -> anyhow::Result<String> {
    std::fs::create_dir_all(&options.out)?;
    let (binary, log) = (real::binary()?, options.out.join("hub.log"));
    let start = |address: &str| Process::start(&binary, &["hub", "--hub-addr", address], &log);
    let (drained, mut counted) = sent_away(options, || start("127.0.0.1:0"), tell).await?;
    let mut storms = vec![drained];

    let mut hub = start("127.0.0.1:0")?;
    let address = format!("127.0.0.1:{}", host_and_port(&hub.urls.hub)?.1);
    let world = World::start(options.clients, &hub.urls.hub).await?;
    tell(&format!("{} clients of one hub are live", options.clients));
    let outages = if options.long { vec![Duration::ZERO, LONG_OUTAGE] } else { vec![Duration::ZERO] };
    for outage in outages {
        sleep(PEACE).await;
        let (storm, next) = killed(hub, &world, outage, || start(&address)).await?;
        hub = next;
        tell(&storm.row());
        storms.push(storm);
    }
    counted += world.judge().await?;
    let rows: String = storms.iter().map(|storm| storm.row() + "\n").collect();
    Ok(format!(
        "| {} clients | all live again after | dials | most back in 100 ms | most back in 1 s | closings over |\n\
         |---|---|---|---|---|---|\n{rows}\n\
         {} events acknowledged, {} receptions, each once and in order; {} more lay in gaps that were told, all of hubs \
         that were killed.\n",
        options.clients, counted.acked, counted.received, counted.told,
    ))
}

/// Two hubs, of which one leaves; again if the clients came back in a bunch, as they do where the machine stands still.
async fn sent_away(
    options: &Options,
    start: impl Fn() -> anyhow::Result<Process>,
    tell: fn(&str),
) -> anyhow::Result<(Storm, Counted)> {
    let mut counted = Counted::default();
    let mut chance = 0;
    loop {
        chance += 1;
        let (first, second) = (start()?, start()?);
        let world = World::start(options.clients, &format!("{},{}", first.urls.hub, second.urls.hub)).await?;
        tell(&format!("{} clients of two hubs are live", options.clients));
        let storm = drained(first, &world).await?;
        tell(&storm.row());
        counted += world.judge().await?;
        ensure!(
            counted.told == 0,
            "{} events were told as missing after a drain, which loses none",
            counted.told
        );
        let (bunch, all) = (storm.back_in_100_ms, options.clients);
        if all < 1_000 || bunch * HERD_SHARE <= all {
            return Ok((storm, counted));
        }
        let bunch = format!("{bunch} of {all} clients were back within 100 ms of each other");
        ensure!(chance < CHANCES, "{bunch}, and as many each time: the drain must spread them");
        tell(&format!("{bunch}: once more"));
    }
}

/// Clients, and events for them.
struct World {
    flock: Flock,
    source: Source,
}

impl World {
    async fn start(clients: usize, hubs: &str) -> anyhow::Result<Self> {
        let world = Self { flock: Flock::start(clients, hubs)?, source: Source::start(hubs)? };
        let started = world.flock.all_live(world.source.next_number(), Duration::from_secs(60)).await;
        started.context("at the start").map(|()| world)
    }

    /// Ends the traffic and counts what every client has.
    async fn judge(self) -> anyhow::Result<Counted> {
        let acked = self.source.stop().await?;
        self.flock.all_live(acked.last_number(), LIVE_WITHIN).await.context("at the end")?;
        self.flock.judge(&acked)
    }
}

/// SIGTERM; the clients turn to the other hub.
async fn drained(mut hub: Process, world: &World) -> anyhow::Result<Storm> {
    let flock = &world.flock;
    sleep(PEACE).await;
    let begun = flock.begin();
    hub.signal("TERM")?;
    let leaving = tokio::spawn(async move { hub.ended(LEAVES_WITHIN).await });
    let live_after = live_again(world).await?;
    ensure!(leaving.await??, "the hub drained, but did not end with success");
    let mut storm = measured("SIGTERM, a second hub takes over", flock, begun, live_after);
    storm.sent_away_over = flock.ended_over(begun);
    Ok(storm)
}

/// `kill -9`, and after a while, or at once, another hub in its place.
async fn killed(
    mut hub: Process,
    world: &World,
    outage: Duration,
    restart: impl Fn() -> anyhow::Result<Process>,
) -> anyhow::Result<(Storm, Process)> {
    let flock = &world.flock;
    let begun = flock.begin();
    hub.kill()?;
    sleep(outage).await;
    let hub = restart()?;
    let live_after = live_again(world).await?;
    let what = if outage.is_zero() { "`kill -9`, started again at once" } else { "`kill -9`, away for 20 s" };
    Ok((measured(what, flock, begun, live_after), hub))
}

/// Waits until every client has an event of the hub that took over.
async fn live_again(World { flock, source }: &World) -> anyhow::Result<Duration> {
    let started = Instant::now();
    let before = source.epochs.load(Ordering::Relaxed);
    while source.epochs.load(Ordering::Relaxed) == before {
        ensure!(started.elapsed() < LIVE_WITHIN, "nothing could be published within {LIVE_WITHIN:?}");
        sleep(Duration::from_millis(5)).await;
    }
    flock.all_live(source.next_number(), LIVE_WITHIN).await?;
    ensure!(started.elapsed() < LIVE_WITHIN, "all live again only after {:?}", started.elapsed());
    Ok(started.elapsed())
}

fn measured(what: &'static str, flock: &Flock, begun: Duration, live_after: Duration) -> Storm {
    let returned = flock.returned_since(begun);
    let most = |window: Duration| {
        let mut from = 0;
        let counts = returned.iter().enumerate().map(|(index, at)| {
            while returned[from] + window < *at {
                from += 1;
            }
            index + 1 - from
        });
        counts.max().unwrap_or_default()
    };
    Storm {
        what,
        live_after,
        dials: flock.dials_since(begun).len(),
        back_in_100_ms: most(Duration::from_millis(100)),
        back_in_1_s: most(Duration::from_secs(1)),
        sent_away_over: None,
    }
}

impl Storm {
    fn row(&self) -> String {
        let over =
            self.sent_away_over.map_or("at once".into(), |over| format!("{:.2} s", over.as_secs_f64()));
        format!(
            "| {} | {:.2} s | {} | {} | {} | {over} |",
            self.what,
            self.live_after.as_secs_f64(),
            self.dials,
            self.back_in_100_ms,
            self.back_in_1_s,
        )
    }
}

/// Publishes numbered events, one after the other, and keeps where each lies.
struct Source {
    published: Arc<AtomicU64>,
    /// How many lives of a log it has met.
    epochs: Arc<AtomicU64>,
    stop: CancellationToken,
    task: JoinHandle<anyhow::Result<Acked>>,
}

impl Source {
    fn start(hubs: &str) -> anyhow::Result<Self> {
        let mut publisher = Publisher::builder().hub(hubs).build()?;
        let (published, epochs) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let stop = CancellationToken::new();
        let (number, lives, stopped) = (published.clone(), epochs.clone(), stop.clone());
        let task = tokio::spawn(async move {
            let mut acked = Acked::default();
            while !stopped.is_cancelled() {
                let event = event(number.fetch_add(1, Ordering::Relaxed) + 1);
                let answer = publisher.publish(vec![event]).await?;
                let place = answer.first().and_then(|published| position(&published.cursor));
                acked.push(place.context("an event without a place")?);
                lives.store(acked.lives(), Ordering::Relaxed);
                sleep(PUBLISH_EVERY).await;
            }
            Ok(acked)
        });
        Ok(Self { published, epochs, stop, task })
    }

    /// The number of an event that is not published yet.
    fn next_number(&self) -> u64 {
        self.published.load(Ordering::Relaxed) + 1
    }

    async fn stop(self) -> anyhow::Result<Acked> {
        self.stop.cancel();
        self.task.await?
    }
}

fn event(number: u64) -> v1::Event {
    v1::Event {
        id: flock::id(number),
        to: vec!["all".into()],
        source: "storm".into(),
        r#type: "storm.event".into(),
        data: format!(r#"{{"n":{number}}}"#).into_bytes().into(),
        data_content_type: "application/json".into(),
        ..v1::Event::default()
    }
}
