//! What is handed on when, and what a start begins with.

use std::sync::Mutex;

use galaxy_push_core::cursor::Cursor;

use super::super::bucket::{Bucket, Holds};
use super::super::tests::World;
use super::*;
use crate::nats::{ClaimBounds, HubId, Limits, Next, Settings};
use crate::{Committed, DedupBounds};

#[derive(Default)]
struct Base(Mutex<Option<Cursor>>);

impl Sink for Base {
    fn begin(&self, base: Cursor) {
        *self.0.lock().unwrap() = Some(base);
    }

    fn committed(&self, _: &[Committed]) {}

    fn damaged(&self, _: Cursor, _: Cursor) {}
}

/// The stream had five messages when it was looked at, and has none when it is read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_gone_before_a_start_comes_to_it_lies_before_its_base() {
    let Some(world) = World::begin().await else { return };
    let World { options, link, log, bucket, _broker } = world;
    let at_start = StreamView { last: 5, ..log.look().await.unwrap() };
    let (epoch, hub, base) = (at_start.epoch.unwrap(), HubId(7), Arc::new(Base::default()));
    let (dedup, claims, limits) = (DedupBounds::default(), ClaimBounds::default(), Limits::default());
    let door = Door::new(Settings { epoch, hub, first: at_start.first, dedup, claims, limits });
    let (shared, fence) =
        (Arc::new(Shared::default()), Arc::new(RegisterBucket::new(hub, bucket, link.clone(), &options)));
    let records = Bucket::open(&link, &options, Holds::Records).await.unwrap();
    let end = Cursor::end_of_message(epoch, 5);
    let (keeper, _jobs) = Keeper::start(link.clone(), records, &options, end, Vec::new());
    let (done, is_open) = oneshot::channel();
    let parts = Parts { sink: base.clone(), shared: shared.clone(), log, fence, keeper, link, options };
    let mut pump = Pump::new(door, parts, at_start, done);
    let may_read = |pump: &mut Pump| {
        let (drive, hands) = pump.hands();
        drive.may_read(&hands)
    };
    let is_stale = |pump: &mut Pump| {
        pump.looked = Instant::now() - TICK;
        pump.look_at_the_time();
        shared.is_stale.load(Ordering::Relaxed)
    };
    assert!(may_read(&mut pump) && !is_stale(&mut pump), "nobody has a stream here yet");
    pump.came(Event::Next(Next::AtEnd));
    assert!(!may_read(&mut pump), "standing records may have been among what is gone");
    pump.drive.records_read(1);
    pump.turn().unwrap();
    is_open.await.unwrap();
    assert_eq!(*base.0.lock().unwrap(), Some(Cursor::end_of_message(epoch, 5)));
    assert_eq!(shared.read.load(Ordering::Relaxed), 5);
    assert!(!may_read(&mut pump) && is_stale(&mut pump), "nothing is known of the fence");
}

/// The fault: the leader of a cluster says so when it applies what the others have, and store.
#[test]
fn what_a_leader_cannot_store_others_may_have_stored() {
    let says = |code: u64| {
        let said = format!(r#"{{"code":503,"err_code":{code},"description":"insufficient resources"}}"#);
        let error: jetstream::Error = serde_json::from_str(&said).unwrap();
        PublishError::with_source(PublishErrorKind::Other, error)
    };
    let refused = |code, is_replicated| surely_not(&says(code), is_replicated).is_some();
    for code in [10_023, 10_054, 10_109] {
        assert_eq!((refused(code, true), refused(code, false)), (false, true), "{code}");
    }
    assert!(refused(10_002, true), "it says so before it hands anything on");
    assert!(!refused(10_077, false), "storing has failed");
    let nobody = PublishError::new(PublishErrorKind::StreamNotFound);
    assert!(surely_not(&nobody, true).is_some());
}
