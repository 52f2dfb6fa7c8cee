//! `serve --store nats`: several hubs are doors to one log. Left out, and said, where there is no nats-server.

use std::io::Read as _;

use galaxy_push_testkit::broker::{self, Broker, Settings};
use serde_json::Value;
use tokio::time::Instant;

use crate::sse::{get, request};
use crate::world::{Folder, PATIENCE, Server, publish, tail};

fn serve(folder: &Folder, broker: &Broker) -> Server {
    folder.serve(&["--store", "nats", "--nats-url", &broker.url()])
}

#[test]
fn several_hubs_are_doors_to_one_log() {
    let Some(program) = broker::program() else { return };
    let broker = Broker::start(&program, &Settings::default()).unwrap();
    let folder = Folder::new("nats");
    let (first, second) = (serve(&folder, &broker), serve(&folder, &broker));
    let a = publish(&folder, &first, "a");
    let again = publish(&folder, &second, "a");
    assert_eq!((&again["cursor"], &again["duplicate"]), (&a["cursor"], &Value::Bool(true)), "{again}");
    let b = publish(&folder, &second, "b");
    drop(first); // killed, without a word
    let c = publish(&folder, &second, "c");
    let frames = tail(&folder, &second, a["cursor"].as_str().unwrap(), "2");
    assert_eq!(frames[0]["welcome"]["outcome"], "RESUMED", "{frames:?}");
    let cursor = |id: &str| frames.iter().find(|each| each["event"]["id"] == id).map(|each| &each["cursor"]);
    assert_eq!((cursor("b"), cursor("c")), (Some(&b["cursor"]), Some(&c["cursor"])));
    let third = serve(&folder, &broker);
    let ids = |frames: &[Value]| {
        let ids = frames.iter().filter_map(|frame| frame["event"]["id"].as_str().map(str::to_owned));
        ids.collect::<Vec<_>>()
    };
    let all = tail(&folder, &third, "oldest", "3");
    assert_eq!(
        (ids(&all), ids(&frames)),
        (vec!["a".into(), "b".into(), "c".into()], vec!["b".into(), "c".into()])
    );
    assert!(all.iter().all(|frame| frame.get("gap").is_none()), "{all:?}");

    let ready = get(&format!("{}/readyz?verbose", third.admin));
    assert!(ready.contains("[+]brokers acknowledged is what is stored by one broker"), "{ready}");
}

#[test]
fn a_hub_whose_broker_is_gone_refuses_and_says_so_and_goes_on_with_it() {
    let Some(program) = broker::program() else { return };
    let mut broker = Broker::start(&program, &Settings::default()).unwrap();
    let folder = Folder::new("nats-gone");
    let server = serve(&folder, &broker);
    let a = publish(&folder, &server, "a");
    broker.kill();
    server.process.stderr.find("publishes are refused");
    let event = r#"{"specversion":"1.0","id":"b","source":"/s","type":"t","to":"user:1"}"#;
    let refused = post(&server.hub, event);
    assert!(refused.contains(" 503 ") && refused.contains("STORE_UNAVAILABLE"), "{refused}");
    let told = get(&format!("{}/readyz?verbose", server.admin));
    assert!(told.contains(" 200 ") && told.contains("[-]brokers no broker leads the log"), "{told}");
    assert!(get(&format!("{}/metrics", server.admin)).contains("\npush_store_stale 1"));
    let head = get(&format!("{}/v1/head", server.hub));
    assert!(head.contains(a["cursor"].as_str().unwrap()) && head.contains("\"stale\":true"), "{head}");
    let line = ready_until(&server, |line| line.is_some()).unwrap();
    assert!(
        line.starts_with("[-]hub-store for ") && line.contains("the hub cannot reach its store"),
        "{line}"
    );
    broker.restart().unwrap();
    server.process.stderr.find("publishes are taken");
    let b = publish(&folder, &server, "b");
    assert_eq!(b["duplicate"], Value::Bool(false), "{b}");
    ready_until(&server, |line| line.is_none());
    assert_eq!(
        tail(&folder, &server, a["cursor"].as_str().unwrap(), "1")
            .iter()
            .filter(|each| each.get("event").is_some())
            .count(),
        1
    );
}

/// Asks until what `/readyz?verbose` has of the store of the gateway's hub is so: the gateway hears of it with the hub's next sign of
/// life.
fn ready_until(server: &Server, is_so: impl Fn(&Option<String>) -> bool) -> Option<String> {
    let asked = Instant::now();
    loop {
        let told = get(&format!("{}/readyz?verbose", server.admin));
        assert!(told.contains(" 200 "), "{told}");
        let line = told.lines().find(|line| line.contains("]hub-store ")).map(str::to_owned);
        if is_so(&line) {
            return line;
        }
        assert!(asked.elapsed() < PATIENCE, "{told}");
    }
}

fn post(hub: &str, event: &str) -> String {
    use std::io::Write as _;
    let headers = ["Content-Type: application/cloudevents+json", &format!("Content-Length: {}", event.len())];
    let mut socket = request("POST", &format!("{hub}/v1/events"), &headers);
    socket.write_all(event.as_bytes()).unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    answer
}
