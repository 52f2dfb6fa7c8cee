//! Who has which gateway id, across hubs: told in time, decided once, and known before what was missed of the log is handed on.

use galaxy_push_store::nats::register::Beat;
use galaxy_push_store::{Fence, Holder};
use tokio::time::Instant;

use super::*;

/// A takeover ends the older stream at another hub within this time.
const TOLD_WITHIN: Duration = Duration::from_secs(1);

fn fence(hub: &Hub) -> &dyn Fence {
    hub.store.fence().unwrap()
}

/// Takes an id as a hub does, until it can.
async fn take(hub: &Hub, gateway: &str, instance: &str, attempt: u64) -> Holder {
    loop {
        let Ok(found) = fence(hub).read(gateway).await else { continue };
        let next = found.holder.succeeded_by(instance, attempt, "peer", 1).unwrap();
        if fence(hub).swap(gateway, found.revision, next.clone()).await == Ok(true) {
            return next;
        }
    }
}

fn is_told(seen: &Seen, gateway: &str, by: &Holder) -> bool {
    seen.happened.iter().any(|each| *each == Happened::Taken(gateway.to_owned(), by.clone()))
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
    assert!(fence(&a).is_reached());
    for is_killed in [false, true] {
        if is_killed {
            broker.kill()
        } else {
            broker.pause().unwrap()
        }
        let asked = Instant::now();
        let refused = fence(&a).read("gw").await;
        assert!(matches!(refused, Err(Error::Refused(Refused::Unavailable(_)))), "{refused:?}");
        let refused = fence(&a).swap("gw", 0, Holder::default()).await;
        assert!(refused.as_ref().is_err_and(is_passing), "{refused:?}");
        assert!(asked.elapsed() < Duration::from_secs(7), "{:?}", asked.elapsed());
        a.window.until("it is stale", |seen| seen.notices.contains(&Notice::Stale)).await;
        assert!(!fence(&a).is_reached());
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
        assert!(fence(&a).is_reached());
        a.window.change(|seen| seen.notices.clear());
    }
}
