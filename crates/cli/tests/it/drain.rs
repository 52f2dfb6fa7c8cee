//! The end of a role: SIGTERM sends everybody away in order, a second one does not wait.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use galaxy_push_client::Publisher;
use galaxy_push_proto::v1::push_client::PushClient as Grpc;
use galaxy_push_proto::v1::push_event::Kind;
use galaxy_push_proto::v1::{Event, GatewaySubscribeRequest, PushEvent};
use serde_json::json;
use tokio::time::Instant;
use tonic::transport::Channel;

use crate::sse::{Sse, request};
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

/// The fault: half a second of it was kept for the connections.
#[test]
fn readers_have_the_whole_timeout() {
    let folder = Folder::new("whole");
    let listen = ["--hub-addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0", "--drain-timeout", "3s"];
    let hub = Server::start(folder.command(&[&["hub"][..], &listen].concat()));
    hub.process.signal("TERM");
    hub.process.stderr.find(r#""limit":"3s""#);
    assert_eq!(hub.process.end().code, Some(0));
}

/// A user over server-sent events that reads nothing, with megabytes on the way to it.
fn stuck(hub: &str, edge: &str) -> TcpStream {
    let user = request("GET", &format!("{edge}/v1/stream?user=42"), &[]);
    let mut head = [0; 12];
    (&user).read_exact(&mut head).unwrap();
    tokio::runtime::Runtime::new().unwrap().block_on(publish(hub));
    user
}

/// The faults: nobody was named, nor how many they were; and the gateway's own stream from the hub that went with it was
/// warned of again and again.
#[test]
fn a_user_of_serve_that_is_cut_off_is_named_and_nothing_else_is_warned_of() {
    let folder = Folder::new("stuck-user");
    let server = folder.serve(&["--drain-timeout", "2s"]);
    let _user = stuck(&server.hub, &server.edge);
    server.process.signal("TERM");
    let began = Instant::now();
    let outcome = server.process.end();
    assert!(
        outcome.code == Some(0) && began.elapsed() < Duration::from_secs(15),
        "{:?} {outcome:?}",
        began.elapsed()
    );
    let warned = outcome.stderr.lines().filter(|line| line.contains("WARN")).collect::<Vec<_>>();
    let named = warned
        .iter()
        .filter(|line| line.contains("cut off by the shutdown") && line.contains("\"left\":"))
        .count();
    let summed_up =
        warned.iter().filter(|line| line.contains("cut users off") && line.contains("\"cut_off\":1")).count();
    assert_eq!((named, summed_up), (1, 1), "{warned:#?}");
    assert!(
        !outcome.stderr.contains("a new one is opened") && !outcome.stderr.contains("the next try"),
        "{warned:#?}"
    );
}

/// The fault: it was waited for until it was too slow, which took nine seconds.
#[test]
fn a_user_of_a_gateway_that_reads_nothing_is_not_waited_for() {
    let folder = Folder::new("not-waited-for");
    let listen = ["--hub-addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0"];
    let hub = Server::start(folder.command(&[&["hub"][..], &listen].concat()));
    let listen = ["--hub", &hub.hub, "--edge-addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0"];
    let gateway = Server::start(folder.command(&[&["gateway"][..], &listen].concat()));
    gateway.process.stderr.find("ready for users");
    let _user = stuck(&hub.hub, &gateway.edge);
    gateway.process.signal("TERM");
    let began = Instant::now();
    let outcome = gateway.process.end();
    assert!(
        outcome.code == Some(0) && began.elapsed() < Duration::from_secs(8),
        "{:?} {outcome:?}",
        began.elapsed()
    );
}

/// A gateway over a connection of its own.
async fn gateway(hub: &str, id: &str) -> tonic::Streaming<PushEvent> {
    let mut stream = subscribe(hub, id, "", None).await;
    while !matches!(stream.message().await.unwrap().unwrap().kind, Some(Kind::CaughtUp(_))) {}
    stream
}

async fn subscribe(hub: &str, id: &str, cursor: &str, window: Option<u32>) -> tonic::Streaming<PushEvent> {
    let endpoint = Channel::from_shared(hub.to_owned()).unwrap().initial_stream_window_size(window);
    let request = GatewaySubscribeRequest {
        gateway_client_id: id.to_owned(),
        cursor: cursor.to_owned(),
        ..GatewaySubscribeRequest::default()
    };
    Grpc::new(endpoint.connect().await.unwrap()).subscribe_push(request).await.unwrap().into_inner()
}

/// 400 events of 60 kB are more than lies between a hub and a reader that pauses.
async fn publish(hub: &str) {
    publish_many(hub, 400, 60_000).await;
}

async fn publish_many(hub: &str, events: u32, bytes: usize) {
    let mut publisher = Publisher::builder().hub(hub).build().unwrap();
    for batch in 0..events / 40 {
        let event = |number| Event {
            id: format!("{batch}-{number}"),
            source: "test".to_owned(),
            r#type: "test.large".to_owned(),
            to: vec!["all".to_owned()],
            data: vec![b'x'; bytes].into(),
            data_content_type: "application/octet-stream".to_owned(),
            ..Event::default()
        };
        publisher.publish((0..40).map(event).collect()).await.unwrap();
    }
}

/// The fault: what the hub's HTTP held for a gateway whose window is closed counted as taken: nothing was left for it.
#[tokio::test]
async fn a_gateway_with_a_closed_window_is_named_with_all_that_is_left() {
    let folder = Folder::new("closed-window");
    let listen = ["--hub-addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0", "--drain-timeout", "2s"];
    let hub = Server::start(folder.command(&[&["hub"][..], &listen].concat()));
    publish_many(&hub.hub, 800, 150).await;
    let _asleep = subscribe(&hub.hub, "asleep", "oldest", Some(65_535)).await;
    tokio::time::sleep(Duration::from_millis(500)).await; // what goes into its window has gone there
    hub.process.signal("TERM");
    let named = tokio::task::spawn_blocking(move || hub.process.stderr.find("cut off by the shutdown"))
        .await
        .unwrap();
    let left = named.split("\"left\":").nth(1).and_then(|rest| rest.split([',', '}']).next()).unwrap();
    // Into a window of 64 KiB go fewer than that.
    assert!((800 - 65_535 / 150..=800).contains(&left.parse::<i32>().unwrap()), "{named}");
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
    let began = Instant::now();
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
