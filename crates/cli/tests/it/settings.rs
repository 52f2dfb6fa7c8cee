//! Where settings come from: flags beat the environment, which beats the file, which beats the defaults.

use std::process::Command;

use serde_json::{Value, json};

use crate::sse::{Sse, request};
use crate::world::{Folder, Lines, Running, Server};

const FILE: &str = "
hub-addr = '127.0.0.1:0'
edge-addr = '127.0.0.1:0'
admin-addr = '127.0.0.1:0'
window-age = '11m'
window-events = 11
window-bytes = '11MiB'
";

/// What a server says about its window.
fn limits(server: &Server) -> Value {
    let user = Sse::open(&format!("{}/v1/stream?user=42", server.edge), &[]);
    user.next().unwrap().data["limits"].take()
}

fn with(mut command: Command, variables: &[(&str, &str)]) -> Command {
    command.envs(variables.iter().copied());
    command
}

#[test]
fn flags_beat_the_environment_which_beats_the_file() {
    let folder = Folder::new("precedence");
    folder.write("galaxy-push.toml", FILE);
    let server = Server::start(folder.command(&["serve"]));
    let said = limits(&server);
    let expected = json!({"windowAge": "660s", "windowEvents": "11", "windowBytes": "11534336"});
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(said[name], *value, "{name}");
    }

    let variables = [
        ("GALAXY_PUSH_WINDOW_EVENTS", "12"),
        ("GALAXY_PUSH_WINDOW_BYTES", "12MiB"),
        ("GALAXY_PUSH_WINDOW_AGE", ""),
    ];
    let command = folder.command(&["serve", "--window-bytes", "13MiB"]);
    let said = limits(&Server::start(with(command, &variables)));
    assert_eq!(said["windowAge"], "660s", "an empty variable counts as not set");
    assert_eq!((&said["windowEvents"], &said["windowBytes"]), (&json!("12"), &json!("13631488")));
}

#[test]
fn a_quiet_user_is_told_where_it_stands_as_often_as_the_flag_says() {
    let folder = Folder::new("progress");
    let server = folder.serve(&["--progress-interval", "1s"]);
    let user = Sse::open(&format!("{}/v1/stream?user=42", server.edge), &[]);
    assert_eq!(user.find("push.welcome").data["heartbeatInterval"], "1s");
    assert_eq!(user.find("push.progress").data, json!({}));
    let refused = folder.run(&["serve", "--progress-interval", "60s"]);
    assert!(refused.code == Some(2) && refused.stderr.contains("from 1s to 50s"), "{refused:?}");
}

#[test]
fn a_named_file_stands_in_for_the_one_of_the_folder() {
    let folder = Folder::new("named");
    folder.write("galaxy-push.toml", "nonsense");
    folder.write("named.toml", FILE);
    let flagged = Server::start(folder.command(&["serve", "--config", "named.toml"]));
    assert_eq!(limits(&flagged)["windowEvents"], "11");
    let command = with(folder.command(&["serve"]), &[("GALAXY_PUSH_CONFIG", "named.toml")]);
    assert_eq!(limits(&Server::start(command))["windowEvents"], "11");
    assert_eq!(folder.run(&["serve", "--help"]).code, Some(0), "help comes also when the file is broken");
}

#[test]
fn switches_are_understood_as_people_write_them() {
    let folder = Folder::new("switches");
    let exposed =
        ["serve", "--edge-addr", "0.0.0.0:0", "--hub-addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0"];
    for (value, file) in [("1", ""), ("true", ""), ("on", "dev = false"), ("", "dev = true")] {
        folder.write("galaxy-push.toml", format!("plaintext = true\n{file}"));
        let server = Server::start(with(folder.command(&exposed), &[("GALAXY_PUSH_DEV", value)]));
        server.process.stderr.find("DEVELOPMENT MODE");
    }
    for value in ["0", "false"] {
        folder.write("galaxy-push.toml", "plaintext = true\ndev = true");
        let outcome = Running::spawn(with(folder.command(&exposed), &[("GALAXY_PUSH_DEV", value)])).end();
        assert!(outcome.code == Some(2) && outcome.stderr.contains("--user-keys"), "{outcome:?}");
    }
    let outcome = Running::spawn(with(folder.command(&exposed), &[("GALAXY_PUSH_DEV", "maybe")])).end();
    assert!(outcome.stderr.contains("GALAXY_PUSH_DEV in the environment"), "{outcome:?}");
}

#[test]
fn every_command_finds_the_hub_of_the_file() {
    let folder = Folder::new("hub-of-file");
    let server = folder.serve(&[]);
    let elsewhere = Folder::new("hub-of-file-2");
    elsewhere.write("galaxy-push.toml", format!("hub = ['{}']", server.hub));
    elsewhere.stdout(&["publish", "--to", "all", "--type", "t"]);
    elsewhere.stdout(&["tail", "--from", "oldest", "--count", "1"]);
    let gateway = Server::start(elsewhere.command(&[
        "gateway",
        "--edge-addr",
        "127.0.0.1:0",
        "--admin-addr",
        "127.0.0.1:0",
    ]));
    while !Lines::of(request("GET", &format!("{}/readyz", gateway.edge), &[]))
        .next()
        .unwrap()
        .contains(" 200 ")
    {}
    let user = Sse::open(&format!("{}/v1/stream?cursor=oldest", gateway.edge), &[]);
    assert_eq!(user.find("t").data["type"], "t");
}

#[test]
fn the_log_goes_to_stderr_in_the_form_and_amount_asked_for() {
    let folder = Folder::new("logs");
    let started = |variables: &[(&str, &str)], args: &[&str]| {
        let ports = ["hub", "--hub-addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0"];
        let server = Server::start(with(folder.command(&[&ports, args].concat()), variables));
        server.process.signal("TERM");
        let outcome = server.process.end();
        assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(0), ""), "{outcome:?}");
        outcome.stderr
    };
    let json = started(&[], &[]);
    assert!(
        json.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()) && json.contains("drained"),
        "{json}"
    );
    assert!(started(&[], &["--log-format", "text"]).contains(" INFO drained"));
    assert!(!started(&[], &["--log-level", "warning"]).contains("drained"));
    for variables in [&[("RUST_LOG", "off")], &[("GALAXY_PUSH_LOG_LEVEL", "off")]] {
        assert_eq!(started(variables, &[]), "", "{variables:?}");
        assert!(
            started(variables, &["--log-level", "info"]).contains("drained"),
            "a flag beats {variables:?}"
        );
    }
}

#[test]
fn a_variable_that_nothing_reads_is_an_error_but_for_those_of_kubernetes() {
    let folder = Folder::new("variables");
    let show = |variables: &[(&str, &str)]| {
        let command = folder.command(&["cursor", "show", "oldest"]);
        Running::spawn(with(command, variables)).end()
    };
    let injected = [
        ("GALAXY_PUSH_SERVICE_HOST", "10.0.0.1"),
        ("GALAXY_PUSH_PORT", "tcp://10.0.0.1:7400"),
        ("GALAXY_PUSH_HUB_PORT_7400_TCP_ADDR", "10.0.0.1"),
        ("GALAXY_PUSH_UNKNOWN", ""),
        ("GALAXY_PUSH_HUB_TOKEN", "planted-token-of-somebody"),
        ("GALAXY_PUSH_WINDOW_AGE", "5m"),
    ];
    let fine = show(&injected);
    assert_eq!((fine.code, fine.stderr.as_str()), (Some(0), ""), "{fine:?}");
    let misspelt = show(&[("GALAXY_PUSH_WINDW_AGE", "5m")]);
    let expected =
        "unknown variable GALAXY_PUSH_WINDW_AGE in the environment: was GALAXY_PUSH_WINDOW_AGE meant?";
    assert!(misspelt.code == Some(2) && misspelt.stderr.contains(expected), "{misspelt:?}");
    let help = with(folder.command(&["--help"]), &[("GALAXY_PUSH_WINDW_AGE", "5m")]);
    assert_eq!(Running::spawn(help).end().code, Some(0), "help comes all the same");
}
