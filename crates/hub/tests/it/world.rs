//! A hub behind a real listener, and clients that dial it through pipes in memory.
//!
//! Frames are written as short texts, such as `event a @1`, in which positions are sequence numbers.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use galaxy_push_core::ambient::Ambient;
use galaxy_push_core::cursor::Cursor;
use galaxy_push_hub::{Config, Hub};
use galaxy_push_listener::{Accept, Drain, Limits, serve};
use galaxy_push_proto::v1::push_client::PushClient;
use galaxy_push_proto::v1::push_event::Kind;
use galaxy_push_proto::v1::{self, GatewaySubscribeRequest, PushEvent};
use hyper_util::rt::TokioIo;
use prost::Message;
use tokio::io::{DuplexStream, duplex};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

/// Room in a pipe, as a socket buffer has it.
const PIPE_BYTES: usize = 64 << 10;

pub(crate) const START_UNIX_MS: u64 = 1_700_000_000_000;

pub(crate) struct World {
    pub(crate) hub: Hub,
    dial: mpsc::Sender<DuplexStream>,
}

struct Pipes(mpsc::Receiver<DuplexStream>, u16);

impl Accept for Pipes {
    type Io = DuplexStream;

    async fn accept(&mut self) -> io::Result<(DuplexStream, SocketAddr)> {
        let Some(pipe) = self.0.recv().await else { return std::future::pending().await };
        self.1 += 1;
        Ok((pipe, SocketAddr::from(([10, 0, 0, 1], self.1))))
    }
}

/// The wall clock follows tokio's; randomness counts.
pub(crate) fn ambient() -> Ambient {
    let (origin, random) = (Instant::now(), AtomicU64::new(1));
    Ambient::new(
        move || START_UNIX_MS + origin.elapsed().as_millis() as u64,
        move || random.fetch_add(1, Ordering::Relaxed),
    )
}

impl World {
    pub(crate) fn new(config: Config) -> Self {
        Self::over(Hub::in_memory(config, ambient()).unwrap())
    }

    pub(crate) fn over(hub: Hub) -> Self {
        let (dial, pipes) = mpsc::channel(16);
        tokio::spawn(serve(Pipes(pipes, 0), hub.router(), Limits::hub(), Drain::default()));
        Self { hub, dial }
    }

    /// A new connection, and nothing on it yet.
    pub(crate) async fn connect(&self) -> io::Result<DuplexStream> {
        connect(&self.dial).await
    }

    /// A new connection, with the HTTP/2 windows of a gateway.
    pub(crate) fn connection(&self) -> Channel {
        let dial = self.dial.clone();
        Endpoint::from_static("http://hub")
            .initial_stream_window_size(4 << 20)
            .initial_connection_window_size(32 << 20)
            .connect_with_connector_lazy(tower::service_fn(move |_| {
                let dial = dial.clone();
                async move { connect(&dial).await.map(TokioIo::new) }
            }))
    }

    /// Publishes one event for everybody per word, each in a batch of its own.
    pub(crate) async fn publish(&self, ids: &str) {
        for id in ids.split_whitespace() {
            self.publish_all(vec![event(id)]).await;
        }
    }

    pub(crate) async fn publish_all(&self, events: Vec<v1::Event>) {
        self.hub.publish(events).await.unwrap();
    }

    /// Publishes so many large events that a reader who pauses cannot have taken them all.
    pub(crate) async fn flood(&self, count: usize) {
        for i in 0..count {
            self.publish_all(vec![large(&i.to_string())]).await;
            tokio::task::yield_now().await;
        }
    }

    pub(crate) fn at(&self, seq: u64) -> String {
        let epoch = self.hub.head().cursor.epoch;
        Cursor { epoch, seq: galaxy_push_core::cursor::Seq(seq) }.to_string()
    }

    pub(crate) async fn subscribe(&self, request: GatewaySubscribeRequest) -> Result<Reading, Status> {
        let mut client = PushClient::new(self.connection()).max_decoding_message_size(8 << 20);
        Ok(Reading::over(client.subscribe_push(request).await?.into_inner()))
    }

    pub(crate) async fn read(&self, gateway: &str, cursor: &str) -> Reading {
        self.subscribe(from(gateway, cursor)).await.unwrap()
    }
}

async fn connect(dial: &mpsc::Sender<DuplexStream>) -> io::Result<DuplexStream> {
    let (ours, theirs) = duplex(PIPE_BYTES);
    dial.send(theirs).await.map_err(io::Error::other)?;
    Ok(ours)
}

pub(crate) fn from(gateway: &str, cursor: &str) -> GatewaySubscribeRequest {
    GatewaySubscribeRequest {
        gateway_client_id: gateway.to_owned(),
        cursor: cursor.to_owned(),
        ..GatewaySubscribeRequest::default()
    }
}

pub(crate) fn event(id: &str) -> v1::Event {
    event_to(id, "all")
}

pub(crate) fn event_to(id: &str, to: &str) -> v1::Event {
    v1::Event {
        to: vec![to.to_owned()],
        id: id.to_owned(),
        r#type: "t".to_owned(),
        source: "/s".to_owned(),
        ..v1::Event::default()
    }
}

/// An event of 60,000 bytes: a few of them fill what lies between a hub and a reader that pauses.
pub(crate) fn large(id: &str) -> v1::Event {
    v1::Event { data: vec![b' '; 60_000].into(), data_content_type: "text/plain".into(), ..event(id) }
}

/// A message as gRPC frames it.
pub(crate) fn framed(message: &impl Message) -> Vec<u8> {
    let message = message.encode_to_vec();
    [&[0][..], &(message.len() as u32).to_be_bytes(), &message].concat()
}

/// An open stream.
pub(crate) struct Reading {
    stream: tonic::Streaming<PushEvent>,
}

impl Reading {
    pub(crate) fn over(stream: tonic::Streaming<PushEvent>) -> Self {
        Self { stream }
    }

    /// The next frame.
    pub(crate) async fn frame(&mut self) -> Result<Option<PushEvent>, Status> {
        tokio::time::timeout(Duration::from_secs(3600), self.stream.message())
            .await
            .expect("a frame within an hour")
    }

    /// The next frame as text, or how the stream ended.
    pub(crate) async fn next(&mut self) -> String {
        match self.frame().await {
            Ok(Some(frame)) => text(&frame),
            Ok(None) => "end".to_owned(),
            Err(status) => format!("status {:?}", status.code()),
        }
    }

    /// The next frames, joined by ` | `.
    pub(crate) async fn take(&mut self, count: usize) -> String {
        let mut texts = Vec::new();
        for _ in 0..count {
            texts.push(self.next().await);
        }
        texts.join(" | ")
    }

    /// Frames up to and including the first that begins with `last`.
    pub(crate) async fn until(&mut self, last: &str) -> String {
        let mut texts = Vec::new();
        loop {
            texts.push(self.next().await);
            let text = texts.last().unwrap();
            if text.starts_with(last) || text.starts_with("status") || text == "end" {
                return texts.join(" | ");
            }
        }
    }

    pub(crate) async fn status(&mut self) -> Status {
        loop {
            match self.frame().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("the stream ended without a status"),
                Err(status) => return status,
            }
        }
    }
}

/// `@7` for a cursor of the present version, the text of any other.
pub(crate) fn at(cursor: &str) -> String {
    Cursor::parse(cursor).map_or_else(|_| format!("@{cursor:?}"), |cursor| format!("@{}", cursor.seq.0))
}

pub(crate) fn text(frame: &PushEvent) -> String {
    let kind = match frame.kind.as_ref().unwrap() {
        Kind::Event(event) => format!("event {}", event.id),
        Kind::Welcome(welcome) => {
            let outcome = welcome.outcome().as_str_name().trim_start_matches("OUTCOME_");
            format!("welcome {outcome} {}..{}", at(&welcome.oldest), at(&welcome.head))
        }
        Kind::Gap(gap) => {
            assert_eq!(gap.to, frame.cursor);
            let reason = gap.reason().as_str_name().trim_start_matches("GAP_REASON_");
            let count = gap.count.map_or("?".to_owned(), |count| count.to_string());
            format!("gap {reason} {}..{} {count}", at(&gap.from), at(&gap.to))
        }
        Kind::CaughtUp(_) => "caught up".to_owned(),
        Kind::Progress(_) => "progress".to_owned(),
        Kind::FellBehind(behind) => format!("fell behind {}", behind.events),
        Kind::Goodbye(goodbye) => {
            format!("goodbye {}", goodbye.reason().as_str_name().trim_start_matches("GOODBYE_REASON_"))
        }
        Kind::SessionInvalidation(record) => format!("void {}", record.recipient),
        Kind::Membership(record) => membership(record),
        Kind::Standing(standing) => {
            let void = standing.invalidations.iter().map(|record| format!("void {}", record.recipient));
            let records: Vec<_> = void.chain(standing.memberships.iter().map(membership)).collect();
            format!("standing [{}]{}", records.join(", "), if standing.more { " more" } else { "" })
        }
        other @ Kind::Subscribed(_) => format!("{other:?}"),
    };
    format!("{kind} {}", at(&frame.cursor)).replace(" @\"\"", "")
}

fn membership(record: &v1::Membership) -> String {
    let sign = if record.member { '+' } else { '-' };
    format!("{}{sign}{}", record.recipient, record.topic)
}
