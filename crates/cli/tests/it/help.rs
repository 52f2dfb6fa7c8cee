//! The help is the reference: complete, and fit for a terminal of 100 columns.

use expect_test::{Expect, expect};

use crate::world::{Folder, Running};

const COMMANDS: [&str; 7] = ["serve", "hub", "gateway", "publish", "tail", "token", "completions"];

fn check(args: &[&str], expected: Expect) {
    expected.assert_eq(&Folder::new(&format!("help-{}", args.join(""))).stdout(args));
}

#[test]
fn each_command_shows_examples_and_fits_the_terminal() {
    let folder = Folder::new("help");
    for command in COMMANDS {
        for form in ["-h", "--help"] {
            let help = folder.stdout(&[command, form]);
            assert!(help.contains(&format!("Usage: galaxy-push {command}")), "{help}");
            assert!(help.contains("Examples:\n"), "{command}: {help}");
            assert_eq!(help.lines().find(|line| line.chars().count() > 100), None, "{command} {form}");
        }
    }
}

#[test]
fn the_help_keeps_the_environment_to_itself() {
    let folder = Folder::new("help-env");
    let mut command = folder.command(&["tail", "--help"]);
    command.env("GALAXY_PUSH_HUB", "http://secret");
    let outcome = Running::spawn(command).end();
    assert!(
        outcome.stdout.contains("[env: GALAXY_PUSH_HUB]") && !outcome.stdout.contains("secret"),
        "{outcome:?}"
    );
}

#[test]
fn version_and_completions() {
    let folder = Folder::new("completions");
    assert_eq!(folder.stdout(&["--version"]), concat!("galaxy-push ", env!("CARGO_PKG_VERSION"), "\n"));
    for (shell, sign) in [
        ("bash", "complete -F _galaxy"),
        ("zsh", "#compdef galaxy-push"),
        ("fish", "complete -c galaxy-push"),
    ] {
        let script = folder.stdout(&["completions", shell]);
        assert!(script.contains("window-age"), "{shell}");
        assert!(script.contains(sign), "{shell}");
    }
}

#[test]
fn the_overview() {
    check(
        &["--help"],
        expect![[r#"
            Push events to people over WebSocket, SSE and gRPC, and lose none of them silently

            Usage: galaxy-push [OPTIONS] <COMMAND>

            Commands:
              serve        Run hub and gateway in one process: the quickest way to try everything
              hub          Run the backend side: takes events from publishers, serves gateways
              gateway      Run the edge: one stream from the hub, carried on to many users
              publish      Publish one event from flags, or many from CloudEvents JSON lines
              revoke       End a session, or every session of a user, at all gateways
              member       Make a user or session a member of a topic, or end that
              tail         Print the events, records and gaps of a hub as JSON lines
              store        Look at a log on the disk: check it, or print what is in it
              token        Sign a user token, or make the keys to sign with
              cursor       Explain a cursor
              completions  Print a completion script for a shell
              help         Print this message or the help of the given subcommand(s)

            Options:
              -h, --help     Print help
              -V, --version  Print version

            Every command:
                  --config <FILE>        Read settings from this file. Otherwise: galaxy-push.toml in this
                                         folder, if there is one [env: GALAXY_PUSH_CONFIG]
                  --log-level <FILTER>   What to log on stderr: error, warn, info, debug, trace, or a filter
                                         such as warn,galaxy_push_hub=debug. Default: info for serve, hub and
                                         gateway, error for the rest. RUST_LOG is understood too [env:
                                         GALAXY_PUSH_LOG_LEVEL]
                  --log-format <FORMAT>  How to log: text for people, json for machines; auto is text on a
                                         terminal [env: GALAXY_PUSH_LOG_FORMAT] [default: auto] [possible
                                         values: auto, text, json]
                  --otlp-endpoint <URL>  Send traces of events to this OpenTelemetry collector, over gRPC,
                                         https:// by the authorities that the system trusts: serve, hub,
                                         gateway, publish. The standard variables that docs/telemetry.md names
                                         hold too, such as OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_SERVICE_NAME and
                                         OTEL_TRACES_SAMPLER. Default: no traces [env:
                                         GALAXY_PUSH_OTLP_ENDPOINT]

            Try it, each line in a terminal of its own:
              galaxy-push serve
              curl -N 'http://127.0.0.1:8080/v1/stream?user=42'
              galaxy-push publish --to user:42 --type turn.ready '{"turn":7}'

            Flags beat the environment (GALAXY_PUSH_HUB_ADDR=…), which beats galaxy-push.toml (hub-addr = "…").
            A key or a variable that nothing reads is an error.
            Durations are written 500ms, 30s, 5m, 1h, from 1ms to 100y; sizes 64KiB, 256MiB, 1GiB, up to 16TiB.
            Exit codes: 0 done, 1 it could not be done, 2 a flag or setting was not understood;
            66 what `store` should read cannot be read, 74 the disk of a hub has failed, 75 the brokers of a hub
            have another log now, or one that lacks what was read: start it again.
        "#]],
    );
}

#[test]
#[expect(clippy::too_many_lines, reason = "it is one text")]
fn the_flags_of_publish() {
    check(
        &["publish", "-h"],
        expect![[r#"
            Publish one event from flags, or many from CloudEvents JSON lines

            Usage: galaxy-push publish [OPTIONS] [DATA]

            Arguments:
              [DATA]  The data of one event: JSON, or anything with --content-type; - is stdin, which is not
                      read otherwise

            Options:
                  --hub <URL>       The hub, or several separated by commas: the next one is tried when one does
                                    not answer [env: GALAXY_PUSH_HUB] [default: http://127.0.0.1:7400]
                  --timeout <TIME>  Give up when the hub has not acknowledged for this long [default: 30s]
              -h, --help            Print help (see more with '--help')
              -V, --version         Print version

            One event:
                  --to <RECIPIENT>          Whom it is for: user:<id>, session:<id>, topic:<name> or all. May be
                                            given several times
                  --type <TYPE>             Its type, such as turn.ready
                  --id <ID>                 Its id; with the source it makes publishing idempotent. Default:
                                            random
                  --source <SOURCE>         Who publishes it [default: galaxy-push/publish]
                  --subject <SUBJECT>       What it is about
                  --data-file <FILE>        Take the data from this file, 1MiB at most; - is stdin
                  --content-type <TYPE>     The media type of the data. JSON is checked, anything else is passed
                                            on as it is [default: application/json]
                  --ttl <TIME>              Do not deliver it later than this after it was taken
                  --collapse-key <KEY>      For readers that lag: only the newest event with this key matters
                  --ephemeral               Deliver it to those connected now; it has no position and is never
                                            replayed
                  --attribute <NAME=VALUE>  A CloudEvents extension attribute. May be given several times

            Many events:
                  --file <FILE>        Publish the CloudEvents of this file, one JSON object per line; - is
                                       stdin
                  --checkpoint <FILE>  Remember in this file which bytes of --file were acknowledged, and their
                                       hash, and continue there

            The way to the hub (a token may also be in GALAXY_PUSH_HUB_TOKEN):
                  --hub-ca <FILE>          Trust https:// hubs whose certificate an authority in this file has
                                           signed (PEM). Default: the authorities that the system trusts [env:
                                           GALAXY_PUSH_HUB_CA]
                  --hub-cert <FILE>        Say who this is by the certificate in this file (PEM, the chain
                                           behind it). Read again for each connection [env:
                                           GALAXY_PUSH_HUB_CERT]
                  --hub-key <FILE>         The private key of that certificate (PEM) [env: GALAXY_PUSH_HUB_KEY]
                  --hub-token-file <FILE>  Say who this is by the token in this file [env:
                                           GALAXY_PUSH_HUB_TOKEN_FILE]

            Every command:
                  --config <FILE>        Read settings from this file. Otherwise: galaxy-push.toml in this
                                         folder, if there is one [env: GALAXY_PUSH_CONFIG]
                  --log-level <FILTER>   What to log on stderr: error, warn, info, debug, trace, or a filter
                                         such as warn,galaxy_push_hub=debug. Default: info for serve, hub and
                                         gateway, error for the rest. RUST_LOG is understood too [env:
                                         GALAXY_PUSH_LOG_LEVEL]
                  --log-format <FORMAT>  How to log: text for people, json for machines; auto is text on a
                                         terminal [env: GALAXY_PUSH_LOG_FORMAT] [default: auto] [possible
                                         values: auto, text, json]
                  --otlp-endpoint <URL>  Send traces of events to this OpenTelemetry collector, over gRPC,
                                         https:// by the authorities that the system trusts: serve, hub,
                                         gateway, publish. The standard variables that docs/telemetry.md names
                                         hold too, such as OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_SERVICE_NAME and
                                         OTEL_TRACES_SAMPLER. Default: no traces [env:
                                         GALAXY_PUSH_OTLP_ENDPOINT]

            Examples:
              galaxy-push publish --to user:42 --type turn.ready '{"turn":7}'
              galaxy-push publish --to topic:news --to all --type news.posted --data-file post.json
              galaxy-push publish --to user:42 --type note --content-type text/plain 'Dinner is ready'
              generate-one | galaxy-push publish --to user:42 --type turn.ready -
              galaxy-push publish --file events.ndjson --checkpoint events.pos
              generate | galaxy-push publish

            A line of a file:
              {"specversion":"1.0","id":"1","source":"game","type":"ready","to":"user:42","data":{"turn":7}}

            The same id and source within two minutes are recognised and answered with the first position:
            repeating is safe.
        "#]],
    );
}
