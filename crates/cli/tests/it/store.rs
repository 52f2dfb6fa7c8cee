//! `store check` and `store dump`: a log on the disk, sound or damaged, also beside the hub that writes it.

use std::fs;
use std::io::Read as _;
use std::path::PathBuf;

use serde_json::Value;

use crate::sse::{Sse, request};
use crate::world::{Folder, Outcome, Running, Server, line};

const DATA: [&str; 4] = ["--store", "disk", "--data-dir", "data"];

fn publish(folder: &Folder, server: &Server, ids: std::ops::Range<u32>) {
    let to = |id: u32| if id.is_multiple_of(2) { "user:even" } else { "user:odd" };
    let lines: String = ids.map(|id| line(&id.to_string(), to(id))).collect();
    folder.write("events.ndjson", lines);
    folder.stdout(&["publish", "--hub", &server.hub, "--file", "events.ndjson"]);
}

/// A folder with a log of 40 events and a revocation, whose hub was killed.
fn written(test: &str) -> Folder {
    let folder = Folder::new(test);
    let server = folder.serve(&DATA);
    publish(&folder, &server, 0..40);
    folder.stdout(&["revoke", "--hub", &server.hub, "--session", "8d1f"]);
    folder
}

fn json(outcome: &Outcome) -> Value {
    serde_json::from_str(&outcome.stdout).unwrap_or_else(|error| panic!("{error}: {outcome:?}"))
}

fn lines(outcome: &Outcome) -> Vec<Value> {
    outcome.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn segments(folder: &Folder) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder.path("data")).unwrap().map(|entry| entry.unwrap().path());
    let mut segments: Vec<_> =
        entries.filter(|path| path.extension().is_some_and(|end| end == "log")).collect();
    segments.sort();
    segments
}

/// Changes a byte of the tenth event.
fn damage(folder: &Folder) -> u64 {
    let path = &segments(folder)[0];
    let mut bytes = fs::read(path).unwrap();
    let at = bytes.windows(11).position(|window| window == br#"{"id":"10"}"#).unwrap();
    bytes[at] ^= 1;
    fs::write(path, bytes).unwrap();
    at as u64
}

#[test]
fn a_sound_log_is_told_and_printed() {
    let folder = written("store-sound");
    let checked = folder.run(&["store", "check", "data"]);
    assert_eq!(checked.code, Some(0), "{checked:?}");
    for said in
        ["begins after", "entries         41\n", "1 invalidations, 0 memberships hold", "every checksum"]
    {
        assert!(checked.stdout.contains(said), "{said}: {}", checked.stdout);
    }
    let told = json(&folder.run(&["store", "check", "data", "--json"]));
    assert_eq!(
        (&told["sound"], &told["entries"], &told["keys"]),
        (&true.into(), &41.into(), &41.into()),
        "{told}"
    );
    let last = told["last"].as_str().unwrap();
    assert!(last.starts_with(&format!("2.{}.b41", told["epoch"].as_str().unwrap())), "{told}");

    let dumped = folder.run(&["store", "dump", "data"]);
    assert_eq!(dumped.code, Some(0), "{dumped:?}");
    let frames = lines(&dumped);
    assert_eq!(frames[0]["standing"]["invalidations"][0]["recipient"], "session:8d1f", "{}", frames[0]);
    assert_eq!(frames[0]["cursor"], told["first"]);
    // The same lines as `tail` prints.
    let server = folder.serve(&DATA);
    let tail = ["tail", "--hub", &server.hub, "--from", "oldest", "--all-frames"];
    let tail = Running::spawn(folder.command(&tail));
    let mut told: Vec<_> =
        std::iter::from_fn(|| tail.stdout.next()).take_while(|line| !line.contains("caughtUp")).collect();
    assert!(told.remove(0).contains("welcome"));
    assert_eq!(told, dumped.stdout.lines().collect::<Vec<_>>());
}

#[test]
fn a_dump_begins_and_filters_as_it_is_asked() {
    let folder = written("store-from");
    let all = lines(&folder.run(&["store", "dump", "data"]));
    let cursor = |frame: &Value| frame["cursor"].as_str().unwrap().to_owned();
    let dump = |args: &[&str]| lines(&folder.run(&[&["store", "dump", "data"][..], args].concat()));
    assert_eq!(dump(&["--from", &cursor(&all[30])]), all[31..], "what follows, and no standing records");
    let even = dump(&["--to", "user:e*"]);
    assert!(even.iter().all(|frame| frame["event"].is_null() || frame["event"]["to"] == "user:even"));
    assert_eq!(even.len(), 1 + 20 + 1, "records are never hidden");
    let elsewhere = dump(&["--from", "2.AAAAAAAAAAAAAAAAAAAAAA.a5"]);
    assert_eq!(elsewhere[1]["gap"]["reason"], "EPOCH_CHANGED", "{}", elsewhere[1]);
    assert_eq!(elsewhere[2..], all[1..]);
    let beyond = cursor(&all[1]).replace(".a1", ".c999");
    let beyond = dump(&["--from", &beyond]);
    assert_eq!((beyond.len(), &beyond[1]["gap"]["reason"]), (2, &"AHEAD".into()), "{beyond:?}");
}

#[test]
fn what_is_damaged_is_told_with_its_place_and_as_a_gap() {
    let folder = written("store-damaged");
    let at = damage(&folder);
    let checked = folder.run(&["store", "check", "data"]);
    assert_eq!(checked.code, Some(1), "{checked:?}");
    assert!(checked.stdout.contains("DAMAGED") && checked.stdout.contains("positions lost"), "{checked:?}");
    assert!(checked.stderr.contains("data is damaged"), "{checked:?}");
    let told = json(&folder.run(&["store", "check", "--json", "data"]));
    let place = &told["damage"][0];
    assert!(place["file"].as_str().unwrap().ends_with(".log"), "{told}");
    let within = place["bytes"]["from"].as_u64().unwrap()..place["bytes"]["to"].as_u64().unwrap();
    assert!(within.contains(&at), "{told}");
    let lost =
        told["damage"].as_array().unwrap().iter().find_map(|damage| damage["lost"].as_object()).unwrap();
    let dumped = folder.run(&["store", "dump", "data"]);
    assert_eq!(dumped.code, Some(1), "{dumped:?}");
    let frames = lines(&dumped);
    let gap = frames.iter().find(|frame| frame.get("gap").is_some()).unwrap();
    assert_eq!((&gap["gap"]["reason"], &gap["gap"]["to"]), (&"DAMAGED".into(), &lost["to"]), "{gap}");
    let events = frames.iter().filter(|frame| frame.get("event").is_some()).count() as u64;
    assert_eq!(events + lost["count"].as_str().unwrap().parse::<u64>().unwrap(), 40);
}

/// Nothing is lost by it, but the other one may go too.
#[test]
fn a_head_of_which_one_copy_is_damaged_is_told_and_mended() {
    let folder = written("store-worn");
    let file = folder.path("data").join("00000000000000000001.log");
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let checked = folder.run(&["store", "check", "data"]);
    assert_eq!(checked.code, Some(0), "{checked:?}");
    assert!(checked.stdout.contains("WORN") && !checked.stdout.contains("every checksum"), "{checked:?}");
    let told = json(&folder.run(&["store", "check", "--json", "data"]));
    assert_eq!((&told["sound"], &told["worn"][0]["bytes"]["to"]), (&true.into(), &512.into()), "{told}");
    drop(folder.serve(&DATA));
    let told = json(&folder.run(&["store", "check", "--json", "data"]));
    assert_eq!((&told["entries"], &told["worn"]), (&41.into(), &Vec::<i32>::new().into()), "{told}");
}

/// Beside a hub that publishes as fast as it can, and is not disturbed.
#[test]
fn a_hub_that_runs_is_looked_at_and_not_disturbed() {
    let folder = Folder::new("store-beside");
    let server = folder.serve(&[&DATA[..], &["--window-bytes", "2MiB"]].concat());
    let lines: String = (0..20_000).map(|id| line(&format!("b{id}"), "user:1")).collect();
    folder.write("many.ndjson", lines);
    let publish = ["publish", "--hub", &server.hub, "--file", "many.ndjson"];
    let mut publishing = Running::spawn(folder.command(&publish));
    let mut looks = 0;
    while publishing.child.try_wait().unwrap().is_none() || looks < 3 {
        let checked = folder.run(&["store", "check", "data", "--json"]);
        assert_eq!(checked.code, Some(0), "{checked:?}");
        looks += 1;
    }
    assert_eq!(publishing.end().code, Some(0));
    let last = json(&folder.run(&["store", "check", "data", "--json"]));
    assert!(last["last"].as_str().unwrap().ends_with(".e20000"), "{last}");
    assert_eq!(last["cutOff"], false, "{last}");
}

#[test]
fn a_reader_that_has_enough_is_no_failure() {
    let folder = written("store-head");
    let binary = crate::world::BINARY;
    let shell = format!("{binary} store dump data | head -1; echo ${{PIPESTATUS[0]}}");
    let mut command = std::process::Command::new("bash");
    command.args(["-c", &shell]).current_dir(folder.path("")).env_clear().env("PATH", "/usr/bin:/bin");
    let outcome = command.output().unwrap();
    let text = String::from_utf8(outcome.stdout).unwrap();
    assert!(text.lines().count() == 2 && text.ends_with("\n0\n"), "{text}");
    assert!(outcome.stderr.is_empty(), "{}", String::from_utf8_lossy(&outcome.stderr));
}

#[test]
fn what_cannot_be_read_is_said() {
    let folder = written("store-refused");
    fs::create_dir(folder.path("empty")).unwrap();
    folder.write("file", "x");
    fs::create_dir(folder.path("other")).unwrap();
    let mut bytes = fs::read(&segments(&folder)[0]).unwrap();
    for copy in [0, 512] {
        bytes[copy + 8] = 9;
        let head: Vec<_> = bytes[copy..copy + 128].to_vec();
        let sum = crc32fast::hash(&[&head[..12], &head[16..]].concat());
        bytes[copy + 12..copy + 16].copy_from_slice(&sum.to_le_bytes());
    }
    folder.write("other/00000000000000000001.log", bytes);
    for (args, code, said) in [
        (&["check", "empty"][..], 66, "there is no log in empty"),
        (&["dump", "empty"], 66, "--data-dir"),
        (&["check", "none"], 66, "No such file"),
        (&["check", "file"], 66, "Not a directory"),
        (&["check", "other"], 66, "has version 9 of the format"),
        (&["dump", "data", "--from", "now"], 2, "write oldest, or a cursor"),
        (&["dump", "data", "--from", "x"], 2, "write oldest, or a cursor"),
        (&["dump", "data", "--to", "nobody"], 2, "'nobody' for '--to"),
        (&["check"], 2, "<DIR>"),
    ] {
        let outcome = folder.run(&[&["store"][..], args].concat());
        assert_eq!(outcome.code, Some(code), "{args:?}: {outcome:?}");
        assert!(outcome.stderr.contains(said), "{args:?}: {outcome:?}");
        assert!(outcome.stdout.is_empty(), "{args:?}: {outcome:?}");
    }
}

/// A hub whose log takes a while to be read: one of its segments is a pipe that nobody writes to yet.
#[test]
fn a_hub_that_reads_its_log_says_so_and_ends_when_told() {
    let folder = Folder::new("store-reading");
    drop(folder.serve(&DATA));
    let pipe = folder.path("data/00000000000000000002.log");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let ports = ["--hub-addr", "127.0.0.1:0", "--edge-addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0"];
    let page = ["--allowed-origins", "https://app.example"];
    let args = [&["serve", "--ready-json", "--log-format", "json"][..], &ports, &page, &DATA].concat();
    let process = Running::spawn(folder.heeding("TERM", &args));
    let opening: Value = serde_json::from_str(&process.stderr.find("opening the log")).unwrap();
    let url = |role: &str| opening[role].as_str().unwrap_or_else(|| panic!("{opening}")).to_owned();
    let [hub, edge, admin] = ["hub", "edge", "admin"].map(url);
    let ask = |url: &str, path: &str, headers: &[&str]| {
        let mut answer = String::new();
        request("GET", &format!("{url}{path}"), headers).read_to_string(&mut answer).unwrap();
        answer
    };
    for address in [&hub, &edge, &admin] {
        assert!(ask(address, "/livez", &[]).contains(" 200 "), "{address} lives");
        assert!(ask(address, "/readyz", &[]).contains(" 503 "), "{address} is not ready");
    }
    let ready = ask(&admin, "/readyz?verbose", &[]);
    assert!(ready.contains("[-]hub reading the log from data: 0 of 0 MiB"), "{ready}");
    assert!(ask(&admin, "/metrics", &[]).contains("push_build_info"));
    let head = ask(&hub, "/v1/head", &[]);
    assert!(head.contains(" 503 ") && head.contains("STORE_UNAVAILABLE"), "{head}");
    let user = Sse::open(&format!("{edge}/v1/stream?user=1"), &["Accept: text/event-stream"]);
    user.find("push.goodbye");
    let plain = ask(&edge, "/v1/stream?user=1", &[]);
    assert!(plain.contains(" 503 "), "{plain}");
    // What a page may not read its browser does not come back for.
    let of_page = ask(&edge, "/v1/stream?user=1", &["Origin: https://app.example"]).to_lowercase();
    assert!(of_page.contains("access-control-allow-origin: https://app.example"), "{of_page}");
    process.signal("TERM");
    let outcome = process.end();
    assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(0), ""), "{outcome:?}");
    assert!(outcome.stderr.contains("ended while the log was read"), "{outcome:?}");
    fs::remove_file(pipe).unwrap();
    publish(&folder, &folder.serve(&DATA), 0..2);
}
