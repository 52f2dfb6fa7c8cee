//! Bad input: each is told in words that name what to change, with 2 for what was asked and 1 for what could not be done.

use std::net::TcpListener;

use crate::sse::Sse;
use crate::world::{Folder, NOBODY, line};

/// A command line and its standard input, how it must end, and what stderr must say.
type Case<'a> = (&'a str, i32, &'a [&'a str]);

fn check(folder: &Folder, cases: &[Case<'_>]) {
    for (words, code, expected) in cases {
        let args: Vec<_> =
            words.split_whitespace().map(|word| if word == "''" { "" } else { word }).collect();
        let outcome = folder.run(&args);
        assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(*code), ""), "{words}: {outcome:?}");
        for text in *expected {
            assert!(outcome.stderr.contains(text), "{words}: {text:?} is not in {}", outcome.stderr);
        }
        assert!(!outcome.stderr.contains("panicked"), "{words}: {}", outcome.stderr);
    }
}

/// The fault: they were signed, and then refused by every gateway.
#[test]
fn tokens_that_no_gateway_takes() {
    let folder = Folder::new("untaken");
    folder.write("hs.json", format!(r#"{{"keys":[{{"kty":"oct","k":"{}"}}]}}"#, "A".repeat(43)));
    let topics = format!(" --topic {}", "t".repeat(250)).repeat(80);
    check(
        &folder,
        &[
            ("token --user-keys hs.json --user a*", 2, &["--user", "no gateway takes", "ends in `*`"]),
            ("token --user-keys hs.json --user a --session s*", 2, &["--session", "ends in `*`"]),
            (
                &format!("token --user-keys hs.json --user a{topics}"),
                2,
                &["gateways take 16384", "fewer --topic"],
            ),
        ],
    );
}

#[test]
fn what_was_asked() {
    let folder = Folder::new("asked");
    folder.write("bad.toml", "dev = true\nwindw-age = '5m'");
    folder.write("value.toml", "window-age = '5 parsecs'");
    folder.write("broken.toml", "dev = true\nwindow-age = ");
    folder.write("none.toml", "");
    folder.write("list.toml", "window-age = ['5m', '6m']");
    check(
        &folder,
        &[
            ("serve --wndow-age 5m", 2, &["--wndow-age", "a similar argument exists: '--window-age'"]),
            ("publsh", 2, &["a similar subcommand exists: 'publish'"]),
            ("gateway", 2, &["--hub <URL>"]),
            ("gateway --hub https://hub,http://hub", 2, &["http://hub is none", "write https:// there"]),
            ("tail --hub http://hub --hub-cert a", 2, &["--hub-cert is for https:// hubs"]),
            ("publish --hub http://hub --hub-ca a --to all --type t", 2, &["--hub-ca is for https:// hubs"]),
            ("hub --hub-tls-cert a", 2, &["--hub-tls-cert needs --hub-tls-key"]),
            ("serve --edge-tls-key a", 2, &["--edge-tls-key needs --edge-tls-cert"]),
            ("hub --hub-peer-ca a", 2, &["--hub-peer-ca needs TLS", "--hub-tls-cert"]),
            ("hub --hub-credentials none.toml", 2, &["none.toml: line 1: names nobody"]),
            ("hub --max-publish-bytes 1MiB", 2, &["--max-publish-bytes", "4MiB"]),
            ("publish --hub hub:7400", 2, &["--hub", "must begin with http://"]),
            ("serve --hub-addr localhost:7400", 2, &["--hub-addr", "an IP address and a port"]),
            ("serve --hub-addr 0.0.0.0:0", 2, &["--hub-addr 0.0.0.0:0", "--plaintext", "127.0.0.1:0"]),
            ("hub --hub-addr 127.0.0.1:0 --admin-addr [::]:0", 2, &["--admin-addr [::]:0", "--plaintext"]),
            (
                "serve --plaintext --edge-addr 0.0.0.0:0",
                2,
                &["--edge-addr 0.0.0.0:0", "--user-keys", "--dev"],
            ),
            (
                "serve --window-bytes 1KiB",
                2,
                &["--window-bytes must hold", "65536 bytes", "--max-event-bytes"],
            ),
            ("gateway --hub http://h --window-bytes 1KiB", 2, &["--window-bytes", "65536 bytes"]),
            ("serve --max-event-bytes 2MiB", 2, &["--max-event-bytes", "1MiB at most"]),
            ("serve --window-age -5s", 2, &["'-5s'", "--window-age", "30s, 5m"]),
            ("serve --drain-timeout 0s", 2, &["--drain-timeout", "from 1ms to 24h"]),
            ("serve --window-events 0", 2, &["--window-events", "1 at least"]),
            ("serve --gateway-id ''", 2, &["--gateway-id", "must not be empty"]),
            (
                "serve --allowed-origins https://app.example/",
                2,
                &["--allowed-origins", "such as https://app.example"],
            ),
            ("serve --log-level a=b=c", 2, &["log filter `a=b=c`", "try info"]),
            ("serve --log-level inof", 2, &["`inof` is no level", "error, warn, info"]),
            ("tail --log-level verbose", 2, &["`verbose` is no level"]),
            ("serve --log-level ''", 2, &["names no level"]),
            ("serve --otlp-endpoint ''", 2, &["--otlp-endpoint", "must not be empty"]),
            (
                "hub --otlp-endpoint me:secret@otel",
                2,
                &["--otlp-endpoint otel is no", "write http://HOST:PORT"],
            ),
            ("serve --config bad.toml", 2, &["bad.toml: unknown key `windw-age`", "window-age,"]),
            ("serve --config value.toml", 2, &["'5 parsecs'", "the key `window-age` in value.toml"]),
            ("serve --config broken.toml", 2, &["broken.toml: line 2: "]),
            ("serve --config list.toml", 2, &["list.toml: key `window-age`: takes one value"]),
            ("completions tcsh", 2, &["bash", "zsh", "fish"]),
        ],
    );
}

#[test]
fn what_was_asked_of_commands() {
    check(
        &Folder::new("asked-of-commands"),
        &[
            ("publish {}", 2, &["--to <RECIPIENT>", "--type <TYPE>"]),
            ("publish --type t {}", 2, &["--to <RECIPIENT>"]),
            ("publish --ttl 5s", 2, &["--to <RECIPIENT>", "--type <TYPE>"]),
            ("publish --to group:1 --type t", 2, &["--to", "user:<id>, session:<id>, topic:<name> or all"]),
            (
                "publish --to user:1 --type t hello",
                2,
                &["DATA: is not valid JSON", "--content-type text/plain"],
            ),
            ("publish --to user:1 --type open", 2, &["--type: ", "reserved"]),
            ("publish --to user:1 --type t --attribute x", 2, &["--attribute", "NAME=VALUE"]),
            ("publish --to user:1 --type t --file f", 2, &["--file", "cannot be used with"]),
            ("publish --checkpoint pos", 2, &["--file <FILE>"]),
            ("publish --checkpoint pos --to user:1 --type t", 2, &["--checkpoint", "cannot be used with"]),
            (
                "serve --window-events 99999999999999999999",
                2,
                &["--window-events", "18446744073709551615 at most"],
            ),
            ("tail --from garbage", 2, &["--from", "not a cursor: write now, oldest"]),
            ("tail --to group:1", 2, &["--to", "user:<id>"]),
            ("tail --count 0", 2, &["--count", "1 at least"]),
            ("token --user 42", 2, &["--user-keys FILE", "--new-keys"]),
        ],
    );
}

/// The fault: what never ends was read until no memory was left.
#[test]
fn files_that_never_end() {
    let folder = Folder::new("endless");
    folder.write("key.pem", "");
    let more = "more than 1048576 bytes";
    check(
        &folder,
        &[
            ("serve --config /dev/zero", 1, &["the settings in /dev/zero", more]),
            ("serve --user-keys /dev/zero", 1, &["--user-keys /dev/zero", more]),
            ("token --user 1 --user-keys /dev/zero", 1, &["--user-keys /dev/zero", more]),
            ("hub --hub-credentials /dev/zero", 1, &["--hub-credentials /dev/zero", more]),
            ("tail --hub-token-file /dev/zero", 1, &["the token in /dev/zero", more]),
            ("tail --hub https://h --hub-ca /dev/zero", 1, &["--hub-ca", "/dev/zero", more]),
            (
                "hub --hub-addr 127.0.0.1:0 --hub-tls-cert /dev/zero --hub-tls-key key.pem",
                1,
                &["/dev/zero", more],
            ),
            ("publish --to all --type t --data-file /dev/zero", 1, &["--data-file /dev/zero", more]),
            ("publish --file x --checkpoint /dev/zero", 1, &["--checkpoint /dev/zero"]),
        ],
    );
}

/// The fault: a publisher above its rate was told that the hub had not answered yet.
#[test]
fn a_limit_is_told_while_it_is_waited_for() {
    let folder = Folder::new("limited");
    folder.write("token", "planted-token-of-backend");
    folder.write(
        "credentials.toml",
        "[[identity]]\nname = 'backend'\nrole = 'publisher'\ntoken-file = 'token'\nevents-per-second = 2\n",
    );
    let server = folder.serve(&["--hub-credentials", "credentials.toml"]);
    let publish = |ids: std::ops::Range<u32>| {
        folder.write("events", ids.map(|id| line(&id.to_string(), "all")).collect::<String>());
        folder.run(&["publish", "--hub", &server.hub, "--hub-token-file", "token", "--file", "events"])
    };
    assert_eq!(publish(0..8).code, Some(0), "more than a second's worth, once");
    let waited = publish(8..10);
    let told = "RESOURCE_EXHAUSTED OVERLOADED: backend publishes more than its 2 events per second";
    assert!(waited.code == Some(0) && waited.stderr.matches(told).count() == 1, "{waited:?}");
    assert!(
        waited.stderr.contains("still trying, for 30s") && !waited.stderr.contains("not answered"),
        "{waited:?}"
    );
}

#[test]
fn what_is_out_of_reason_and_what_does_not_fit_together() {
    let folder = Folder::new("unbuilt");
    folder.write("nats.toml", "nats-replicas = 0");
    check(
        &folder,
        &[
            ("serve --window-age 1000y", 2, &["--window-age", "from 1ms to 100y"]),
            ("hub --window-bytes 15EiB", 2, &["--window-bytes", "from 1B to 16TiB"]),
            ("publish --timeout 584542046091y --to all --type t", 2, &["--timeout", "from 1ms to 24h"]),
            ("hub --store tape", 2, &["--store", "memory, disk or nats"]),
            ("serve --store nats", 2, &["--store nats needs --nats-url"]),
            ("hub --nats-url nats://x", 2, &["--nats-url is for --store nats"]),
            ("hub --store nats --nats-url http://u:secret@x", 2, &["--nats-url", "nats://HOST:PORT"]),
            ("hub --nats-replicas 6", 2, &["--nats-replicas", "from 1 to 5"]),
            ("serve --config nats.toml", 2, &["from 1 to 5", "the key `nats-replicas` in nats.toml"]),
        ],
    );
}

#[test]
fn what_cannot_be_done() {
    let folder = Folder::new("cannot");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    folder.write("text.json", "hello");
    folder.write("short.json", r#"{"keys":[{"kty":"oct","kid":"a","k":"YWJj"}]}"#);
    folder.write("events.ndjson", line("1", "all"));
    folder.write("garbage.pos", "garbage");
    folder.write("far.pos", r#"{"lines":99,"bytes":9000,"sha256":"00"}"#);
    folder.write("old.pos", "99\n");
    folder.write("short.token", "hush-hush");
    folder.write("long.token", "x".repeat(8_193));
    let serve = "serve --admin-addr 127.0.0.1:0 --edge-addr 127.0.0.1:0";
    let file = format!("publish --hub {NOBODY} --file events.ndjson --checkpoint");
    check(
        &folder,
        &[
            (
                &format!("{serve} --hub-addr {address}"),
                1,
                &[&format!("--hub-addr {address}"), "another process"],
            ),
            (
                &format!("hub --hub-addr 127.0.0.1:0 --admin-addr {address}"),
                1,
                &[&format!("--admin-addr {address}"), "0 is any free one"],
            ),
            (
                "serve --user-keys nowhere.json",
                1,
                &["--user-keys nowhere.json", "--new-keys", "No such file"],
            ),
            ("serve --user-keys text.json", 1, &["--user-keys text.json", "not a JSON Web Key Set"]),
            ("token --user-keys short.json --user 1", 1, &["no key that can sign", "in short.json"]),
            ("token --user-keys text.json --user 1", 1, &["text.json", "not a JSON Web Key Set"]),
            ("token --new-keys text.json", 1, &["text.json exists"]),
            ("serve --config nowhere.toml", 1, &["nowhere.toml", "No such file"]),
            ("tail --hub-token-file nowhere", 1, &["the token in nowhere", "No such file"]),
            ("tail --hub-token-file long.token", 1, &["long.token: a token has 8,192 characters at most"]),
            ("tail --hub-token-file short.token", 1, &["short.token: a token has 16 characters at least"]),
            (
                "tail --hub https://h --hub-ca text.json",
                1,
                &["--hub-ca: cannot use text.json", "no certificate in PEM"],
            ),
            ("publish --file nowhere.ndjson", 1, &["--file nowhere.ndjson", "No such file"]),
            ("publish --to all --type t --data-file nowhere", 1, &["--data-file nowhere", "No such file"]),
            (&format!("{file} garbage.pos"), 1, &["--checkpoint garbage.pos", "delete it to start over"]),
            (&format!("{file} old.pos"), 1, &["--checkpoint old.pos", "delete it to start over"]),
            (&format!("{file} far.pos"), 1, &["far.pos is of another file", "9000 bytes"]),
            (
                &format!("publish --hub {NOBODY} --timeout 2s --to all --type t"),
                1,
                &["Connection refused", "gave up after 2s", "galaxy-push serve"],
            ),
        ],
    );
}

#[test]
fn what_a_server_refuses_disturbs_nobody_else() {
    let folder = Folder::new("refused");
    let server = folder.serve(&[]);
    let user = Sse::open(&format!("{}/v1/stream?user=42", server.edge), &[]);
    user.find("push.caught_up");
    folder.write("large.txt", "x".repeat(70_000));
    let large = format!("publish --hub {} --to user:42 --type t --content-type text/plain", server.hub);
    check(
        &folder,
        &[
            (&format!("{large} --data-file large.txt"), 1, &["the hub refused the event", "65536 bytes"]),
            (&format!("publish --hub {} --to all --type t", server.edge), 1, &["is no hub", "7400", "--hub"]),
            (&format!("publish --hub {} --to all --type t", server.admin), 1, &["is no hub", "7401"]),
        ],
    );
    folder.stdout(&["publish", "--hub", &server.hub, "--to", "user:42", "--type", "good", "--id", "1"]);
    let next = user.next().unwrap();
    assert!(next.event == "good" && next.id.ends_with(".a1"), "nothing of it was appended: {next:?}");
}
