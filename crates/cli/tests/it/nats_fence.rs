//! One stream per gateway id, whichever hub of a log on NATS it is at. Left out, and said, where there is no nats-server.

use std::time::Duration;

use galaxy_push_proto::v1::push_client::PushClient as Grpc;
use galaxy_push_proto::v1::push_event::Kind;
use galaxy_push_proto::v1::{GatewaySubscribeRequest, PushEvent};
use galaxy_push_proto::{Failure, Reason};
use galaxy_push_testkit::broker::{self, Broker, Settings, Way};
use tokio::time::{Instant, timeout};
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

use crate::world::{Folder, PATIENCE, Server};

/// An older stream at another hub ends within this time.
const ENDED_WITHIN: Duration = Duration::from_secs(1);

/// Nobody waits longer to hear that the brokers are away, on a machine that is busy with other things.
const REFUSED_WITHIN: Duration = Duration::from_secs(8);

fn serve(folder: &Folder, url: &str) -> Server {
    folder.serve(&["--store", "nats", "--nats-url", url])
}

async fn subscribe(hub: &Server, instance: &str, attempt: u64) -> Result<Streaming<PushEvent>, Status> {
    let channel = Channel::from_shared(hub.hub.clone()).unwrap().connect().await.unwrap();
    let request = GatewaySubscribeRequest {
        gateway_client_id: "gw".to_owned(),
        instance_id: instance.to_owned(),
        attempt,
        ..GatewaySubscribeRequest::default()
    };
    let mut stream = Grpc::new(channel).subscribe_push(request).await?.into_inner();
    let welcome = stream.message().await?.unwrap();
    assert!(matches!(welcome.kind, Some(Kind::Welcome(_))), "{welcome:?}");
    Ok(stream)
}

/// Subscribes until the hub lets it in, and counts its attempts.
async fn let_in(hub: &Server, instance: &str, attempt: &mut u64) -> Streaming<PushEvent> {
    let asked = Instant::now();
    loop {
        *attempt += 1;
        match subscribe(hub, instance, *attempt).await {
            Ok(stream) => return stream,
            Err(status) => {
                assert_eq!(status.code(), Code::Unavailable, "{status}");
                assert!(asked.elapsed() < PATIENCE, "{status}");
            }
        }
    }
}

/// How it ends, by whom.
async fn end(stream: &mut Streaming<PushEvent>) -> Failure {
    let ended = timeout(PATIENCE, async {
        loop {
            match stream.message().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("it ends without a word"),
                Err(status) => return Failure::of(&status),
            }
        }
    });
    ended.await.unwrap()
}

fn is_refused(answer: Result<Streaming<PushEvent>, Status>) {
    let status = answer.map(drop).unwrap_err();
    let failure = Failure::of(&status);
    assert_eq!((failure.code, failure.reason), (Code::Unavailable, Some(Reason::StoreUnavailable)));
    assert!(failure.retry_after.is_some(), "{failure}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_id_that_is_taken_at_another_hub_ends_the_older_stream() {
    let Some(program) = broker::program() else { return };
    let broker = Broker::start(&program, &Settings::default()).unwrap();
    let folder = Folder::new("nats-fence");
    let hubs = [serve(&folder, &broker.url()), serve(&folder, &broker.url())];
    let mut older = subscribe(&hubs[0], "a", 1).await.unwrap();
    let mut quickest = PATIENCE;
    for (attempt, hub) in [(1, 1), (2, 0), (3, 1), (4, 0)] {
        // Of two instances, and of one that goes from hub to hub.
        let instance = if attempt < 3 { "b" } else { "c" };
        let newer = subscribe(&hubs[hub], instance, attempt).await.unwrap();
        let taken = Instant::now();
        let replaced = end(&mut older).await;
        quickest = quickest.min(taken.elapsed());
        let same = attempt % 2 == 0;
        let reason = if same { Reason::StaleAttempt } else { Reason::Replaced };
        assert_eq!((replaced.code, replaced.reason), (Code::Aborted, Some(reason)), "{replaced}");
        assert!(same || replaced.metadata["instance"] == instance, "{replaced}");
        older = newer;
    }
    // A busy machine makes some of them late, and a hub that does not hear of it in time all of them.
    assert!(quickest < ENDED_WITHIN, "{quickest:?}");
    let late = subscribe(&hubs[1], "b", 1).await.map(drop).unwrap_err();
    assert_eq!(Failure::of(&late).reason, Some(Reason::StaleAttempt), "the other hub has seen a later one");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_brokers_are_away_only_the_holder_comes_back_to_its_hub() {
    let Some(program) = broker::program() else { return };
    let broker = Broker::start(&program, &Settings::default()).unwrap();
    let folder = Folder::new("nats-fence-away");
    let way = Way::to(&broker).unwrap();
    let (away, reached) = (serve(&folder, &way.url()), serve(&folder, &broker.url()));
    let mut holder = subscribe(&away, "a", 1).await.unwrap();
    way.cut();
    away.process.stderr.find("publishes are refused");
    let asked = Instant::now();
    is_refused(subscribe(&away, "b", 1).await);
    is_refused(subscribe(&away, "", 0).await);
    assert!(asked.elapsed() < REFUSED_WITHIN, "{:?}", asked.elapsed());
    // Nobody gave way to them: what ends the holder's stream is that it comes again.
    let mut back = subscribe(&away, "a", 2).await.unwrap();
    assert_eq!(end(&mut holder).await.reason, Some(Reason::StaleAttempt), "its own instance has come again");

    // The other hub reaches the brokers and knows nothing of that.
    let mut attempt = 0;
    let newer = let_in(&reached, "b", &mut attempt).await;
    drop(subscribe(&away, "a", 3).await.unwrap());
    let mut back_again = subscribe(&away, "a", 4).await.unwrap();
    assert_eq!(end(&mut back).await.reason, Some(Reason::StaleAttempt));
    way.mend();
    let replaced = end(&mut back_again).await;
    assert_eq!((replaced.reason, &*replaced.metadata["instance"]), (Some(Reason::Replaced), "b"));
    drop(newer);
    away.process.stderr.find("publishes are taken");
    let mut attempt = 4;
    let_in(&away, "a", &mut attempt).await;
}

/// Two processes with one gateway id, each of which comes to a hub of its own again and again. Returns the stream of the one that
/// has the id in the end, which is at the second hub; the next to come back is the fifth.
async fn fought_over(hubs: &[Server; 2]) -> Streaming<PushEvent> {
    let mut last: Option<Streaming<PushEvent>> = None;
    for attempt in 1..=3 {
        for (hub, instance) in hubs.iter().zip(["a", "b"]) {
            let newer = subscribe(hub, instance, attempt).await.unwrap();
            if let Some(mut older) = last.replace(newer) {
                assert_eq!(end(&mut older).await.reason, Some(Reason::Replaced));
            }
        }
    }
    last.unwrap()
}

/// Who is held off, by whom, for how long.
fn held_off(answer: Result<Streaming<PushEvent>, Status>) -> (String, Duration) {
    let failure = Failure::of(&answer.map(drop).unwrap_err());
    assert_eq!((failure.code, failure.reason), (Code::ResourceExhausted, Some(Reason::HeldOff)), "{failure}");
    (failure.metadata["instance"].clone(), failure.retry_after.unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_id_that_flaps_over_two_hubs_settles_as_at_one_hub() {
    let Some(program) = broker::program() else { return };
    let broker = Broker::start(&program, &Settings::default()).unwrap();
    let folder = Folder::new("nats-flap");
    let hubs = [serve(&folder, &broker.url()), serve(&folder, &broker.url())];
    let mut stays = fought_over(&hubs).await;
    let (rival, wait) = held_off(subscribe(&hubs[0], "a", 4).await);
    assert_eq!((rival.as_str(), wait.as_secs()), ("b", 60), "it has just come");
    // Longer than whoever has just come is alive without being asked.
    assert!(timeout(Duration::from_secs(3), end(&mut stays)).await.is_err(), "it stays");
    let mut quickest = PATIENCE;
    for (hub, instance) in [(0, "a"), (1, "a"), (0, "c"), (1, "c")] {
        let asked = Instant::now();
        let (rival, wait) = held_off(subscribe(&hubs[hub], instance, 5).await);
        assert_eq!(rival, "b");
        assert!((40..60).contains(&wait.as_secs()), "what is left of it, whichever hub says so: {wait:?}");
        quickest = quickest.min(asked.elapsed());
    }
    assert!(quickest < ENDED_WITHIN, "a stream that is alive answers at once: {quickest:?}");
    assert!(timeout(Duration::from_millis(500), end(&mut stays)).await.is_err(), "it stays");
    // Its own instance comes again, to the other hub, and that is no fight with itself.
    let _again = subscribe(&hubs[0], "b", 4).await.unwrap();
    assert_eq!(end(&mut stays).await.reason, Some(Reason::StaleAttempt));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_flapping_id_a_hub_that_is_stopped_or_gone_keeps_nobody_in() {
    let Some(program) = broker::program() else { return };
    for signal in ["STOP", "KILL"] {
        let broker = Broker::start(&program, &Settings::default()).unwrap();
        let folder = Folder::new(&format!("nats-flap-{signal}"));
        let hubs = [serve(&folder, &broker.url()), serve(&folder, &broker.url())];
        let _stays = fought_over(&hubs).await;
        hubs[1].process.signal(signal);
        let _newer = subscribe(&hubs[0], "a", 4).await.unwrap();
        if signal == "STOP" {
            hubs[1].process.signal("CONT");
        }
    }
}
