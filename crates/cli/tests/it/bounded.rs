//! The promise *bounded*, on a real process: with every gateway stalled the hub holds what docs/semantics.md says, and
//! nobody else is slowed or loses anything untold.

use std::fs;
use std::io::Write as _;
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use galaxy_push_client::{Item, Publisher, PushClient};
use galaxy_push_proto::v1::push_client::PushClient as Grpc;
use galaxy_push_proto::v1::push_event::Kind;
use galaxy_push_proto::v1::{Event, GatewaySubscribeRequest, PushEvent};
use tokio::time::timeout;
use tonic::Streaming;
use tonic::transport::Channel;

use crate::http2::{FRAME_BYTES, Http2, address};
use crate::world::{Folder, PATIENCE, Server};

const STALLED: u64 = 40;
const WINDOW: u64 = 16 << 20;
const EVENT: usize = 60 << 10;
const BATCHES: usize = 64;
const BATCH: usize = 32;

/// What docs/semantics.md counts per stream: 400 KiB and the largest frame in HTTP/2, a turn, and a pinned chunk.
const PER_STREAM: u64 = (400 + 64 + 256 + 256) << 10;

/// The most memory the process has had, in bytes.
pub(crate) fn peak(server: &Server) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", server.process.child.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() << 10
}

/// A gateway that subscribes and then reads nothing, over a connection of its own.
async fn stalled(hub: &str, number: u64) -> Streaming<PushEvent> {
    let channel = Channel::from_shared(hub.to_owned()).unwrap().connect().await.unwrap();
    let gateway_client_id = format!("stalled-{number}");
    let request = GatewaySubscribeRequest { gateway_client_id, ..GatewaySubscribeRequest::default() };
    Grpc::new(channel).subscribe_push(request).await.unwrap().into_inner()
}

fn batch(number: usize) -> Vec<Event> {
    let event = |id| Event {
        id: format!("{number}-{id}"),
        source: "test".to_owned(),
        r#type: "test.large".to_owned(),
        to: vec!["all".to_owned()],
        data: vec![b'x'; EVENT].into(),
        data_content_type: "application/octet-stream".to_owned(),
        ..Event::default()
    };
    (0..BATCH).map(event).collect()
}

#[tokio::test]
async fn bounded() {
    let folder = Folder::new("bounded");
    let window = WINDOW.to_string();
    let args = ["hub", "--hub-addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0", "--window-bytes", &window];
    let hub = Server::start(folder.command(&args));
    let mut healthy = PushClient::builder("healthy").hub(&hub.hub).stream().unwrap();
    let mut streams = Vec::new();
    for number in 0..STALLED {
        streams.push(stalled(&hub.hub, number).await);
    }
    while !matches!(healthy.next().await.unwrap().item(), Item::CaughtUp(_)) {}
    let before = peak(&hub);

    let mut publisher = Publisher::builder().hub(&hub.hub).build().unwrap();
    for number in 0..BATCHES {
        timeout(PATIENCE, publisher.publish(batch(number))).await.expect("publishers do not wait").unwrap();
        let mut received = 0;
        while received < BATCH {
            let delivery = timeout(PATIENCE, healthy.next()).await.expect("the healthy one goes on").unwrap();
            received += usize::from(matches!(delivery.item(), Item::Event(_)));
            assert!(!matches!(delivery.item(), Item::Gap(_)), "the healthy one keeps up");
            delivery.ack();
        }
    }

    let grown = peak(&hub) - before;
    let ceiling = (WINDOW + STALLED * PER_STREAM) / 2 * 3; // the allocator's share
    let published = (BATCHES * BATCH * EVENT) as u64;
    assert!(published > ceiling, "or it would show nothing");
    assert!(grown < ceiling, "grew by {grown} bytes; the ceiling is {ceiling}");
    for mut stream in streams {
        let mut told = false;
        while !told {
            let frame = timeout(PATIENCE, stream.message()).await.unwrap().unwrap().expect("it goes on");
            told = matches!(frame.kind, Some(Kind::Gap(_)));
        }
    }
}

/// What requests on their way may take, docs/semantics.md says, and the allocator's share.
const UNDER_WAY: u64 = (64 << 20) / 2 * 3;

fn hub(folder: &Folder) -> Server {
    Server::start(folder.command(&["hub", "--hub-addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0"]))
}

/// The fault: what had arrived of a request did not count before all of it was there.
#[test]
fn bounded_with_publishes_over_http_that_are_never_finished() {
    let folder = Folder::new("unfinished-http");
    let hub = hub(&folder);
    let before = peak(&hub);
    let begin = |_| {
        let at = address(&hub.hub);
        thread::spawn(move || {
            let mut socket = TcpStream::connect(at).unwrap();
            socket.set_write_timeout(Some(Duration::from_secs(10))).unwrap();
            let head = "POST /v1/events HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/cloudevents+json\r\ncontent-length: 4000000\r\n\r\n";
            socket.write_all(head.as_bytes()).unwrap();
            let _ = socket.write_all(&vec![b' '; 3_999_000]); // it may be refused
            socket
        })
    };
    let begun: Vec<_> = (0..80).map(begin).collect();
    let sockets: Vec<_> = begun.into_iter().map(|begun| begun.join().unwrap()).collect();
    let grown = peak(&hub) - before;
    assert!(grown < UNDER_WAY, "grew by {grown} bytes; the ceiling is {UNDER_WAY}");
    assert!(grown > 32 << 20, "or it would show nothing: {grown}");
    drop(sockets);
}

/// The fault: the same over gRPC, where the buffers of a library held it.
#[test]
fn bounded_with_calls_over_grpc_that_are_never_finished() {
    let folder = Folder::new("unfinished-grpc");
    let hub = hub(&folder);
    let before = peak(&hub);
    let begin = |number: usize| {
        let at = address(&hub.hub);
        thread::spawn(move || {
            let mut connection = Http2::new(TcpStream::connect(at).unwrap());
            let method = ["Publish", "PublishStream", "Invalidate", "SetMembership"][number % 4];
            // Seven of them fit into the window of a connection.
            for stream in (1..15).step_by(2) {
                let _ = connection.call(stream, &format!("/push.v1.Publisher/{method}"))
                    && connection.data(stream, &[0, 0, 0x3f, 0xff, 0xff])
                    && (0..255).all(|_| connection.data(stream, &[7; FRAME_BYTES]));
            }
            connection
        })
    };
    let begun: Vec<_> = (0..12).map(begin).collect();
    let connections: Vec<_> = begun.into_iter().map(|begun| begun.join().unwrap()).collect();
    let grown = peak(&hub) - before;
    // What HTTP/2 has taken and not handed on is bounded per connection by one frame that is read, and its buffers.
    let ceiling = UNDER_WAY + 12 * (1 << 20);
    assert!(grown < ceiling, "grew by {grown} bytes; the ceiling is {ceiling}");
    assert!(grown > 32 << 20, "or it would show nothing: {grown}");
    drop(connections);
}
