//! `publish` with many events: what is acknowledged, where it stops, and how it goes on.

use std::io::Write as _;
use std::os::unix::fs::symlink;
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
        assert!(folder.read("pos").starts_with(r#"{"lines":3,"#), "the lines before it are acknowledged");
    }
    folder.write(
        "events.ndjson",
        line("1", "all") + "\n" + &line("2", "all") + &line("4", "all") + &line("5", "all"),
    );
    let mended = folder.run(&publish);
    assert_eq!((mended.code, mended.stderr.as_str()), (Some(0), "2 events acknowledged\n"));
    assert_eq!(log(&folder, &server, 4), ["1", "2", "4", "5"]);
}

#[test]
fn a_run_that_was_killed_goes_on_after_what_was_acknowledged() {
    let folder = Folder::new("killed");
    let server = folder.serve(&[]);
    folder.write("events", numbers(1..=20_000).iter().map(|id| line(id, "all")).collect::<String>());
    let args = ["publish", "--hub", &server.hub, "--file", "events", "--checkpoint", "pos"];
    let tail = Running::spawn(folder.command(&["tail", "--hub", &server.hub, "--from", "oldest"]));
    let run = Running::spawn(folder.command(&args));
    assert_eq!(tail.stdout.json()["event"]["id"], "1");
    run.signal("KILL");
    run.end();

    assert_eq!(folder.run(&args).code, Some(0));
    assert!(folder.read("pos").starts_with(r#"{"lines":20000,"#), "{}", folder.read("pos"));
    assert_eq!(log(&folder, &server, 20_000), numbers(1..=20_000));
}

#[test]
fn a_checkpoint_goes_on_in_a_file_that_grew_and_in_no_other() {
    let folder = Folder::new("checkpoint");
    let server = folder.serve(&[]);
    let publish = |file| {
        let args = ["publish", "--hub", &server.hub, "--file", file, "--checkpoint", "pos"];
        let outcome = folder.run(&args);
        (outcome.code, outcome.stderr)
    };
    let lines = |ids: &[&str]| ids.iter().map(|id| line(id, "all")).collect::<String>();
    let acked = |count: &str| (Some(0), format!("{count} acknowledged\n"));
    // The last line need not have an end, and may get one later.
    folder.write("a", lines(&["1", "2"]).trim_end());
    assert_eq!(publish("a"), acked("2 events"));
    folder.write("a", lines(&["1", "2", "3"]));
    assert_eq!(publish("a"), acked("1 event"));
    assert_eq!(publish("a"), acked("0 events"));

    let pos = folder.read("pos");
    let others =
        [lines(&["4", "5", "6", "7"]), lines(&["1", "2"]), lines(&["1", "2", "4", "5"]), String::new()];
    for other in others {
        folder.write("b", &other);
        let (code, told) = publish("b");
        assert!(code == Some(1) && told.contains("pos is of another file: b does not begin with"), "{told}");
        assert_eq!(folder.read("pos"), pos, "a refusal leaves it alone");
    }
    folder.write("a", lines(&["1", "2"]) + lines(&["3"]).trim_end());
    std::fs::remove_file(folder.path("pos")).unwrap();
    assert_eq!(publish("a").0, Some(0));
    folder.write("a", lines(&["1", "2"]) + lines(&["3"]).trim_end() + &line("4", "all"));
    let (code, told) = publish("a");
    assert!(code == Some(1) && told.contains("a: line 3 was acknowledged, and has grown"), "{told}");
    assert_eq!(log(&folder, &server, 3), numbers(1..=3), "nothing of the others was published");
}

#[test]
fn a_checkpoint_that_cannot_be_written_is_refused_before_anything_is_published() {
    let folder = Folder::new("unwritable");
    let server = folder.serve(&[]);
    folder.write("events", line("1", "all"));
    std::fs::create_dir(folder.path("pos.new")).unwrap();
    let refused = |file, checkpoint| {
        let publish = ["publish", "--hub", &server.hub, "--file", file, "--checkpoint", checkpoint];
        let outcome = folder.run(&publish);
        assert!(!outcome.stderr.contains("acknowledged\n"), "{outcome:?}");
        (outcome.code, outcome.stderr)
    };
    for checkpoint in ["nowhere/pos", "pos"] {
        let (code, told) = refused("events", checkpoint);
        assert!(code == Some(1) && told.contains("cannot write --checkpoint"), "{told}");
    }
    for (file, expected) in [("-", "--file - is stdin"), ("/dev/null", "/dev/null is none")] {
        let (code, told) = refused(file, "other");
        assert!(code == Some(2) && told.contains(expected) && told.contains("cannot be read"), "{told}");
    }
    folder.stdout(&["publish", "--hub", &server.hub, "--to", "all", "--type", "t", "--id", "first"]);
    assert_eq!(log(&folder, &server, 1), ["first"]);
}

/// The fault: what lay at the checkpoint was read whole, and what its new file's name led to was written over.
#[test]
fn a_checkpoint_that_another_has_made_is_not_trusted() {
    let folder = Folder::new("planted-checkpoint");
    let server = folder.serve(&[]);
    folder.write("events", line("1", "all"));
    let publish = ["publish", "--hub", &server.hub, "--file", "events", "--checkpoint", "pos"];
    let full = format!(r#"{{"lines":{0},"bytes":{0},"sha256":"{1}"}}"#, u64::MAX, "0".repeat(64));
    let padded = " ".repeat(1 << 20) + &folder_mark();
    for (text, expected) in [
        (full.replace(r#""bytes":18446744073709551615"#, r#""bytes":9"#), "does not say how much"),
        (full, "is of another file"),
        (padded, "does not say how much"),
    ] {
        folder.write("pos", text);
        let outcome = folder.run(&publish);
        assert!(outcome.code == Some(1) && outcome.stderr.contains(expected), "{outcome:?}");
    }
    std::fs::remove_file(folder.path("pos")).unwrap();
    std::fs::create_dir(folder.path("pos")).unwrap();
    assert!(folder.run(&publish).stderr.contains("does not say how much"));
    std::fs::remove_dir(folder.path("pos")).unwrap();

    folder.write("precious", "untouched");
    symlink("precious", folder.path("pos.new")).unwrap();
    assert_eq!(folder.run(&publish).code, Some(0));
    assert_eq!(folder.read("precious"), "untouched");
    assert!(folder.read("pos").starts_with(r#"{"lines":1,"#), "{}", folder.read("pos"));
}

/// Of nothing at all.
fn folder_mark() -> String {
    let nothing = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    format!(r#"{{"lines":0,"bytes":0,"sha256":"{nothing}"}}"#)
}

#[test]
fn ctrl_c_says_how_many_were_acknowledged() {
    ends_with_a_count("INT", "Ctrl-C");
}

/// The fault: a terminal that was closed ended the run without a word.
#[test]
fn a_hangup_says_how_many_were_acknowledged() {
    ends_with_a_count("HUP", "SIGHUP");
}

/// The fault: what was under way at Ctrl-C was given up, and published twice where the run went on after two minutes.
#[test]
fn what_is_under_way_at_ctrl_c_is_waited_for_and_what_stays_unknown_is_said() {
    let folder = Folder::new("under-way");
    folder.write("token", "planted-token-of-backend");
    folder.write(
        "credentials.toml",
        "[[identity]]\nname = 'backend'\nrole = 'publisher'\ntoken-file = 'token'\nevents-per-second = 2\n",
    );
    let server = folder.serve(&["--hub-credentials", "credentials.toml"]);
    let publish = |hub, file| {
        let args = ["publish", "--hub", hub, "--hub-token-file", "token", "--file", file, "--checkpoint"];
        Running::spawn(folder.command(&[&args[..], &[&*format!("{file}.pos")]].concat()))
    };
    folder.write("first", numbers(1..=6).iter().map(|id| line(id, "all")).collect::<String>());
    folder.write("second", numbers(7..=8).iter().map(|id| line(id, "all")).collect::<String>());
    assert_eq!(publish(&server.hub, "first").end().code, Some(0), "more than a second's worth, once");
    // It waits for two seconds or so until it may.
    let run = publish(&server.hub, "second");
    run.stderr.find("still trying");
    run.signal("INT");
    let outcome = run.end();
    assert_eq!(outcome.code, Some(0), "it was all there was: {outcome:?}");
    assert!(outcome.stderr.ends_with("2 events acknowledged\n"), "{outcome:?}");
    assert!(folder.read("second.pos").starts_with(r#"{"lines":2,"#));

    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = (format!("http://{}", silent.local_addr().unwrap()), silent);
    std::fs::remove_file(folder.path("first.pos")).unwrap();
    let run = publish(&silent.0, "first");
    run.stderr.find("still trying");
    run.signal("INT");
    run.stderr.find("Ctrl-C: waiting for what is under way, for 5s at most");
    run.signal("INT");
    let outcome = run.end();
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    for text in
        ["0 events acknowledged", "the 6 events under way is unknown", "within 2 minutes, or these 6 may"]
    {
        assert!(outcome.stderr.contains(text), "{text}: {outcome:?}");
    }
}

/// The fault: of two runs with one checkpoint one failed to write it, with words about no such file.
#[test]
fn a_checkpoint_is_for_one_run_at_a_time() {
    let folder = Folder::new("checkpoint-twice");
    folder.write("events", line("1", "all"));
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let hub = format!("http://{}", silent.local_addr().unwrap());
    let publish = ["publish", "--hub", &hub, "--file", "events", "--checkpoint", "pos"];
    let first = Running::spawn(folder.command(&publish));
    first.stderr.find("still trying");
    let second = folder.run(&publish);
    assert!(
        second.code == Some(1) && second.stderr.contains("another run uses --checkpoint pos"),
        "{second:?}"
    );
    first.signal("KILL");
    first.end();
    let server = folder.serve(&[]);
    let third = folder.run(&["publish", "--hub", &server.hub, "--file", "events", "--checkpoint", "pos"]);
    assert_eq!((third.code, third.stderr.as_str()), (Some(0), "1 event acknowledged\n"));
}

/// The fault: all were acknowledged, and most went with a hub that restarted meanwhile.
#[test]
fn what_an_earlier_log_acknowledged_is_said() {
    let folder = Folder::new("earlier-log");
    let server = folder.serve(&[]);
    let tail = Running::spawn(folder.command(&["tail", "--hub", &server.hub, "--from", "oldest"]));
    let mut command = folder.command(&["publish", "--hub", &server.hub, "--file", "-"]);
    command.stdin(Stdio::piped());
    let mut run = Running::spawn(command);
    let mut input = run.child.stdin.take().unwrap();
    input.write_all((line("1", "all") + &line("2", "all")).as_bytes()).unwrap();
    assert_eq!(
        [tail.stdout.json(), tail.stdout.json()].map(|frame| frame["event"]["id"].clone()),
        ["1", "2"]
    );
    let address = server.hub.trim_start_matches("http://").to_owned();
    server.process.signal("TERM");
    assert_eq!(server.process.end().code, Some(0));
    let again = ["hub", "--hub-addr", &address, "--admin-addr", "127.0.0.1:0"];
    let _server = Server::start(folder.command(&again));
    input.write_all(line("3", "all").as_bytes()).unwrap();
    drop(input);
    let outcome = run.end();
    let expected = "3 events acknowledged\nwarning: 2 of them were acknowledged by an earlier log (epoch ";
    assert!(outcome.code == Some(0) && outcome.stderr.contains(expected), "{outcome:?}");
}

fn ends_with_a_count(signal: &str, called: &str) {
    let folder = Folder::new(called);
    let server = folder.serve(&[]);
    let tail = Running::spawn(folder.command(&["tail", "--hub", &server.hub, "--from", "oldest"]));
    let mut command = folder.heeding(signal, &["publish", "--hub", &server.hub, "--file", "-"]);
    command.stdin(Stdio::piped());
    let mut run = Running::spawn(command);
    // The pipe stays open: lines are sent as they come.
    let mut input = run.child.stdin.take().unwrap();
    for id in ["1", "2", "3"] {
        input.write_all(line(id, "all").as_bytes()).unwrap();
        assert_eq!(tail.stdout.json()["event"]["id"], id);
    }
    // The third is in the log, and its ack may still be on the way.
    run.signal(signal);
    let outcome = run.end();
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    let told = outcome.stderr;
    assert!(
        told.starts_with("3 events acknowledged\n") || told.starts_with("2 events acknowledged\n"),
        "{told}"
    );
    assert!(
        told.contains(&format!("ended by {called}")) && told.contains("  tip: the same command"),
        "{told}"
    );
}

#[test]
fn an_ack_that_cannot_be_printed_says_that_the_event_is_in() {
    let folder = Folder::new("closed-stdout");
    let server = folder.serve(&[]);
    let publish = ["publish", "--hub", &server.hub, "--to", "all", "--type", "t", "--id", "1"];
    let revoke = ["revoke", "--hub", &server.hub, "--user", "1"];
    for (args, what) in [(&publish[..], "the event"), (&revoke[..], "the record")] {
        // Nobody reads: the pipe's other end is closed before anything is written.
        let (read, write) = std::io::pipe().unwrap();
        drop(read);
        let closed = folder.command(args).stdout(write).output().unwrap();
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let full = folder.command(args).stdout(full).output().unwrap();
        for (output, code) in [(closed, 0), (full, 1)] {
            let told = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(code), "{told}");
            assert!(
                told.contains(&format!("{what} is acknowledged")) && told.contains("\"cursor\":"),
                "{told}"
            );
        }
    }
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
