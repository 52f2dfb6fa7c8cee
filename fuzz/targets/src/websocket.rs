//! What a user sends over WebSocket, before and behind its greeting: the gateway closes by its table, and sends nothing broken.

use std::time::Duration;

use galaxy_push_gateway::{Access, Config, Gateway};
use galaxy_push_hub::Hub;
use galaxy_push_listener::{Drain, Limits, MemoryDialer, memory_listener, serve};
use galaxy_push_proto::v1::{self, PushEvent};
use prost::Message as _;
use tokio::time::sleep;

use crate::world::{ambient, converse, hub, run};

/// The codes that a user is closed with.
const CLOSES: [u16; 11] = [1000, 1001, 1002, 1007, 1009, 1012, 1013, 4400, 4401, 4403, 4429];

/// The greeting in JSON, and the same in protobuf: from the oldest event, as user 42.
const GREETING: &[u8] = br#"{"connect":{"user":"42","cursor":"oldest","topics":["news"]}}"#;
const GREETING_PROTO: &[u8] = b"\x0a\x12\x12\x06oldest\x1a\x04news\x22\x0242";

/// The first byte says how: in JSON or protobuf, with a greeting of ours or without, bytes as they are or frames, each of its first byte, a
/// length and so many bytes; and whether the gateway drains meanwhile.
pub fn websocket(data: &[u8]) {
    let Some((&way, rest)) = data.split_first() else { return };
    let is_json = way & 1 == 0;
    let mut begin = handshake(if is_json { "push.v1.json" } else { "push.v1.proto" });
    if way & 2 == 0 {
        let (first, text) = if is_json { (0x81, GREETING) } else { (0x82, GREETING_PROTO) };
        frame(&mut begin, first, text);
    }
    let mut stream = rest.to_vec();
    if way & 4 == 0 {
        stream = frames(rest);
    }
    let pause = Duration::from_millis(if way & 8 == 0 { 1 } else { 900 });
    let pieces: Vec<&[u8]> = stream.chunks(if way & 16 == 0 { 4096 } else { 7 }).collect();
    let answer = run(async {
        let (hub, dial) = gateway(way & 32 != 0).await;
        let Ok(pipe) = dial.connect().await else { panic!("no place for the only one") };
        let answer = converse(pipe, &begin, &pieces, pause).await;
        drop(hub);
        answer
    });
    check(&answer, is_json, |code| {
        // A close that the user began is answered with its own code; what is masked otherwise is not looked through.
        let is_code = matches!(code, 1000..=1013 | 3000..=4999);
        is_code && (way & 4 != 0 || stream.windows(2).any(|two| two == code.to_be_bytes()))
    });
}

/// A gateway with an event, behind a listener; perhaps one that drains in a moment.
async fn gateway(drains: bool) -> (Hub, MemoryDialer) {
    let hub = hub();
    let event = v1::Event {
        to: vec!["user:42".to_owned(), "topic:news".to_owned()],
        id: "1".to_owned(),
        source: "/fuzz".to_owned(),
        r#type: "turn.ready".to_owned(),
        data: b"{}".to_vec().into(),
        ..v1::Event::default()
    };
    if let Err(failure) = hub.publish(vec![event]).await {
        panic!("not published: {failure:?}");
    }
    let (dial_hub, at_hub) = memory_listener();
    tokio::spawn(serve(at_hub, hub.router(), Limits::hub(), Drain::default()));
    let connector = move |_: String, _: u16| {
        let dial = dial_hub.clone();
        async move { dial.connect().await }
    };
    let mut config = Config::new("http://hub:7400", "gateway-1");
    config.access = Access::development();
    let gateway = match Gateway::start(config, connector, ambient()) {
        Ok(gateway) => gateway,
        Err(error) => panic!("no gateway: {error}"),
    };
    let (dial, accept) = memory_listener();
    tokio::spawn(serve(accept, gateway.router(), Limits::edge(), Drain::default()));
    sleep(Duration::from_secs(1)).await; // it has caught up, whatever it drew
    if drains {
        tokio::spawn(async move {
            sleep(Duration::from_millis(5)).await;
            gateway.drain().await;
        });
    } else {
        tokio::spawn(async move {
            sleep(Duration::from_secs(3_600)).await;
            drop(gateway);
        });
    }
    (hub, dial)
}

fn handshake(protocol: &str) -> Vec<u8> {
    format!(
        "GET /v1/ws HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
         sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-protocol: {protocol}\r\n\r\n"
    )
    .into_bytes()
}

/// One frame as a client sends it, with a mask of zeros.
fn frame(out: &mut Vec<u8>, first: u8, payload: &[u8]) {
    out.extend([first, 0x80 | payload.len() as u8, 0, 0, 0, 0]);
    out.extend_from_slice(payload);
}

fn frames(mut rest: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    while let Some((&[first, length], behind)) = rest.split_first_chunk::<2>() {
        let (payload, behind) = behind.split_at(usize::from(length % 126).min(behind.len()));
        frame(&mut out, first, payload);
        rest = behind;
    }
    out
}

/// What the gateway sent: an answer to the handshake, then whole messages of its form, and a close by the table.
fn check(answer: &[u8], is_json: bool, is_echo: impl Fn(u16) -> bool) {
    let Some(head) = answer.windows(4).position(|four| four == b"\r\n\r\n") else {
        panic!("no answer to the handshake: {:?}", String::from_utf8_lossy(answer))
    };
    assert!(answer.starts_with(b"HTTP/1.1 101 "), "{:?}", String::from_utf8_lossy(&answer[..head]));
    let mut rest = &answer[head + 4..];
    let mut closed = false;
    while let [first, length, behind @ ..] = rest {
        assert!(!closed, "a frame behind the close");
        let (length, behind) = match (length, behind) {
            (126, [a, b, behind @ ..]) => (usize::from(u16::from_be_bytes([*a, *b])), behind),
            (0..=125, behind) => (usize::from(*length), behind),
            _ => panic!("a length of {length} in a short answer"),
        };
        assert!(length <= behind.len(), "half a frame");
        let (payload, behind) = behind.split_at(length);
        match first {
            0x81 => {
                assert!(is_json, "text to a user of protobuf");
                let value: serde_json::Value = serde_json::from_slice(payload).unwrap_or_default();
                assert!(value.is_object(), "no JSON: {:?}", String::from_utf8_lossy(payload));
            }
            0x82 => assert!(!is_json && PushEvent::decode(payload).is_ok(), "no frame"),
            0x88 => {
                closed = true;
                if let [a, b, reason @ ..] = payload {
                    let code = u16::from_be_bytes([*a, *b]);
                    assert!(CLOSES.contains(&code) || is_echo(code), "closed with {code}");
                    assert!(std::str::from_utf8(reason).is_ok(), "a reason that is no text");
                }
            }
            0x89 | 0x8a => assert!(payload.len() <= 125),
            _ => panic!("a frame that begins with {first:#x}"),
        }
        rest = behind;
    }
}
