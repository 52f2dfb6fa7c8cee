//! Two real hubs that were meant to be one log and are two, and a real gateway with both of them in its list: what its
//! users and its operator are told.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use futures_util::StreamExt as _;
use galaxy_push_client::{Door, Publisher, State, Status};
use galaxy_push_core::ambient::Ambient;
use galaxy_push_gateway::{Access, Gateway};
use galaxy_push_hub::{Config, Hub};
use galaxy_push_listener::{Accept, Drain, Limits, probes, serve};
use galaxy_push_proto::v1::Event;
use http::Request;
use http_body_util::BodyExt as _;
use tokio::io::{DuplexStream, duplex};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::task::AbortOnDropHandle;
use tower::ServiceExt as _;

struct Pipes(mpsc::Receiver<DuplexStream>);

impl Accept for Pipes {
    type Io = DuplexStream;

    async fn accept(&mut self) -> io::Result<(DuplexStream, SocketAddr)> {
        match self.0.recv().await {
            Some(pipe) => Ok((pipe, ([10, 0, 0, 1], 9).into())),
            None => std::future::pending().await,
        }
    }
}

fn ambient(seed: u64) -> Ambient {
    let (began, random) = (Instant::now(), AtomicU64::new(seed));
    Ambient::new(
        move || 1_700_000_000_000 + began.elapsed().as_millis() as u64,
        move || random.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed),
    )
}

/// Hosts by name, each with the connections to it; one that is away accepts nothing.
#[derive(Clone, Default)]
struct Net(Arc<Mutex<BTreeMap<String, Reachable>>>);

struct Reachable {
    dial: mpsc::Sender<DuplexStream>,
    wires: Vec<AbortOnDropHandle<()>>,
}

/// A hub that can be cut off from everybody and come back as it was.
struct Host {
    name: &'static str,
    net: Net,
    hub: Hub,
    serving: Option<AbortOnDropHandle<()>>,
}

impl Host {
    fn new(name: &'static str, net: &Net, seed: u64) -> Self {
        let hub = Hub::in_memory(Config::default(), ambient(seed)).unwrap();
        let mut host = Self { name, net: net.clone(), hub, serving: None };
        host.comes_back();
        host
    }

    fn goes_away(&mut self) {
        self.net.0.lock().unwrap().remove(self.name);
        self.serving = None;
    }

    fn comes_back(&mut self) {
        self.serving = Some(self.listens_as(self.name));
    }

    fn listens_as(&self, name: &str) -> AbortOnDropHandle<()> {
        let (dial, dialed) = mpsc::channel(64);
        let router = self.hub.router();
        self.net.0.lock().unwrap().insert(name.to_owned(), Reachable { dial, wires: Vec::new() });
        AbortOnDropHandle::new(tokio::spawn(async move {
            serve(Pipes(dialed), router, Limits::hub(), Drain::default()).await;
        }))
    }

    async fn publish(&self, id: &str) {
        let (source, r#type) = ("/s".to_owned(), "t".to_owned());
        let to = vec!["all".to_owned()];
        let event = Event { id: id.to_owned(), to, source, r#type, ..Event::default() };
        self.hub.publish(vec![event]).await.unwrap();
    }

    fn epoch(&self) -> String {
        self.hub.head().cursor.epoch.to_string()
    }
}

impl Net {
    fn gateway(&self, id: &str, hubs: &str) -> Gateway {
        let mut config = galaxy_push_gateway::Config::new(hubs, id);
        config.access = Access::development();
        let connect = self.clone();
        let connect = move |host: String, _: u16| connect.clone().connect(host);
        Gateway::start(config, connect, ambient(7)).unwrap()
    }

    async fn connect(self, host: String) -> io::Result<DuplexStream> {
        let ((ours, mut near), (mut far, theirs)) = (duplex(64 << 10), duplex(64 << 10));
        let wire = tokio::spawn(async move {
            let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
        });
        let mut hosts = self.0.lock().unwrap();
        let host = hosts.get_mut(&host).ok_or(io::ErrorKind::ConnectionRefused)?;
        host.dial.try_send(theirs).map_err(|_| io::ErrorKind::ConnectionRefused)?;
        host.wires.push(AbortOnDropHandle::new(wire));
        Ok(ours)
    }
}

struct World {
    a: Host,
    b: Host,
    net: Net,
    gateway: Gateway,
}

impl World {
    /// Two hubs with logs of their own, and a gateway that follows A.
    async fn new() -> Self {
        let net = Net::default();
        let (a, b) = (Host::new("a", &net, 1), Host::new("b", &net, 1 << 40));
        let gateway = net.gateway("gateway", "http://a,http://b");
        let world = Self { a, b, net, gateway };
        world.until(|status| status.state == State::Live).await;
        world
    }

    fn status(&self) -> Status {
        self.gateway.upstream().unwrap().status().borrow().clone()
    }

    async fn until(&self, mut holds: impl FnMut(&Status) -> bool) -> Status {
        let mut status = self.gateway.upstream().unwrap().status();
        let found = timeout(Duration::from_secs(600), status.wait_for(|status| holds(status))).await;
        found.unwrap_or_else(|_| panic!("never came: {:?}", self.status())).unwrap().clone()
    }

    /// Waits until the gateway is live in this log, and everything of it has reached the users.
    async fn follows(&self, epoch: &str) {
        let live = |status: &Status| status.epoch.map(|e| e.to_string()).as_deref() == Some(epoch);
        self.until(|status| live(status) && status.state == State::Live).await;
        sleep(Duration::from_secs(1)).await;
    }

    async fn user(&self, query: &str) -> User {
        User::of(&self.gateway, query).await
    }

    async fn ready(&self) -> String {
        let probes = probes(self.gateway.health());
        let answer =
            probes.oneshot(Request::get("/readyz?verbose").body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(answer.status(), 200, "a split does not make it unready");
        String::from_utf8(answer.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
    }

    fn metrics(&self) -> String {
        let mut registry = prometheus_client::registry::Registry::default();
        self.gateway.register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        text
    }
}

struct User {
    body: BodyDataStream,
    text: String,
}

impl User {
    async fn of(gateway: &Gateway, query: &str) -> Self {
        let request =
            Request::get(format!("/v1/stream{query}")).header("host", "localhost").body(Body::empty());
        let answer = gateway.router().oneshot(request.unwrap()).await.unwrap();
        assert_eq!(answer.status(), 200, "{query}");
        let mut user = Self { body: answer.into_body().into_data_stream(), text: String::new() };
        sleep(Duration::from_millis(10)).await;
        user.read();
        user
    }

    /// What came since it was read last, in short; the last cursor is kept.
    fn read(&mut self) -> String {
        use futures_util::FutureExt as _;

        let mut text = String::new();
        while let Some(Some(Ok(piece))) = self.body.next().now_or_never() {
            text.push_str(std::str::from_utf8(&piece).unwrap());
        }
        self.text += &text;
        Self::brief(&text)
    }

    /// Ids of events, and `gap`.
    fn brief(text: &str) -> String {
        let blocks = text.split("\n\n").filter_map(|block| match block {
            _ if block.contains("event: push.gap") => Some("gap".to_owned()),
            _ if block.contains("event: t\n") => {
                Some(block.split("\"id\":\"").nth(1).unwrap().split('"').next().unwrap().to_owned())
            }
            _ => None,
        });
        blocks.collect::<Vec<_>>().join(" ")
    }

    fn cursor(&self) -> String {
        let cursor = self.text.lines().rev().find_map(|line| line.strip_prefix("id: "));
        cursor.unwrap().to_owned()
    }

    fn outcome(&self) -> &str {
        self.text.split("\"outcome\":\"").nth(1).unwrap().split('"').next().unwrap()
    }
}

#[tokio::test(start_paused = true)]
async fn a_gateway_led_to_another_log_and_back_repeats_nothing_and_hides_nothing() {
    let mut world = World::new().await;
    let (a, b) = (world.a.epoch(), world.b.epoch());
    let mut stays = world.user("").await;
    let mut leaves = world.user("").await;
    world.a.publish("a1").await;
    world.a.publish("a2").await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!((stays.read(), leaves.read()), ("a1 a2".into(), "a1 a2".into()));
    let of_a = leaves.cursor();

    world.a.goes_away();
    world.b.publish("b1").await;
    let lost_at = Instant::now();
    world.follows(&b).await;
    assert!((30..35).contains(&lost_at.elapsed().as_secs()), "it waited for A: {:?}", lost_at.elapsed());
    assert_eq!(stays.read(), "gap b1");
    // Nobody sees this one now, and that is told.
    world.a.comes_back();
    world.a.publish("a3").await;
    sleep(Duration::from_secs(60)).await;
    assert_eq!(stays.read(), "", "it does not flip back by itself");
    assert!(world.ready().await.contains("[-]one-log SPLIT: http://a holds"), "{}", world.ready().await);

    world.b.goes_away();
    world.follows(&a).await;
    assert_eq!(stays.read(), "gap a3", "what it had of A is not repeated");
    let mut again = world.user(&format!("?cursor={of_a}")).await;
    assert_eq!(again.outcome(), "EPOCH_CHANGED", "the position where A came back is the one it was left at");
    world.a.publish("a4").await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!((stays.read(), again.read()), ("a4".into(), "a4".into()));
    assert!(again.text.contains("event: push.gap") && again.text.contains("\"a3\""), "{}", again.text);
    let mut resumed = world.user(&format!("?cursor={}", again.cursor())).await;
    assert_eq!((resumed.outcome().to_owned(), resumed.read()), ("RESUMED".into(), String::new()));
}

/// A user who reads log A at a gateway with a door of its own, up to A3, while the gateway of the world is cut off from A
/// at A1 and goes to B, where there is B1.
async fn further_on() -> (World, User) {
    let mut world = World::new().await;
    let _door = world.a.listens_as("a-by-another-way");
    let other = world.net.gateway("other", "http://a-by-another-way");
    sleep(Duration::from_secs(5)).await;
    world.a.publish("a1").await;
    sleep(Duration::from_secs(1)).await;
    let mut user = User::of(&other, "?cursor=oldest").await;
    assert_eq!(User::brief(&user.text), "a1");
    world.a.goes_away();
    world.a.publish("a2").await;
    world.a.publish("a3").await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(user.read(), "a2 a3");
    world.b.publish("b1").await;
    world.follows(&world.b.epoch()).await;
    (world, user)
}

/// The fault: only how far the gateway came in a log was remembered, and who had more of it got that again.
#[tokio::test(start_paused = true)]
async fn a_user_from_a_gateway_that_was_further_on_gets_nothing_twice_when_a_log_returns() {
    let (mut world, user) = further_on().await;
    let mut moved = world.user(&format!("?cursor={}", user.cursor())).await;
    assert_eq!((moved.outcome(), &*User::brief(&moved.text)), ("RESUMED", "gap b1"));
    let from = format!("\"from\":\"{}\"", user.cursor());
    assert!(moved.text.contains(&from), "{}", moved.text);
    world.a.comes_back();
    world.a.publish("a4").await;
    world.b.goes_away();
    world.follows(&world.a.epoch()).await;
    assert_eq!(moved.read(), "gap a4", "a2 and a3 it has");
    world.a.publish("a5").await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(moved.read(), "a5");
}

/// The fault: only positions up to where the gateway itself had been counted as before the return.
#[tokio::test(start_paused = true)]
async fn a_user_from_a_gateway_that_was_further_on_is_told_when_a_log_returned() {
    let (mut world, user) = further_on().await;
    world.a.comes_back();
    world.b.goes_away();
    world.follows(&world.a.epoch()).await;
    world.a.publish("a4").await;
    sleep(Duration::from_secs(1)).await;
    let again = world.user(&format!("?cursor={}", user.cursor())).await;
    assert_eq!((again.outcome(), &*User::brief(&again.text)), ("EPOCH_CHANGED", "gap a4"));
    let resumed = world.user(&format!("?cursor={}", again.cursor())).await;
    assert_eq!((resumed.outcome(), &*User::brief(&resumed.text)), ("RESUMED", ""));
}

#[tokio::test(start_paused = true)]
async fn hubs_with_different_logs_are_told_loudly_and_a_hub_that_does_not_say_is_none() {
    let mut world = World::new().await;
    let (a, b) = (world.a.epoch(), world.b.epoch());
    let status = world.until(Status::is_split).await;
    let holds = |epoch: &str| Door::Holds(epoch.into());
    assert_eq!(status.doors, [holds(&a), holds(&b)]);
    let ready = world.ready().await;
    let expected = format!("[-]one-log SPLIT: http://a holds {a}, http://b holds {b}; followed: {a}.");
    assert!(ready.contains(&expected) && ready.ends_with("ok\n"), "{ready}");
    assert!(world.metrics().contains("push_client_split 1"), "{}", world.metrics());
    world.b.goes_away();
    world.until(|status| !status.is_split()).await;
    assert!(world.ready().await.contains("[+]one-log"), "{}", world.ready().await);
    assert!(world.metrics().contains("push_client_split 0"));
}

#[tokio::test(start_paused = true)]
async fn a_restarted_hub_is_followed_at_once_and_not_another_log() {
    let mut world = World::new().await;
    let mut user = world.user("").await;
    world.a.publish("a1").await;
    sleep(Duration::from_secs(1)).await;
    world.a.goes_away();
    world.a = Host::new("a", &world.net, 1 << 50);
    world.a.publish("new").await;
    world.b.publish("b1").await;
    let lost_at = Instant::now();
    world.follows(&world.a.epoch()).await;
    assert!(lost_at.elapsed() < Duration::from_secs(3), "{:?}", lost_at.elapsed());
    assert_eq!(user.read(), "a1 gap new");
}

#[tokio::test(start_paused = true)]
async fn a_hub_that_is_away_for_a_while_keeps_its_gateway() {
    let mut world = World::new().await;
    let mut user = world.user("").await;
    world.a.goes_away();
    sleep(Duration::from_secs(25)).await;
    world.b.publish("b1").await;
    assert!(world.status().last_error.unwrap().to_string().contains("no hub that answers holds the log"));
    world.a.comes_back();
    world.a.publish("a1").await;
    world.follows(&world.a.epoch()).await;
    assert_eq!(user.read(), "a1", "no gap, and nothing of B");
}

#[tokio::test(start_paused = true)]
async fn the_question_whether_a_position_exists_goes_to_the_log_that_is_followed() {
    let world = World::new().await;
    let followed = world.gateway.upstream().unwrap();
    for _ in 0..3 {
        assert_eq!(followed.head().await.unwrap().epoch, world.a.epoch());
    }
    let mut world = world;
    world.a.goes_away();
    followed.head().await.expect_err("B is alive, and knows nothing of this log");
    world.a.comes_back();
    assert_eq!(followed.head().await.unwrap().epoch, world.a.epoch());
}

#[tokio::test(start_paused = true)]
async fn a_retry_that_meets_another_log_says_so() {
    let net = Net::default();
    let (mut a, mut b) = (Host::new("a", &net, 1), Host::new("b", &net, 1 << 40));
    let connect = net.clone();
    let connect = move |host: String, _: u16| connect.clone().connect(host);
    let mut publisher = Publisher::builder().hub("http://a,http://b").connector(connect).build().unwrap();
    let event = |id: &str| {
        let (source, r#type) = ("/s".to_owned(), "t".to_owned());
        vec![Event { id: id.into(), to: vec!["all".into()], source, r#type, ..Event::default() }]
    };
    b.goes_away();
    let published = publisher.publish(event("1")).await.unwrap();
    assert!(!published[0].other_log, "an ordinary publish");
    b.comes_back();
    a.goes_away();
    // The connection to A breaks under it, with the request on it.
    let published = publisher.publish(event("2")).await.unwrap();
    assert!(published[0].cursor.contains(&b.epoch()) && published[0].other_log, "{published:?}");
    let published = publisher.publish(event("3")).await.unwrap();
    assert!(!published[0].other_log, "the one before it had its answer");
}
