//! The promise *bounded*, on a real process: with every gateway stalled the hub holds what docs/semantics.md says, and
//! nobody else is slowed or loses anything untold.

use std::fs;

use galaxy_push_client::{Item, Publisher, PushClient};
use galaxy_push_proto::v1::push_client::PushClient as Grpc;
use galaxy_push_proto::v1::push_event::Kind;
use galaxy_push_proto::v1::{Event, GatewaySubscribeRequest, PushEvent};
use tokio::time::timeout;
use tonic::Streaming;
use tonic::transport::Channel;

use crate::world::{Folder, PATIENCE, Server};

const STALLED: u64 = 40;
const WINDOW: u64 = 16 << 20;
const EVENT: usize = 60 << 10;
const BATCHES: usize = 64;
const BATCH: usize = 32;

/// What docs/semantics.md counts per stream: 400 KiB and the largest frame in HTTP/2, a turn, and a pinned chunk.
const PER_STREAM: u64 = (400 + 64 + 256 + 256) << 10;

/// The most memory the process has had, in bytes.
fn peak(server: &Server) -> u64 {
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
