//! Who has which gateway id, across hubs: told in time, decided once, and known before what was missed of the log is handed on.

use galaxy_push_store::fence::ASKED_WITHIN;
use galaxy_push_store::nats::register::Beat;
use galaxy_push_store::{Fence, Holder};
use galaxy_push_testkit::broker::{Cluster, Way};
use tokio::time::Instant;

use super::cluster::{leader_of, on};
use super::*;

/// A takeover ends the older stream at another hub within this time.
const TOLD_WITHIN: Duration = Duration::from_secs(1);

fn fence(hub: &Hub) -> &dyn Fence {
    hub.store.fence().unwrap()
}

/// Takes an id as a hub does, until it can.
pub(super) async fn take(hub: &Hub, gateway: &str, instance: &str, attempt: u64) -> Holder {
    loop {
        let Ok(found) = fence(hub).read(gateway).await else { continue };
        let next = found.succeeded_by(instance, attempt, "peer", 1).unwrap();
        if fence(hub).swap(gateway, found.revision, next.clone()).await == Ok(true) {
            return next;
        }
    }
}

/// Asks for a stream at another hub until that says that it has it.
pub(super) async fn until_asked(hub: &Hub, of: &Hub) {
    of.window.change(|seen| seen.streams.push("i".to_owned()));
    let question = Question { gateway: "gw".into(), instance: "i".into(), pings: true };
    let answered = timeout(PATIENCE, async {
        while fence(hub).ask(fence(of).door(), question.clone()).await.is_none() {
            tokio::task::yield_now().await;
        }
    });
    answered.await.expect("it is answered");
}

/// It is when a beat comes back, and is not when none has come for a while.
async fn until_reached(hub: &Hub, is_so: bool) {
    let is_reached = async {
        while fence(hub).is_reached() != is_so {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, is_reached).await.unwrap_or_else(|_| panic!("it is not: {is_so}"));
}

fn is_told(seen: &Seen, gateway: &str, by: &Holder) -> bool {
    seen.happened.iter().any(|each| *each == Happened::Taken(gateway.to_owned(), Box::new(by.clone())))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keeps_what_every_fence_promises() {
    let Some(broker) = broker() else { return };
    let open = |sink| {
        let opening = NatsStore::open(options(&broker, "p"), sink);
        let opened = tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(opening));
        Ok(Arc::new(opened.unwrap()) as Arc<dyn Store>)
    };
    conformance::check_fence(open, TOLD_WITHIN).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hub_holds_what_it_took_until_another_takes_it() {
    let Some(broker) = broker() else { return };
    let (a, b) = (Hub::open(options(&broker, "p")).await, Hub::open(options(&broker, "p")).await);
    let of_a = take(&a, "gw", "i", 1).await;
    b.window.until("it is taken", |seen| is_told(seen, "gw", &of_a)).await;
    let probe = take(&b, "probe", "i", 1).await;
    a.window.until("b takes another one", |seen| is_told(seen, "probe", &probe)).await;
    assert_eq!(fence(&a).held("gw"), Some(of_a.clone()));
    assert_eq!(fence(&b).held("gw"), None);
    let of_b = take(&b, "gw", "j", 1).await;
    a.window.until("it is taken again", |seen| is_told(seen, "gw", &of_b)).await;
    assert_eq!(fence(&a).held("gw"), None);
    assert!(a.window.look(|seen| !is_told(seen, "gw", &of_a)), "its own hub knows");

    // A hub that starts later is told who has what, and numbers on behind everything.
    let late = Hub::open(options(&broker, "p")).await;
    assert!(late.window.look(|seen| is_told(seen, "gw", &of_b)));
    assert!(take(&late, "new", "i", 1).await.generation > of_b.generation);
}

/// A register that is gone from the bucket leaves its number used.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forgotten_register_is_taken_with_a_higher_generation() {
    let Some(broker) = broker() else { return };
    let a = Hub::open(options(&broker, "p")).await;
    let mut first = take(&a, "gw", "i", 1).await;
    for attempt in 2..5 {
        first = take(&a, "gw", "i", attempt).await;
    }
    let context = async_nats::jetstream::new(async_nats::connect(broker.url()).await.unwrap());
    let bucket = context.get_stream("KV_p-default-fence").await.unwrap();
    // A quarter of a second, against the day for which a register is kept.
    let is_said = async || {
        let beat = bucket.get_last_raw_message_by_subject("$KV.p-default-fence.hub.*").await.unwrap();
        Beat::read(&beat.payload).unwrap().highest >= first.generation
    };
    while !is_said().await {}
    bucket.purge().filter("$KV.p-default-fence.id.>").await.unwrap();
    // It reads nothing of the register, and knows from the other hub how far the numbers go.
    let b = Hub::open(options(&broker, "p")).await;
    let found = fence(&b).read("gw").await.unwrap();
    assert_eq!((found.revision, found.holder.instance.as_str()), (0, ""));
    let taken = take(&b, "gw", "j", 1).await;
    assert!(taken.generation > first.generation, "{} {}", taken.generation, first.generation);
    a.window.until("it is taken", |seen| is_told(seen, "gw", &taken)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_that_somebody_removed_is_made_again() {
    let Some(broker) = broker() else { return };
    let (a, b) = (Hub::open(options(&broker, "p")).await, Hub::open(options(&broker, "p")).await);
    let before = take(&a, "gw", "i", 1).await;
    let context = async_nats::jetstream::new(async_nats::connect(broker.url()).await.unwrap());
    context.delete_stream("KV_p-default-fence").await.unwrap();
    let taken = take(&b, "gw", "j", 1).await;
    assert!(taken.generation > before.generation);
    a.window.until("it is taken", |seen| is_told(seen, "gw", &taken)).await;
    a.publish("a").await;
    assert_eq!(b.window.look(|seen| seen.death.clone()), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_broker_is_away_the_fence_says_so_and_goes_on_with_it() {
    let Some(mut broker) = broker() else { return };
    let (a, b) = (Hub::open(options(&broker, "p")).await, Hub::open(options(&broker, "p")).await);
    let held = take(&a, "gw", "i", 1).await;
    b.window.until("it is taken", |seen| is_told(seen, "gw", &held)).await;
    until_reached(&a, true).await;
    for is_killed in [false, true] {
        if is_killed {
            broker.kill()
        } else {
            broker.pause().unwrap()
        }
        // It may have answered before it stopped.
        let (asked, refused) = loop {
            let asked = Instant::now();
            match fence(&a).read("gw").await {
                Ok(found) => assert_eq!(found.holder.instance, "i", "who has it is not forgotten"),
                Err(error) => break (asked, error),
            }
        };
        assert!(matches!(refused, Error::Refused(Refused::Unavailable(_))), "{refused:?}");
        let refused = fence(&a).swap("gw", 0, Holder::default()).await;
        assert!(refused.as_ref().is_err_and(is_passing), "{refused:?}");
        assert!(asked.elapsed() < Duration::from_secs(7), "{:?}", asked.elapsed());
        a.window.until("it is stale", |_| a.store.is_stale()).await;
        until_reached(&a, false).await;
        assert_eq!(fence(&a).held("gw"), Some(held.clone()), "it may come back");
        if is_killed {
            tokio::task::block_in_place(|| broker.restart()).unwrap();
        } else {
            broker.resume().unwrap();
        }
        let taken = take(&b, if is_killed { "killed" } else { "paused" }, "j", 1).await;
        let gateway = if is_killed { "killed" } else { "paused" };
        a.window.until("it goes on", |seen| is_told(seen, gateway, &taken)).await;
        a.publish(gateway).await;
        until_reached(&a, true).await;
        a.window.change(|seen| seen.notices.clear());
    }
}

/// What one hub misses while it has no broker, it reads of the fence first: the more there is of that, the longer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hub_that_was_cut_off_reads_the_fence_before_it_hands_on_what_it_missed() {
    let Some(broker) = broker() else { return };
    let way = Way::to(&broker).unwrap();
    let mut by_way = options(&broker, "p");
    by_way.servers = vec![way.url()];
    let (a, b) = (Hub::open(by_way).await, Hub::open(options(&broker, "p")).await);
    take(&a, "gw", "i", 1).await;
    // Few and many: what it missed may lie there before it knows that its connection is another one, or behind a thousand.
    for (round, others) in (1..).zip([0, 3, 0, 10, 0, 1_000, 0, 100, 0, 1_000, 0, 1_000]) {
        way.cut();
        a.window.until("it is cut off", |seen| seen.notices.contains(&Notice::Disconnected)).await;
        let ids: Vec<_> = (0..others).map(|n| format!("{round}-{n}")).collect();
        let others = stream::iter(&ids).map(|id| take(&b, id, "j", 1)).buffer_unordered(100);
        assert_eq!(others.count().await, ids.len());
        let taken = take(&b, "gw", "j", round).await;
        let event = format!("missed-{round}");
        b.publish(&event).await;
        way.mend();
        a.window.until("what it missed", |seen| seen.entries.iter().any(|each| id(each) == event)).await;
        let order = a.window.look(|seen| {
            seen.notices.clear();
            let of = |what: &Happened| seen.happened.iter().position(|each| each == what);
            (
                of(&Happened::Taken("gw".into(), Box::new(taken.clone()))),
                of(&Happened::Committed(event.clone())),
            )
        });
        assert!(order.0.is_some() && order.0 < order.1, "{order:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_takeover_is_told_within_a_second_under_load() {
    let Some(broker) = broker() else { return };
    let (a, b) = (Hub::open(options(&broker, "p")).await, Hub::open(options(&broker, "p")).await);
    let load = async {
        a.window.until("events are appended", |seen| seen.entries.len() > 2_000).await;
        let mut times = Vec::new();
        for attempt in 1..=20 {
            let taken = take(&b, "gw", "j", attempt).await;
            let at = Instant::now();
            a.window.until("it is taken", |seen| is_told(seen, "gw", &taken)).await;
            times.push(at.elapsed());
        }
        times.sort();
        times
    };
    // A busy machine makes some of them late.
    let (_, times) = tokio::join!(publish_all(&a, "e", 30_000), load);
    assert!(times[times.len() / 2] <= TOLD_WITHIN, "{times:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_leader_of_the_fence_is_killed_and_ids_are_taken_and_events_handed_on() {
    let Some(program) = broker::program() else { return };
    let mut cluster = tokio::task::block_in_place(|| Cluster::start(&program, &Settings::default())).unwrap();
    let (a, b) = (Hub::open(on(&cluster)).await, Hub::open(on(&cluster)).await);
    let before = take(&a, "gw", "i", 1).await;
    b.window.until("it is taken", |seen| is_told(seen, "gw", &before)).await;
    let led = leader_of(&cluster, "KV_galaxy-push-default-fence").await;
    cluster.named(&led).unwrap().kill();
    let killed = Instant::now();
    let taken = take(&b, "gw", "j", 1).await;
    assert!(taken.generation > before.generation);
    a.window.until("it is taken", |seen| is_told(seen, "gw", &taken)).await;
    a.publish("a").await;
    b.publish("b").await;
    a.window.until("events are handed on", |seen| seen.entries.len() == 2).await;
    assert!(killed.elapsed() < Duration::from_secs(30), "{:?}", killed.elapsed());
}

/// What its user may not do is told once, and everything else goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hub_that_may_not_ask_others_says_so_and_goes_on() {
    let Some(program) = broker::program() else { return };
    for denied in ["publish", "subscribe"] {
        let rights = format!(
            r#"authorization {{ users: [{{ user: hub, password: secret, permissions: {{ {denied}: {{ deny: "p.default.hub.>" }} }} }}] }}"#
        );
        let broker = Broker::start(&program, &Settings::default().more(&rights)).unwrap();
        let mut asked = options(&broker, "p");
        asked.servers = vec![broker.url().replace("nats://", "nats://hub:secret@")];
        let (a, b) = (Hub::open(asked.clone()).await, Hub::open(asked).await);
        let is_said =
            |notice: &Notice| matches!(notice, Notice::Unasked { subject } if subject == "p.default.hub.>");
        for hub in [&a, &b] {
            hub.window.until("it is said", |seen| seen.notices.iter().any(is_said)).await;
        }
        let taken = take(&b, "gw", "i", 1).await;
        a.window.until("it is taken", |seen| is_told(seen, "gw", &taken)).await;
        a.publish("a").await;
        let question = Question { gateway: "gw".into(), instance: "i".into(), pings: true };
        let at = Instant::now();
        assert_eq!(fence(&a).ask(fence(&b).door(), question).await, None);
        assert!(at.elapsed() < ASKED_WITHIN, "nobody waits for what cannot come");
        assert_eq!(a.window.look(|seen| seen.notices.iter().filter(|notice| is_said(notice)).count()), 1);
    }
}

/// After a connection is lost, it hears itself by the new one before it asks anybody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hubs_ask_each_other_again_once_they_reach_the_broker_again() {
    let Some(broker) = broker() else { return };
    let way = Way::to(&broker).unwrap();
    let mut by_way = options(&broker, "p");
    by_way.servers = vec![way.url()];
    let (a, b) = (Hub::open(by_way).await, Hub::open(options(&broker, "p")).await);
    until_asked(&a, &b).await;
    until_asked(&b, &a).await;
    way.cut();
    a.window.until("it is cut off", |seen| seen.notices.contains(&Notice::Disconnected)).await;
    let at = Instant::now();
    let question = Question { gateway: "gw".into(), instance: "i".into(), pings: false };
    assert_eq!(fence(&a).ask(fence(&b).door(), question).await, None);
    assert!(at.elapsed() < 2 * ASKED_WITHIN, "{:?}", at.elapsed());
    way.mend();
    until_asked(&a, &b).await;
    until_asked(&b, &a).await;
}

/// A hub that was killed is not waited for, for the broker says that nobody listens; nor is one whose beats have ceased, as where it was
/// stopped, for which the broker still has a listener.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_waits_for_a_hub_that_is_gone_or_stopped() {
    let Some(broker) = broker() else { return };
    let (a, b) = (Hub::open(options(&broker, "p")).await, Hub::open(options(&broker, "p")).await);
    until_asked(&a, &b).await;
    let client = async_nats::connect(broker.url()).await.unwrap();
    let stopped = client.subscribe(format!("p.default.hub.{:032x}.>", 77)).await.unwrap();
    client.flush().await.unwrap();
    let ask = async |hub: u128| {
        let question = Question { gateway: "gw".into(), instance: "i".into(), pings: false };
        let asked = Instant::now();
        assert_eq!(fence(&a).ask(hub, question).await, None);
        asked.elapsed()
    };
    assert!(ask(77).await < ASKED_WITHIN, "no beat of it was ever read");
    let context = async_nats::jetstream::new(client);
    for (hub, is_waited_for) in [(77, true), (78, false)] {
        let beat = Beat { number: 1, highest: 1 }.write();
        let key = format!("$KV.p-default-fence.hub.{hub:032x}");
        context.publish(key, beat.into()).await.unwrap().await.unwrap();
        // What was written before that is read before it, too.
        let gateway = hub.to_string();
        let taken = take(&b, &gateway, "i", 1).await;
        a.window.until("it is taken", |seen| is_told(seen, &gateway, &taken)).await;
        let waited = ask(hub).await;
        assert_eq!(waited >= ASKED_WITHIN, is_waited_for, "{hub}: {waited:?}");
    }
    drop(stopped);
}
