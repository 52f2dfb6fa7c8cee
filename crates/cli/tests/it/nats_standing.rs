//! Standing records at the doors of one log on NATS: what one hub is told holds at the others, and outlives them and the log.
//! Left out, and said, where there is no nats-server.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, SystemTime};

use galaxy_push_testkit::broker::{self, Broker, Settings};

use crate::sse::{Sse, request};
use crate::standing::post;
use crate::world::{Folder, Server};

fn serve(folder: &Folder, broker: &Broker) -> Server {
    let server = folder.serve(&["--store", "nats", "--nats-url", &broker.url(), "--user-keys", "keys.json"]);
    server.process.stderr.find("ready for users");
    server
}

/// Has the log let go of everything, as it does when it is old.
fn purge(broker: &Broker) {
    let mut socket = TcpStream::connect(broker.url().replace("nats://", "")).unwrap();
    let purge = "CONNECT {}\r\nSUB answer 1\r\nPUB $JS.API.STREAM.PURGE.galaxy-push-default answer 0\r\n\r\n";
    socket.write_all(purge.as_bytes()).unwrap();
    let lines = BufReader::new(socket).lines().map(Result::unwrap);
    let answer = lines.skip_while(|line| !line.starts_with("MSG answer")).nth(1).unwrap();
    assert!(answer.contains(r#""success":true"#), "{answer}");
}

fn answer(server: &Server, bearer: &str) -> String {
    let mut answer = String::new();
    let stream = format!("{}/v1/stream", server.edge);
    request("GET", &stream, &[bearer]).read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_session_that_is_ended_at_one_hub_is_ended_at_all_and_stays_so() {
    let Some(program) = broker::program() else { return };
    let broker = Broker::start(&program, &Settings::default()).unwrap();
    let folder = Folder::new("nats-standing");
    folder.stdout(&["token", "--new-keys", "keys.json"]);
    let bearer = |user: &str| {
        let token = folder.stdout(&["token", "--user-keys", "keys.json", "--user", user]);
        format!("Authorization: Bearer {}", token.trim())
    };
    let (ann, bob) = (bearer("ann"), bearer("bob"));
    let (a, b) = (serve(&folder, &broker), serve(&folder, &broker));
    let streams = [&a, &b].map(|server| Sse::open(&format!("{}/v1/stream", server.edge), &[&ann]));
    for stream in &streams {
        stream.find("push.caught_up");
    }
    // Whole seconds count: the token of this second is not from before it, so the record lies ahead, as far as it may.
    let ahead = humantime::format_rfc3339_seconds(SystemTime::now() + Duration::from_secs(20));
    let record = format!(r#"{{"recipient":"user:ann","issuedBefore":"{ahead}","id":"1","source":"/s"}}"#);
    let said = post(&format!("{}/v1/invalidations", a.hub), &record);
    for stream in streams {
        assert_eq!(stream.find("push.goodbye").data["reason"], "SESSION_ENDED");
    }
    let again = post(&format!("{}/v1/invalidations", b.hub), &record);
    let cursor =
        |answer: &str| answer.split(r#""cursor":""#).nth(1).unwrap().split('"').next().unwrap().to_owned();
    assert!(again.contains(r#""duplicate":true"#) && cursor(&again) == cursor(&said), "{again} {said}");
    folder.stdout(&["member", "add", "user:bob", "news", "--hub", &b.hub]);
    assert!(answer(&b, &ann).contains("the session was ended"));
    drop((a, b)); // killed, without a word
    purge(&broker);

    let next = [serve(&folder, &broker), serve(&folder, &broker)];
    for server in &next {
        let refused = answer(server, &ann);
        assert!(refused.contains(" 401 ") && refused.contains("the session was ended"), "{refused}");
    }
    let there = Sse::open(&format!("{}/v1/stream", next[1].edge), &[&bob]);
    there.find("push.caught_up");
    folder.stdout(&["publish", "--hub", &next[0].hub, "--to", "topic:news", "--type", "a", "--id", "2"]);
    assert_eq!(there.find("a").data["id"], "2", "nor is anybody's topic forgotten");
}
