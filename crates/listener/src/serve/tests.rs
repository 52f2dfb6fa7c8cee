//! Connections over in-memory pipes in paused time.

use std::io;

use axum::routing::get;
use tokio::io::DuplexStream;
use tokio::sync::mpsc;

use super::*;

mod frozen;
mod slots;
mod unread_responses;

/// Hands out pipes; the test holds the other ends.
struct MemoryListener(mpsc::Receiver<DuplexStream>);

impl Accept for MemoryListener {
    type Io = DuplexStream;

    async fn accept(&mut self) -> io::Result<(DuplexStream, SocketAddr)> {
        match self.0.recv().await {
            Some(pipe) => Ok((pipe, SocketAddr::from(([127, 0, 0, 1], 9)))),
            None => std::future::pending().await,
        }
    }
}

struct World {
    pipes: mpsc::Sender<DuplexStream>,
    drain: Drain,
    server: tokio::task::JoinHandle<()>,
}

fn start(app: Router) -> World {
    let (pipes, incoming) = mpsc::channel(4);
    let drain = Drain::default();
    let server = tokio::spawn(serve(MemoryListener(incoming), app, Limits::hub(), drain.clone()));
    World { pipes, drain, server }
}

impl World {
    async fn connect(&self) -> DuplexStream {
        let (near, far) = tokio::io::duplex(1 << 16);
        self.pipes.send(far).await.unwrap();
        near
    }
}

fn app() -> Router {
    let peer = |request: Request<Body>| async move { format!("{:?}", request.extensions().get::<Peer>()) };
    let abandoned = |request: Request<Body>| async move {
        let _given_up =
            request.extensions().get::<ConnectionHandle>().map(ConnectionHandle::abandon_response);
        std::future::pending::<()>().await;
    };
    let gave_up = |request: Request<Body>| async move {
        drop(request.extensions().get::<ConnectionHandle>().map(ConnectionHandle::abandon_response));
        "over"
    };
    Router::new()
        .route("/peer", get(peer))
        .route("/endless", get(std::future::pending::<()>))
        .route("/given-up", get(abandoned))
        .route("/gave-up", get(gave_up))
}

async fn closed(io: &mut DuplexStream) -> bool {
    let mut sink = Vec::new();
    timeout(Duration::from_secs(60), io.read_to_end(&mut sink)).await.is_ok()
}

#[tokio::test(start_paused = true)]
async fn a_request_carries_its_peer() {
    let world = start(app());
    let mut io = world.connect().await;
    io.write_all(b"GET /peer HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    io.read_to_string(&mut answer).await.unwrap();
    assert!(answer.ends_with("Some(Peer(127.0.0.1:9))"), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_never_finishes_a_request_head_is_closed() {
    for sent in [&b""[..], b"P", b"PRI * HTTP/2.0\r\n\r\n", b"GET /peer HTTP/1.1\r\nhost: a-very-long-name"] {
        let world = start(app());
        let mut io = world.connect().await;
        io.write_all(sent).await.unwrap();
        let from = tokio::time::Instant::now();
        assert!(closed(&mut io).await, "{sent:?}");
        assert!(from.elapsed() < Duration::from_secs(11), "{sent:?} after {:?}", from.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn an_unanswered_request_is_not_cut_by_the_head_deadline() {
    let world = start(app());
    let mut io = world.connect().await;
    io.write_all(b"GET /endless HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    assert!(!closed(&mut io).await);
}

/// A body without end, for a peer that does not read it.
async fn flood() -> Body {
    let chunk = bytes::Bytes::from_static(&[b'x'; 4096]);
    Body::from_stream(futures_util::stream::repeat_with(move || Ok::<_, Infallible>(chunk.clone())))
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_takes_nothing_is_dropped_where_that_is_asked_for() {
    for (limits, dropped) in [(Limits::edge(), true), (Limits::hub(), false)] {
        let (pipes, incoming) = mpsc::channel(4);
        let app = Router::new().route("/flood", get(flood));
        let server = tokio::spawn(serve(MemoryListener(incoming), app, limits, Drain::default()));
        let world = World { pipes, drain: Drain::default(), server };
        let mut io = world.connect().await;
        io.write_all(b"GET /flood HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
        tokio::time::sleep(Duration::from_secs(30)).await;
        // What lies in the pipe is still there to be read; then it ends, or goes on for ever.
        let mut read = 0;
        let mut buffer = vec![0; 1 << 16];
        let ended = loop {
            match io.read(&mut buffer).await {
                Ok(0) | Err(_) => break true,
                Ok(more) => read += more,
            }
            if read > 1 << 20 {
                break false;
            }
        };
        assert_eq!(ended, dropped, "{limits:?}");
    }
}

/// The fault: a peer whose app had given it up held a drain until its deadline.
#[tokio::test(start_paused = true)]
async fn a_drain_does_not_wait_for_who_is_given_up() {
    let world = start(app());
    let mut io = world.connect().await;
    io.write_all(b"GET /given-up HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    assert!(!closed(&mut io).await, "nobody drains");
    world.drain.draining.cancel();
    timeout(Duration::from_secs(1), world.server).await.unwrap().unwrap();
}

/// The fault: one answer that was given up, long over, and a drain cut off whatever its connection carried later.
#[tokio::test(start_paused = true)]
async fn a_drain_waits_for_what_comes_after_an_answer_that_was_given_up() {
    let mut world = start(app());
    let mut io = world.connect().await;
    io.write_all(b"GET /gave-up HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    while !answer.ends_with("over") {
        let byte = io.read_u8().await.unwrap();
        answer.push(byte.into());
    }
    io.write_all(b"GET /endless HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    sleep(Duration::from_millis(1)).await;
    world.drain.draining.cancel();
    assert!(timeout(Duration::from_secs(30), &mut world.server).await.is_err(), "a request is still open");
    world.drain.deadline.cancel();
    world.server.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_drain_waits_for_requests_until_its_deadline() {
    let mut world = start(app());
    let mut idle = world.connect().await;
    let mut busy = world.connect().await;
    busy.write_all(b"GET /endless HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    tokio::task::yield_now().await;
    world.drain.draining.cancel();
    assert!(closed(&mut idle).await);
    assert!(timeout(Duration::from_secs(30), &mut world.server).await.is_err(), "a request is still open");
    world.drain.deadline.cancel();
    timeout(Duration::from_secs(1), world.server).await.unwrap().unwrap();
    assert!(closed(&mut busy).await);
}

/// What a request with a head of about so many bytes is answered, over HTTP/1 and over HTTP/2.
async fn answers_to_a_head(limits: Limits, bytes: usize) -> (u16, u16) {
    let (pipes, incoming) = mpsc::channel(4);
    let server = tokio::spawn(serve(MemoryListener(incoming), app(), limits, Drain::default()));
    let world = World { pipes, drain: Drain::default(), server };
    let token = "x".repeat(bytes);
    let mut io = world.connect().await;
    let head =
        format!("GET /peer HTTP/1.1\r\nhost: x\r\nauthorization: {token}\r\nconnection: close\r\n\r\n");
    let (mut reading, mut writing) = tokio::io::split(&mut io);
    let mut answer = String::new();
    let (_, read) = tokio::join!(writing.write_all(head.as_bytes()), reading.read_to_string(&mut answer));
    let _ = read; // the end may be a reset
    let over_1 = answer.split(' ').nth(1).unwrap_or_default().parse().unwrap_or_default();
    let io = TokioIo::new(world.connect().await);
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    let request = Request::get("http://x/peer").header("authorization", token).body(Body::empty()).unwrap();
    let over_2 = sender.send_request(request).await.map_or(0, |answer| answer.status().as_u16());
    (over_1, over_2)
}

/// The fault: a token of 16 KiB, which proxies let through, did not fit into the head.
#[tokio::test(start_paused = true)]
async fn heads_of_users_may_have_32_kib_and_larger_ones_are_refused() {
    assert_eq!(answers_to_a_head(Limits::edge(), 31 << 10).await, (200, 200));
    assert_eq!(answers_to_a_head(Limits::edge(), 33 << 10).await, (431, 431));
    assert_eq!(answers_to_a_head(Limits::hub(), 15 << 10).await, (200, 200));
    assert_eq!(answers_to_a_head(Limits::hub(), 17 << 10).await, (431, 431));
    let (over_1, over_2) = answers_to_a_head(Limits::edge(), 1 << 20).await;
    assert!(over_1 == 431 && matches!(over_2, 0 | 431), "{over_1} {over_2}");
}

#[tokio::test(start_paused = true)]
async fn every_limit_may_be_as_long_as_can_be_written() {
    const MAX: Duration = Duration::MAX;
    let limits = Limits {
        header_read: MAX,
        idle: MAX,
        keepalive: MAX,
        keepalive_timeout: MAX,
        write_stall: Some(MAX),
        ..Limits::edge()
    };
    let (pipes, incoming) = mpsc::channel(4);
    let app = app().route("/flood", get(flood));
    let server = tokio::spawn(serve(MemoryListener(incoming), app, limits, Drain::default()));
    let world = World { pipes, drain: Drain::default(), server };
    let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    for active in [
        &b"G"[..],
        b"GET /peer HTTP/1.1\r\nhost: localhost\r\n\r\n",
        &[&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &settings].concat(),
    ] {
        let mut io = world.connect().await;
        io.write_all(active).await.unwrap();
        let waited =
            timeout(Duration::from_secs(600), async { while io.read(&mut [0; 64]).await.unwrap() > 0 {} });
        assert!(waited.await.is_err(), "nothing ends it: {}", String::from_utf8_lossy(active));
    }
    let mut stalled = world.connect().await;
    stalled.write_all(b"GET /flood HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    sleep(Duration::from_secs(600)).await;
    assert!(stalled.read(&mut [0; 64]).await.unwrap() > 0, "nor does taking nothing");
    assert!(!world.server.is_finished());
}

/// The fault: at the limit of descriptors, two lines for each connection that came and went.
#[tokio::test(start_paused = true)]
async fn that_connections_cannot_be_accepted_is_said_ever_less_often() {
    let mut failing = AcceptFailures::default();
    let mut said = 0;
    for _ in 0..20 {
        for _ in 0..3 {
            failing.fails(&io::Error::other("no file descriptor is left"));
        }
        said += u32::from(failing.was_said);
        failing.works();
        assert!(!failing.was_said && !failing.is_failing);
    }
    assert_eq!(said, 5, "the first, second, fourth, eighth and sixteenth time");
}
