//! What the log says, and what it keeps to itself.

use serde_json::Value;

use crate::sse::{Sse, request};
use crate::world::{Folder, Lines, Running, Server};

/// The lines of a server that was told to end.
fn ended(server: Server) -> Vec<Value> {
    server.process.signal("TERM");
    let stderr = server.process.end().stderr;
    stderr.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_start_with_nothing_to_worry_about_does_not_sound_like_it() {
    let folder = Folder::new("quiet-start");
    let server = folder.serve(&[]);
    let user = Sse::open(&format!("{}/v1/stream?user=zaphod", server.edge), &[]);
    user.find("push.caught_up");
    drop(user);
    for line in ended(server) {
        let message = line["message"].as_str().unwrap().to_lowercase();
        assert_eq!(line["level"], "INFO", "{line}");
        for word in ["lost", "fail", "error", "cannot", "refused", "missed", "gap"] {
            assert!(!message.contains(word), "{word}: {line}");
        }
    }
}

#[test]
fn no_recipient_stands_in_the_log_and_refused_users_do_but_no_line_each() {
    let folder = Folder::new("quiet-names");
    let server = folder.serve(&[]);
    let hub = ["--hub", &server.hub];
    let stream = |query: &str| Sse::open(&format!("{}/v1/stream?{query}", server.edge), &[]);
    let user = stream("user=zaphod&session=betelgeuse&topic=heartofgold");
    user.find("push.caught_up");
    folder.stdout(&[&["member", "add", "user:zaphod", "magrathea"][..], &hub].concat());
    for to in ["user:zaphod", "topic:heartofgold", "topic:magrathea"] {
        folder.stdout(&[&["publish", "--to", to, "--type", "t"][..], &hub].concat());
    }
    for _ in 0..9 {
        let refused = format!("{}/v1/stream?user=zaphod&topic=heart,of,gold", server.edge);
        let answer = Lines::of(request("GET", &refused, &[])).next().unwrap();
        assert!(answer.contains(" 400 "), "{answer}");
    }
    folder.stdout(&[&["revoke", "--session", "betelgeuse"][..], &hub].concat());
    user.find("push.goodbye");
    let lines = ended(server);
    let refused: Vec<_> = lines.iter().filter(|line| line["message"] == "users refused").collect();
    assert_eq!(refused.len(), 4, "the first, second, fourth and eighth: {refused:?}");
    assert!(refused.iter().all(|line| line["level"] == "INFO"), "{refused:?}");
    for line in lines {
        let line = line.to_string();
        for name in ["zaphod", "betelgeuse", "heartofgold", "magrathea"] {
            assert!(!line.contains(name), "{name}: {line}");
        }
    }
}

#[test]
fn the_log_calls_a_connection_what_its_client_calls_it() {
    let folder = Folder::new("quiet-ids");
    let server = folder.serve(&["--log-level", "debug"]);
    let tail = ["tail", "--hub", &server.hub, "--all-frames"];
    let tail = Running::spawn(folder.command(&tail));
    let gateway = tail.stdout.json()["welcome"]["connectionId"].as_str().unwrap().to_owned();
    let user = Sse::open(&format!("{}/v1/stream?user=42", server.edge), &[]);
    let user = user.next().unwrap().data["connectionId"].as_str().unwrap().to_owned();
    let lines = ended(server);
    for (message, id) in
        [("stream opened", &gateway), ("stream ended by the hub", &gateway), ("connected", &user)]
    {
        let named = lines.iter().any(|line| line["message"] == message && line["connection"] == **id);
        assert!(named, "{message}: {id}");
    }
}
