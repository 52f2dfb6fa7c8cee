//! `publish` with many events: what is acknowledged, where it stops, and how it goes on.

use std::io::Write as _;
use std::process::Stdio;

use crate::world::{Folder, NOBODY, Running, Server, line};

/// The ids in the hub's log, oldest first.
fn log(folder: &Folder, server: &Server, count: usize) -> Vec<String> {
    let count = count.to_string();
    let printed = folder.stdout(&["tail", "--hub", &server.hub, "--from", "oldest", "--count", &count]);
    let id = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["event"]["id"].clone();
    printed.lines().map(|line| id(line).as_str().unwrap().to_owned()).collect()
}

fn numbers(numbers: std::ops::RangeInclusive<u32>) -> Vec<String> {
    numbers.map(|number| number.to_string()).collect()
}

#[test]
fn many_lines_arrive_in_their_order_and_only_once() {
    let folder = Folder::new("many");
    let server = folder.serve(&[]);
    let text: String = numbers(1..=2_500).iter().map(|id| line(id, "topic:x") + "\n").collect();
    folder.write("events.ndjson", text);
    let publish = ["publish", "--hub", &server.hub, "--file", "events.ndjson"];
    let first = folder.run(&publish);
    assert_eq!((first.code, first.stderr.as_str()), (Some(0), "2500 events acknowledged\n"));
    let again = folder.run(&publish);
    assert_eq!(
        (again.code, again.stderr.as_str()),
        (Some(0), "2500 events acknowledged, 2500 published before\n")
    );
    assert_eq!(log(&folder, &server, 2_500), numbers(1..=2_500));
}

#[test]
fn a_bad_line_stops_the_run_there_and_the_mended_file_goes_on() {
    let folder = Folder::new("bad-line");
    let server = folder.serve(&[]);
    let publish = ["publish", "--hub", &server.hub, "--file", "events.ndjson", "--checkpoint", "pos"];
    let large = format!(
        r#"{{"specversion":"1.0","id":"3","source":"s","type":"t","to":"all","data":"{}"}}"#,
        "x".repeat(70_000)
    );
    for (bad, expected) in [
        // Only the hub knows its limit, and it takes a batch as a whole or not at all.
        (large, "events.ndjson: line 4, refused by the hub: data: 70002 bytes are more than the 65536"),
        (line("3", "group:1"), "events.ndjson: line 4, to[0]: must be user:<id>"),
        (line("3", ""), "events.ndjson: line 4, to: is required"),
        (line("", "all"), "events.ndjson: line 4, id: is required"),
        ("{".to_owned(), "events.ndjson: line 4: "),
    ] {
        folder.write(
            "events.ndjson",
            line("1", "all") + "\n" + &line("2", "all") + &bad + "\n" + &line("4", "all"),
        );
        let outcome = folder.run(&publish);
        assert_eq!(outcome.code, Some(1), "{outcome:?}");
        assert!(outcome.stderr.contains(expected), "{expected}: {}", outcome.stderr);
        assert!(outcome.stderr.contains("the same command continues"), "{}", outcome.stderr);
        assert_eq!(folder.read("pos"), "3\n", "the lines before it are acknowledged");
    }
    folder.write(
        "events.ndjson",
        (1..=4).map(|id| line(&id.to_string(), "all")).collect::<String>() + &line("5", "all"),
    );
    let mended = folder.run(&publish);
    assert_eq!((mended.code, mended.stderr.as_str()), (Some(0), "2 events acknowledged\n"));
    assert_eq!(log(&folder, &server, 4), ["1", "2", "4", "5"]);
}

#[test]
fn a_run_that_was_killed_goes_on_after_what_was_acknowledged() {
    let folder = Folder::new("killed");
    let server = folder.serve(&[]);
    let args = ["publish", "--hub", &server.hub, "--file", "-", "--checkpoint", "pos"];
    let tail = Running::spawn(folder.command(&["tail", "--hub", &server.hub, "--from", "oldest"]));
    let mut command = folder.command(&args);
    command.stdin(Stdio::piped());
    let mut run = Running::spawn(command);
    // The pipe stays open: lines are sent as they come.
    let mut input = run.child.stdin.take().unwrap();
    for id in 1..=3 {
        input.write_all(line(&id.to_string(), "all").as_bytes()).unwrap();
        assert_eq!(tail.stdout.json()["event"]["id"], id.to_string());
    }
    run.signal("KILL");
    run.end();
    drop(input);

    folder.write("all", numbers(1..=5).iter().map(|id| line(id, "all")).collect::<String>());
    let mut command = folder.command(&args);
    command.stdin(std::fs::File::open(folder.path("all")).unwrap());
    let outcome = Running::spawn(command).end();
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert_eq!(folder.read("pos"), "5\n");
    assert_eq!(log(&folder, &server, 5), numbers(1..=5));
}

#[test]
fn without_a_hub_it_gives_up_and_says_what_to_do() {
    let folder = Folder::new("no-hub");
    folder.write("events.ndjson", line("1", "all"));
    let outcome = folder.run(&["publish", "--hub", NOBODY, "--timeout", "2s", "--file", "events.ndjson"]);
    assert_eq!(outcome.code, Some(1));
    for expected in [
        "0 events acknowledged",
        "events.ndjson: lines 1 to 1: cannot reach the hub: http://127.0.0.1:1: Connection refused",
        "gave up after 2s",
        "start a hub with `galaxy-push serve`",
    ] {
        assert!(outcome.stderr.contains(expected), "{expected}: {}", outcome.stderr);
    }
}
