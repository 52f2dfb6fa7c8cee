//! Who may stay on a connection, and who gives way when there is no place left.

use std::net::{IpAddr, Ipv6Addr};

use axum::middleware::from_fn;
use axum::routing::any;
use bytes::Bytes;
use futures_util::stream;
use http::StatusCode;
use http::request::Parts;
use tokio::time::{Instant, sleep};

use super::*;
use crate::{AnonymousSlots, ConnectionSlots, SlotCounts, SlotPolicy};

/// Pipes from addresses of one's own choice.
struct From(mpsc::Receiver<(DuplexStream, IpAddr)>);

impl Accept for From {
    type Io = DuplexStream;

    async fn accept(&mut self) -> io::Result<(DuplexStream, SocketAddr)> {
        match self.0.recv().await {
            Some((pipe, address)) => Ok((pipe, SocketAddr::from((address, 9)))),
            None => std::future::pending().await,
        }
    }
}

pub(super) struct Crowd {
    pipes: mpsc::Sender<(DuplexStream, IpAddr)>,
    pub(super) slots: ConnectionSlots,
    pub(super) drain: Drain,
}

/// `GET /authenticated` and `/short` show a credential, `/endless` is never answered, `/upgrade` goes on as something else, of
/// which nothing comes.
pub(super) fn crowd(connections: usize, policy: SlotPolicy) -> Crowd {
    let authenticated = |request: Request<Body>| async move {
        let whose = request.uri().query().map(Arc::from);
        match request.extensions().get::<ConnectionHandle>().unwrap().authenticate_as(whose.as_ref()) {
            Ok(()) => (StatusCode::OK, "known".to_owned()),
            Err(full) => (StatusCode::SERVICE_UNAVAILABLE, full.to_string()),
        }
    };
    let upgrade = |mut request: Request<Body>| async move {
        let connection = request.extensions().get::<ConnectionHandle>().unwrap().clone();
        let upgraded = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let _io = upgraded.await.unwrap();
            connection.must_close().await;
        });
        (StatusCode::SWITCHING_PROTOCOLS, [("connection", "upgrade"), ("upgrade", "other")])
    };
    let app = Router::new()
        .route("/known", get(authenticated))
        .route("/short", get(authenticated))
        .route("/upgrade", get(upgrade))
        .route("/livez", get(|| async { "ok" }))
        .route("/endless", get(std::future::pending::<()>))
        .route("/stream", any(|| async { Body::from_stream(stream::repeat(Ok::<_, Infallible>("more"))) }))
        .route("/large", get(|| async { vec![0; 1 << 20] }))
        .route("/take", any(|body: Bytes| async move { body.len().to_string() }))
        .layer(from_fn(|request, next: axum::middleware::Next| next.run(request)));
    let limits = Limits { connections, ..Limits::hub() };
    let slots = ConnectionSlots::new("test", &limits, policy);
    let ((pipes, incoming), drain) = (mpsc::channel(4), Drain::default());
    tokio::spawn(serve_at(From(incoming), None, app, limits, slots.clone(), drain.clone()));
    Crowd { pipes, slots, drain }
}

pub(super) fn anonymous(slots: usize, per_address: usize) -> SlotPolicy {
    SlotPolicy { anonymous: Some(AnonymousSlots { slots, per_address }), ..SlotPolicy::default() }
}

impl Crowd {
    pub(super) async fn connect(&self, address: impl Into<IpAddr>) -> DuplexStream {
        let (near, far) = tokio::io::duplex(1 << 16);
        self.pipes.send((far, address.into())).await.unwrap();
        sleep(Duration::from_millis(1)).await;
        near
    }
}

pub(super) async fn ask(io: &mut DuplexStream, path: &str) -> String {
    say(io, &format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n")).await
}

pub(super) async fn say(io: &mut DuplexStream, request: &str) -> String {
    if io.write_all(request.as_bytes()).await.is_err() {
        return String::new();
    }
    let mut answer = vec![0; 4096];
    let read = timeout(Duration::from_secs(20), io.read(&mut answer)).await;
    String::from_utf8_lossy(&answer[..read.map_or(0, |read| read.unwrap_or(0))]).into_owned()
}

/// After how many seconds it is closed.
pub(super) async fn closed_after(mut io: DuplexStream) -> u64 {
    let from = Instant::now();
    let mut rest = Vec::new();
    match timeout(Duration::from_secs(1_000), io.read_to_end(&mut rest)).await {
        Ok(_) => from.elapsed().as_secs(),
        Err(_) => u64::MAX,
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_never_served_ends_after_5_s_and_an_idle_one_after_75() {
    let crowd = crowd(10, SlotPolicy::default());
    let mut refused = crowd.connect([1, 1, 1, 1]).await;
    for _ in 0..3 {
        sleep(Duration::from_secs(4)).await;
        assert!(ask(&mut refused, "/nothing").await.starts_with("HTTP/1.1 404"));
    }
    let mut served = crowd.connect([1, 1, 1, 1]).await;
    assert!(ask(&mut served, "/livez").await.starts_with("HTTP/1.1 200"));
    assert!(ask(&mut served, "/nothing").await.starts_with("HTTP/1.1 404"));
    let mut busy = crowd.connect([1, 1, 1, 1]).await;
    busy.write_all(b"GET /endless HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let silent = crowd.connect([1, 1, 1, 1]).await;
    let (refused, served, busy, silent) =
        tokio::join!(closed_after(refused), closed_after(served), closed_after(busy), closed_after(silent));
    assert!((4..=6).contains(&refused) && (4..=6).contains(&silent), "{refused} {silent}");
    assert!((74..=77).contains(&served), "{served}");
    assert_eq!(busy, u64::MAX, "a request is under way");
    sleep(Duration::from_millis(1)).await;
    assert_eq!(
        crowd.slots.taken().authenticated,
        0,
        "places are given back, also by whoever left in the middle of a request"
    );
}

#[tokio::test(start_paused = true)]
async fn the_head_of_each_request_has_5_s_from_its_first_byte() {
    let crowd = crowd(10, SlotPolicy::default());
    let mut second = crowd.connect([1, 1, 1, 1]).await;
    assert!(ask(&mut second, "/livez").await.starts_with("HTTP/1.1 200"));
    sleep(Duration::from_secs(60)).await;
    second.write_all(b"GET /livez HT").await.unwrap();
    let mut together = crowd.connect([1, 1, 1, 1]).await;
    together.write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\nGET /livez HTTP/1.1\r\nHo").await.unwrap();
    let (second, together) = tokio::join!(closed_after(second), closed_after(together));
    assert!((4..=7).contains(&second) && (4..=7).contains(&together), "{second} {together}");
}

/// The fault: whoever opened enough connections locked everybody out for as long as they liked.
#[tokio::test(start_paused = true)]
async fn strangers_take_no_place_from_those_who_show_a_credential() {
    let crowd = crowd(2, anonymous(4, 100));
    let mut crowding = Vec::new();
    for number in 0..4 {
        let mut stranger = crowd.connect([9, 9, 9, number]).await;
        stranger.write_all(b"GET /endless HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        crowding.push(stranger);
    }
    let from = Instant::now();
    let mut publisher = crowd.connect([1, 1, 1, 1]).await;
    assert!(ask(&mut publisher, "/known").await.ends_with("known"));
    assert!(from.elapsed() <= Duration::from_millis(2_200), "nobody younger than 2 s: {:?}", from.elapsed());
    assert_eq!(crowd.slots.taken(), SlotCounts { authenticated: 1, anonymous: 3, reserved: 0 });
    let left = closed_after(crowding.remove(0)).await;
    assert_eq!(left, 0, "the one that has asked nothing for longest has gone");
    let mut another = crowd.connect([1, 1, 1, 1]).await;
    assert!(ask(&mut another, "/known").await.ends_with("known"));
    assert_eq!(crowd.slots.taken().authenticated, 2);
}

#[tokio::test(start_paused = true)]
async fn strangers_of_one_address_leave_room_for_those_of_others() {
    let proxies = crate::Proxies::new(["7.7.7.7/32".parse().unwrap()]);
    let crowd = crowd(10, SlotPolicy { proxies, ..anonymous(10, 2) });
    let mut of_one = Vec::new();
    for _ in 0..3 {
        of_one.push(crowd.connect([9, 9, 9, 9]).await);
    }
    assert_eq!(crowd.slots.taken().anonymous, 2);
    assert_eq!(closed_after(of_one.pop().unwrap()).await, 0, "both others are young");
    for _ in 0..4 {
        of_one.push(crowd.connect([7, 7, 7, 7]).await);
    }
    assert_eq!(crowd.slots.taken().anonymous, 6, "a proxy brings many");
    let mut publisher = crowd.connect([9, 9, 9, 8]).await;
    assert!(ask(&mut publisher, "/known").await.ends_with("known"));
    sleep(Duration::from_secs(2)).await;
    let mut late = crowd.connect([9, 9, 9, 9]).await;
    sleep(Duration::from_millis(100)).await;
    assert!(ask(&mut late, "/livez").await.starts_with("HTTP/1.1 200"), "one of its own gave way");
    // Known now, they count no more for their address.
    assert!(ask(&mut late, "/known").await.ends_with("known"));
    assert_eq!(crowd.slots.taken().authenticated, 2);
}

#[tokio::test(start_paused = true)]
async fn where_all_are_alike_whoever_asks_nothing_gives_way_and_probes_are_always_answered() {
    let always = |request: &Parts| crate::is_probe(request.uri.path());
    let crowd = crowd(2, SlotPolicy { reserved: 1, always: Some(always), ..SlotPolicy::default() });
    let mut busy = Vec::new();
    for _ in 0..2 {
        let mut user = crowd.connect([1, 1, 1, 1]).await;
        user.write_all(b"GET /endless HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        busy.push(user);
    }
    sleep(Duration::from_secs(10)).await;
    let mut probe = crowd.connect([1, 1, 1, 1]).await;
    assert!(ask(&mut probe, "/livez").await.starts_with("HTTP/1.1 200"));
    let no = ask(&mut probe, "/endless").await;
    assert!(no.starts_with("HTTP/1.1 503") && no.contains("retry-after: 1"), "{no}");
    assert!(no.contains("connection: close"), "{no}");
    assert_eq!(closed_after(probe).await, 0, "that place is for others");
    busy.pop();
    sleep(Duration::from_millis(10)).await;
    let mut idle = crowd.connect([1, 1, 1, 1]).await;
    assert!(ask(&mut idle, "/livez").await.starts_with("HTTP/1.1 200"));
    sleep(Duration::from_secs(3)).await;
    let mut newcomer = crowd.connect([1, 1, 1, 1]).await;
    newcomer.write_all(b"GET /endless HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    assert_eq!(closed_after(idle).await, 0, "it asks nothing");
    assert_eq!(closed_after(newcomer).await, u64::MAX);
}

/// The fault: sockets that went on as WebSocket and said nothing kept strangers' places, whoever came.
#[tokio::test(start_paused = true)]
async fn upgraded_strangers_that_say_nothing_give_way() {
    const UPGRADE: &str = "GET /upgrade HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: other\r\n\r\n";
    let crowd = crowd(2, SlotPolicy { reserved: 1, ..anonymous(4, 100) });
    let mut silent = Vec::new();
    for number in 0..5 {
        let mut stranger = crowd.connect([9, 9, 9, number]).await;
        assert!(say(&mut stranger, UPGRADE).await.starts_with("HTTP/1.1 101"));
        silent.push(stranger);
    }
    assert_eq!(crowd.slots.taken(), SlotCounts { authenticated: 0, anonymous: 4, reserved: 1 });
    assert!(closed_after(silent.pop().unwrap()).await <= 2, "that place is for others");
    let from = Instant::now();
    let mut publisher = crowd.connect([1, 1, 1, 1]).await;
    assert!(ask(&mut publisher, "/known").await.ends_with("known"));
    assert!(from.elapsed() <= Duration::from_millis(100), "{:?}", from.elapsed());
    assert_eq!(
        closed_after(silent.remove(0)).await,
        0,
        "the one that has asked nothing for longest has gone"
    );
}

/// The fault: it stayed a stranger, and was cut off in the middle of what it was sent when others came.
#[tokio::test(start_paused = true)]
async fn who_shows_a_credential_and_finds_no_place_is_told_so() {
    let always = |request: &Parts| request.uri.path() == "/short";
    let crowd = crowd(1, SlotPolicy { always: Some(always), ..anonymous(4, 100) });
    let mut first = crowd.connect([1, 1, 1, 1]).await;
    assert!(ask(&mut first, "/known").await.ends_with("known"));
    assert!(ask(&mut first, "/known").await.ends_with("known"), "it has one");
    let mut second = crowd.connect([1, 1, 1, 2]).await;
    let no = ask(&mut second, "/known").await;
    assert!(no.starts_with("HTTP/1.1 503") && no.contains("come back in a moment"), "{no}");
    assert!(ask(&mut second, "/short").await.ends_with("known"), "that needs no place");
    assert_eq!(crowd.slots.taken(), SlotCounts { authenticated: 1, anonymous: 1, reserved: 0 });
    drop(first);
    sleep(Duration::from_millis(10)).await;
    assert!(ask(&mut second, "/known").await.ends_with("known"));
    assert_eq!(crowd.slots.taken(), SlotCounts { authenticated: 1, anonymous: 0, reserved: 0 });
}

/// The fault: one of those who may come could take every place from the others.
#[tokio::test(start_paused = true)]
async fn none_of_the_known_has_more_places_than_it_leaves_free() {
    let crowd = crowd(6, anonymous(10, 100));
    let mut open = Vec::new();
    let mut come = async |name: &str| {
        let mut io = crowd.connect([1, 1, 1, 1]).await;
        let answer = ask(&mut io, &format!("/known?{name}")).await;
        open.push(io);
        answer
    };
    for _ in 0..3 {
        assert!(come("greedy").await.ends_with("known"));
    }
    let no = come("greedy").await;
    assert!(no.starts_with("HTTP/1.1 503") && no.contains("leave places to others"), "{no}");
    assert!(come("other").await.ends_with("known"));
    assert!(come("third").await.ends_with("known"));
    assert!(come("fourth").await.ends_with("known"), "the last is for who has none");
    assert!(come("fifth").await.contains("every place"));
    assert_eq!(crowd.slots.taken().authenticated, 6);
    open.clear();
    sleep(Duration::from_millis(10)).await;
    let mut io = crowd.connect([1, 1, 1, 1]).await;
    assert!(
        ask(&mut io, "/known?greedy").await.ends_with("known"),
        "its places are forgotten with its connections"
    );
}

/// The fault: it was refused with a status after which some never come back, and kept the place for 2 s.
#[tokio::test(start_paused = true)]
async fn the_app_refuses_in_words_of_its_own_on_a_kept_place() {
    let always = |request: &Parts| crate::is_probe(request.uri.path());
    let app_decides = |request: &Parts| request.uri.path() == "/known";
    let policy = SlotPolicy {
        reserved: 1,
        always: Some(always),
        app_decides: Some(app_decides),
        ..SlotPolicy::default()
    };
    let crowd = crowd(1, policy);
    let mut busy = crowd.connect([1, 1, 1, 1]).await;
    busy.write_all(b"GET /endless HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    sleep(Duration::from_secs(3)).await;
    let mut late = crowd.connect([1, 1, 1, 1]).await;
    let no = ask(&mut late, "/known").await;
    assert!(no.contains("or to another one"), "{no}");
    assert_eq!(closed_after(late).await, 0, "its place is for others");
    let mut late = crowd.connect([1, 1, 1, 1]).await;
    drop(busy);
    sleep(Duration::from_millis(10)).await;
    assert!(ask(&mut late, "/known").await.ends_with("known"), "there is a place by now");
    assert_eq!(crowd.slots.taken(), SlotCounts { authenticated: 1, anonymous: 0, reserved: 0 });
}

/// The fault: of its address only the network was looked at, which is no proxy.
#[tokio::test(start_paused = true)]
async fn an_ipv6_proxy_named_by_its_address_brings_many() {
    let proxies = crate::Proxies::new(["fd00::7/128".parse().unwrap()]);
    let crowd = crowd(10, SlotPolicy { proxies, ..anonymous(10, 1) });
    let at = |last| Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last);
    let mut open = Vec::new();
    for _ in 0..4 {
        open.push(crowd.connect(at(7)).await);
    }
    assert_eq!(crowd.slots.taken().anonymous, 4, "a proxy brings many");
    for last in [8, 9] {
        open.push(crowd.connect(at(last)).await);
    }
    assert_eq!(crowd.slots.taken().anonymous, 5, "its neighbours are one network of strangers");
}

#[tokio::test(start_paused = true)]
async fn that_there_is_no_place_is_nothing_to_sniff_at() {
    let always = |request: &Parts| crate::is_probe(request.uri.path());
    let crowd = crowd(1, SlotPolicy { reserved: 1, always: Some(always), ..SlotPolicy::default() });
    let mut busy = crowd.connect([1, 1, 1, 1]).await;
    busy.write_all(b"GET /endless HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    sleep(Duration::from_secs(3)).await;
    for kind in ["application/json", "application/grpc"] {
        let mut late = crowd.connect([1, 1, 1, 1]).await;
        let no = say(&mut late, &format!("GET /endless HTTP/1.1\r\nhost: x\r\ncontent-type: {kind}\r\n\r\n"))
            .await;
        assert!(no.contains("x-content-type-options: nosniff") && no.contains("every place"), "{kind}: {no}");
    }
}
