//! `GET /v1/ws` as a user sees it.

use std::time::Duration;

use expect_test::expect;
use futures_util::{FutureExt as _, SinkExt as _, StreamExt as _};
use galaxy_push_proto::v1::{self, ClientFrame, PushEvent, client_frame, push_event};
use prost::Message as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{self, Message};

use super::*;

/// A user's socket.
pub(super) struct Socket {
    pub(super) stream: WebSocketStream<DuplexStream>,
    pub(super) protocol: String,
}

/// What a handshake may say beyond the subprotocol.
pub(super) type Headers<'a> = &'a [(&'static str, &'a str)];

impl World {
    /// A handshake; an error is the answer's status and body.
    pub(super) async fn shake(
        &self,
        protocols: &str,
        path: &str,
        headers: Headers<'_>,
        buffer: usize,
    ) -> Result<Socket, (u16, String)> {
        let mut request = format!("ws://localhost{path}").into_client_request().unwrap();
        if !protocols.is_empty() {
            request.headers_mut().insert("sec-websocket-protocol", protocols.parse().unwrap());
        }
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        match tokio_tungstenite::client_async(request, self.dial(buffer).await).await {
            Ok((stream, response)) => {
                let protocol = response.headers()["sec-websocket-protocol"].to_str().unwrap().to_owned();
                Ok(Socket { stream, protocol })
            }
            Err(tungstenite::Error::Http(response)) => {
                let body = String::from_utf8(response.body().clone().unwrap_or_default()).unwrap();
                Err((response.status().as_u16(), body))
            }
            Err(error) => panic!("{error}"),
        }
    }

    pub(super) async fn socket(&self) -> Socket {
        self.shake("push.v1.json", "/v1/ws", &[], 1 << 20).await.unwrap()
    }

    /// A JSON socket whose `connect` frame is this.
    pub(super) async fn connected(&self, connect: &str) -> Socket {
        let mut socket = self.socket().await;
        socket.send(&format!(r#"{{"connect":{connect}}}"#)).await;
        socket
    }
}

impl Socket {
    pub(super) async fn send(&mut self, text: &str) {
        self.stream.send(Message::text(text)).await.unwrap();
    }

    /// The next message that is no ping.
    pub(super) async fn next(&mut self) -> Message {
        loop {
            let message =
                timeout(Duration::from_secs(3_600), self.stream.next()).await.expect("nothing comes");
            match message.expect("the stream ended").unwrap() {
                Message::Ping(_) => {}
                message => return message,
            }
        }
    }

    pub(super) async fn text(&mut self) -> String {
        match self.next().await {
            Message::Text(text) => text.to_string(),
            other => panic!("{other:?}"),
        }
    }

    /// Reads until one holds `end`; returns all of them, one a line.
    pub(super) async fn until(&mut self, end: &str) -> String {
        let mut lines = String::new();
        while !lines.contains(end) {
            lines = lines + &self.text().await + "\n";
        }
        lines
    }

    /// What comes before the close frame, and its code and reason.
    pub(super) async fn closed(&mut self) -> (String, u16, String) {
        let mut lines = String::new();
        loop {
            match self.next().await {
                Message::Text(text) => lines = lines + text.as_str() + "\n",
                Message::Close(Some(CloseFrame { code, reason })) => {
                    return (lines, code.into(), reason.to_string());
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn golden_json() {
    let mut world = World::new();
    world.hub.publish(&["user:42"]);
    let mut socket = world.connected(r#"{"user":"42","cursor":"oldest","topics":["news"]}"#).await;
    assert_eq!(socket.protocol, "push.v1.json");
    let mut lines = socket.until("caughtUp").await;
    world.hub.publish(&["user:7", "topic:news"]);
    world.hub.publish(&["user:7"]);
    world.hub.publish_ephemeral(&["user:42"]);
    lines += &socket.until("e4").await;
    socket.send(r#"{"subscribe":{"topics":["sport"]}}"#).await;
    lines += &socket.until("subscribed").await;
    socket.send(r#"{"unsubscribe":{"topics":["news","sport"]}}"#).await;
    lines += &socket.until(r#""topics":[]"#).await;
    lines += &socket.until("progress").await;
    expect![[r#"
        {"cursor":"2.AAAAAAAAAAAAAAAAAAAAAQ.a0","welcome":{"outcome":"FRESH","epoch":"AAAAAAAAAAAAAAAAAAAAAQ","head":"2.AAAAAAAAAAAAAAAAAAAAAQ.a1","oldest":"2.AAAAAAAAAAAAAAAAAAAAAQ.a0","generation":"0","heartbeatInterval":"25s","limits":{"maxEventBytes":65536,"maxFrameBytes":4194304,"windowEvents":"1048576","windowBytes":"268435456","windowAge":"600s"},"connectionId":"12345678-0"}}
        {"cursor":"2.AAAAAAAAAAAAAAAAAAAAAQ.a1","event":{"specversion":"1.0","id":"e1","source":"/game","type":"turn.ready","data":{"n":1}}}
        {"cursor":"2.AAAAAAAAAAAAAAAAAAAAAQ.a1","caughtUp":{}}
        {"cursor":"2.AAAAAAAAAAAAAAAAAAAAAQ.a2","event":{"specversion":"1.0","id":"e2","source":"/game","type":"turn.ready","data":{"n":1}}}
        {"event":{"specversion":"1.0","id":"e4","source":"/game","type":"turn.ready","data":1}}
        {"cursor":"2.AAAAAAAAAAAAAAAAAAAAAQ.a3","subscribed":{"topics":["news","sport"]}}
        {"cursor":"2.AAAAAAAAAAAAAAAAAAAAAQ.a3","subscribed":{"topics":[]}}
        {"cursor":"2.AAAAAAAAAAAAAAAAAAAAAQ.a3","progress":{}}
    "#]]
    .assert_eq(&lines);
}

#[tokio::test(start_paused = true)]
async fn the_binary_form_says_the_same() {
    let mut world = World::new();
    world.hub.publish(&["user:42", "user:secret"]);
    let mut socket = world.shake("push.v1.proto", "/v1/ws", &[], 1 << 20).await.unwrap();
    assert_eq!(socket.protocol, "push.v1.proto");
    let connect = v1::Connect { user: "42".into(), cursor: "oldest".into(), ..v1::Connect::default() };
    let frame = ClientFrame { kind: Some(client_frame::Kind::Connect(connect)) };
    socket.stream.send(Message::binary(frame.encode_to_vec())).await.unwrap();
    let mut kinds = Vec::new();
    for _ in 0..3 {
        let Message::Binary(bytes) = socket.next().await else { panic!("a text") };
        kinds.push(PushEvent::decode(bytes).unwrap());
    }
    assert!(matches!(kinds[0].kind, Some(push_event::Kind::Welcome(_))));
    let Some(push_event::Kind::Event(event)) = &kinds[1].kind else { panic!("{kinds:?}") };
    assert_eq!((event.id.as_str(), event.to.len(), event.attributes.len()), ("e1", 0, 0));
    assert!(matches!(kinds[2].kind, Some(push_event::Kind::CaughtUp(_))));
    // A kind of a newer contract is skipped.
    socket.stream.send(Message::binary(vec![0x7a, 0])).await.unwrap();
    world.hub.publish(&["user:42"]);
    assert!(matches!(socket.next().await, Message::Binary(_)));
}

#[tokio::test(start_paused = true)]
async fn exactly_one_known_subprotocol_is_echoed() {
    let world = World::new();
    for (offered, chosen) in [
        ("push.v1.json", Ok("push.v1.json")),
        ("push.v1.proto, push.v1.json", Ok("push.v1.proto")),
        ("graphql-ws, push.v1.json", Ok("push.v1.json")),
        ("graphql-ws", Err(400)),
        ("PUSH.V1.JSON", Err(400)),
        ("push.v1", Err(400)),
        ("", Err(400)),
    ] {
        let shaken = world.shake(offered, "/v1/ws", &[], 1 << 16).await;
        let seen = shaken.as_ref().map(|socket| socket.protocol.as_str()).map_err(|(status, _)| *status);
        assert_eq!(seen, chosen, "{offered:?}");
        if let Err((_, body)) = shaken {
            assert!(body.contains("offer `push.v1.json` or `push.v1.proto`"), "{body}");
        }
    }
    let plain = world.get("/v1/ws").await;
    assert_eq!((plain.status().as_u16(), plain.headers()["upgrade"].to_str().unwrap()), (426, "websocket"));
}

#[tokio::test(start_paused = true)]
async fn a_new_topic_counts_from_its_subscribed_frame() {
    let mut world = World::new();
    let mut socket = world.connected(r#"{"user":"a"}"#).await;
    socket.until("caughtUp").await;
    world.hub.publish(&["topic:t"]);
    socket.send(r#"{"subscribe":{"topics":["t"]}}"#).await;
    let subscribed = socket.until("subscribed").await;
    assert!(subscribed.contains(&world.hub.head.to_string()), "{subscribed}");
    world.hub.publish(&["topic:t"]);
    assert!(socket.text().await.contains("\"e2\""));
    socket.send(r#"{"unsubscribe":{"topics":["t"]}}"#).await;
    socket.until("subscribed").await;
    world.hub.publish(&["topic:t"]);
    world.hub.publish(&["user:a"]);
    assert!(socket.text().await.contains("\"e4\""));
}

#[tokio::test(start_paused = true)]
async fn whoever_breaks_a_rule_is_told_by_the_code() {
    let mut world = World::new();
    world.hub.publish(&["all"]);
    let many: Vec<String> = (0..129).map(|n| format!("\"t{n}\"")).collect();
    let many = many.join(",");
    for (frames, code, why) in [
        (vec![r#"{"connect":{"cursor":"garbage"}}"#.to_owned()], 4400, "CURSOR_MALFORMED"),
        (vec![r#"{"subscribe":{"topics":["a"]}}"#.into()], 4400, "first frame must be `connect`"),
        (vec![r#"{"connect":{}}"#.into(), r#"{"connect":{}}"#.into()], 4400, "comes once"),
        (vec!["not json".into()], 4400, "JSON object"),
        (vec!["{}".into()], 4400, "exactly one of"),
        (vec![r#"{"connect":{"user":"a b"}}"#.into()], 4400, "RECIPIENT_INVALID"),
        (vec![r#"{"connect":{"topics":["a,b"]}}"#.into()], 4400, "RECIPIENT_INVALID"),
        (vec![format!(r#"{{"connect":{{"topics":[{many}]}}}}"#)], 4400, "at most 128 topics"),
        (
            vec![r#"{"connect":{}}"#.into(), format!(r#"{{"subscribe":{{"topics":[{many}]}}}}"#)],
            4400,
            "at most 128 topics",
        ),
        (vec![r#"{"connect":{"namespace":"other"}}"#.into()], 4400, "namespace"),
        (vec![r#"{"connect":{"maxReceiveBytes":10}}"#.into()], 4400, "4096"),
        (vec![r#"{"connect":{"token":"a.b.c"}}"#.into()], 4401, "NOT_GRANTED"),
        (vec![r#"{"connect":{"cursor":"2.AAAAAAAAAAAAAAAAAAAAAQ.a9"}}"#.into()], 1013, "OVERLOADED"),
        (vec![], 4401, "no `connect` frame came in time"),
    ] {
        let mut socket = world.socket().await;
        for frame in &frames {
            socket.send(frame).await;
        }
        let (_, closed, reason) = socket.closed().await;
        assert_eq!(closed, code, "{frames:?}: {reason}");
        assert!(reason.contains(why), "{frames:?}: {reason}");
    }
    let mut socket = world.socket().await;
    socket.stream.send(Message::binary(vec![1, 2])).await.unwrap();
    assert_eq!(socket.closed().await.1, 4400);
    let mut socket = world.shake("push.v1.proto", "/v1/ws", &[], 1 << 16).await.unwrap();
    socket.send(r#"{"connect":{}}"#).await;
    assert_eq!(socket.closed().await.1, 4400);
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_is_not_ready_says_come_back_later() {
    let world = World::unready(config());
    let mut socket = world.connected("{}").await;
    let (lines, code, reason) = socket.closed().await;
    assert_eq!((lines.as_str(), code), ("", 1013));
    assert!(reason.contains("caught up"), "{reason}");
}

#[tokio::test(start_paused = true)]
async fn a_breach_of_the_protocol_is_answered_with_its_code() {
    let world = World::new();
    let large = format!(r#"{{"subscribe":{{"topics":["{}"]}}}}"#, "x".repeat(64 << 10));
    let masked = |head: &[u8], body: &[u8]| [head, &[0x80 | body.len() as u8, 0, 0, 0, 0], body].concat();
    for (bytes, code) in [
        (masked(&[0x81], &[0xff, 0xfe]), 1007),
        (masked(&[0x83], b"reserved"), 1002),
        (vec![0x81, 0x02, b'{', b'}'], 1002), // not masked
    ] {
        for greeted in [true, false] {
            let mut socket = world.socket().await;
            if greeted {
                socket.send(r#"{"connect":{}}"#).await;
                socket.until("caughtUp").await;
            }
            socket.stream.get_mut().write_all(&bytes).await.unwrap();
            assert_eq!(socket.closed().await.1, code, "{bytes:?}");
        }
    }
    let mut socket = world.connected("{}").await;
    socket.until("caughtUp").await;
    socket.send(&large).await;
    assert_eq!(socket.closed().await.1, 1009);
    assert!(world.metrics().contains("push_protocol_breaches_total 7"), "{}", world.metrics());
}

/// The fault: the socket was dropped with the rest of the message unread, so the connection was reset, and with it the code.
#[tokio::test(start_paused = true)]
async fn who_still_writes_what_is_too_big_reads_why_it_is_closed() {
    let world = World::new();
    for greeted in [true, false] {
        let mut socket = world.shake("push.v1.json", "/v1/ws", &[], 1 << 14).await.unwrap();
        if greeted {
            socket.send(r#"{"connect":{}}"#).await;
            socket.until("caughtUp").await;
        }
        let mut head = vec![0x81, 0xff];
        head.extend(u64::to_be_bytes(1 << 30));
        head.extend([0; 4]);
        let io = socket.stream.get_mut();
        io.write_all(&head).await.unwrap();
        io.write_all(&vec![b'x'; 1 << 20]).await.expect("somebody reads on");
        assert_eq!(socket.closed().await.1, 1009);
        let rest = socket.stream.get_mut().read(&mut [0; 16]).await;
        assert_eq!(rest.unwrap(), 0, "the end");
    }
}

/// As before, over TCP: what is left unread there when a socket is closed resets the connection.
#[tokio::test]
async fn over_tcp_who_still_writes_what_is_too_big_is_not_reset() {
    let world = World::new();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (limits, drain) = (Limits::edge(), world.drain.clone());
    let places = ConnectionSlots::new("edge", &limits, SlotPolicy::default());
    let router = world.gateway.router();
    tokio::spawn(galaxy_push_listener::serve_at(listener, None, router, limits, places, drain));
    let mut request = "ws://localhost/v1/ws".into_client_request().unwrap();
    request.headers_mut().insert("sec-websocket-protocol", "push.v1.json".parse().unwrap());
    let io = tokio::net::TcpStream::connect(address).await.unwrap();
    let (mut stream, _) = tokio_tungstenite::client_async(request, io).await.unwrap();
    let message = [&[0x81, 0xff, 0, 0, 0, 0, 0, 0x30, 0, 0, 0, 0, 0, 0], &*vec![b'x'; 2 << 20]].concat();
    stream.get_mut().write_all(&message).await.expect("somebody reads on");
    let Some(Ok(Message::Close(Some(CloseFrame { code, .. })))) = stream.next().await else {
        panic!("no close frame")
    };
    assert_eq!(u16::from(code), 1009);
    stream.get_mut().write_all(&[b'x'; 1 << 16]).await.expect("somebody reads on");
    assert_eq!(stream.get_mut().read(&mut [0; 16]).await.unwrap(), 0, "the end");
}

#[tokio::test(start_paused = true)]
async fn a_frame_of_a_kind_from_the_future_is_skipped_and_counted() {
    let mut world = World::new();
    let mut socket = world.connected("{}").await;
    socket.until("caughtUp").await;
    socket.send(r#"{"publish":{"to":["all"]}}"#).await;
    world.hub.publish(&["all"]);
    socket.until("e1").await;
    assert!(world.metrics().contains("push_client_frames_skipped_total 1"));
}

#[tokio::test(start_paused = true)]
async fn no_frame_is_larger_than_the_peer_takes() {
    let mut world = World::new();
    let small = format!("\"{}\"", "x".repeat(3_000));
    // Too large only in JSON, where binary data grows by a third.
    let large = "\u{1}".repeat(3_900);
    let mut socket = world.connected(r#"{"user":"a","maxReceiveBytes":4096}"#).await;
    socket.until("caughtUp").await;
    let before = world.hub.publish_data(&["user:a"], &small);
    let lost = world.hub.publish_data(&["user:a"], &large);
    world.hub.publish_data(&["user:a"], &small);
    let lines = socket.until("\"e3\"").await;
    assert!(lines.lines().all(|line| line.len() <= 4_096));
    assert!(
        lines.contains(&format!(
            r#""gap":{{"reason":"TOO_LARGE","from":"{before}","to":"{lost}","count":"1","repairAfter":"#
        )),
        "{lines}"
    );
}

#[tokio::test(start_paused = true)]
async fn pings_go_out_and_a_silent_peer_is_dead_after_a_minute() {
    let mut world = World::new();
    let mut socket = world.connected("{}").await;
    socket.until("caughtUp").await;
    let began = tokio::time::Instant::now();
    // Reading answers the pings: this peer lives.
    let mut pings = 0;
    while pings < 4 {
        match socket.stream.next().await.unwrap().unwrap() {
            Message::Ping(_) => pings += 1,
            Message::Text(text) => assert!(text.contains("progress")),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(began.elapsed(), Duration::from_secs(100));
    assert!(world.metrics().contains(r#"push_connections{transport="ws_json"} 1"#));
    // Not read any more: dead, and gone, though its buffers have room.
    tokio::time::sleep(Duration::from_secs(62)).await;
    assert!(world.metrics().contains(r#"push_connections{transport="ws_json"} 0"#));
    world.hub.publish(&["all"]);
}

#[tokio::test(start_paused = true)]
async fn a_slow_user_is_ended_and_nobody_else_notices() {
    let mut world = World::new();
    // The slow one's buffer is full after the first frames.
    let mut slow = world.shake("push.v1.json", "/v1/ws", &[], 4 << 10).await.unwrap();
    slow.send(r#"{"connect":{"user":"slow"}}"#).await;
    slow.until("caughtUp").await;
    let mut quick = world.connected(r#"{"user":"quick"}"#).await;
    quick.until("caughtUp").await;
    let data = format!("\"{}\"", "x".repeat(2_000));
    for number in 1..=1_000 {
        world.hub.publish_data(&["user:slow", "user:quick"], &data);
        let text = quick.text().now_or_never();
        let text = match text {
            Some(text) => text,
            None => quick.text().await,
        };
        assert!(text.contains(&format!("\"e{number}\"")));
    }
    assert_eq!(quick.next().now_or_never(), None);
    tokio::time::sleep(Duration::from_secs(8)).await;
    let metrics = world.metrics();
    assert!(metrics.contains(r#"push_ended_total{reason="SLOW"} 1"#), "{metrics}");
    assert!(metrics.contains(r#"push_connections{transport="ws_json"} 1"#), "{metrics}");
    world.hub.publish(&["user:quick"]);
    assert!(quick.text().await.contains("\"e1001\""));
    // What the slow one reads in the end is a beginning without a hole.
    let mut number = 0;
    while let Some(Ok(Message::Text(text))) = slow.stream.next().await {
        number += 1;
        assert!(
            text.contains(&format!("\"e{number}\"")),
            "no goodbye either, whose cursor would hide a hole: {text}"
        );
    }
    assert!(number > 0 && number < 1_000);
}

#[tokio::test(start_paused = true)]
async fn no_answer_is_larger_than_the_peer_takes() {
    let world = World::new();
    let mut socket = world.connected(r#"{"user":"a","maxReceiveBytes":4096}"#).await;
    socket.until("caughtUp").await;
    let ask = |number: usize| format!(r#"{{"subscribe":{{"topics":["{number:0>200}"]}}}}"#);
    for number in 0..19 {
        socket.send(&ask(number)).await;
        let answer = socket.until("subscribed").await;
        assert!(answer.len() <= 4_097, "{answer}");
    }
    for number in 19..25 {
        socket.send(&ask(number)).await;
    }
    let (lines, code, reason) = socket.closed().await;
    assert!(lines.lines().all(|line| line.len() <= 4_096), "{lines}");
    assert_eq!(code, 4400);
    assert!(reason.contains("maxReceiveBytes"), "{reason}");
}

/// A peer that takes a little all the time is slow, but not too slow.
#[tokio::test(start_paused = true)]
async fn a_turn_may_take_longer_than_one_write() {
    let mut world = World::new();
    let mut slow = world.shake("push.v1.json", "/v1/ws", &[], 1 << 10).await.unwrap();
    slow.send(r#"{"connect":{"user":"a"}}"#).await;
    slow.until("caughtUp").await;
    let data = format!("\"{}\"", "x".repeat(3_000));
    for _ in 0..10 {
        world.hub.publish_data(&["user:a"], &data);
    }
    for number in 1..=10 {
        tokio::time::sleep(Duration::from_secs(2)).await;
        let text = slow.text().await;
        assert!(text.contains(&format!("\"e{number}\"")), "{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_socket_is_pinged_as_often_as_is_set_and_in_time_to_answer() {
    for (set, comes) in [(7, 7), (3_600, 30)] {
        let mut config = config();
        config.progress_interval = Duration::from_secs(set);
        let world = World::with(config);
        let mut socket = world.connected("{}").await;
        socket.until("caughtUp").await;
        let began = tokio::time::Instant::now();
        while !matches!(socket.stream.next().await.unwrap().unwrap(), Message::Ping(_)) {}
        assert_eq!(began.elapsed(), Duration::from_secs(comes));
    }
}
