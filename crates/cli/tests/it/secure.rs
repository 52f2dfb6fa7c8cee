//! The hop between hub and peers, secured: real certificates, real tokens, and everybody who is not who they should be.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};

use crate::sse::Sse;
use crate::world::{Folder, Outcome, Running, Server};

type Authority = CertifiedIssuer<'static, KeyPair>;

const BACKEND_TOKEN: &str = "planted-token-of-the-backend-5d1f";
const OPS_TOKEN: &str = "planted-token-of-the-operator-77c0";

const CREDENTIALS: &str = r#"
[[identity]]
name = "backend"
role = "publisher"
token-file = "backend.token"
recipients = ["user:*"]

[[identity]]
name = "edge-1"
role = "gateway"

[[identity]]
name = "edge-2"
role = "gateway"

[[identity]]
name = "ops"
role = "operator"
token-file = "ops.token"
"#;

const SECURED: [&str; 8] = [
    "--hub-tls-cert",
    "hub.pem",
    "--hub-tls-key",
    "hub.key",
    "--hub-peer-ca",
    "ca.pem",
    "--hub-credentials",
    "credentials.toml",
];

fn authority() -> Authority {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// Writes NAME.pem and NAME.key, valid until this year, for these names.
fn issue(folder: &Folder, authority: &Authority, file: &str, names: &[&str], until: i32) {
    let key = KeyPair::generate().unwrap();
    let mut params =
        CertificateParams::new(names.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap();
    (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(until, 1, 1));
    folder.write(&format!("{file}.pem"), params.signed_by(&key, authority).unwrap().pem());
    folder.write(&format!("{file}.key"), key.serialize_pem());
}

/// A folder with everything that a hub and its peers need.
fn folder(test: &str) -> (Folder, Authority) {
    let (folder, ours) = (Folder::new(test), authority());
    folder.write("ca.pem", ours.pem());
    issue(&folder, &ours, "hub", &["localhost", "127.0.0.1"], 4000);
    for peer in ["edge-1", "edge-2", "backend", "stranger"] {
        issue(&folder, &ours, peer, &[peer], 4000);
    }
    folder.write("backend.token", format!("{BACKEND_TOKEN}\n"));
    folder.write("ops.token", OPS_TOKEN);
    folder.write("credentials.toml", CREDENTIALS);
    (folder, ours)
}

fn hub(folder: &Folder, args: &[&str]) -> Server {
    let ports = ["hub", "--hub-addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0"];
    Server::start(folder.command(&[&ports, args].concat()))
}

fn gateway(folder: &Folder, hub: &str, id: &str, args: &[&str]) -> Running {
    let addresses = ["--edge-addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0", "--ready-json"];
    let fixed = ["gateway", "--hub", hub, "--gateway-id", id];
    Running::spawn(folder.command(&[&fixed[..], &addresses, args].concat()))
}

fn presenting<'a>(certificate: &'a str, key: &'a str) -> [&'a str; 6] {
    ["--hub-ca", "ca.pem", "--hub-cert", certificate, "--hub-key", key]
}

fn publish(folder: &Folder, hub: &str, to: &str, id: &str, args: &[&str]) -> Outcome {
    let event = ["publish", "--hub", hub, "--to", to, "--type", "t", "--id", id, "--timeout", "20s"];
    folder.run(&[&event[..], args].concat())
}

#[test]
fn a_gateway_by_certificate_and_a_publisher_by_token() {
    let (folder, _) = folder("secure-together");
    let server = hub(&folder, &SECURED);
    assert!(server.hub.starts_with("https://127.0.0.1:"), "{}", server.hub);
    let edge = gateway(&folder, &server.hub, "edge-1", &presenting("edge-1.pem", "edge-1.key"));
    let urls = edge.stdout.json();
    edge.stderr.find("ready for users");
    let user = Sse::open(&format!("{}/v1/stream?user=1", urls["edge"].as_str().unwrap()), &[]);
    user.find("push.caught_up");
    let by_token = ["--hub-ca", "ca.pem", "--hub-token-file", "backend.token"];
    let published = publish(&folder, &server.hub, "user:1", "a", &by_token);
    assert_eq!(published.code, Some(0), "{published:?}");
    let event = user.find("t").data;
    assert_eq!(
        (event["id"].as_str(), event.get("publisher")),
        (Some("a"), None),
        "users are not told who published"
    );
    // A tool of the operator's sees everything, and who it was.
    let mut tail = folder.command(&[
        "tail",
        "--hub",
        &server.hub,
        "--hub-ca",
        "ca.pem",
        "--from",
        "oldest",
        "--count",
        "1",
    ]);
    tail.env("GALAXY_PUSH_HUB_TOKEN", OPS_TOKEN);
    assert_eq!(Running::spawn(tail).stdout.json()["event"]["publisher"], "backend");
}

#[test]
fn whoever_is_not_who_they_should_be_is_refused_and_told() {
    let (folder, ours) = folder("secure-refused");
    issue(&folder, &authority(), "foreign", &["edge-1"], 4000);
    issue(&folder, &ours, "expired", &["edge-1"], 2021);
    let server = hub(&folder, &SECURED);
    let nobody = ["--hub-ca", "ca.pem"];
    let refused: [(&str, &[&str], &str); 6] = [
        ("edge-1", &nobody, "UNAUTHENTICATED NOT_GRANTED: who is this?"),
        (
            "edge-1",
            &presenting("foreign.pem", "foreign.key"),
            "refuses the certificate that this peer presents (",
        ),
        (
            "edge-1",
            &presenting("expired.pem", "expired.key"),
            "refuses the certificate that this peer presents (CertificateExpired",
        ),
        (
            "edge-1",
            &presenting("edge-2.pem", "edge-2.key"),
            "PERMISSION_DENIED NOT_GRANTED: edge-2 may not subscribe as edge-1",
        ),
        (
            "backend",
            &presenting("backend.pem", "backend.key"),
            "PERMISSION_DENIED NOT_GRANTED: backend is known here as publisher",
        ),
        (
            "stranger",
            &presenting("stranger.pem", "stranger.key"),
            "UNAUTHENTICATED NOT_GRANTED: who is this?",
        ),
    ];
    // The one who has the id is not disturbed by any of them.
    let incumbent = gateway(&folder, &server.hub, "edge-1", &presenting("edge-1.pem", "edge-1.key"));
    incumbent.stderr.find("ready for users");
    for (id, args, why) in refused {
        let peer = gateway(&folder, &server.hub, id, args);
        let line = peer.stderr.find("no stream came about");
        assert!(line.contains(why), "{why}: {line}");
    }
    incumbent.signal("TERM");
    let rest = incumbent.end();
    assert!(!rest.stderr.contains("the stream ended"), "{rest:?}");
}

#[test]
fn a_token_is_good_for_its_role_and_recipients_and_shows_nowhere() {
    let (folder, _) = folder("secure-roles");
    let server = hub(&folder, &[&SECURED[..], &["--log-level", "trace"]].concat());
    let with = |token| ["--hub-ca", "ca.pem", "--hub-token-file", token];
    folder.write("wrong.token", "planted-token-that-nobody-knows");
    let mut seen = String::new();
    for (to, token, why) in [
        ("all", "backend.token", "all is outside the recipients of backend"),
        (
            "user:1",
            "ops.token",
            "PERMISSION_DENIED NOT_GRANTED: ops is known here as operator, and this is for publishers",
        ),
        ("user:1", "wrong.token", "UNAUTHENTICATED NOT_GRANTED: who is this?"),
    ] {
        let outcome = publish(&folder, &server.hub, to, "x", &with(token));
        assert_eq!(outcome.code, Some(1), "{token}: {outcome:?}");
        assert!(outcome.stderr.contains(why), "{why}: {outcome:?}");
        seen += &outcome.stderr;
    }
    let tail = ["tail", "--hub", &server.hub, "--log-level", "trace"];
    let tail = Running::spawn(folder.command(&[&tail[..], &with("backend.token")].concat()));
    let refused = tail.end();
    assert_eq!(refused.code, Some(1), "a refusal ends it: {refused:?}");
    assert!(
        refused.stderr.contains("backend is known here as publisher, and this is for gateways and operators"),
        "{refused:?}"
    );
    server.process.signal("TERM");
    seen += &(refused.stderr + &server.process.end().stderr);
    assert!(seen.contains("peer refused"), "{seen}");
    assert!(!seen.contains("planted"), "a token is in what was printed");
}

#[test]
fn a_hub_is_reached_with_the_systems_authorities() {
    let (folder, _) = folder("secure-system");
    let server = hub(&folder, &SECURED);
    let with = |authorities: &str, args: &[&str]| {
        let event = ["publish", "--hub", &server.hub, "--to", "user:1", "--type", "t", "--timeout", "2s"];
        let mut command = folder.command(&[&event[..], args].concat());
        command.env("SSL_CERT_FILE", folder.path(authorities)).env("SSL_CERT_DIR", folder.path("none"));
        Running::spawn(command).end()
    };
    let by_certificate = ["--hub-cert", "backend.pem", "--hub-key", "backend.key"];
    for args in [&["--hub-token-file", "backend.token"][..], &by_certificate] {
        let published = with("ca.pem", args);
        assert_eq!(published.code, Some(0), "{published:?}");
    }
    folder.write("other.pem", authority().pem());
    let stranger = with("other.pem", &by_certificate);
    assert!(
        stranger.code == Some(1) && stranger.stderr.contains("--hub-ca is the authority"),
        "{stranger:?}"
    );
    let nobody = with("nowhere.pem", &by_certificate);
    assert!(nobody.code == Some(1) && nobody.stderr.contains("give --hub-ca FILE"), "{nobody:?}");
}

#[test]
fn a_renewed_certificate_is_taken_and_no_stream_is_dropped() {
    let (folder, _) = folder("secure-renewal");
    let server = hub(&folder, &SECURED);
    let edge = gateway(&folder, &server.hub, "edge-1", &presenting("edge-1.pem", "edge-1.key"));
    let urls = edge.stdout.json();
    edge.stderr.find("ready for users");
    let user = Sse::open(&format!("{}/v1/stream?user=1", urls["edge"].as_str().unwrap()), &[]);
    user.find("push.caught_up");

    let next = authority();
    folder.write("next.pem", next.pem());
    issue(&folder, &next, "hub", &["localhost", "127.0.0.1"], 4000);
    // It tries until the hub shows a certificate of the next authority.
    let by_token = ["--hub-ca", "next.pem", "--hub-token-file", "backend.token"];
    let published = publish(&folder, &server.hub, "user:1", "a", &by_token);
    assert_eq!(published.code, Some(0), "{published:?}");
    assert_eq!(user.find("t").data["id"], "a", "over the stream that was there before");
    edge.signal("TERM");
    assert!(!edge.end().stderr.contains("the stream ended"));
}

#[test]
fn sighup_takes_certificates_anew_at_once() {
    let (folder, ours) = folder("secure-hangup");
    let server = hub(&folder, &SECURED);
    issue(&folder, &ours, "hub", &["localhost", "127.0.0.1"], 4001);
    server.process.signal("HUP");
    server.process.stderr.find("took a new certificate");
    let line = server.process.stderr.find("SIGHUP");
    assert!(line.contains(r#""taken":"hub certificate, credentials""#), "{line}");
    folder.write("hub.pem", "no certificate");
    server.process.signal("HUP");
    let line = server.process.stderr.find("SIGHUP");
    assert!(line.contains(r#""refused":"hub certificate""#), "{line}");
    let by_token = ["--hub-ca", "ca.pem", "--hub-token-file", "backend.token"];
    assert_eq!(publish(&folder, &server.hub, "user:1", "a", &by_token).code, Some(0), "the one before stays");
}

#[test]
fn hub_and_gateway_in_one_process_need_no_certificate_between_them() {
    let (folder, _) = folder("secure-serve");
    let edge = ["--edge-tls-cert", "hub.pem", "--edge-tls-key", "hub.key"];
    let server = folder.serve(&[&SECURED[..], &edge].concat());
    assert!(
        server.hub.starts_with("https://") && server.edge.starts_with("https://"),
        "{} {}",
        server.hub,
        server.edge
    );
    assert!(server.admin.starts_with("http://"), "{}", server.admin);
    let ready = get(&server.admin, "/readyz?verbose", "localhost");
    assert!(ready.contains("[+]caught-up") && ready.ends_with("ok\n"), "{ready}");
    let published = publish(&folder, &server.hub, "user:1", "a", &presenting("backend.pem", "backend.key"));
    assert_eq!(published.code, Some(0), "{published:?}");
}

#[test]
fn whoever_speaks_the_wrong_way_is_told_the_right_one() {
    let (folder, _) = folder("secure-schemes");
    let (secured, plain) = (hub(&folder, &SECURED), hub(&folder, &[]));
    let in_the_clear = secured.hub.replace("https:", "http:");
    let over_tls = plain.hub.replace("http:", "https:");
    for (url, args, why) in [
        (&in_the_clear, &[][..], "a hub that speaks TLS is reached by https://"),
        (&over_tls, &["--hub-ca", "ca.pem"][..], "does not speak TLS: write http://"),
    ] {
        let event = ["publish", "--hub", url, "--to", "user:1", "--type", "t", "--timeout", "1s"];
        let outcome = folder.run(&[&event[..], args].concat());
        assert_eq!(outcome.code, Some(1), "{outcome:?}");
        assert!(outcome.stderr.contains(why), "{outcome:?}");
        let tail = Running::spawn(folder.command(&[&["tail", "--hub", url], args].concat()));
        let line = tail.stderr.find("no stream");
        assert!(line.contains(why), "{line}");
    }
}

/// What a listener answers a request for this host.
fn get(url: &str, path: &str, headers: &str) -> String {
    let mut socket = TcpStream::connect(url.strip_prefix("http://").unwrap()).unwrap();
    write!(socket, "GET {path} HTTP/1.1\r\nConnection: close\r\nHost: {headers}\r\n\r\n").unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn no_web_page_reaches_a_hub_that_believes_everybody() {
    let folder = Folder::new("pages");
    let useless = folder.run(&["hub", "--allowed-hosts", "https://hub.example:7400"]);
    assert_eq!(useless.code, Some(2), "{useless:?}");
    assert!(useless.stderr.contains("such as hub.example: no scheme, no port"), "{useless:?}");
    let server = hub(&folder, &["--allowed-hosts", "hub.example"]);
    for (url, path) in [(&server.hub, "/v1/head"), (&server.admin, "/metrics")] {
        for host in ["localhost", "127.0.0.1:1", "hub.example"] {
            assert!(get(url, path, host).starts_with("HTTP/1.1 200 "), "{host}");
            let from_a_page = get(url, path, &format!("{host}\r\nOrigin: http://{host}"));
            assert!(from_a_page.starts_with("HTTP/1.1 403 "), "{host}: {from_a_page}");
        }
        let rebound = get(url, path, "evil.example");
        assert!(rebound.starts_with("HTTP/1.1 403 ") && rebound.contains("--allowed-hosts"), "{rebound}");
    }
}
