//! Users whose own limit is below an event, which close with 1009 and come back.

use futures_util::SinkExt as _;
use galaxy_push_proto::v1::{self, ClientFrame, PushEvent, client_frame, push_event::Kind};
use prost::Message as _;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

use super::ws::Socket;
use super::*;

/// A user whose library takes no message of more than `limit` bytes.
struct Limited {
    limit: usize,
    /// What is said beside its cursor in `connect`.
    who: &'static str,
    cursor: String,
    /// What it was told: events by their ids, gaps by reason, range and count, 1009 for each close.
    told: Vec<String>,
}

impl Limited {
    fn new(who: &'static str, limit: usize) -> Self {
        Self { limit, who, cursor: "oldest".into(), told: Vec::new() }
    }

    /// Connects and reads until it has caught up, or was sent too much; whether it was the latter.
    async fn visit(&mut self, world: &World) -> bool {
        let connect = format!(r#"{{{}"cursor":"{}"}}"#, self.who, self.cursor);
        let mut socket = world.connected(&connect).await;
        loop {
            let text = socket.text().await;
            if text.len() > self.limit {
                close(&mut socket, 1009).await;
                self.told.push("1009".into());
                return true;
            }
            let frame: serde_json::Value = serde_json::from_str(&text).unwrap();
            if let Some(cursor) = frame["cursor"].as_str() {
                cursor.clone_into(&mut self.cursor);
            }
            if let Some(id) = frame["event"]["id"].as_str() {
                self.told.push(id.to_owned());
            }
            if let Some(gap) = frame["gap"].as_object() {
                let field = |name: &str| gap[name].as_str().unwrap().rsplit('.').next().unwrap().to_owned();
                let (reason, from, to) = (field("reason"), field("from"), field("to"));
                self.told.push(format!("{reason} ({from},{to}] {}", field("count")));
            }
            if text.contains("caughtUp") {
                return false;
            }
        }
    }
}

/// Says why, and waits until the gateway has answered.
async fn close(socket: &mut Socket, code: u16) {
    let frame = CloseFrame { code: code.into(), reason: "message too big".into() };
    socket.stream.send(Message::Close(Some(frame))).await.unwrap();
    while let Some(Ok(_)) = socket.stream.next().await {}
}

fn data(bytes: usize) -> String {
    format!("\"{}\"", "x".repeat(bytes))
}

#[tokio::test(start_paused = true)]
async fn a_user_whose_limit_is_below_an_event_gets_past_it_by_a_gap() {
    let mut world = World::new();
    for bytes in [10, 2_000, 20] {
        world.hub.publish_data(&["user:a"], &data(bytes));
    }
    world.hub.publish(&["user:b"]);
    let mut user = Limited::new(r#""user":"a","#, 1_000);
    assert!(user.visit(&world).await);
    assert!(!user.visit(&world).await);
    assert_eq!(user.told.join(" "), "e1 1009 TOO_LARGE (a1,a2] 1 e3");
    let metrics = world.metrics();
    for line in ["push_too_large_closes_total 1", r#"push_edge_gaps_total{reason="TOO_LARGE"} 1"#] {
        assert!(metrics.contains(line), "{metrics}");
    }
    // Nothing is closed twice: it lives on, and what it takes comes.
    world.hub.publish_data(&["user:a"], &data(900));
    user.told.clear();
    assert!(user.visit(&world).await, "the frame around the data counts, too");
    assert!(!user.visit(&world).await);
    assert_eq!(user.told.join(" "), "1009 TOO_LARGE (a4,a5] 1");
}

#[tokio::test(start_paused = true)]
async fn so_does_one_that_speaks_the_binary_form() {
    let mut world = World::new();
    for bytes in [10, 2_000, 20] {
        world.hub.publish_data(&["user:a"], &data(bytes));
    }
    let mut cursor = "oldest".to_owned();
    let mut kinds = Vec::new();
    for _ in 0..2 {
        let mut socket = world.shake("push.v1.proto", "/v1/ws", &[], 1 << 20).await.unwrap();
        let connect = v1::Connect { user: "a".into(), cursor: cursor.clone(), ..v1::Connect::default() };
        let frame = ClientFrame { kind: Some(client_frame::Kind::Connect(connect)) };
        socket.stream.send(Message::binary(frame.encode_to_vec())).await.unwrap();
        loop {
            let Message::Binary(bytes) = socket.next().await else { panic!("a text") };
            if bytes.len() > 1_000 {
                break close(&mut socket, 1009).await;
            }
            let frame = PushEvent::decode(bytes).unwrap();
            frame.cursor.clone_into(&mut cursor);
            match frame.kind.unwrap() {
                Kind::Event(event) => kinds.push(event.id),
                Kind::Gap(gap) => kinds.push(format!("{} {:?}", gap.reason().as_str_name(), gap.count)),
                Kind::CaughtUp(_) => break,
                _ => {}
            }
        }
    }
    assert_eq!(kinds, ["e1", "GAP_REASON_TOO_LARGE Some(1)", "e3"]);
}

/// Nobody says which frame it was: the largest one is taken for it first.
#[tokio::test(start_paused = true)]
async fn should_it_close_again_the_next_one_follows() {
    let mut world = World::new();
    for bytes in [10, 1_500, 3_000, 20] {
        world.hub.publish_data(&["user:a"], &data(bytes));
    }
    let mut user = Limited::new(r#""user":"a","session":"s","#, 1_000);
    let mut visits = 1;
    while user.visit(&world).await {
        visits += 1;
        assert!(visits < 9, "{:?}", user.told);
    }
    assert_eq!(user.told.join(" "), "e1 1009 1009 TOO_LARGE (a1,a2] 1 TOO_LARGE (a2,a3] 1 e4");
}

#[tokio::test(start_paused = true)]
async fn nobody_else_misses_it() {
    let mut world = World::new();
    for bytes in [10, 2_000, 20] {
        world.hub.publish_data(&["user:a", "session:s", "user:b"], &data(bytes));
    }
    assert!(Limited::new(r#""user":"a","#, 1_000).visit(&world).await);
    for who in [r#""user":"b","#, r#""user":"a","session":"s","#, r#""session":"s","#] {
        let mut other = Limited::new(who, 9_000);
        assert!(!other.visit(&world).await);
        assert_eq!(other.told.join(" "), "e1 e2 e3", "{who}");
    }
    // An event stream has no limit to a frame.
    let text = world.stream("/v1/stream?user=a&cursor=oldest").await.until("push.caught_up").await;
    assert_eq!(Events::ids(&text), ["e1", "e2", "e3"]);
    let mut user = Limited::new(r#""user":"a","#, 9_000);
    assert!(!user.visit(&world).await);
    assert_eq!(
        user.told.join(" "),
        "e1 TOO_LARGE (a1,a2] 1 e3",
        "and this one misses it, whatever it takes now"
    );
    tokio::time::advance(Duration::from_secs(601)).await;
    world.hub.publish(&["user:a"]);
    let metrics = world.metrics();
    assert!(metrics.contains("push_too_large_readers 0"), "{metrics}");
}

#[tokio::test(start_paused = true)]
async fn a_reader_without_a_name_is_known_by_its_cursor_and_address() {
    let mut world = World::new();
    for bytes in [10, 2_000, 20] {
        world.hub.publish_data(&["all"], &data(bytes));
    }
    let mut user = Limited::new("", 1_000);
    assert!(user.visit(&world).await);
    assert!(!user.visit(&world).await);
    assert_eq!(user.told.join(" "), "e1 1009 TOO_LARGE (a1,a2] 1 e3");
    let mut other = Limited::new("", 9_000);
    assert!(!other.visit(&world).await);
    assert_eq!(other.told.join(" "), "e1 e2 e3", "from another cursor");
}

/// Frames are read at a rate, and a close frame lies behind the others: its user is gone before it would be its turn.
#[tokio::test(start_paused = true)]
async fn who_says_so_behind_much_else_and_leaves_is_heard() {
    let mut world = World::new();
    for bytes in [10, 2_000, 20] {
        world.hub.publish_data(&["user:a"], &data(bytes));
    }
    let mut socket = world.connected(r#"{"user":"a","cursor":"oldest"}"#).await;
    socket.until("\"e2\"").await;
    for number in 0..30 {
        socket.send(&format!(r#"{{"subscribe":{{"topics":["t{number}"]}}}}"#)).await;
    }
    let frame = CloseFrame { code: 1009.into(), reason: "message too big".into() };
    socket.stream.send(Message::Close(Some(frame))).await.unwrap();
    drop(socket);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut user = Limited::new(r#""user":"a","#, 9_000);
    assert!(!user.visit(&world).await);
    assert_eq!(user.told.join(" "), "e1 TOO_LARGE (a1,a2] 1 e3");
}

#[tokio::test(start_paused = true)]
async fn another_close_code_says_nothing_about_size() {
    let mut world = World::new();
    for bytes in [10, 2_000, 20] {
        world.hub.publish_data(&["user:a"], &data(bytes));
    }
    for code in [1000, 1001, 1002, 1011, 4000] {
        let mut socket = world.connected(r#"{"user":"a","cursor":"oldest"}"#).await;
        socket.until("\"e2\"").await;
        close(&mut socket, code).await;
        let mut user = Limited::new(r#""user":"a","#, 9_000);
        assert!(!user.visit(&world).await);
        assert_eq!(user.told.join(" "), "e1 e2 e3", "{code}");
    }
    assert!(world.metrics().contains("push_too_large_closes_total 0"));
}
