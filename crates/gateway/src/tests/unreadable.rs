//! Cursors that are none, from those who cannot drop them, and where a reader that reconnects by itself says its place.

use galaxy_push_core::cursor::{Cursor, Epoch, Seq};

use super::*;

/// What a browser or a polyfill sends when it reconnects, perhaps the id of another product at this URL: nobody reads a
/// refusal of it, and the next try would present the same.
#[tokio::test(start_paused = true)]
async fn garbage_that_a_browser_presents_by_itself_is_told_and_wedges_nobody() {
    let mut world = World::new();
    for _ in 0..2 {
        world.hub.publish(&["user:a"]);
    }
    let long = "x".repeat(2_000);
    for (header, query) in [
        ("garbage", ""),
        ("9 9", ""),
        ("caf\u{e9}", ""),
        ("urn:x:1", ""),
        ("<script>", ""),
        (long.as_str(), ""),
        ("2.AAAAAAAAAAAAAAAAAAAAAQ.b7", ""),
        ("", "lastEventId=%3A+%0Aid%3A+1"),
        ("", "lastEventId=41"),
        ("garbage", "cursor=oldest&lastEventId=oldest"),
        ("", "cursor=garbage&lastEventId=%2A"),
    ] {
        let request = http::Request::get(format!("/v1/stream?user=a&{query}"));
        let request =
            if header.is_empty() { request } else { request.header("last-event-id", header.as_bytes()) };
        let text = Events::of(world.ask(request).await).until("push.caught_up").await;
        if query != "lastEventId=41" {
            assert!(
                text.contains(r#""reason":"CURSOR_UNREADABLE","from":"","to":"#),
                "{header:?} {query}: {text}"
            );
            let welcome = text.split("\n\n").find(|block| block.contains("push.welcome")).unwrap();
            assert!(!welcome.lines().any(|line| line.starts_with("id")), "it keeps what it has: {text}");
        }
        assert!(text.contains(r#""outcome":"EPOCH_CHANGED""#), "{header:?} {query}: {text}");
        assert_eq!(Events::ids(&text), ["e1", "e2"], "{header:?} {query}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_polyfill_adds_to_the_url_beats_the_cursor_and_the_header_beats_both() {
    let mut world = World::new();
    for _ in 0..4 {
        world.hub.publish(&["user:a"]);
    }
    let at = |seq| Cursor { epoch: Epoch(1), seq: Seq(seq) }.to_string();
    for (header, query, expected) in [
        (None, format!("lastEventId={}", at(2)), &["e3", "e4"][..]),
        (None, format!("cursor={}&lastEventId={}", at(1), at(3)), &["e4"]),
        (None, format!("cursor=garbage&lastEventId={}", at(3)), &["e4"]),
        (None, format!("cursor={}&lastEventId=", at(1)), &["e2", "e3", "e4"]),
        (Some(at(3)), format!("cursor={}&lastEventId={}", at(1), at(2)), &["e4"]),
    ] {
        let request = http::Request::get(format!("/v1/stream?user=a&{query}"));
        let request = header.iter().fold(request, |request, id| request.header("last-event-id", id));
        let text = Events::of(world.ask(request).await).until("push.caught_up").await;
        assert_eq!(Events::ids(&text), expected, "{query}");
        assert!(text.contains(r#""outcome":"RESUMED""#), "{query}: {text}");
    }
}

/// The fault: over WebSocket the same value in the URL was refused, again at each try.
#[tokio::test(start_paused = true)]
async fn garbage_in_the_url_of_a_websocket_is_told_and_what_connect_says_is_refused() {
    let mut world = World::new();
    world.hub.publish(&["user:a"]);
    let open = async |query: &str, connect: &str| {
        let path = format!("/v1/ws?user=a&{query}");
        let mut socket = world.shake("push.v1.json", &path, &[], 1 << 16).await.unwrap();
        socket.send(&format!(r#"{{"connect":{connect}}}"#)).await;
        socket
    };
    for query in
        ["lastEventId=garbage", "lastEventId=garbage&cursor=oldest", "lastEventId=%2A&cursor=gar+bage"]
    {
        let text = open(query, "{}").await.until("caughtUp").await;
        assert!(text.contains(r#""reason":"CURSOR_UNREADABLE""#), "{query}: {text}");
        assert!(text.contains(r#""outcome":"EPOCH_CHANGED""#), "{query}: {text}");
        assert_eq!(Events::ids(&text), ["e1"], "{query}");
    }
    for (query, connect) in [
        ("lastEventId=garbage", r#"{"cursor":"garbage"}"#),
        ("lastEventId=oldest", r#"{"cursor":"gar bage"}"#),
        ("cursor=garbage", "{}"),
        ("lastEventId=&cursor=garbage", "{}"),
    ] {
        let (_, code, reason) = open(query, connect).await.closed().await;
        assert!(code == 4400 && reason.contains("CURSOR_MALFORMED"), "{query} {connect}: {code} {reason}");
    }
    let text = open("lastEventId=garbage", r#"{"cursor":"oldest"}"#).await.until("caughtUp").await;
    assert!(text.contains(r#""outcome":"FRESH""#), "what `connect` says counts: {text}");
}
