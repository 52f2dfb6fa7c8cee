//! The whole way of a publisher: `PublishStream` of the client over loopback, a hub, and its store; and the way back to a reader.
//!
//! The hub runs on threads of its own, and the publisher on another, so that what each uses can be told apart by the names
//! of the threads. Memory and disk take turns in each round.

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use galaxy_push_client::Publisher;
use galaxy_push_core::cursor::Epoch;
use galaxy_push_core::window::Bounds;
use galaxy_push_hub::{Config, Hub};
use galaxy_push_proto::v1::push_client::PushClient;
use galaxy_push_proto::v1::push_event::Kind;
use galaxy_push_proto::v1::{Event, GatewaySubscribeRequest};
use galaxy_push_store::disk::Options;
use galaxy_push_store::{DiskStore, Maker};
use tokio::runtime::{Builder, Runtime};
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Endpoint, Server};

use crate::contenders::bare;
use crate::load::event;
use crate::{ROUNDS, SPAN, Spread};

/// Requests that a stream has under way; the hub reads no more of one.
const UNDER_WAY: usize = 64;

/// How publishers publish.
#[derive(Clone, Copy)]
struct Load {
    name: &'static str,
    streams: usize,
    batch: usize,
}

const LOADS: [Load; 3] = [
    Load { name: "1 stream, one by one", streams: 1, batch: 1 },
    Load { name: "16 streams, one by one", streams: 16, batch: 1 },
    Load { name: "1 stream, batches of 500", streams: 1, batch: 500 },
];

/// What a run came to; of processor time, nanoseconds an event.
struct Run {
    rate: f64,
    a_sync: f64,
    hub_ns: f64,
    store_ns: f64,
    publisher_ns: f64,
    read_rate: f64,
    read_hub_ns: f64,
}

/// Prints a row for each load and store.
pub fn measure(dir: &Path) {
    println!(
        "| load | store | events/s | events a sync | of the bare loop | of memory | CPU, ns an event: hub | its store | publisher | read back, events/s | CPU of the hub, ns an event |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|");
    for load in LOADS {
        let mut columns: [[Spread; 9]; 2] = Default::default();
        for _ in 0..ROUNDS {
            let memory = run(None, load);
            let disk = run(Some(dir), load);
            let bare = bare(dir, disk.a_sync.round().max(1.0) as usize, SPAN).rate;
            for (columns, run) in columns.iter_mut().zip([&memory, &disk]) {
                let Run { rate, a_sync, hub_ns, store_ns, publisher_ns, read_rate, read_hub_ns } = *run;
                let ratios = [rate / bare, rate / memory.rate];
                let values = [
                    rate,
                    a_sync,
                    ratios[0],
                    ratios[1],
                    hub_ns,
                    store_ns,
                    publisher_ns,
                    read_rate,
                    read_hub_ns,
                ];
                columns.iter_mut().zip(values).for_each(|(column, value)| column.0.push(value));
            }
        }
        for (store, columns) in ["memory", "disk"].into_iter().zip(columns) {
            let [rate, a_sync, bare, memory, hub, own, publisher, read_rate, read_hub] = columns;
            let (a_sync, bare, own) = match store {
                "disk" => (format!("{a_sync:.0}"), format!("{bare:.2}"), format!("{own:.0}")),
                _ => Default::default(),
            };
            println!(
                "| {} | {store} | {rate:.0} | {a_sync} | {bare} | {memory:.2} | {hub:.0} | {own} | {publisher:.0} | {read_rate:.0} | {read_hub:.0} |",
                load.name
            );
        }
    }
}

/// Without a folder: in memory.
fn run(dir: Option<&Path>, load: Load) -> Run {
    let scratch = dir.map(|dir| tempfile::tempdir_in(dir).expect("a scratch directory"));
    let hub_runtime = Builder::new_multi_thread().worker_threads(2).thread_name("hub").enable_all().build();
    let hub_runtime = hub_runtime.expect("a runtime");
    let folder = scratch.as_ref().map(|scratch| scratch.path().join("data"));
    let (hub, store, url) = serve(&hub_runtime, folder.as_deref());
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    let before = Used::now();
    let (events, seconds) = runtime.block_on(publish(&url, load));
    let syncs = store.get().map_or(0, |store| store.figures().syncs);
    let published = Used::now().since(&before);
    let before = Used::now();
    let (read, read_seconds) = runtime.block_on(read(&url));
    let reading = Used::now().since(&before);
    drop((hub, store));
    hub_runtime.shutdown_background();
    Run {
        rate: events / seconds,
        a_sync: events / syncs.max(1) as f64,
        hub_ns: published.of("hub") / events,
        store_ns: published.of("push-store") / events,
        publisher_ns: published.of("galaxy-push-ben") / events,
        read_rate: read / read_seconds,
        read_hub_ns: reading.of("hub") / read,
    }
}

type OnDisk = Arc<OnceLock<Arc<DiskStore>>>;

/// A hub that listens, its store if that is a disk's, and its URL.
fn serve(runtime: &Runtime, folder: Option<&Path>) -> (Hub, OnDisk, String) {
    let _inside = runtime.enter();
    let (config, ambient, on_disk) = (Config::default(), galaxy_push_listener::ambient(), OnDisk::default());
    let hub = match folder {
        None => Hub::in_memory(config, ambient),
        Some(folder) => {
            let (options, folder, kept) =
                (Options::of(Bounds::default()), folder.to_owned(), on_disk.clone());
            let maker: Maker = Box::new(move |sink| {
                let store = DiskStore::open(&folder, options, Epoch(1), 2, sink).expect("it opens");
                Ok(kept.get_or_init(|| Arc::new(store)).clone())
            });
            Hub::new(config, maker, ambient)
        }
    };
    let hub = hub.expect("it starts");
    let incoming = TcpIncoming::bind("127.0.0.1:0".parse().expect("an address")).expect("a port is free");
    let url = format!("http://{}", incoming.local_addr().expect("it has an address"));
    // As the listener of the binary has it.
    let server = Server::builder()
        .initial_stream_window_size(4 << 20)
        .initial_connection_window_size(32 << 20)
        .max_frame_size(1 << 20)
        .add_service(hub.push_service())
        .add_service(hub.publisher_service())
        .serve_with_incoming(incoming.with_nodelay(Some(true)));
    runtime.spawn(server);
    (hub, on_disk, url)
}

/// How many events in how many seconds.
async fn publish(url: &str, load: Load) -> (f64, f64) {
    let started = Instant::now();
    let streams = (0..load.streams).map(|stream| async move {
        let publisher =
            Publisher::builder().hub(url).in_flight_bytes(64 << 20).build().expect("it can be built");
        let publisher = publisher.stream();
        let mut acks = VecDeque::new();
        let (mut sent, mut acked) = (0, 0);
        while started.elapsed() < SPAN || !acks.is_empty() {
            if started.elapsed() < SPAN && acks.len() < 2 * UNDER_WAY {
                let events: Vec<Event> = (sent..sent + load.batch).map(|n| event(stream << 32 | n)).collect();
                sent += load.batch;
                acks.push_back(publisher.send(events).await.expect("its task is there"));
                continue;
            }
            let Some(ack) = acks.pop_front() else { break };
            acked += ack.await.expect("the hub takes it").len();
        }
        acked
    });
    let events: usize = futures_util::future::join_all(streams).await.into_iter().sum();
    (events as f64, started.elapsed().as_secs_f64())
}

/// Reads everything that is held, as a gateway does that has nothing yet.
async fn read(url: &str) -> (f64, f64) {
    let endpoint = Endpoint::from_shared(url.to_owned()).expect("a URL");
    let endpoint = endpoint.initial_stream_window_size(4 << 20).initial_connection_window_size(32 << 20);
    let channel = endpoint.max_frame_size(1 << 20).connect().await.expect("the hub listens");
    let request = GatewaySubscribeRequest {
        gateway_client_id: "bench".to_owned(),
        cursor: "oldest".to_owned(),
        ..GatewaySubscribeRequest::default()
    };
    let started = Instant::now();
    let frames = PushClient::new(channel).max_decoding_message_size(8 << 20).subscribe_push(request).await;
    let (mut frames, mut events) = (frames.expect("it is let in").into_inner(), 0);
    while let Some(frame) = frames.message().await.expect("the stream goes on") {
        match frame.kind {
            Some(Kind::Event(_)) => events += 1,
            Some(Kind::CaughtUp(_)) => break,
            _ => {}
        }
    }
    (events as f64, started.elapsed().as_secs_f64())
}

/// What each thread has used, by its name, in nanoseconds.
struct Used(BTreeMap<String, f64>);

impl Used {
    fn now() -> Self {
        let mut used = BTreeMap::new();
        for task in fs::read_dir("/proc/self/task").into_iter().flatten().flatten() {
            let read = |file| fs::read_to_string(task.path().join(file)).unwrap_or_default();
            let nanos = read("schedstat").split(' ').next().and_then(|nanos| nanos.parse::<f64>().ok());
            *used.entry(read("comm").trim().to_owned()).or_default() += nanos.unwrap_or_default();
        }
        Self(used)
    }

    fn since(&self, before: &Self) -> Self {
        let since = |(name, nanos): (&String, &f64)| {
            (name.clone(), nanos - before.0.get(name).copied().unwrap_or(0.0))
        };
        Self(self.0.iter().map(since).collect())
    }

    /// All threads whose names begin so.
    fn of(&self, name: &str) -> f64 {
        self.0.iter().filter(|(thread, _)| thread.starts_with(name)).map(|(_, nanos)| nanos).sum()
    }
}
