//! The gateway through its router, with a scripted hub behind it and paused time around it.

mod access;
mod coming_back;
mod development;
mod ending;
mod handing_over;
mod hub;
mod inside;
mod limits;
mod pace;
mod places;
mod sse;
mod standing;
mod steady;
mod time;
mod too_large;
mod unknown_membership;
mod unreadable;
mod upstream;
mod ws;

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use axum::response::Response;
use futures_util::StreamExt as _;
use galaxy_push_core::ambient::Ambient;
use galaxy_push_core::cursor::Cursor;
use galaxy_push_listener::{Accept, ConnectionSlots, Drain, Limits, SlotPolicy};
use http::Request;
use tokio::io::DuplexStream;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tower::ServiceExt as _;

use crate::app::authority::{HeadAnswer, HubHead};
use crate::{Access, Config, Gateway};
use hub::Hub;

/// The wall clock begins here, and follows the paused one.
const NOW_MS: u64 = 1_700_000_000_000;

/// A gateway, its hub, and a listener to connect to.
struct World {
    gateway: Gateway,
    hub: Hub,
    /// What the hub answers when it is asked for its head, in turn. Empty: nothing, for ever.
    heads: Arc<Mutex<VecDeque<Option<Cursor>>>>,
    connections: mpsc::Sender<DuplexStream>,
    drain: Drain,
}

struct Heads(Arc<Mutex<VecDeque<Option<Cursor>>>>);

impl HubHead for Heads {
    fn head(&mut self) -> HeadAnswer<'_> {
        let answer = self.0.lock().unwrap().pop_front();
        Box::pin(async move {
            match answer {
                Some(answer) => answer,
                None => std::future::pending().await,
            }
        })
    }
}

/// Connections made in memory.
struct Memory(mpsc::Receiver<DuplexStream>);

impl Accept for Memory {
    type Io = DuplexStream;

    async fn accept(&mut self) -> io::Result<(DuplexStream, SocketAddr)> {
        match self.0.recv().await {
            Some(stream) => Ok((stream, ([127, 0, 0, 1], 9).into())),
            None => std::future::pending().await,
        }
    }
}

fn config() -> Config {
    let mut config = Config::new("http://hub:7400", "gateway-1");
    config.access = Access::development();
    config
}

impl World {
    /// In development mode, caught up with an empty log.
    fn new() -> Self {
        Self::with(config())
    }

    fn with(config: Config) -> Self {
        let mut world = Self::unready(config);
        world.hub.begin();
        world
    }

    fn unready(config: Config) -> Self {
        Self::at(config, Limits::edge(), SlotPolicy::default())
    }

    /// Behind a listener of such places; not caught up.
    fn at(config: Config, limits: Limits, house: SlotPolicy) -> Self {
        let began = tokio::time::Instant::now();
        let drawn = std::sync::atomic::AtomicU64::new(0x1234_5678);
        let random = move || drawn.fetch_add(0x1_0001, std::sync::atomic::Ordering::Relaxed);
        let ambient = Ambient::new(move || NOW_MS + began.elapsed().as_millis() as u64, random);
        let heads = Arc::default();
        let (gateway, upstream) =
            Gateway::assemble(config, Heads(Arc::clone(&heads)), None, ambient).unwrap();
        let (connections, accepted) = mpsc::channel(16);
        let drain = Drain::default();
        let places = ConnectionSlots::new("edge", &limits, house);
        tokio::spawn(galaxy_push_listener::serve_at(
            Memory(accepted),
            None,
            gateway.router(),
            limits,
            places,
            drain.clone(),
        ));
        Self { gateway, hub: Hub::new(upstream), heads, connections, drain }
    }

    /// A byte stream to the listener that holds at most this many bytes each way.
    async fn dial(&self, buffer: usize) -> DuplexStream {
        let (here, there) = tokio::io::duplex(buffer);
        self.connections.send(there).await.unwrap();
        here
    }

    async fn get(&self, path: &str) -> Response {
        self.ask(Request::get(path)).await
    }

    async fn ask(&self, request: http::request::Builder) -> Response {
        self.send(request.header("host", "localhost").body(Body::empty()).unwrap()).await
    }

    async fn send(&self, request: Request<Body>) -> Response {
        self.gateway.router().oneshot(request).await.unwrap()
    }

    /// Opens an SSE stream that must succeed.
    async fn stream(&self, path: &str) -> Events {
        let response = self.get(path).await;
        assert_eq!(response.status(), 200, "{path}");
        Events::of(response)
    }

    fn metrics(&self) -> String {
        let mut registry = prometheus_client::registry::Registry::default();
        self.gateway.register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        text
    }
}

/// The body of an SSE stream, as a user reads it.
struct Events {
    body: BodyDataStream,
    text: String,
    over: bool,
}

impl Events {
    fn of(response: Response) -> Self {
        Self { body: response.into_body().into_data_stream(), text: String::new(), over: false }
    }

    /// Reads until the text read since the last call holds `end`, and returns that text.
    async fn until(&mut self, end: &str) -> String {
        while !self.text.contains(end) {
            let piece = timeout(Duration::from_secs(3_600), self.body.next()).await;
            match piece.unwrap_or_else(|_| panic!("no {end:?} in {:?}", self.text)) {
                Some(piece) => self.text.push_str(std::str::from_utf8(&piece.unwrap()).unwrap()),
                None => panic!("the stream ended before {end:?}: {:?}", self.text),
            }
        }
        std::mem::take(&mut self.text)
    }

    /// What is there at once.
    async fn now(&mut self) -> String {
        use futures_util::FutureExt as _;

        while let Some(piece) = self.body.next().now_or_never() {
            match piece {
                Some(piece) => self.text.push_str(std::str::from_utf8(&piece.unwrap()).unwrap()),
                None => {
                    self.over = true;
                    break;
                }
            }
        }
        std::mem::take(&mut self.text)
    }

    /// The ids of the events (`"id":"…"`) in a text.
    fn ids(text: &str) -> Vec<String> {
        text.split("\"id\":\"")
            .skip(1)
            .map(|rest| rest.split('"').next().unwrap_or_default().to_owned())
            .collect()
    }
}

async fn body(response: Response) -> String {
    let bytes = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
    String::from_utf8(bytes.to_vec()).unwrap()
}
