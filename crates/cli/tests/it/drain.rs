//! The end of a role: SIGTERM sends everybody away in order, a second one does not wait.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use serde_json::json;

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
