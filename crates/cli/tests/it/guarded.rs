//! What stands open only where somebody said so, and what is refused from the outside: careless starts, proxies, tokens for
//! others.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{EncodingKey, Header};
use serde_json::{Value, json};

use crate::sse::{Sse, request};
use crate::world::{Folder, Running, Server};

/// What a request is answered.
pub(crate) fn answer(method: &str, url: &str, headers: &[&str]) -> String {
    let mut text = String::new();
    // A stream does not end, so its head has to do.
    let mut socket = request(method, url, headers);
    let mut piece = [0; 4_096];
    while !text.contains("\r\n\r\n") || !text.contains(" 200 ") {
        match socket.read(&mut piece) {
            Ok(0) | Err(_) => break,
            Ok(read) => text += &String::from_utf8_lossy(&piece[..read]),
        }
    }
    text
}

#[test]
fn a_hub_off_loopback_without_credentials_is_refused_unless_open() {
    let folder = Folder::new("open");
    for role in ["hub", "serve"] {
        let exposed = [role, "--hub-addr", "0.0.0.0:0", "--admin-addr", "127.0.0.1:0", "--plaintext"];
        let edge = ["--edge-addr", "127.0.0.1:0"];
        let args = [&exposed[..], if role == "serve" { &edge } else { &[] }].concat();
        let outcome = folder.run(&args);
        assert_eq!(outcome.code, Some(2), "{outcome:?}");
        for text in ["--hub-addr 0.0.0.0:0", "--hub-credentials", "--open"] {
            assert!(outcome.stderr.contains(text), "{text}: {outcome:?}");
        }
        let server = Server::start(folder.command(&[&args[..], &["--open"]].concat()));
        server.process.stderr.find("can publish anything and read everything");
    }
}

#[test]
fn an_admin_listener_off_loopback_warns_like_the_hub() {
    let folder = Folder::new("admin-open");
    let args = ["hub", "--hub-addr", "127.0.0.1:0", "--admin-addr", "0.0.0.0:0", "--plaintext"];
    let server = Server::start(folder.command(&args));
    let line = server.process.stderr.find("whoever reaches the admin listener");
    assert!(line.contains("\"WARN\""), "{line}");
}

#[test]
fn development_mode_says_that_it_is_on_and_lets_nobody_in_through_a_proxy() {
    let folder = Folder::new("development");
    let server = folder.serve(&[]);
    let line = server.process.stderr.find("development mode is on");
    assert!(line.contains("\"INFO\""), "{line}");
    let stream = format!("{}/v1/stream?user=1", server.edge);
    for header in ["Forwarded: for=203.0.113.7", "X-Forwarded-For: 203.0.113.7", "Via: 1.1 proxy"] {
        let refused = answer("GET", &stream, &[header]);
        assert!(refused.contains(" 403 ") && refused.contains("--dev"), "{header}: {refused}");
        let refused = answer("POST", &format!("{}/v1/events", server.edge), &[header]);
        assert!(refused.contains(" 403 "), "{header}: {refused}");
        assert!(answer("GET", &format!("{}/livez", server.edge), &[header]).contains(" 200 "), "{header}");
    }
    assert!(answer("GET", &stream, &[]).contains(" 200 "));

    let said = folder.serve(&["--dev"]);
    let stream = format!("{}/v1/stream?user=1", said.edge);
    for _ in 0..3 {
        Sse::open(&stream, &["X-Forwarded-Proto: https"]).find("push.caught_up");
    }
    said.process.signal("TERM");
    let log = said.process.end().stderr;
    assert!(log.contains("development mode is on"), "{log}");
    assert_eq!(log.matches("DEVELOPMENT MODE behind a proxy").count(), 1, "{log}");
}

#[test]
fn keys_and_development_mode_do_not_go_together() {
    let folder = Folder::new("keys-and-dev");
    folder.run(&["token", "--new-keys", "keys.json"]);
    for args in [&["--user-keys", "keys.json", "--dev"][..], &["--config", "both.toml"]] {
        folder.write("both.toml", "user-keys = 'keys.json'\ndev = true");
        let outcome = folder.run(&[&["serve"], args].concat());
        assert_eq!(outcome.code, Some(2), "{outcome:?}");
        assert!(outcome.stderr.contains("--dev") && outcome.stderr.contains("--user-keys"), "{outcome:?}");
    }
    let mut command = folder.command(&["serve", "--user-keys", "keys.json"]);
    command.env("GALAXY_PUSH_DEV", "1");
    assert_eq!(Running::spawn(command).end().code, Some(2));
}

#[test]
fn a_token_for_an_audience_is_refused_where_none_is_set_and_the_start_says_so() {
    let folder = Folder::new("audience");
    folder.run(&["token", "--new-keys", "keys.json"]);
    let server = folder.serve(&["--user-keys", "keys.json"]);
    let line = server.process.stderr.find("`aud`");
    assert!(line.contains("--user-audience") && line.contains("\"INFO\""), "{line}");
    let knowing = folder.serve(&["--user-keys", "keys.json", "--user-audience", "push"]);
    let keys: Value = serde_json::from_str(&folder.read("keys.json")).unwrap();
    let secret = URL_SAFE_NO_PAD.decode(keys["keys"][0]["k"].as_str().unwrap()).unwrap();
    let kid = keys["keys"][0]["kid"].as_str().map(str::to_owned);
    let header = Header { kid, ..Header::default() };
    let token = |claims: Value| {
        let token = jsonwebtoken::encode(&header, &claims, &EncodingKey::from_secret(&secret)).unwrap();
        format!("Authorization: Bearer {token}")
    };
    let ours = token(json!({"sub": "1", "exp": 9_999_999_999_u64, "aud": "push"}));
    let plain = token(json!({"sub": "1", "exp": 9_999_999_999_u64}));
    let status = |server: &Server, token: &str| {
        let answer = answer("GET", &format!("{}/v1/stream", server.edge), &[token]);
        answer.split(' ').nth(1).unwrap_or_default().to_owned()
    };
    assert_eq!((status(&server, &ours), status(&server, &plain)), ("401".into(), "200".into()));
    assert_eq!((status(&knowing, &ours), status(&knowing, &plain)), ("200".into(), "401".into()));
}

#[test]
fn every_answer_says_that_its_type_is_not_to_be_guessed() {
    let folder = Folder::new("nosniff");
    let server = folder.serve(&[]);
    for (base, path) in [
        (&server.hub, "/v1/head"),
        (&server.hub, "/nothing"),
        (&server.hub, "/livez"),
        (&server.edge, "/"),
        (&server.edge, "/v1/stream?user=1"),
        (&server.edge, "/v1/stream?nonsense=1"),
        (&server.edge, "/nothing"),
        (&server.edge, "/readyz"),
        (&server.admin, "/metrics"),
        (&server.admin, "/nothing"),
    ] {
        for headers in [&[][..], &["Origin: http://evil.example"]] {
            let answer = answer("GET", &format!("{base}{path}"), headers).to_ascii_lowercase();
            let (head, _) = answer.split_once("\r\n\r\n").unwrap();
            assert_eq!(head.matches("x-content-type-options: nosniff").count(), 1, "{base}{path}: {head}");
        }
    }
}

#[test]
fn an_unknown_parameter_and_another_namespace_are_refused_by_name() {
    let folder = Folder::new("query");
    let server = folder.serve(&["--ignored-query", "utm_source,gclid"]);
    for path in ["/v1/stream", "/v1/ws"] {
        let ask = |query: &str| {
            let handshake = [
                "Connection: Upgrade",
                "Upgrade: websocket",
                "Sec-WebSocket-Version: 13",
                "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
                "Sec-WebSocket-Protocol: push.v1.json",
            ];
            let headers = if path == "/v1/ws" { &handshake[..] } else { &[] };
            answer("GET", &format!("{}{path}?{query}", server.edge), headers)
        };
        let refused = ask("user=1&topics=news");
        assert!(refused.contains(" 400 ") && refused.contains("`topics` is no parameter"), "{refused}");
        let other = ask("user=1&utm_source=a&gclid=b&_=1&namespace=other");
        if path == "/v1/stream" {
            assert!(other.contains(" 404 ") && other.contains("namespace"), "{other}");
            assert!(ask("user=1&utm_source=a&gclid=b&_=1&namespace=default").contains(" 200 "));
        }
    }
    let elsewhere = answer(
        "POST",
        &format!("{}/v1/events?namespace=other", server.edge),
        &["Content-Type: application/cloudevents+json"],
    );
    assert!(elsewhere.contains(" 404 "), "{elsewhere}");
}

#[cfg(unix)]
#[test]
fn a_key_file_that_others_can_read_is_warned_of() {
    use std::os::unix::fs::PermissionsExt as _;

    let folder = Folder::new("readable");
    folder.run(&["token", "--new-keys", "keys.json"]);
    let log = |mode: u32| {
        std::fs::set_permissions(folder.path("keys.json"), std::fs::Permissions::from_mode(mode)).unwrap();
        let server = folder.serve(&["--user-keys", "keys.json"]);
        server.process.signal("TERM");
        server.process.end().stderr
    };
    assert!(!log(0o640).contains("can read this secret"));
    let told = log(0o644);
    let line = told.lines().find(|line| line.contains("can read this secret")).unwrap();
    assert!(line.contains("\"WARN\"") && line.contains("keys.json"), "{line}");
}

#[test]
fn refusals_of_one_peer_are_not_a_line_each() {
    let folder = Folder::new("rate-limited");
    let server = folder.serve(&[]);
    for _ in 0..100 {
        for base in [&server.hub, &server.admin] {
            assert!(
                answer("GET", &format!("{base}/v1/head"), &["Origin: http://evil.example"]).contains(" 403 ")
            );
        }
    }
    server.process.signal("TERM");
    let log = server.process.end().stderr;
    let lines: Vec<_> = log.lines().filter(|line| line.contains("\"refused\"")).collect();
    assert_eq!(lines.len(), 14, "the 1st, 2nd, 4th … 64th of each listener: {lines:#?}");
    assert!(lines[13].contains("\"left_out\":31") && lines[13].contains("127.0.0.1"), "{}", lines[13]);
}

/// A text frame as clients mask it, with a mask that changes nothing.
fn frame(text: &str) -> Vec<u8> {
    let length = u16::try_from(text.len()).unwrap().to_be_bytes();
    [&[0x81, 0xfe, length[0], length[1], 0, 0, 0, 0][..], text.as_bytes()].concat()
}

/// Sends frames after a handshake and reads what comes until the other side closes.
fn converse(edge: &str, path: &str, headers: &[&str], frames: &[String]) -> String {
    let authority = edge.strip_prefix("http://").unwrap();
    let mut socket = TcpStream::connect(authority).unwrap();
    let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
    write!(
        socket,
        "GET {path} HTTP/1.1\r\nHost: {authority}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Sec-WebSocket-Protocol: push.v1.json\r\n{headers}\r\n"
    )
    .unwrap();
    for text in frames {
        socket.write_all(&frame(text)).unwrap();
    }
    let mut heard = Vec::new();
    let _ = socket.read_to_end(&mut heard); // how it ends is not what is asked here
    String::from_utf8_lossy(&heard).into_owned()
}

#[test]
fn no_token_of_a_user_is_ever_logged() {
    let folder = Folder::new("token-logs");
    folder.run(&["token", "--new-keys", "keys.json"]);
    for filter in ["trace", "trace,hyper=trace,h2=trace,tungstenite=trace,tokio_tungstenite=trace"] {
        let server = folder.serve(&["--user-keys", "keys.json", "--log-level", filter]);
        let token = folder.stdout(&["token", "--user-keys", "keys.json", "--user", "1"]);
        let token = token.trim();
        let bearer = format!("Authorization: Bearer {token}");
        let connect = format!(r#"{{"connect":{{"token":"{token}"}}}}"#);
        let refresh = format!(r#"{{"refresh":{{"token":"{token}"}}}}"#);
        let mut seen = String::new();
        seen += &answer("GET", &format!("{}/v1/stream", server.edge), &[&bearer]);
        for query in ["access_token", "token", "cursor", "topic", "lastEventId"] {
            seen += &answer("GET", &format!("{}/v1/stream?{query}={token}", server.edge), &[]);
        }
        seen += &answer(
            "GET",
            &format!("{}/v1/stream", server.edge),
            &[&format!("Last-Event-ID: {token}"), &bearer],
        );
        seen += &answer("POST", &format!("{}/v1/tickets", server.edge), &[&bearer]);
        seen += &answer("POST", &format!("{}/v1/events", server.hub), &[&bearer]);
        seen += &answer("GET", &format!("{}/metrics", server.admin), &[&bearer]);
        seen += &converse(
            &server.edge,
            "/v1/ws",
            &[],
            &[connect.clone(), refresh.clone(), refresh, connect.clone()],
        );
        seen += &converse(&server.edge, "/v1/ws", &[&bearer], &[connect, "nonsense".into()]);
        server.process.signal("TERM");
        let outcome = server.process.end();
        assert!(
            outcome.stderr.contains("\"TRACE\"") || outcome.stderr.contains("\"DEBUG\""),
            "{}",
            outcome.stderr
        );
        let secret = token.rsplit('.').next().unwrap();
        for text in [&outcome.stderr, &seen] {
            let found = text.lines().find(|line| line.contains(secret));
            assert_eq!(found, None, "a token is in what was printed");
        }
    }
}
