//! What becomes of a hub when its broker does not answer, or has another log.

use std::path::Path;
use std::process::Command;

use async_nats::jetstream;
use tokio::time::Instant;

use super::*;

/// The answers come within 5 s, with what a busy machine adds.
const ANSWERED_WITHIN: Duration = Duration::from_secs(8);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_hangs_refuses_publishes_and_the_hub_goes_on_by_itself() {
    let Some(broker) = broker() else { return };
    let hub = Hub::open(options(&broker, "p")).await;
    hub.appended(&["a"]).await;
    hub.window.until("it is fresh", |_| !hub.store.is_stale()).await;
    broker.pause().unwrap();
    let asked = Instant::now();
    let (sent, answers) = tokio::join!(hub.append(&["b"]), async {
        // More than may be under way: some were not even sent.
        let ids: Vec<_> = (0..100).map(|n| format!("c{n}")).collect();
        let each = ids.iter().map(|id| hub.store.append(batch(&[id])));
        futures_util::future::join_all(each).await
    });
    assert!(asked.elapsed() < ANSWERED_WITHIN, "{:?}", asked.elapsed());
    assert!(matches!(sent, Err(Error::Unknown(_))), "{sent:?}");
    assert!(answers.iter().all(|answer| answer.as_ref().is_err_and(is_passing)), "{answers:?}");
    let is_told = |seen: &Seen, notice| seen.notices.contains(notice);
    hub.window.until("it is stale", |seen| hub.store.is_stale() && is_told(seen, &Notice::Stale)).await;
    assert!(hub.store.head().await.is_err(), "how far the log goes, nobody knows");
    broker.resume().unwrap();
    let (again, _) = hub.publish("b").await;
    hub.window.until("it is over", |seen| !hub.store.is_stale() && is_told(seen, &Notice::Fresh)).await;
    let log = hub.window.log();
    assert_eq!(log.iter().filter(|(_, id)| id == "b").count(), 1, "{log:?}");
    assert!(log.contains(&(again.cursor.unwrap(), "b".to_owned())), "{log:?}");
    assert_eq!(hub.window.look(|seen| seen.death.clone()), None);
}

/// Makes the stream anew, as somebody would who restores it from a copy.
async fn make_anew(broker: &Broker, keep_epoch: bool) {
    let context = jetstream::new(async_nats::connect(broker.url()).await.unwrap());
    let mut config = context.get_stream("p-default").await.unwrap().cached_info().config.clone();
    if !keep_epoch {
        let epoch = galaxy_push_core::cursor::Epoch::with_holes(ambient().random_128()).to_string();
        config.metadata.insert("galaxy-push-epoch".to_owned(), epoch);
    }
    context.delete_stream("p-default").await.unwrap();
    context.create_stream(config).await.unwrap();
}

#[tokio::test]
async fn a_stream_of_another_epoch_ends_the_hub() {
    let Some(broker) = broker() else { return };
    let hub = Hub::open(options(&broker, "p")).await;
    hub.appended(&["a"]).await;
    make_anew(&broker, false).await;
    hub.window.until("it ends", |seen| seen.death.is_some()).await;
    let why = hub.window.look(|seen| seen.death.clone()).unwrap();
    assert!(why.contains("another log"), "{why}");
    let refused = hub.append(&["b"]).await;
    assert!(matches!(refused, Err(Error::Refused(Refused::Unavailable(_)))), "{refused:?}");
    assert!(hub.store.is_stale());
    let next = Hub::open(options(&broker, "p")).await;
    assert!(!next.appended(&["a"]).await[0].duplicate, "a new log");
}

#[tokio::test]
async fn a_stream_that_was_made_again_with_its_epoch_gets_another_one_before_the_hub_ends() {
    let Some(broker) = broker() else { return };
    let hub = Hub::open(options(&broker, "p")).await;
    hub.appended(&["a"]).await;
    make_anew(&broker, true).await;
    ends_and_begins_anew(&hub, &broker, "made again").await;
}

/// The disk of the broker is put back to a copy: the stream ends before what was read of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_was_put_back_gets_another_epoch_before_the_hub_ends() {
    let Some((broker, hub)) = put_back().await else { return };
    ends_and_begins_anew(&hub, &broker, "2 was read").await;
}

/// As long as it was before anybody has noticed: another message lies in the place of one that was read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_was_put_back_and_grows_gets_another_epoch_before_the_hub_ends() {
    let Some((broker, hub)) = put_back().await else { return };
    let context = jetstream::new(async_nats::connect(broker.url()).await.unwrap());
    let ack = context.publish("p.default.log", "another".into()).await.unwrap().await.unwrap();
    assert_eq!(ack.sequence, 2, "its position was given out");
    ends_and_begins_anew(&hub, &broker, "message 2 is another one").await;
}

async fn put_back() -> Option<(Broker, Hub)> {
    let mut broker = broker()?;
    let hub = Hub::open(options(&broker, "p")).await;
    hub.appended(&["a"]).await;
    let copy = tempfile::tempdir().unwrap();
    let copied = copy.path().join("store");
    broker.kill();
    copy_folder(&broker.store(), &copied);
    tokio::task::block_in_place(|| broker.restart()).unwrap();
    hub.publish("b").await;
    broker.kill();
    std::fs::remove_dir_all(broker.store()).unwrap();
    copy_folder(&copied, &broker.store());
    tokio::task::block_in_place(|| broker.restart()).unwrap();
    Some((broker, hub))
}

fn copy_folder(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-a").args([from, to]).status().unwrap().success());
}

/// No position names two payloads.
async fn ends_and_begins_anew(hub: &Hub, broker: &Broker, said: &str) {
    hub.window.until("it ends", |seen| seen.death.is_some()).await;
    let why = hub.window.look(|seen| seen.death.clone()).unwrap();
    assert!(why.contains(said), "{why}");
    let epoch = |hub: &Hub| hub.window.look(|seen| seen.base.unwrap().epoch);
    assert_ne!(epoch(&Hub::open(options(broker, "p")).await), epoch(hub));
}

/// Messages that are gone before a hub has read them are told as a gap, and what follows is there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_that_are_gone_are_told_as_a_gap() {
    let Some(broker) = broker() else { return };
    let hub = Hub::open(options(&broker, "p")).await;
    let mut told = Vec::new();
    for id in ["a", "b", "c"] {
        told.push(hub.appended(&[id]).await[0].cursor.unwrap());
    }
    let context = jetstream::new(async_nats::connect(broker.url()).await.unwrap());
    let stream = context.get_stream("p-default").await.unwrap();
    stream.delete_message(2).await.unwrap();
    let late = Hub::open(options(&broker, "p")).await;
    let (gaps, end) = late.window.look(|seen| (seen.gaps.clone(), seen.end));
    assert_eq!((gaps, end), (vec![(told[0], told[1])], Some(told[2])));
    assert!(!late.appended(&["b"]).await[0].duplicate, "nobody here knows it");
}

/// Nobody tells a hub that its consumers are gone: it makes others when nothing has come for a while.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn consumers_that_somebody_removed_are_made_again() {
    let Some(broker) = broker() else { return };
    let hub = Hub::open(options(&broker, "p")).await;
    hub.appended(&["a"]).await;
    let context = jetstream::new(async_nats::connect(broker.url()).await.unwrap());
    for name in ["p-default", "KV_p-default-fence"] {
        let stream = context.get_stream(name).await.unwrap();
        let consumers: Vec<_> = stream.consumer_names().map(Result::unwrap).collect().await;
        assert_eq!(consumers.len(), 1, "{consumers:?}");
        stream.delete_consumer(&consumers[0]).await.unwrap();
    }
    let (published, _) = timeout(PATIENCE, hub.publish("b")).await.expect("it goes on");
    hub.window.until("it is read", |seen| seen.end == published.cursor).await;
    assert_eq!(
        hub.window.look(|seen| (seen.entries.len(), seen.gaps.len(), seen.death.clone())),
        (2, 0, None)
    );
}
