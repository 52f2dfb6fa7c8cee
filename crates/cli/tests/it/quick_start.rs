//! The first minute with the product, as `serve` and the README tell it.

use std::process::Command;

use serde_json::{Value, json};

use crate::sse::{Sse, request};
use crate::world::{Folder, Lines, Running};

#[test]
fn the_commands_that_serve_prints_work_as_printed() {
    let folder = Folder::new("printed");
    let process = Running::spawn(folder.command(&[
        "serve",
        "--hub-addr",
        "127.0.0.1:0",
        "--edge-addr",
        "127.0.0.1:0",
        "--admin-addr",
        "127.0.0.1:0",
    ]));
    let curl = process.stdout.find("curl -N");
    let url = curl.split('\'').nth(1).unwrap();
    let user = Sse::open(url, &[]);
    user.find("push.caught_up");

    let publish = process.stdout.find("publish --hub");
    let published = Command::new("sh").args(["-c", &publish]).output().unwrap();
    let answer: Value = serde_json::from_slice(&published.stdout).unwrap();
    assert_eq!(answer["duplicate"], json!(false));

    let frame = user.next().unwrap();
    assert_eq!((frame.event.as_str(), json!(frame.id)), ("turn.ready", answer["cursor"].clone()));
    let mut event = frame.data;
    assert!(event["time"].take().is_string());
    assert_eq!(
        event,
        json!({
            "specversion": "1.0", "id": answer["id"], "source": "galaxy-push/publish", "type": "turn.ready",
            "time": null, "datacontenttype": "application/json", "data": {"turn": 7}
        })
    );
}

#[test]
fn a_user_who_comes_back_gets_what_was_sent_meanwhile_first() {
    let folder = Folder::new("back");
    let server = folder.serve(&[]);
    let url = format!("{}/v1/stream?user=42", server.edge);
    let send = |id| {
        folder.stdout(&["publish", "--hub", &server.hub, "--to", "user:42", "--type", "a", "--id", id]);
    };
    let user = Sse::open(&url, &[]);
    user.find("push.caught_up");
    send("1");
    let last = user.find("a").id;
    drop(user);
    send("2");
    folder.stdout(&["publish", "--hub", &server.hub, "--to", "user:43", "--type", "a", "1"]);
    send("3");

    let user = Sse::open(&url, &[&format!("Last-Event-ID: {last}")]);
    let welcome = user.next().unwrap();
    assert_eq!((welcome.event.as_str(), &welcome.data["outcome"]), ("push.welcome", &json!("RESUMED")));
    let frames: Vec<_> = std::iter::from_fn(|| user.next()).take(3).collect();
    let ids: Vec<_> = frames.iter().map(|frame| frame.data["id"].as_str().unwrap_or("caught up")).collect();
    assert_eq!(ids, ["2", "3", "caught up"]);
}

#[test]
fn with_keys_users_need_a_token() {
    let folder = Folder::new("keys");
    let keys = folder.run(&["token", "--new-keys", "keys.json"]);
    assert!(keys.code == Some(0) && keys.stderr.contains("keep it secret"), "{keys:?}");
    let server = folder.serve(&["--user-keys", "keys.json"]);
    let token = folder.stdout(&["token", "--user-keys", "keys.json", "--user", "42", "--topic", "game.*"]);

    let url = format!("{}/v1/stream?topic=game.7", server.edge);
    let refused = Lines::of(request("GET", &url, &[]));
    assert!(refused.next().unwrap().contains(" 401 "));
    refused.find("application/problem+json");
    refused.find("a token is needed");

    let user = Sse::open(&url, &[&format!("Authorization: Bearer {}", token.trim())]);
    user.find("push.caught_up");
    folder.stdout(&["publish", "--hub", &server.hub, "--to", "topic:game.7", "--type", "move", "[1,2]"]);
    assert_eq!(user.find("move").data["data"], json!([1, 2]));
}

#[test]
fn the_probes_and_the_metrics_answer() {
    let folder = Folder::new("probes");
    let server = folder.serve(&[]);
    for (url, expected) in [
        (format!("{}/readyz", server.hub), "ok"),
        (format!("{}/readyz", server.edge), "ok"),
        (format!("{}/livez", server.admin), "ok"),
        (format!("{}/metrics", server.admin), "push_build_info"),
    ] {
        let answer = Lines::of(request("GET", &url, &[]));
        let status = answer.next().unwrap();
        assert!(status.contains(" 200 "), "{url}: {status}");
        answer.find(expected);
    }
}

/// The fault: data that was piped in was dropped without a word. It is read when `-` says so.
#[test]
fn data_may_come_through_a_pipe() {
    let folder = Folder::new("piped");
    let server = folder.serve(&[]);
    let tail = Running::spawn(folder.command(&["tail", "--hub", &server.hub, "--from", "oldest"]));
    folder.write("data", r#"{"turn":8}"#);
    for from in [&["-"][..], &["--data-file", "-"]] {
        let event = ["publish", "--hub", &server.hub, "--to", "user:42", "--type", "t"];
        let mut command = folder.command(&[&event, from].concat());
        command.stdin(std::fs::File::open(folder.path("data")).unwrap());
        let outcome = Running::spawn(command).end();
        assert_eq!(outcome.code, Some(0), "{outcome:?}");
        assert_eq!(tail.stdout.json()["event"]["data"], json!({"turn": 8}), "{from:?}");
    }
}
