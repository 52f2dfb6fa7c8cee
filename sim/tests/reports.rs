//! A real hub with two real readers: a gateway, and an application that dawdles. The hub's own figures tell which of the
//! two has handled what both were sent.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use galaxy_push_client::{HandlerError, Item, PushClient};
use galaxy_push_core::ambient::Ambient;
use galaxy_push_gateway::{Access, Gateway};
use galaxy_push_hub::{Config, Hub, Lag, StreamStatus};
use galaxy_push_listener::{Accept, Drain, Limits, serve};
use galaxy_push_proto::v1::Event;
use http::Request;
use http_body_util::BodyExt as _;
use tokio::io::{DuplexStream, duplex};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout};
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

fn ambient() -> Ambient {
    let (began, random) = (Instant::now(), AtomicU64::new(1));
    Ambient::new(
        move || 1_700_000_000_000 + began.elapsed().as_millis() as u64,
        move || random.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed),
    )
}

fn event(id: &str) -> Event {
    let (source, r#type) = ("/s".to_owned(), "t".to_owned());
    Event { id: id.to_owned(), to: vec!["all".to_owned()], source, r#type, ..Event::default() }
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let waiting = async {
        while !holds() {
            sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(Duration::from_secs(60), waiting).await.unwrap_or_else(|_| panic!("never: {what}"));
}

#[tokio::test(start_paused = true)]
async fn the_hub_sees_which_reader_has_handled_what_it_was_sent() {
    let hub = Hub::in_memory(Config::default(), ambient()).unwrap();
    let (dial, dialed) = mpsc::channel(8);
    tokio::spawn(serve(Pipes(dialed), hub.router(), Limits::hub(), Drain::default()));
    let connect = move |_: String, _: u16| {
        let dial = dial.clone();
        async move {
            let (ours, theirs) = duplex(64 << 10);
            dial.send(theirs).await.map_err(io::Error::other)?;
            Ok::<_, io::Error>(ours)
        }
    };
    let mut config = galaxy_push_gateway::Config::new("http://hub:7400", "gateway");
    config.access = Access::development();
    let gateway = Gateway::start(config, connect.clone(), ambient()).unwrap();
    let (busy, released) = watch::channel(true);
    let handler = move |item: Item| {
        let mut released = released.clone();
        async move {
            if matches!(item, Item::Event(_)) {
                released.wait_for(|busy| !busy).await?;
            }
            Ok::<_, HandlerError>(())
        }
    };
    let slow = PushClient::builder("slow").hub("http://hub:7400").connector(connect);
    let _slow = slow.report_every(Duration::from_secs(5)).start(handler).unwrap();
    let stream = |number: usize| -> Option<StreamStatus> { hub.status().streams.get(number).cloned() };
    let handled = |number| -> Option<Lag> { stream(number)?.handled_lag };
    until("both report", || handled(0).is_some() && handled(1).is_some()).await;

    let user = Request::get("/v1/stream?user=1").header("host", "localhost").body(axum::body::Body::empty());
    let user = gateway.router().oneshot(user.unwrap()).await.unwrap();
    tokio::spawn(user.into_body().collect()); // reads for as long as it lasts
    hub.publish(vec![event("a"), event("b"), event("c")]).await.unwrap();
    sleep(Duration::from_secs(20)).await;
    let (at_gateway, at_slow) = (stream(0).unwrap(), stream(1).unwrap());
    assert_eq!((&*at_gateway.gateway, at_gateway.lag.events), ("gateway", 0));
    assert_eq!(at_gateway.report.as_ref().unwrap().connections, 1);
    assert_eq!(handled(0).unwrap().events, 0);
    assert_eq!((&*at_slow.gateway, at_slow.lag.events), ("slow", 0), "it was sent everything");
    let behind = handled(1).unwrap();
    assert_eq!((behind.events, behind.age), (3, Duration::from_secs(20)), "and handled nothing");

    busy.send_replace(false);
    until("the slow one has caught up", || handled(1).unwrap().events == 0).await;
    assert_eq!(stream(1).unwrap().report.unwrap().handled, Some(hub.head().cursor));
}
