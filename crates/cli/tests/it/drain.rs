//! The end of a role: SIGTERM sends everybody away in order, a second one does not wait.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use galaxy_push_client::Publisher;
use galaxy_push_proto::v1::push_client::PushClient as Grpc;
use galaxy_push_proto::v1::push_event::Kind;
use galaxy_push_proto::v1::{Event, GatewaySubscribeRequest, PushEvent};
use serde_json::json;
use tonic::transport::Channel;

use crate::sse::Sse;
use crate::world::{Folder, PATIENCE, Running, Server};

#[test]
fn sigterm_says_goodbye_and_ends_with_0() {
    let folder = Folder::new("goodbye");
    let server = folder.serve(&[]);
    let user = Sse::open(&format!("{}/v1/stream?user=42", server.edge), &[]);
    user.find("push.caught_up");
    let tail = Running::spawn(folder.command(&["tail", "--hub", &server.hub, "--all-frames"]));
    while tail.stdout.json().get("caughtUp").is_none() {}
    folder.stdout(&["publish", "--hub", &server.hub, "--to", "user:42", "--type", "last"]);

    server.process.signal("TERM");
    let last = user.find("last").id;
    let goodbye = user.next().unwrap();
    assert_eq!(
        (goodbye.event.as_str(), goodbye.id),
        ("push.goodbye", last.clone()),
        "the cursor to resume from"
    );
    assert_eq!((&goodbye.data["reason"], &goodbye.data["reconnect"]), (&json!("DRAINING"), &json!(true)));
    assert_eq!(user.next(), None);
    assert_eq!(tail.stdout.json()["cursor"], json!(last));
    let told = tail.stdout.json();
    assert_eq!((&told["goodbye"]["reason"], &told["cursor"]), (&json!("DRAINING"), &json!(last)), "{told}");
    assert!(tail.stderr.next().unwrap().contains("shutting down"));
    let outcome = server.process.end();
    assert!(outcome.code == Some(0) && outcome.stderr.contains("drained"), "{outcome:?}");
}

/// A publisher that has begun a request and does not go on: it keeps a drain waiting.
fn unfinished(server: &Server) -> TcpStream {
    let address = server.hub.strip_prefix("http://").unwrap();
    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let head = "Content-Type: application/cloudevents+json\r\nContent-Length: 100\r\nExpect: 100-continue";
    write!(socket, "POST /v1/events HTTP/1.1\r\nHost: {address}\r\n{head}\r\n\r\n").unwrap();
    // The hub asks for the body, so it is at work.
    let mut answer = [0; 12];
    socket.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 100");
    socket
}

#[test]
fn a_second_signal_ends_at_once() {
    let folder = Folder::new("second");
    for second in ["TERM", "INT"] {
        let server = folder.serve(&["--drain-timeout", "10m"]);
        let _publisher = unfinished(&server);
        server.process.signal("TERM");
        server.process.stderr.find("a second signal ends at once");
        server.process.signal(second);
        let outcome = server.process.end();
        assert!(outcome.code == Some(0) && outcome.stderr.contains("by a second signal"), "{outcome:?}");
    }
}

#[test]
fn a_drain_takes_no_longer_than_it_may() {
    let folder = Folder::new("timeout");
    let server = folder.serve(&["--drain-timeout", "100ms"]);
    let _publisher = unfinished(&server);
    server.process.signal("INT");
    let outcome = server.process.end();
    assert!(outcome.code == Some(0) && outcome.stderr.contains("the drain took too long"), "{outcome:?}");
}

/// A gateway over a connection of its own, with the small windows of most libraries.
async fn gateway(hub: &str, id: &str) -> tonic::Streaming<PushEvent> {
    let channel = Channel::from_shared(hub.to_owned()).unwrap().connect().await.unwrap();
    let request =
        GatewaySubscribeRequest { gateway_client_id: id.to_owned(), ..GatewaySubscribeRequest::default() };
    let mut stream = Grpc::new(channel).subscribe_push(request).await.unwrap().into_inner();
    while !matches!(stream.message().await.unwrap().unwrap().kind, Some(Kind::CaughtUp(_))) {}
    stream
}

/// 400 events of 60 kB are more than lies between a hub and a reader that pauses.
async fn publish(hub: &str) {
    let mut publisher = Publisher::builder().hub(hub).build().unwrap();
    for batch in 0..10 {
        let event = |number| Event {
            id: format!("{batch}-{number}"),
            source: "test".to_owned(),
            r#type: "test.large".to_owned(),
            to: vec!["all".to_owned()],
            data: vec![b'x'; 60_000].into(),
            data_content_type: "application/octet-stream".to_owned(),
            ..Event::default()
        };
        publisher.publish((0..40).map(event).collect()).await.unwrap();
    }
}

#[tokio::test]
async fn a_slow_gateway_has_the_whole_timeout_and_one_that_does_not_read_is_named() {
    let folder = Folder::new("slow-gateway");
    let listen = ["--hub-addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0", "--drain-timeout", "16s"];
    let hub = Server::start(folder.command(&[&["hub"][..], &listen].concat()));
    let mut slow = gateway(&hub.hub, "slow").await;
    let _asleep = gateway(&hub.hub, "asleep").await;
    publish(&hub.hub).await;
    hub.process.signal("TERM");
    let began = tokio::time::Instant::now();
    let mut events = 0;
    // 400 times 20 ms are eight seconds: half of the timeout, of which a quarter was all there once was.
    while let Ok(Some(frame)) = slow.message().await {
        if matches!(frame.kind, Some(Kind::Event(_))) {
            events += 1;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    assert_eq!(events, 400, "after {:?}", began.elapsed());
    assert!(began.elapsed() > Duration::from_secs(5), "{:?}", began.elapsed());
    let named = tokio::task::spawn_blocking(move || {
        let named = hub.process.stderr.find("cut off by the shutdown");
        (named, hub.process.end())
    });
    let (named, outcome) = named.await.unwrap();
    for part in ["WARN", "asleep", "position", "left"] {
        assert!(named.contains(part), "{named}");
    }
    assert!(!outcome.stderr.contains("cut off by the shutdown"), "once: {outcome:?}");
    assert_eq!(outcome.code, Some(0));
}
