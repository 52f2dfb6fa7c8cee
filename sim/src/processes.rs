//! The processes of the world: hub, gateway, and an application around `PushClient`, each as the binary runs it.

use std::sync::Arc;
use std::time::Duration;

use galaxy_push_client::{HandlerError, Item, PushClient};
use galaxy_push_core::ambient::Ambient;
use galaxy_push_core::cursor::{Cursor, Epoch};
use galaxy_push_core::window::{Bounds, Traits};
use galaxy_push_gateway::Gateway;
use galaxy_push_hub::Hub;
use galaxy_push_listener::{Drain, Limits, serve};
use galaxy_push_proto::v1;
use galaxy_push_store::{Committed, DedupBounds, Maker, MemoryStore, Sink};
use galaxy_push_testkit::Recorder;
use galaxy_push_testkit::history::{LogLine, Name, Position, What};
use prost::Message as _;
use tokio::time::sleep;

use crate::frames;
use crate::net::{self, Listener};
use crate::publisher::hash;
use crate::rng::{Rng, now_us};

/// Runs a hub until it is killed. Each life is a new epoch.
///
/// # Errors
///
/// When it cannot start.
pub async fn hub(window: Bounds, ambient: Ambient, recorder: Recorder) -> anyhow::Result<()> {
    recorder.record(now_us(), What::Start);
    let epoch = Epoch(ambient.random_128());
    let store = tapped(MemoryStore::maker(epoch, DedupBounds::default()), recorder);
    let config = galaxy_push_hub::Config::default().window(window);
    let hub = Hub::new(config, store, ambient)?;
    serve(Listener::bind().await?, hub.router(), Limits::hub(), Drain::default()).await;
    Ok(())
}

/// Runs a gateway until it is killed.
///
/// # Errors
///
/// When it cannot start.
pub async fn gateway(id: String, hub: String, window: Bounds, ambient: Ambient) -> anyhow::Result<()> {
    let config = crate::world::gateway_config(&id, &hub, window);
    let gateway = Gateway::start(config, net::connect, ambient)?;
    serve(Listener::bind().await?, gateway.router(), Limits::edge(), Drain::default()).await;
    Ok(())
}

/// Runs an application whose handler fails and dawdles now and then, and writes down what it finished.
///
/// # Errors
///
/// When the client cannot be built.
pub async fn app(
    name: &str,
    hub: String,
    recorder: Recorder,
    mut rng: Rng,
    until: Duration,
) -> anyhow::Result<()> {
    recorder.record(now_us(), What::Start);
    let reader = Name::from(name);
    let mut jitter = Rng::new(rng.draw(), "jitter");
    let handler = move |item: Item| {
        let (fails, pause) = (rng.percent(3), rng.between(Duration::ZERO, Duration::from_millis(20)));
        let (recorder, reader) = (recorder.clone(), reader.clone());
        async move {
            sleep(pause).await;
            if fails {
                return Err(HandlerError::msg("not today"));
            }
            let at = frames::cursor(item.cursor());
            if let (Item::Event(_) | Item::Gap(_), galaxy_push_testkit::history::Cursor::At(position)) =
                (&item, at)
            {
                recorder.record(now_us(), What::Handled { reader, position });
            }
            Ok(())
        }
    };
    let client = PushClient::builder(name)
        .hub(&format!("http://{hub}:{}", net::PORT))
        .cursor("oldest")
        .connector(net::connect)
        .random(move || jitter.draw())
        .start(handler)?;
    sleep(until).await;
    drop(client.shutdown().await);
    Ok(())
}

/// Writes down what a store commits: the truth, taken where it arises and not where it is read.
fn tapped(maker: Maker, recorder: Recorder) -> Maker {
    Box::new(move |sink| maker(Arc::new(Tap { sink, recorder })))
}

struct Tap {
    sink: Arc<dyn Sink>,
    recorder: Recorder,
}

impl Sink for Tap {
    fn begin(&self, base: Cursor) {
        self.recorder.record(now_us(), What::Head(place(base)));
        self.sink.begin(base);
    }

    fn committed(&self, batch: &[Committed]) {
        for committed in batch.iter().filter(|committed| !committed.traits.has(Traits::EPHEMERAL)) {
            let Ok(event) = v1::Event::decode(&committed.event[..]) else { continue };
            let ttl = event.ttl.as_ref().map(|ttl| ttl.seconds.unsigned_abs() * 1_000_000);
            self.recorder.record(
                now_us(),
                What::Log(LogLine {
                    position: place(committed.cursor),
                    source: event.source.as_str().into(),
                    id: event.id.as_str().into(),
                    to: event.to.iter().map(|to| Name::from(to.as_str())).collect(),
                    hash: hash(&event),
                    standing: false,
                    collapse_key: None,
                    expires_at_us: ttl.map(|ttl| now_us() + ttl),
                }),
            );
        }
        if let Some(last) = batch.last() {
            self.recorder.record(now_us(), What::Head(place(last.cursor)));
        }
        self.sink.committed(batch);
    }
}

fn place(cursor: Cursor) -> Position {
    Position { epoch: cursor.epoch.to_string().into(), seq: cursor.seq.0 }
}
