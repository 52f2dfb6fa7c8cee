//! What `/metrics` says, for every role: valid in both formats, complete from the start, and described in docs/telemetry.md.
//!
//! `cargo xtask metrics` gives two judges of its own kind: `PROMTOOL`, the path of Prometheus's promtool, and
//! `METRICS_PYTHON`, a Python with prometheus_client, whose parser of OpenMetrics is strict. Without them the tests judge by
//! the rules below alone.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};

use crate::sse::{Sse, request};
use crate::world::{Folder, Running, Server};

const OPEN_METRICS: &str = "Accept: application/openmetrics-text; version=1.0.0";

const PARSE: &str = "import sys; from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse; \
                     list(parse(sys.stdin.read()))";

/// The answer's body, and whether it came as OpenMetrics.
fn scrape(admin: &str, headers: &[&str]) -> (String, bool) {
    let mut answer = String::new();
    request("GET", &format!("{admin}/metrics"), headers).read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains(" 200 "), "{head}");
    (body.to_owned(), head.contains("application/openmetrics-text"))
}

/// Has the text judged by a program that reads it from standard input.
fn judge(program: &str, args: &[&str], text: &str) {
    let mut child =
        Command::new(program).args(args).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let outcome = child.wait_with_output().unwrap();
    assert!(outcome.status.success(), "{}\n{text}", String::from_utf8_lossy(&outcome.stderr));
}

/// One metric, as its samples show it.
#[derive(Debug, Default)]
struct Shown {
    kind: String,
    labels: BTreeSet<String>,
    samples: BTreeSet<String>,
}

/// The metrics of a text, each under the name of its description; what the format forbids fails.
fn metrics(text: &str) -> BTreeMap<String, Shown> {
    let mut shown: BTreeMap<String, Shown> = BTreeMap::new();
    let mut helped = BTreeSet::new();
    let mut described = String::new();
    for line in text.lines() {
        if let Some((name, _)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) {
            assert!(helped.insert(name.to_owned()), "{name} is described twice");
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' '))
        {
            let new = Shown { kind: kind.to_owned(), ..Shown::default() };
            assert!(shown.insert(name.to_owned(), new).is_none(), "{name} has its type twice");
            name.clone_into(&mut described);
        } else if !line.starts_with('#') {
            let (series, _) = line.rsplit_once(' ').unwrap();
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            assert!(name.starts_with(&described) && helped.contains(&described), "{line} has no description");
            let metric = shown.get_mut(&described).unwrap();
            let keys = labels.split("\",").filter_map(|label| Some(label.split_once('=')?.0.to_owned()));
            metric.labels.extend(keys.filter(|key| key != "le"));
            assert!(metric.samples.insert(series.to_owned()), "{series} is there twice");
        }
    }
    shown
}

/// Both formats of one scrape, judged; the metrics of the older one.
fn judged(admin: &str) -> BTreeMap<String, Shown> {
    let (plain, open) = scrape(admin, &[]);
    assert!(!open && !plain.contains("# EOF"));
    if let Ok(promtool) = std::env::var("PROMTOOL") {
        judge(&promtool, &["check", "metrics"], &plain);
    }
    let (text, open) = scrape(admin, &[OPEN_METRICS]);
    assert!(open && text.ends_with("# EOF\n"));
    if let Ok(python) = std::env::var("METRICS_PYTHON") {
        judge(&python, &["-c", PARSE], &text);
    }
    let (plain, open) = (metrics(&plain), metrics(&text));
    assert_eq!(plain.len(), open.len());
    plain
}

/// Without values: which series there are.
fn series(shown: &BTreeMap<String, Shown>) -> BTreeSet<&str> {
    shown.values().flat_map(|metric| &metric.samples).map(String::as_str).collect()
}

/// The value of one series.
fn value(admin: &str, series: &str) -> f64 {
    let (plain, _) = scrape(admin, &[]);
    let line = plain.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {series} in {plain}")).parse().unwrap()
}

fn gateway(folder: &Folder, hub: &str) -> Server {
    let ports = ["--edge-addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0", "--window-events", "4"];
    let gateway = Server::start(folder.command(&[&["gateway", "--hub", hub][..], &ports].concat()));
    gateway.process.stderr.find("ready for users");
    gateway
}

fn hub(folder: &Folder) -> Server {
    let ports = ["--hub-addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0", "--window-events", "4"];
    Server::start(folder.command(&[&["hub"][..], &ports].concat()))
}

/// Makes happen what can happen to a hub and to users of a gateway: gaps on both ends, refusals, endings, records.
fn stir(folder: &Folder, hub: &str, edge: &str) {
    let publish = |to: &str| {
        let answer = folder.stdout(&["publish", "--hub", hub, "--to", to, "--type", "a", "--id", to, "1"]);
        serde_json::from_str::<serde_json::Value>(&answer).unwrap()["cursor"].as_str().unwrap().to_owned()
    };
    let user = Sse::open(&format!("{edge}/v1/stream?user=ann&session=s"), &[]);
    user.find("push.caught_up");
    let first = publish("user:ann");
    assert_eq!(publish("user:ann"), first, "a duplicate");
    user.find("a");
    folder.stdout(&["member", "add", "user:ann", "news", "--hub", hub]);
    (0..9).for_each(|number| drop(publish(&format!("user:{number}"))));
    // A cursor that has left the window: the user is told a gap by the gateway, `tail` by the hub.
    let back = Sse::open(&format!("{edge}/v1/stream?user=ann&cursor={first}"), &[]);
    back.find("push.gap");
    let tail = Running::spawn(folder.command(&["tail", "--hub", hub, "--from", &first]));
    tail.stdout.find("\"gap\"");
    folder.run(&["publish", "--hub", hub, "--to", "nobody", "--type", "a"]);
    let mut refused = String::new();
    let bad = format!("{edge}/v1/stream?user=ann&cursor=bad%20one");
    request("GET", &bad, &[]).read_to_string(&mut refused).unwrap();
    assert!(refused.contains("CURSOR_MALFORMED"), "{refused}");
    folder.stdout(&["revoke", "--hub", hub, "--session", "s"]);
    user.find("push.goodbye");
}

#[test]
fn metrics_are_valid_when_both_ends_have_told_a_gap() {
    let folder = Folder::new("metrics-serve");
    let server = folder.serve(&["--window-events", "4"]);
    judged(&server.admin);
    stir(&folder, &server.hub, &server.edge);
    judged(&server.admin);
    assert_eq!(value(&server.admin, r#"push_gaps_total{reason="trimmed"}"#), 1.0);
    assert_eq!(value(&server.admin, r#"push_edge_gaps_total{reason="TRIMMED"}"#), 1.0);
    assert_eq!(value(&server.admin, r#"push_publish_duplicates_total"#), 1.0);
    assert_eq!(value(&server.admin, r#"push_refused_total{reason="CURSOR_MALFORMED"}"#), 1.0);
}

#[test]
fn every_label_of_every_counter_is_there_from_the_start() {
    let folder = Folder::new("metrics-labels");
    let hub = hub(&folder);
    let gateway = gateway(&folder, &hub.hub);
    let before = [judged(&hub.admin), judged(&gateway.admin)];
    for (name, shown) in before.iter().flatten() {
        assert!(!shown.samples.is_empty(), "{name} has no series before something happens");
    }
    stir(&folder, &hub.hub, &gateway.edge);
    let after = [judged(&hub.admin), judged(&gateway.admin)];
    for (before, after) in before.iter().zip(&after) {
        let new: Vec<_> = series(after).difference(&series(before)).copied().collect();
        assert!(new.is_empty(), "not there before it happened: {new:?}");
    }
}

#[test]
fn the_process_tells_its_cpu_memory_descriptors_and_start() {
    let folder = Folder::new("metrics-process");
    let server = folder.serve(&[]);
    let value = |name| value(&server.admin, name);
    assert!(value("process_cpu_seconds_total") >= 0.0, "counted in hundredths: none may have passed");
    assert!(value("process_resident_memory_bytes") > 1e6);
    assert!(value("process_virtual_memory_bytes") > value("process_resident_memory_bytes"));
    assert!((4.0..value("process_max_fds")).contains(&value("process_open_fds")));
    assert!(value("process_start_time_seconds") > 1.7e9);
}

/// The metrics of the tables of docs/telemetry.md: the names in the first columns, with their labels.
fn documented() -> BTreeMap<String, BTreeSet<String>> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/telemetry.md");
    let text = std::fs::read_to_string(path).unwrap();
    let mut documented = BTreeMap::new();
    for row in text.lines().filter_map(|line| line.strip_prefix("| ")) {
        let (names, rest) = row.split_once(" | ").unwrap();
        for name in names.split('`').skip(1).step_by(2) {
            let (name, labels) = name.split_once('{').unwrap_or((name, ""));
            if !(name.starts_with("push_") || name.starts_with("process_")) {
                continue;
            }
            let labels = labels.trim_end_matches('}').split(',').filter(|label| !label.is_empty());
            let labels = labels.map(str::to_owned).collect();
            assert!(rest.len() > 10, "{name} has no meaning");
            assert!(documented.insert(name.to_owned(), labels).is_none(), "{name} is described twice");
        }
    }
    documented
}

#[test]
fn the_docs_name_each_metric_once_and_no_other() {
    let folder = Folder::new("metrics-docs");
    let hub = hub(&folder);
    let gateway = gateway(&folder, &hub.hub);
    let mut shown = metrics(&scrape(&hub.admin, &[]).0);
    shown.extend(metrics(&scrape(&gateway.admin, &[]).0));
    let on_disk = folder.serve(&["--store", "disk", "--data-dir", "data"]);
    shown.extend(metrics(&scrape(&on_disk.admin, &[]).0));
    let documented = documented();
    let lacking: Vec<_> = shown.keys().filter(|name| !documented.contains_key(*name)).collect();
    let unknown: Vec<_> = documented.keys().filter(|name| !shown.contains_key(*name)).collect();
    assert!(
        lacking.is_empty() && unknown.is_empty(),
        "docs/telemetry.md lacks {lacking:?}, and has {unknown:?}, which nobody shows"
    );
    for (name, metric) in &shown {
        assert_eq!(metric.labels, documented[name], "the labels of {name}");
        assert_eq!(metric.kind == "counter", name.ends_with("_total"), "{name} is a {}", metric.kind);
    }
}
