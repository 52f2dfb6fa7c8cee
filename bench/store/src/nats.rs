//! The store on NATS JetStream, beside the broker's own client in the same round: an event that is alone, and as many as are taken.
//!
//! One broker on this machine, and then three, that sync before they acknowledge. Each acknowledgement of the store is one of an event that was
//! read back and handed to a window. Processor time is that of this process, without the broker's.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_nats::jetstream::{self, stream::Config};
use futures_util::stream::{self, StreamExt as _};
use galaxy_push_core::ambient::Ambient;
use galaxy_push_core::window::Bounds;
use galaxy_push_store::NatsStore;
use galaxy_push_store::jetstream::Options;
use galaxy_push_testkit::broker::{self, Broker, Cluster, Settings};
use tokio::runtime::Runtime;

use crate::load::{self, Readers, Source};
use crate::{EVENT_BYTES, ROUNDS, Spread, cpu_ns, quantile};

/// How long each is measured in a round: a broker begins slowly.
const SPAN: Duration = Duration::from_secs(2);

/// What an event takes in a pack beside its data, in bytes.
const EVENT_OVERHEAD: usize = 85;

/// How publishers publish: a name, batches under way, events of a batch.
const LOADS: [(&str, usize, usize); 4] = [
    ("2,000 events under way", 2_000, 1),
    ("8,000 events under way", 8_000, 1),
    ("16 batches of 64", 16, 64),
    ("16 batches of 500", 16, 500),
];

/// Messages that the broker's own client has under way.
const OWN_UNDER_WAY: usize = 2_000;

/// What the log lies on.
enum Brokers {
    One(Broker),
    Three(Cluster),
}

impl Brokers {
    fn url(&self) -> String {
        match self {
            Self::One(broker) => broker.url(),
            Self::Three(cluster) => cluster.urls(),
        }
    }

    const fn count(&self) -> usize {
        match self {
            Self::One(_) => 1,
            Self::Three(_) => 3,
        }
    }
}

/// Prints the tables of one broker, and of three.
pub fn measure(_: &Path) {
    let Some(program) = broker::program() else { return };
    let settings = Settings::default();
    println!("One broker\n");
    measure_on(&Brokers::One(Broker::start(&program, &settings).expect("a broker starts")));
    println!("\nThree brokers on this machine, and as many replicas\n");
    measure_on(&Brokers::Three(Cluster::start(&program, &settings).expect("three brokers start")));
}

/// Prints a table of lone events, and one of many.
fn measure_on(brokers: &Brokers) {
    let runtime = Runtime::new().expect("a runtime");
    let own = runtime.block_on(Own::new(brokers));

    println!("| one event at a time | events/s | an ack, µs: median | p99 | median, of the broker's own |");
    println!("|---|---|---|---|---|");
    let mut columns: [[Spread; 4]; 2] = Default::default();
    for _ in 0..ROUNDS {
        let mut waits = [runtime.block_on(own.alone()), alone(&runtime, brokers)];
        let medians = waits.each_mut().map(|waits| quantile(waits, 0.5));
        for ((columns, waits), median) in columns.iter_mut().zip(&mut waits).zip(medians) {
            let rate = waits.len() as f64 / SPAN.as_secs_f64();
            let values = [rate, median, quantile(waits, 0.99), median / medians[0]];
            columns.iter_mut().zip(values).for_each(|(column, value)| column.0.push(value));
        }
    }
    for (name, [rate, median, p99, ratio]) in ["the broker's own client", "the store"].iter().zip(columns) {
        println!("| {name} | {rate:.0} | {median:.0} | {p99:.0} | {ratio:.2} |");
    }

    println!("\n| as many as are taken | events/s | of the broker's own | CPU, ns an event |");
    println!("|---|---|---|---|");
    let mut columns: [[Spread; 3]; LOADS.len() + 1] = Default::default();
    for _ in 0..ROUNDS {
        let bare = runtime.block_on(own.many());
        let runs = LOADS.map(|(_, under_way, batch)| many(&runtime, brokers, under_way, batch));
        for (columns, (rate, cpu)) in columns.iter_mut().zip([bare].into_iter().chain(runs)) {
            let values = [rate, rate / bare.0, cpu];
            columns.iter_mut().zip(values).for_each(|(column, value)| column.0.push(value));
        }
    }
    let own = format!("the broker's own client, one event a message, {OWN_UNDER_WAY} under way");
    let names = [own.as_str()].into_iter().chain(LOADS.map(|(name, ..)| name));
    for (name, [rate, ratio, cpu]) in names.zip(columns) {
        println!("| {name} | {rate:.0} | {ratio:.2} | {cpu:.0} |");
    }
}

/// What publishers with the broker's own client get.
struct Own {
    context: jetstream::Context,
    message: bytes::Bytes,
}

impl Own {
    async fn new(brokers: &Brokers) -> Self {
        let servers: Vec<_> = brokers.url().split(',').map(str::to_owned).collect();
        let client = async_nats::connect(servers).await.expect("the broker is there");
        let context = jetstream::new(client);
        let config = Config {
            name: "own".into(),
            max_bytes: 1 << 30,
            num_replicas: brokers.count(),
            ..Config::default()
        };
        context.create_stream(config).await.expect("a stream is made");
        Self { context, message: vec![b'x'; EVENT_BYTES + EVENT_OVERHEAD].into() }
    }

    async fn publish(&self) {
        let sent = self.context.publish("own", self.message.clone()).await.expect("it is sent");
        sent.await.expect("it is acknowledged");
    }

    /// How long each took, in microseconds.
    async fn alone(&self) -> Vec<f64> {
        let (begun, mut waits) = (Instant::now(), Vec::new());
        while begun.elapsed() < SPAN {
            let asked = Instant::now();
            self.publish().await;
            waits.push(asked.elapsed().as_secs_f64() * 1e6);
        }
        waits
    }

    /// Messages a second, and the time of a processor that each takes.
    async fn many(&self) -> (f64, f64) {
        let (begun, cpu) = (Instant::now(), cpu_ns());
        let endless = stream::repeat(()).take_while(|()| std::future::ready(begun.elapsed() < SPAN));
        let sent = endless.map(|()| self.publish()).buffer_unordered(OWN_UNDER_WAY).count().await as f64;
        (sent / begun.elapsed().as_secs_f64(), (cpu_ns() - cpu) / sent)
    }
}

fn open(runtime: &Runtime, brokers: &Brokers) -> NatsStore {
    static OPENED: AtomicU64 = AtomicU64::new(1);
    let number = OPENED.fetch_add(1, Ordering::Relaxed);
    let ambient = Ambient::new(|| 0, move || number.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    let mut options = Options::new(brokers.url().split(',').map(str::to_owned).collect(), ambient);
    options.replicas = brokers.count();
    options.prefix = format!("log{number}");
    runtime.block_on(NatsStore::open(options, Readers::new(Bounds::default()))).expect("it opens")
}

fn alone(runtime: &Runtime, brokers: &Brokers) -> Vec<f64> {
    let (store, mut source) = (open(runtime, brokers), Source::with_ids(1));
    load::publish_timed(&store, &mut source, SPAN)
}

fn many(runtime: &Runtime, brokers: &Brokers, under_way: usize, batch: usize) -> (f64, f64) {
    let (store, mut source) = (open(runtime, brokers), Source::with_ids(batch));
    let cpu = cpu_ns();
    let got = load::publish(&store, &mut source, under_way, SPAN);
    let events = got.events as f64;
    (events / got.seconds, (cpu_ns() - cpu) / events)
}
