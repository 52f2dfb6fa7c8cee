//! Real webhooks through real processes: publisher → hub → two gateways → users over SSE and WebSocket.
//!
//! On the way every user's connection is cut several times and the hub is killed with SIGKILL and started again. The
//! history checker then judges every stream: exactly its own events, in order, once each, or a gap that names the hole.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use clap::Parser;
use galaxy_push_client::Publisher;
use galaxy_push_proto::{cloudevents, v1, validate};
use galaxy_push_sim::publisher::{hash, position, record_answer, record_calls};
use galaxy_push_sim::real::{self, Process, clock_us, host_and_port};
use galaxy_push_sim::rng::Rng;
use galaxy_push_sim::users::{self, Transport};
use galaxy_push_testkit::history::{Fault, LogLine, Name, Position, Rules, What};
use galaxy_push_testkit::{Recorder, Sight, check, history};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

/// Events a batch; small, so that many batches and cuts meet.
const BATCH: usize = 8;

/// The pause between two batches.
const PAUSE: Duration = Duration::from_millis(100);

/// Users cut their connections for this long: longer than publishing takes.
const CUTS: Duration = Duration::from_secs(16);

/// When users stop: what was cut last has long come back.
const LENGTH: Duration = Duration::from_secs(24);

/// Sends real webhooks through the whole system while it is hurt, and checks what every user received.
#[derive(Debug, Parser)]
struct Args {
    /// CloudEvents, one a line: `cargo xtask webhooks` makes them.
    #[arg(long, default_value = "target/webhooks.ndjson")]
    events: PathBuf,
    /// Where the history and the logs of the processes go.
    #[arg(long, default_value = "target/end-to-end")]
    out: PathBuf,
}

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line tool")]
fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    match runtime.map_err(anyhow::Error::from).and_then(|runtime| runtime.block_on(run(&Args::parse()))) {
        Ok(told) => {
            println!("{told}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: &Args) -> anyhow::Result<String> {
    let events = load(&args.events)?;
    std::fs::create_dir_all(&args.out)?;
    let recorder = Recorder::new(history::DEFAULT_CAP);
    recorder.record(clock_us(), What::Rules(Rules { live_within_us: 6_000_000, ..Rules::default() }));
    let binary = real::binary()?;
    let hub = Process::start(&binary, &["hub", "--hub-addr", "127.0.0.1:0"], &args.out.join("hub.log"))?;
    let hub_url = hub.urls.hub.clone();
    let gateway = |name: &str| {
        let command = ["gateway", "--hub", &hub_url, "--edge-addr", "127.0.0.1:0", "--gateway-id", name];
        Process::start(&binary, &command, &args.out.join(format!("{name}.log")))
    };
    let gateways = [gateway("gateway-a")?, gateway("gateway-b")?];
    let edges: Vec<_> =
        gateways.iter().map(|gateway| host_and_port(&gateway.urls.edge)).collect::<Result<_, _>>()?;
    let mut readers = start_users(&events, &edges, &recorder);
    let publisher = recorder.process("backend");
    publish_all(&events, hub, &hub_url, &binary, &args.out, &publisher).await?;
    while let Some(user) = readers.join_next().await {
        user?.context("a user was sent something that is no frame")?;
    }
    recorder.record(clock_us(), What::End);
    judge(&recorder.finish()?, &events, &args.out)
}

fn load(path: &Path) -> anyhow::Result<Vec<v1::Event>> {
    let text = std::fs::read(path)
        .with_context(|| format!("cannot read {}; make it with `cargo xtask webhooks`", path.display()))?;
    let mut events = Vec::new();
    for (number, line) in text.split(|byte| *byte == b'\n').enumerate() {
        if let Some(mut event) = cloudevents::parse_line(line, number as u64 + 1)? {
            validate::fill_in(&mut event, 0);
            events.push(event);
        }
    }
    ensure!(events.len() > 300, "only {} events in {}", events.len(), path.display());
    Ok(events)
}

/// Every user named as a recipient connects twice, over two transports, and asks for some of the topics.
fn start_users(
    events: &[v1::Event],
    edges: &[(String, u16)],
    recorder: &Recorder,
) -> JoinSet<anyhow::Result<()>> {
    let recipients: BTreeSet<&str> =
        events.iter().flat_map(|event| event.to.iter().map(String::as_str)).collect();
    let topics: Vec<_> = recipients.iter().filter_map(|to| to.strip_prefix("topic:")).collect();
    let mut readers = JoinSet::new();
    let transports = [Transport::Sse, Transport::WsJson, Transport::WsProto];
    for (number, user) in recipients.iter().filter_map(|to| to.strip_prefix("user:")).enumerate() {
        for way in 0..2 {
            let reader = format!("{user}-{way}");
            let mut rng = Rng::new(number as u64, &reader);
            let plan = users::Plan {
                reader: reader.clone(),
                user: user.to_owned(),
                topics: (0..2)
                    .map(|_| (*rng.pick(&topics)).to_owned())
                    .collect::<BTreeSet<_>>()
                    .into_iter()
                    .collect(),
                later_topic: None,
                transport: transports[(number + way) % transports.len()],
                gateways: edges.to_vec(),
                roams: false,
                silence: Duration::from_secs(40),
                cuts_until: CUTS,
                cut_percent: 100,
                cut_after: (Duration::from_millis(300), Duration::from_secs(4)),
                pause_percent: 0,
                away_percent: 0,
                away: (Duration::ZERO, Duration::ZERO),
                steady: None,
                habits: users::Habits::default(),
            };
            let dial = |host: String, port: u16| TcpStream::connect((host, port));
            readers.spawn(users::run(plan, dial, recorder.process(reader), clock_us, rng, LENGTH));
        }
    }
    readers
}

async fn publish_all(
    events: &[v1::Event],
    mut hub: Process,
    hub_url: &str,
    binary: &Path,
    out: &Path,
    recorder: &Recorder,
) -> anyhow::Result<()> {
    let started = Instant::now();
    sleep(Duration::from_secs(1)).await; // users connect meanwhile
    let mut publisher = Publisher::builder().hub(hub_url).build()?;
    let batches: Vec<_> = events.chunks(BATCH).collect();
    for (number, batch) in batches.iter().enumerate() {
        if number == batches.len() / 2 {
            let fault = Fault { kind: "kill".into(), detail: "hub".to_owned() };
            recorder.record(clock_us(), What::FaultStart(fault.clone()));
            hub.kill()?;
            sleep(Duration::from_millis(500)).await;
            let (_, port) = host_and_port(hub_url)?;
            let address = format!("127.0.0.1:{port}");
            hub = Process::start(binary, &["hub", "--hub-addr", &address], &out.join("hub.log"))?;
            recorder.record(clock_us(), What::FaultStop(fault));
        }
        let calls = record_calls(recorder, batch, clock_us());
        let answer = publisher.publish(batch.to_vec()).await;
        record_answer(recorder, &calls, &answer, clock_us());
        let published = answer.with_context(|| format!("batch {number} was not acknowledged"))?;
        for (event, published) in batch.iter().zip(&published) {
            let at = position(&published.cursor).with_context(|| format!("{} has no position", event.id))?;
            record_log(recorder, event, at);
        }
        sleep(PAUSE).await;
    }
    sleep((started + CUTS).saturating_duration_since(Instant::now())).await;
    recorder.record(clock_us(), What::Healed);
    sleep((started + LENGTH + Duration::from_secs(1)).saturating_duration_since(Instant::now())).await;
    Ok(())
}

/// Every event is acknowledged before the hub is killed, so what was acknowledged is the whole log.
fn record_log(recorder: &Recorder, event: &v1::Event, position: Position) {
    recorder.record(clock_us(), What::Head(position.clone()));
    recorder.record(
        clock_us(),
        What::Log(LogLine {
            position,
            source: event.source.as_str().into(),
            id: event.id.as_str().into(),
            to: event.to.iter().map(|to| Name::from(to.as_str())).collect(),
            hash: hash(event),
            standing: false,
            collapse_key: None,
            expires_at_us: None,
            appended_us: None,
            bytes: 0,
        }),
    );
}

fn judge(records: &[history::Record], events: &[v1::Event], out: &Path) -> anyhow::Result<String> {
    let saved = out.join("history.ndjson");
    history::write(&saved, records)?;
    let report = check(records);
    ensure!(report.is_clean(), "{report}\nthe history is in {}", saved.display());
    report.require_seen(&[
        Sight::UserEvent,
        Sight::ResumedWithReplay,
        Sight::GapEpochChanged,
        Sight::Acked,
        Sight::LiveJudged,
    ])?;
    let mut streams: BTreeMap<&str, u64> = BTreeMap::new();
    for record in records {
        if let What::Open(open) = &record.what {
            *streams.entry(&open.reader).or_default() += 1;
        }
    }
    let fewest = streams.values().min().copied().unwrap_or_default();
    ensure!(fewest >= 3, "every user's connection must be cut several times; one had only {fewest}");
    Ok(format!(
        "{} real webhooks to {} readers over {} connections (each cut at least {} times), one hub killed: every promise kept\n{report}",
        events.len(),
        streams.len(),
        streams.values().sum::<u64>(),
        fewest - 1,
    ))
}
