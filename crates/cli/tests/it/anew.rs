//! What a process reads anew while it runs, and SIGHUP, which asks for it and never ends a server.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{EncodingKey, Header};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::compressed::post;
use crate::guarded::answer;
use crate::world::{Folder, NOBODY, Running, Server};

/// A key for HS256 of this name.
fn key(name: &str) -> Value {
    json!({"kty": "oct", "kid": name, "k": URL_SAFE_NO_PAD.encode(secret(name))})
}

fn secret(name: &str) -> Vec<u8> {
    name.repeat(32).into_bytes()
}

fn set(names: &[&str]) -> String {
    json!({"keys": names.iter().map(|name| key(name)).collect::<Vec<_>>()}).to_string()
}

/// Of these keys, those whose tokens are taken.
fn taken<'a>(server: &Server, names: &[&'a str]) -> Vec<&'a str> {
    let is_taken = |name: &&str| {
        let header = Header { kid: Some((*name).to_owned()), ..Header::default() };
        let claims = json!({"sub": "1", "exp": 9_999_999_999_u64});
        let token = jsonwebtoken::encode(&header, &claims, &EncodingKey::from_secret(&secret(name))).unwrap();
        let bearer = format!("Authorization: Bearer {token}");
        answer("GET", &format!("{}/v1/stream", server.edge), &[&bearer]).contains(" 200 ")
    };
    names.iter().copied().filter(is_taken).collect()
}

/// The fault: the keys that were there at the start were good for as long as the process lived.
#[test]
fn user_keys_are_taken_anew_when_their_file_changes_however_that_comes_about() {
    let folder = Folder::new("keys-anew");
    let all = ["one", "two", "three"];
    for (number, names) in [&all[..1], &all[..2]].into_iter().enumerate() {
        fs::create_dir(folder.path(&format!("data-{number}"))).unwrap();
        folder.write(&format!("data-{number}/keys.json"), set(names));
    }
    symlink("data-0", folder.path("mounted")).unwrap();
    let server = folder.serve(&["--user-keys", "mounted/keys.json"]);
    assert_eq!(taken(&server, &all), ["one"]);

    // As a mounted volume does it: the link in the middle of the path is swapped.
    symlink("data-1", folder.path("mounted.new")).unwrap();
    fs::rename(folder.path("mounted.new"), folder.path("mounted")).unwrap();
    let line = server.process.stderr.find("took new user keys");
    assert!(line.contains("one") && line.contains("two") && !line.contains("\"k\""), "{line}");
    assert_eq!(taken(&server, &all), ["one", "two"]);

    for broken in ["{ half a fi", "", r#"{"keys":"#] {
        folder.write("data-1/keys.json", broken);
        server.process.signal("HUP");
        let line = server.process.stderr.find("SIGHUP");
        assert!(line.contains("\"WARN\"") && line.contains(r#""refused":"user keys""#), "{broken}: {line}");
        assert_eq!(taken(&server, &all), ["one", "two"], "{broken}");
    }
    fs::remove_file(folder.path("data-1/keys.json")).unwrap();
    server.process.signal("HUP");
    server.process.stderr.find("SIGHUP");
    assert_eq!(taken(&server, &all), ["one", "two"], "no file");

    let meant_for_encryption = json!({"kty": "RSA", "kid": "enc", "use": "enc", "n": "AQAB", "e": "AQAB"});
    folder.write("renamed.json", json!({"keys": [key("three"), meant_for_encryption]}).to_string());
    let removed = Instant::now();
    fs::rename(folder.path("renamed.json"), folder.path("data-1/keys.json")).unwrap();
    server.process.stderr.find("took new user keys");
    let line = server.process.stderr.find("skipped");
    assert!(line.contains("enc") && line.contains("\"INFO\""), "{line}");
    assert_eq!(taken(&server, &all), ["three"], "the keys that were taken out are good no more");
    // docs/security.md says so, and this machine may be slow.
    assert!(removed.elapsed() < Duration::from_secs(10), "{:?}", removed.elapsed());

    // The content decides: these two are of one length, as two keys of a provider mostly are.
    for name in ["one", "two"] {
        folder.write("data-1/keys.json", set(&[name]));
        server.process.signal("HUP");
        server.process.stderr.find("SIGHUP");
        assert_eq!(taken(&server, &all), [name]);
    }
}

/// The fault: the last signing key could not be withdrawn. An empty set was refused, at the start as well, and the old
/// token was good on.
#[test]
fn the_last_signing_key_can_be_taken_out() {
    let folder = Folder::new("keys-none");
    folder.write("keys.json", set(&["one"]));
    let server = folder.serve(&["--user-keys", "keys.json"]);
    assert_eq!(taken(&server, &["one"]), ["one"]);
    let of_no_use = json!({"keys": [{"kty": "AKP", "kid": "of-no-use"}]}).to_string();
    for (empty, named) in [(r#"{"keys":[]}"#, "[]"), (&of_no_use, "of-no-use")] {
        folder.write("keys.json", empty);
        server.process.signal("HUP");
        let line = server.process.stderr.find("nobody is let in");
        assert!(line.contains("\"WARN\"") && line.contains(named), "{line}");
        assert!(server.process.stderr.find("SIGHUP").contains(r#""taken":"user keys""#));
        assert!(taken(&server, &["one"]).is_empty(), "{empty}");
        folder.write("keys.json", "{ half a fi");
        server.process.signal("HUP");
        server.process.stderr.find("those before stay");
        assert!(taken(&server, &["one"]).is_empty(), "nobody stays let in");

        folder.write("empty.json", empty);
        let started = folder.serve(&["--user-keys", "empty.json"]);
        assert!(started.process.stderr.find("nobody is let in").contains(named));
        assert!(taken(&started, &["one"]).is_empty(), "{empty}");
    }
    folder.write("keys.json", set(&["one"]));
    server.process.signal("HUP");
    server.process.stderr.find("took new user keys");
    assert_eq!(taken(&server, &["one"]), ["one"]);
}

/// The fault: SIGHUP ended every process. Here one comes before there is anything at all, while the settings are read.
#[test]
fn sighup_never_ends_a_server_from_its_very_start() {
    let folder = Folder::new("hangup");
    assert!(Command::new("mkfifo").arg(folder.path("slow.toml")).status().unwrap().success());
    for role in [&["serve"][..], &["hub"], &["gateway", "--hub", NOBODY]] {
        let ports: &[&str] = match role[0] {
            "serve" => &["--hub-addr", "127.0.0.1:0", "--edge-addr", "127.0.0.1:0"],
            "hub" => &["--hub-addr", "127.0.0.1:0"],
            _ => &["--edge-addr", "127.0.0.1:0"],
        };
        let fixed = ["--admin-addr", "127.0.0.1:0", "--config", "slow.toml", "--ready-json"];
        let process = Running::spawn(folder.command(&[role, ports, &fixed].concat()));
        // Opens once the process reads.
        let mut settings = OpenOptions::new().write(true).open(folder.path("slow.toml")).unwrap();
        process.signal("HUP");
        settings.write_all(b"window-events = 500\n").unwrap();
        drop(settings);
        assert!(process.stdout.next().is_some(), "{role:?}: {:?}", process.end());
        for _ in 0..3 {
            process.signal("HUP");
            process.stderr.find("SIGHUP: this process has no file that is read anew");
        }
        process.signal("TERM");
        let outcome = process.end();
        assert_eq!(outcome.code, Some(0), "{role:?}: {outcome:?}");
    }
}

/// The fault: a credential was good until the hub was restarted.
#[test]
fn sighup_takes_credentials_anew() {
    let folder = Folder::new("credentials-anew");
    let credentials = |names: &[&str]| {
        let identity = |name: &&str| {
            folder.write(&format!("{name}.token"), format!("planted-token-of-{name}"));
            format!("[[identity]]\nname = '{name}'\nrole = 'publisher'\ntoken-file = '{name}.token'\n")
        };
        names.iter().map(identity).collect::<String>()
    };
    folder.write("credentials.toml", credentials(&["one", "two"]));
    let hub = Server::start(folder.command(&[
        "hub",
        "--hub-addr",
        "127.0.0.1:0",
        "--admin-addr",
        "127.0.0.1:0",
        "--hub-credentials",
        "credentials.toml",
    ]));
    let statuses = |id: &str| {
        let status = |name: &str| {
            let event = format!(
                r#"{{"specversion":"1.0","id":"{id}","source":"/s","type":"t","to":"all","data":"{name}"}}"#
            );
            let bearer = format!("Authorization: Bearer planted-token-of-{name}");
            let headers = ["Content-Type: application/cloudevents+json", &bearer];
            let answer = post(&format!("{}/v1/events", hub.hub), &headers, event.as_bytes());
            answer.split(' ').nth(1).unwrap_or_default().to_owned()
        };
        ["one", "two", "three"].map(status).join(" ")
    };
    assert_eq!(statuses("a"), "200 200 401");
    folder.write("credentials.toml", credentials(&["two", "three"]));
    hub.process.signal("HUP");
    let line = hub.process.stderr.find("SIGHUP: files were read anew");
    assert!(line.contains(r#""taken":"credentials""#) && line.contains("\"INFO\""), "{line}");
    assert_eq!(statuses("b"), "401 200 200");
    for broken in ["[[identity]]\nname = 'four'", ""] {
        folder.write("credentials.toml", broken);
        hub.process.signal("HUP");
        let why = hub.process.stderr.find("the credentials cannot be taken anew");
        assert!(why.contains("credentials.toml") && why.contains("line 1"), "{why}");
        assert!(hub.process.stderr.find("SIGHUP").contains(r#""refused":"credentials""#));
    }
    assert_eq!(statuses("c"), "401 200 200", "those before stay");
    // The fault: the last identity could not be taken out.
    folder.write("credentials.toml", "identity = []");
    hub.process.signal("HUP");
    assert!(hub.process.stderr.find("nobody is let in").contains("\"WARN\""));
    assert!(hub.process.stderr.find("SIGHUP").contains(r#""taken":"credentials""#));
    assert_eq!(statuses("d"), "401 401 401");
}

/// The fault: a token was read once, so that one that was rotated asked for a restart of whoever presents it.
#[test]
fn a_rotated_token_is_taken_without_a_restart() {
    let folder = Folder::new("rotated");
    let identity = |(name, role): (&str, &str)| {
        folder.write(&format!("{name}.token"), format!("planted-token-of-{name}"));
        format!("[[identity]]\nname = '{name}'\nrole = '{role}'\ntoken-file = '{name}.token'\n")
    };
    let all = [("backend", "publisher"), ("edge", "gateway"), ("ops", "operator")];
    folder.write("credentials.toml", all.map(identity).concat());
    let ports = ["--hub-addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0"];
    let hub = Server::start(
        folder.command(&[&["hub", "--hub-credentials", "credentials.toml"], &ports[..]].concat()),
    );
    let edge =
        ["gateway", "--hub", &hub.hub, "--hub-token-file", "edge.token", "--gateway-id", "edge", "--dev"];
    let ports = ["--edge-addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0"];
    let gateway = Server::start(folder.command(&[&edge[..], &ports].concat()));
    gateway.process.stderr.find("live: events come");
    let tail = ["tail", "--hub", &hub.hub, "--hub-token-file", "ops.token", "--from", "oldest"];
    let tail = Running::spawn(folder.command(&tail));
    let mut command =
        folder.command(&["publish", "--hub", &hub.hub, "--hub-token-file", "backend.token", "--file", "-"]);
    command.stdin(Stdio::piped());
    let mut publish = Running::spawn(command);
    let mut input = publish.child.stdin.take().unwrap();
    let mut arrives = |id: &str| {
        input.write_all(crate::world::line(id, "all").as_bytes()).unwrap();
        assert_eq!(tail.stdout.json()["event"]["id"], id);
    };
    arrives("1");
    for name in ["backend", "edge", "ops"] {
        folder.write(&format!("{name}.token"), format!("rotated-token-of-{name}"));
    }
    hub.process.signal("HUP");
    hub.process.stderr.find("SIGHUP: files were read anew");
    gateway.process.stderr.find("NOT_GRANTED");
    gateway.process.stderr.find("live: events come");
    arrives("2");
    drop(input);
    let outcome = publish.end();
    assert!(outcome.code == Some(0) && outcome.stderr.contains("2 events acknowledged"), "{outcome:?}");
}

/// Editors and shells of Windows put a byte order mark before what they write.
#[test]
fn a_byte_order_mark_before_a_file_is_ignored() {
    let folder = Folder::new("marked");
    let marked = |name: &str, text: &str| folder.write(name, format!("\u{feff}{text}"));
    marked("settings.toml", "user-keys = 'keys.json'\nhub-credentials = 'credentials.toml'\n");
    marked("keys.json", &set(&["one"]));
    marked("credentials.toml", "[[identity]]\nname = 'one'\nrole = 'publisher'\ntoken-file = 'one.token'\n");
    marked("one.token", "planted-token-of-one\r\n");
    marked("events.ndjson", &crate::world::line("a", "all"));
    let server = folder.serve(&["--config", "settings.toml"]);
    assert_eq!(taken(&server, &["one"]), ["one"]);
    folder.stdout(&["token", "--user-keys", "keys.json", "--user", "1"]);
    let publish = ["publish", "--hub", &server.hub, "--hub-token-file", "one.token"];
    folder.stdout(&[&publish[..], &["--file", "events.ndjson"]].concat());
    let mut from_stdin = folder.command(&publish);
    from_stdin.stdin(fs::File::open(folder.path("events.ndjson")).unwrap());
    let outcome = Running::spawn(from_stdin).end();
    assert!(outcome.code == Some(0) && outcome.stderr.contains("1 published before"), "{outcome:?}");
}
