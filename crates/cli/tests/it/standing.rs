//! Standing records from end to end: posted at a real hub, felt by users of a gateway of its own.

use std::io::{Read as _, Write as _};
use std::time::{Duration, SystemTime};

use crate::sse::{Sse, request};
use crate::world::{Folder, Server};

/// Posts JSON, and returns the position it was given.
pub(crate) fn post(url: &str, json: &str) -> String {
    let length = format!("Content-Length: {}", json.len());
    let mut socket = request("POST", url, &["Content-Type: application/json", &length]);
    socket.write_all(json.as_bytes()).unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    assert!(answer.contains(" 200 "), "{answer}");
    answer
}

/// A gateway of its own that is ready for users.
fn gateway(folder: &Folder, hub: &str, args: &[&str]) -> Server {
    let ports = ["--edge-addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0"];
    let gateway = Server::start(folder.command(&[&["gateway", "--hub", hub][..], &ports, args].concat()));
    gateway.process.stderr.find("ready for users");
    gateway
}

#[test]
fn members_receive_their_topics_and_ended_sessions_end() {
    let folder = Folder::new("standing");
    let hub = folder.serve(&[]);
    let publish = |id: &str| {
        folder.stdout(&["publish", "--hub", &hub.hub, "--to", "topic:news", "--type", "a", "--id", id]);
    };
    let memberships = format!("{}/v1/memberships", hub.hub);
    let joins = r#"{"recipient":"user:ann","topic":"news","member":true}"#;
    // One gateway lives through it all, the other one begins when the records hold already.
    let ann = Sse::open(&format!("{}/v1/stream?user=ann&session=s", hub.edge), &[]);
    ann.find("push.caught_up");
    publish("1");
    post(&memberships, joins);
    publish("2");
    assert_eq!(ann.find("a").data["id"], "2");

    let late = gateway(&folder, &hub.hub, &["--gateway-id", "late"]);
    let there = Sse::open(&format!("{}/v1/stream?user=ann&cursor=oldest", late.edge), &[]);
    assert_eq!(there.find("a").data["id"], "2");
    there.find("push.caught_up");
    publish("3");
    assert_eq!((&ann.find("a").data["id"], &there.find("a").data["id"]), (&"3".into(), &"3".into()));
    post(&memberships, &joins.replace("true", "false"));
    publish("4");
    folder.stdout(&["publish", "--hub", &hub.hub, "--to", "user:ann", "--type", "b", "--id", "5"]);
    for events in [&ann, &there] {
        assert_eq!(events.next().unwrap().event, "b", "nothing of the topic came before");
    }

    post(&format!("{}/v1/invalidations", hub.hub), r#"{"recipient":"session:s","reason":"signed out"}"#);
    assert_eq!(ann.find("push.goodbye").data["reason"], "SESSION_ENDED");
    assert_eq!(ann.next(), None);
}

#[test]
fn a_token_of_an_ended_session_is_refused_by_every_gateway() {
    let folder = Folder::new("standing-token");
    folder.stdout(&["token", "--new-keys", "keys.json"]);
    let hub = folder.serve(&["--user-keys", "keys.json"]);
    let token = folder.stdout(&["token", "--user-keys", "keys.json", "--user", "ann"]);
    let bearer = format!("Authorization: Bearer {}", token.trim());
    let stream = format!("{}/v1/stream", hub.edge);
    let ann = Sse::open(&stream, &[&bearer]);
    ann.find("push.caught_up");
    // Whole seconds count: the token of this second is not from before it, so the record lies ahead, as far as it may.
    let ahead = SystemTime::now() + Duration::from_secs(20);
    let record = format!(
        r#"{{"recipient":"user:ann","issuedBefore":"{}"}}"#,
        humantime::format_rfc3339_seconds(ahead)
    );
    let answer = post(&format!("{}/v1/invalidations", hub.hub), &record);
    assert!(answer.contains(r#""issuedBefore":""#), "{answer}");
    assert_eq!(ann.find("push.goodbye").data["reason"], "SESSION_ENDED");
    let late = gateway(&folder, &hub.hub, &["--gateway-id", "late", "--user-keys", "keys.json"]);
    for edge in [&hub.edge, &late.edge] {
        let mut answer = String::new();
        request("GET", &format!("{edge}/v1/stream"), &[&bearer]).read_to_string(&mut answer).unwrap();
        assert!(answer.contains(" 401 ") && answer.contains("the session was ended"), "{answer}");
    }
}
