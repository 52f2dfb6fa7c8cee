//! `tail`: the form of its lines, where it starts, and how it ends.

use std::io::{BufRead as _, BufReader};

use serde_json::json;

use crate::world::{Folder, NOBODY, Running, Server};

#[test]
fn each_line_is_a_frame_in_its_json_form() {
    let folder = Folder::new("tail-form");
    let server = folder.serve(&[]);
    let hub = &server.hub;
    let to = ["--to", "user:42", "--to", "topic:x"];
    let one = ["publish", "--hub", hub, "--type", "a", "--id", "1", "--source", "test", "--attribute", "k=v"];
    folder.stdout(&[&one[..], &to, &[r#"{"n": 1.0}"#]].concat());

    let lines = folder.stdout(&["tail", "--hub", hub, "--from", "oldest", "--count", "1", "--all-frames"]);
    let lines: Vec<serde_json::Value> =
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let [welcome, standing, event] = &lines[..] else { panic!("{lines:?}") };
    assert!(standing.get("standing").is_some(), "{standing}");
    assert_eq!(welcome["welcome"]["outcome"], "FRESH");
    assert!(event["cursor"].as_str().unwrap().ends_with(".a1"));
    let mut event = event["event"].clone();
    assert!(event["time"].take().is_string());
    assert_eq!(
        event,
        json!({
            "specversion": "1.0", "id": "1", "source": "test", "type": "a", "time": null, "k": "v",
            "datacontenttype": "application/json", "to": "user:42,topic:x", "data": {"n": 1.0}
        })
    );
}

#[test]
fn it_starts_where_it_is_told_and_shows_gaps() {
    let folder = Folder::new("tail-start");
    let server = folder.serve(&[]);
    let hub = &server.hub;
    for (id, to) in [("1", "user:1"), ("2", "user:2"), ("3", "user:1"), ("4", "topic:x")] {
        folder.stdout(&["publish", "--hub", hub, "--to", to, "--type", "a", "--id", id]);
    }
    let tail = |args: &[&str]| {
        let printed = folder.stdout(&[&["tail", "--hub", hub][..], args].concat());
        let lines = printed.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        lines.map(|line| (line["cursor"].as_str().unwrap().to_owned(), line)).unzip::<_, _, Vec<_>, Vec<_>>()
    };
    let ids = |lines: &[serde_json::Value]| -> Vec<_> {
        lines.iter().map(|line| line["event"]["id"].as_str().unwrap_or("gap").to_owned()).collect()
    };
    let (cursors, lines) = tail(&["--from", "oldest", "--count", "2", "--to", "user:1", "--to", "topic:*"]);
    assert_eq!(ids(&lines), ["1", "3"]);
    let (_, lines) = tail(&["--from", &cursors[0], "--count", "2"]);
    assert_eq!(ids(&lines), ["2", "3"]);

    let (_, lines) = tail(&["--from", "2.AAAAAAAAAAAAAAAAAAAAAA.a7", "--count", "1"]);
    assert_eq!(ids(&lines), ["gap", "1"]);
    assert_eq!(lines[0]["gap"]["reason"], "EPOCH_CHANGED");
    // Version 1, which a store may still hold, is another epoch to everyone.
    let (_, lines) = tail(&["--from", "1.AAAAAAAAAAAAAAAAAAAAAA.7", "--count", "1"]);
    assert_eq!(
        (ids(&lines), &lines[0]["gap"]["reason"]),
        (vec!["gap".into(), "1".into()], &"EPOCH_CHANGED".into())
    );
}

#[test]
fn it_ends_quietly_when_nobody_reads_on() {
    let folder = Folder::new("tail-pipe");
    let server = folder.serve(&[]);
    let publish = ["publish", "--hub", &server.hub, "--to", "all", "--type", "a"];
    folder.stdout(&publish);
    let mut tail = folder.command(&["tail", "--hub", &server.hub, "--from", "oldest"]).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(tail.stdout.take().unwrap()).read_line(&mut line).unwrap(); // and closed, as by `head -1`
    folder.stdout(&publish);
    let outcome = tail.wait_with_output().unwrap();
    assert_eq!((outcome.status.code(), outcome.stderr.len()), (Some(0), 0));
}

/// The fault: `tail | head -1` hung until the next event.
#[test]
fn it_ends_when_nobody_reads_although_nothing_comes() {
    let folder = Folder::new("tail-unread");
    let server = folder.serve(&[]);
    folder.stdout(&["publish", "--hub", &server.hub, "--to", "all", "--type", "t"]);
    let mut tail = folder.command(&["tail", "--hub", &server.hub, "--from", "oldest"]).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(tail.stdout.take().unwrap()).read_line(&mut line).unwrap(); // and closed
    let outcome = tail.wait_with_output().unwrap();
    assert_eq!((outcome.status.code(), outcome.stderr.len()), (Some(0), 0));
}

#[test]
fn it_keeps_trying_says_so_and_ends_when_told() {
    let folder = Folder::new("tail-nobody");
    let tail = Running::spawn(folder.command(&["tail", "--hub", NOBODY]));
    let told = tail.stderr.next().unwrap();
    assert!(told.contains("Connection refused") && told.contains("still trying"), "{told}");
    tail.signal("TERM");
    let outcome = tail.end();
    assert_eq!((outcome.code, outcome.stderr.as_str()), (Some(0), ""), "said once, not for each try");
}

#[test]
fn it_ends_where_the_hub_refuses_and_says_what_to_do() {
    let folder = Folder::new("tail-refused");
    let server = folder.serve(&[]);
    folder.write(
        "credentials.toml",
        "[[identity]]\nname = 'backend'\nrole = 'publisher'\ntoken-file = 'token'\n",
    );
    folder.write("token", "planted-token-of-a-backend");
    let guarded = Server::start(folder.command(&[
        "hub",
        "--hub-addr",
        "127.0.0.1:0",
        "--admin-addr",
        "127.0.0.1:0",
        "--hub-credentials",
        "credentials.toml",
    ]));
    for (hub, args, expected) in [
        (&guarded.hub, &[][..], &["UNAUTHENTICATED", "say who this is: --hub-token-file"][..]),
        (&guarded.hub, &["--hub-token-file", "token"], &["PERMISSION_DENIED", "only gateways and operators"]),
        (&server.edge, &[], &["--hub is the hub listener, on port 7400"]),
        (&server.admin, &[], &["--hub is the hub listener, on port 7400"]),
    ] {
        let outcome = folder.run(&[&["tail", "--hub", hub][..], args].concat());
        assert_eq!(outcome.code, Some(1), "{outcome:?}");
        for text in expected {
            assert!(outcome.stderr.contains(text), "{text}: {outcome:?}");
        }
        assert!(!outcome.stderr.contains("still trying"), "{outcome:?}");
    }
}
