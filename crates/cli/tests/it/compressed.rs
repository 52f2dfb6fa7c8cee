//! Compressed requests to real processes.

use std::io::{Read as _, Write as _};

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::bounded::peak;
use crate::sse::{Sse, request};
use crate::world::{Folder, Server};

/// What a request with a body is answered.
pub(crate) fn post(url: &str, headers: &[&str], body: &[u8]) -> String {
    let length = format!("Content-Length: {}", body.len());
    let mut socket = request("POST", url, &[headers, &[&length]].concat());
    socket.write_all(body).unwrap();
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn in_development_the_edge_passes_compressed_events_on() {
    let folder = Folder::new("compressed-edge");
    let server = folder.serve(&[]);
    let user = Sse::open(&format!("{}/v1/stream?user=1", server.edge), &[]);
    user.find("push.caught_up");
    let event = r#"{"specversion":"1.0","id":"a","source":"/s","type":"t","to":"user:1","data":{"n":1}}"#;
    let json = "Content-Type: application/cloudevents+json";
    let url = format!("{}/v1/events", server.edge);
    let taken = post(&url, &[json, "Content-Encoding: gzip"], &gzip(event.as_bytes()));
    assert!(taken.contains(" 200 "), "{taken}");
    assert_eq!(user.find("t").data["data"]["n"], 1);
    let refused = post(&url, &[json, "Content-Encoding: br"], event.as_bytes());
    assert!(refused.contains(" 415 ") && refused.contains("accept-encoding: gzip"), "{refused}");
}

/// 4 MiB that would inflate to 4 GiB cost no more than what any request may hold.
#[test]
fn bounded_with_requests_that_inflate_without_end() {
    let folder = Folder::new("bombs");
    let hub =
        Server::start(folder.command(&["hub", "--hub-addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0"]));
    let member = gzip(&vec![b' '; 64 << 20]);
    let bomb = member.repeat((4 << 20) / member.len());
    assert!(bomb.len() / member.len() >= 60, "of {} bytes each", member.len());
    let before = peak(&hub);
    let url = format!("{}/v1/events", hub.hub);
    let headers = ["Content-Type: application/cloudevents+json", "Content-Encoding: gzip"];
    std::thread::scope(|scope| {
        let asking: Vec<_> = (0..8).map(|_| scope.spawn(|| post(&url, &headers, &bomb))).collect();
        for asked in asking {
            let answer = asked.join().unwrap();
            assert!(answer.contains(" 413 "), "{answer}");
        }
    });
    let grown = peak(&hub) - before;
    let ceiling = (8 * (4 + 4)) << 20; // what came and what it became, of each
    assert!(grown < ceiling / 2 * 3, "grew by {grown} bytes");
}

/// The fault: a request of 4 KiB that holds two million small things made a thread hold 75 MiB of them.
#[test]
fn bounded_with_requests_of_many_small_things() {
    const MIB: usize = 1 << 20;
    let folder = Folder::new("small-things");
    let hub =
        Server::start(folder.command(&["hub", "--hub-addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0"]));
    let event =
        |more: &str| format!(r#"{{"specversion":"1.0","id":"a","source":"/s","type":"t","to":"all"{more}}}"#);
    let zeros = format!("[0{}]", ",0".repeat(2 * MIB - 8));
    let recipients = event("").replace("all", &format!("all{}", ",all".repeat(MIB - 64)));
    let attributes = (0..330_000).map(|number| format!(r#","a{number:06}":0"#)).collect::<String>();
    let memberships =
        format!(r#"{{"memberships":{}}}"#, &zeros.replacen(",0,0,0,0,0,0,0,0,0,0,0,0,0", "", 1));
    let requests = [
        ("/v1/events", "application/cloudevents-batch+json", gzip(zeros.as_bytes()), "events[0]"),
        ("/v1/events", "application/cloudevents+json", gzip(recipients.as_bytes()), "more than 256"),
        ("/v1/events", "application/cloudevents+json", gzip(event(&attributes).as_bytes()), "more than 64"),
        ("/v1/memberships", "application/json", gzip(memberships.as_bytes()), "memberships"),
    ];
    let before = peak(&hub);
    std::thread::scope(|scope| {
        for (path, media_type, body, why) in &requests {
            for _ in 0..4 {
                let url = format!("{}{path}", hub.hub);
                scope.spawn(move || {
                    let content_type = format!("Content-Type: {media_type}");
                    let answer = post(&url, &[&content_type, "Content-Encoding: gzip"], body);
                    assert!(answer.contains(" 400 ") && answer.contains(why), "{why}: {answer}");
                });
            }
        }
    });
    let grown = peak(&hub) - before;
    let ceiling = (64 + 2 * 16) << 20; // what is under way, and a request of each thread
    assert!(grown < ceiling, "grew by {grown} bytes");
}
