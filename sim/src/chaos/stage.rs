//! Everything that runs while faults strike: a hub, two gateways, a client process, users, backends; real processes, but
//! for users and backends, which are this process.
//!
//! Dropping the stage ends every process.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use galaxy_push_testkit::Recorder;
use galaxy_push_testkit::broker::{Cluster, Settings, Way};
use galaxy_push_testkit::history::{Name, What};
use tokio::net::TcpStream;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::client::{ClientArgs, Running};
use super::old::{OLD, OldGateway};
use super::traffic::{self, Backend, Traffic};
use super::truth::{Known, Truth};
use super::watch::{Watch, probe_id};
use crate::real::{Process, clock_us, host_and_port};
use crate::rng::{Counter, Rng};
use crate::users::{self, Transport};

/// How many users read; each transport has a third of them.
const USERS: usize = 9;

/// How many backends publish.
const BACKENDS: usize = 2;

/// A user gives up a connection on which nothing came for this long; gateways ping after 25 s.
const USER_SILENCE: Duration = Duration::from_secs(40);

/// Longer than any run.
const FOR_EVER: Duration = Duration::from_secs(86_400);

/// Stream numbers of this process stay below; each client process gets as many of its own.
const STREAMS_EACH: u64 = 1_000_000;

/// How long a process that was told to leave may take.
pub(super) const LEAVES_WITHIN: Duration = Duration::from_secs(25);

/// The running system.
#[derive(Debug)]
pub(super) struct Stage {
    binary: PathBuf,
    out: PathBuf,
    pub(super) recorder: Recorder,
    pub(super) watch: Watch,
    pub(super) hub: Process,
    /// Where the log is kept by brokers.
    shared: Option<Shared>,
    /// What the hub is told, wherever it listens.
    hub_args: Vec<String>,
    pub(super) gateways: [Process; 2],
    pub(super) client: Running,
    _old: Option<OldGateway>,
    /// Everybody who must be live when no fault is on.
    pub(super) readers: Vec<Name>,
    pub(super) rate: Arc<AtomicU64>,
    pub(super) padding: Arc<AtomicU64>,
    seed: u64,
    pub(super) hub_url: String,
    edges: [(String, u16); 2],
    truth: Arc<Truth>,
    users: JoinSet<anyhow::Result<()>>,
    backends: JoinSet<anyhow::Result<()>>,
    stop: CancellationToken,
    prober: Backend,
    probes: Counter,
    clients: u64,
}

/// A log that brokers keep.
#[derive(Debug)]
struct Shared {
    brokers: Cluster,
    /// By which the first hub reaches them; the second goes straight there.
    ways: Vec<Way>,
    /// The second door to it.
    second: Process,
}

impl Stage {
    /// Starts everything and waits until everybody is live.
    pub(super) async fn set(
        binary: &Path,
        out: &Path,
        seed: u64,
        recorder: Recorder,
        nats_server: Option<&Path>,
        old_gateway: Option<&Path>,
    ) -> anyhow::Result<Self> {
        let truth = Arc::new(Truth::new(recorder.process("hub")));
        let shared = nats_server.map(|program| Shared::start(program, binary, out)).transpose()?;
        let hub_args = shared.as_ref().map(|shared| over(&shared.way_urls())).unwrap_or_default();
        let hub = start_hub(binary, out, &hub_args, 0)?;
        let second = shared.as_ref().map(|shared| &shared.second);
        let doors = [Some(&hub), second].into_iter().flatten();
        let hub_url = doors.map(|hub| hub.urls.hub.clone()).collect::<Vec<_>>().join(",");
        let gateways = [0, 1].map(|number| start_gateway(binary, out, &hub_url, GATEWAYS[number], 0));
        let [first, second] = gateways;
        let gateways = [first?, second?];
        let edges = [host_and_port(&gateways[0].urls.edge)?, host_and_port(&gateways[1].urls.edge)?];
        let client = start_client(out, &hub_url, 1, &recorder)?;
        let old = |program| OldGateway::start(program, &hub_url, &recorder, &out.join("old-gateway.log"));
        let old = old_gateway.map(old).transpose()?;
        let prober = Backend::new("prober", &hub_url, &recorder, &truth)?;
        let mut stage = Self {
            binary: binary.to_owned(),
            out: out.to_owned(),
            watch: Watch::new(recorder.clone()),
            hub,
            shared,
            hub_args,
            gateways,
            client,
            readers: [Some(CLIENT), old.as_ref().map(|_| OLD)]
                .into_iter()
                .flatten()
                .map(Name::from)
                .collect(),
            _old: old,
            rate: Arc::new(AtomicU64::new(25)),
            padding: Arc::default(),
            seed,
            hub_url,
            edges,
            truth,
            users: JoinSet::new(),
            backends: JoinSet::new(),
            stop: CancellationToken::new(),
            prober,
            probes: Counter::default(),
            clients: 1,
            recorder,
        };
        for number in 0..USERS {
            let transport = [Transport::Sse, Transport::WsJson, Transport::WsProto][number % 3];
            let gateways = stage.edges.to_vec();
            let reader = format!("user-{number}");
            stage.readers.push(Name::from(reader.as_str()));
            stage.add_user(&reader, &number.to_string(), transport, gateways);
        }
        stage.add_backends()?;
        // Whoever comes for the first time begins at the head: a probe from before that never reaches it.
        let readers = stage.readers.clone();
        let mut behind = readers.clone();
        for _ in 0..20 {
            let probe = stage.probe().await?;
            behind =
                stage.watch.have(&readers, probe, Duration::from_secs(1)).await.err().unwrap_or_default();
            if behind.is_empty() {
                return Ok(stage);
            }
        }
        bail!("never live: {}", behind.join(", "))
    }

    /// A user of these gateways.
    pub(super) fn add_user(
        &mut self,
        reader: &str,
        user: &str,
        transport: Transport,
        gateways: Vec<(String, u16)>,
    ) -> AbortHandle {
        let mut rng = Rng::new(self.seed, reader);
        let plan = users::Plan {
            reader: reader.to_owned(),
            user: user.to_owned(),
            topics: if rng.percent(60) { vec!["news".into()] } else { Vec::new() },
            later_topic: rng.percent(40).then(|| "sport".to_owned()),
            transport,
            gateways,
            roams: false,
            silence: USER_SILENCE,
            cuts_until: Duration::ZERO,
            cut_percent: 0,
            cut_after: (Duration::ZERO, Duration::ZERO),
            pause_percent: 0,
            away_percent: 0,
            away: (Duration::ZERO, Duration::ZERO),
            steady: None,
            habits: users::Habits::default(),
        };
        let dial = |host: String, port: u16| TcpStream::connect((host, port));
        self.users.spawn(users::run(plan, dial, self.recorder.process(reader), clock_us, rng, FOR_EVER))
    }

    fn add_backends(&mut self) -> anyhow::Result<()> {
        let users = (0..USERS).map(|number| format!("user:{number}"));
        let others = ["all", "topic:news", "topic:sport", "user:nobody"].map(str::to_owned);
        let traffic = Traffic {
            recipients: users.chain(others).collect(),
            numbers: Counter::default(),
            rate: self.rate.clone(),
            padding: self.padding.clone(),
            stop: self.stop.clone(),
        };
        for number in 0..BACKENDS {
            let name = format!("backend-{number}");
            let backend = Backend::new(&name, &self.hub_url, &self.recorder, &self.truth)?;
            self.backends.spawn(traffic::run(backend, traffic.clone(), Rng::new(self.seed, &name)));
        }
        Ok(())
    }

    /// How many streams the hub has when everybody is live: the gateways and the client.
    pub(super) const HUB_STREAMS: f64 = 3.0;

    /// Where the hub listens.
    pub(super) fn hub_port(&self) -> anyhow::Result<u16> {
        Ok(host_and_port(&self.hub.urls.hub)?.1)
    }

    /// Where a gateway listens for users.
    pub(super) fn edge_port(&self, gateway: usize) -> u16 {
        self.edges[gateway].1
    }

    /// Starts the hub again, where it was.
    pub(super) fn restart_hub(&mut self) -> anyhow::Result<()> {
        self.hub = start_hub(&self.binary, &self.out, &self.hub_args, self.hub_port()?)?;
        Ok(())
    }

    fn shared(&mut self) -> anyhow::Result<&mut Shared> {
        self.shared.as_mut().context("there are no brokers")
    }

    pub(super) fn brokers(&mut self) -> anyhow::Result<&mut Cluster> {
        Ok(&mut self.shared()?.brokers)
    }

    /// The first hub speaks with brokers by these.
    pub(super) fn way_ports(&self) -> Vec<u16> {
        self.shared.iter().flat_map(|shared| &shared.ways).map(Way::port).collect()
    }

    /// One of the two hubs.
    pub(super) fn door(&mut self, number: usize) -> anyhow::Result<&mut Process> {
        if number == 0 { Ok(&mut self.hub) } else { Ok(&mut self.shared()?.second) }
    }

    /// Starts one of the two hubs again, where it was.
    pub(super) fn restart_door(&mut self, number: usize) -> anyhow::Result<()> {
        if number == 0 {
            return self.restart_hub();
        }
        let (binary, out) = (self.binary.clone(), self.out.clone());
        let shared = self.shared()?;
        let port = host_and_port(&shared.second.urls.hub)?.1;
        shared.second = start_hub(&binary, &out, &over(&shared.brokers.urls()), port)?;
        Ok(())
    }

    /// Starts a gateway again, where it was.
    pub(super) fn restart_gateway(&mut self, number: usize) -> anyhow::Result<()> {
        self.gateways[number] =
            start_gateway(&self.binary, &self.out, &self.hub_url, GATEWAYS[number], self.edges[number].1)?;
        Ok(())
    }

    /// One more gateway, under any id.
    pub(super) fn more_gateway(&self, id: &str) -> anyhow::Result<Process> {
        start_gateway(&self.binary, &self.out, &self.hub_url, id, 0)
    }

    /// Starts the client process again; it goes on from its cursor file.
    pub(super) fn restart_client(&mut self) -> anyhow::Result<()> {
        self.clients += 1;
        self.client = start_client(&self.out, &self.hub_url, self.clients, &self.recorder)?;
        Ok(())
    }

    /// The URLs of both hubs, where there are two doors to one log.
    pub(super) fn door_urls(&mut self) -> anyhow::Result<[String; 2]> {
        Ok([self.door(0)?.urls.hub.clone(), self.door(1)?.urls.hub.clone()])
    }

    /// One more client process, which knows this hub or these, begins at the head and soon comes back after a conflict.
    pub(super) fn more_client(&mut self, hub: &str, id: &str, process: &str) -> anyhow::Result<Running> {
        self.clients += 1;
        let args = ClientArgs {
            hub: hub.to_owned(),
            id: id.to_owned(),
            cursor_file: None,
            first_stream: self.clients * STREAMS_EACH,
            backoff_cap_ms: 800,
        };
        Running::start(&args, process, &self.recorder, &self.out.join("duels.log"))
    }

    /// Publishes a probe and says its number.
    pub(super) async fn probe(&mut self) -> anyhow::Result<u64> {
        let number = self.probes.next();
        let event =
            self.prober.event(probe_id(number), vec!["all".into()], format!(r#"{{"probe":{number}}}"#));
        self.prober.publish(vec![event]).await?;
        Ok(number)
    }

    /// Publishes a probe and waits until every reader has it; says how long that took.
    pub(super) async fn all_live(&mut self, within: Duration) -> anyhow::Result<Duration> {
        let started = Instant::now();
        let readers = self.readers.clone();
        self.reached(&readers, within).await?;
        Ok(started.elapsed())
    }

    /// Publishes a probe and waits until these readers have it.
    pub(super) async fn reached(&mut self, readers: &[Name], within: Duration) -> anyhow::Result<()> {
        let probe = self.probe().await?;
        let behind = self.watch.have(readers, probe, within).await.err().unwrap_or_default();
        ensure!(behind.is_empty(), "not live after {within:?}: {}", behind.join(", "));
        self.still_running()
    }

    /// A backend or a user that ended has met something that must never happen.
    fn still_running(&mut self) -> anyhow::Result<()> {
        for tasks in [&mut self.users, &mut self.backends] {
            while let Some(ended) = tasks.try_join_next() {
                match ended {
                    Err(error) if error.is_cancelled() => {} // a user who left
                    ended => ended?.context("what ended was to run until the end")?,
                }
            }
        }
        Ok(())
    }

    /// Ends the traffic, lets everybody come to rest, and ends the history before anybody is ended.
    pub(super) async fn rest(&mut self, rest: Duration) -> anyhow::Result<Known> {
        self.stop.cancel();
        while let Some(backend) = self.backends.join_next().await {
            backend??;
        }
        self.all_live(Duration::from_secs(30)).await?;
        self.recorder.record(clock_us(), What::Healed);
        tokio::time::sleep(rest + Duration::from_secs(1)).await;
        self.still_running()?;
        let known = self.truth.conclude();
        self.recorder.record(clock_us(), What::End);
        Ok(known)
    }

    /// How much padding and how many events a second each backend publishes.
    pub(super) fn publish_at(&self, rate: u64, padding: u64) {
        self.rate.store(rate, Ordering::Relaxed);
        self.padding.store(padding, Ordering::Relaxed);
    }
}

/// The ids of the gateways.
pub(super) const GATEWAYS: [&str; 2] = ["gateway-a", "gateway-b"];

/// The client's gateway id, and its name in the history.
pub(super) const CLIENT: &str = "app";

impl Shared {
    fn start(nats_server: &Path, binary: &Path, out: &Path) -> anyhow::Result<Self> {
        let brokers = Cluster::start(nats_server, &Settings::default())?;
        let ways = brokers.servers.iter().map(Way::to).collect::<Result<_, _>>()?;
        let second = start_hub(binary, out, &over(&brokers.urls()), 0)?;
        Ok(Self { brokers, ways, second })
    }

    fn way_urls(&self) -> String {
        self.ways.iter().map(Way::url).collect::<Vec<_>>().join(",")
    }
}

/// What a hub over brokers that are reached so is told.
fn over(urls: &str) -> Vec<String> {
    ["--store", "nats", "--nats-replicas", "3", "--nats-url", urls].map(str::to_owned).into()
}

fn start_hub(binary: &Path, out: &Path, args: &[String], port: u16) -> anyhow::Result<Process> {
    let address = format!("127.0.0.1:{port}");
    let args = args.iter().map(String::as_str);
    let args: Vec<_> = ["hub", "--hub-addr", &address].into_iter().chain(args).collect();
    Process::start(binary, &args, &out.join("hub.log"))
}

fn start_gateway(binary: &Path, out: &Path, hub: &str, id: &str, port: u16) -> anyhow::Result<Process> {
    let edge = format!("127.0.0.1:{port}");
    let arguments = ["gateway", "--hub", hub, "--edge-addr", &edge, "--gateway-id", id];
    Process::start(binary, &arguments, &out.join(format!("{id}.log")))
}

fn start_client(out: &Path, hub: &str, number: u64, recorder: &Recorder) -> anyhow::Result<Running> {
    let args = ClientArgs {
        hub: hub.to_owned(),
        id: CLIENT.to_owned(),
        cursor_file: Some(out.join("app.cursor")),
        first_stream: number * STREAMS_EACH,
        backoff_cap_ms: 10_000,
    };
    Running::start(&args, CLIENT, recorder, &out.join("app.log"))
}
