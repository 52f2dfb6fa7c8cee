//! A hub whose store cannot be reached says so to whoever reads, and to whoever asks how far the log goes.

use std::sync::atomic::Ordering;

use galaxy_push_proto::v1::publisher_client::PublisherClient;
use galaxy_push_proto::v1::push_event::Kind;
use galaxy_push_proto::v1::{HeadRequest, HeadResponse};
use galaxy_push_proto::{Failure, Reason, error};
use galaxy_push_store::Refused;
use tonic::Code;

use crate::stores::{cut_off, refusing};
use crate::world::{World, event, event_to};

async fn head(world: &World) -> HeadResponse {
    let mut client = PublisherClient::new(world.connection());
    client.head(HeadRequest::default()).await.unwrap().into_inner()
}

#[tokio::test(start_paused = true)]
async fn readers_are_told_that_the_log_may_have_gone_on_elsewhere() {
    let (world, cut) = cut_off();
    world.publish("a").await;
    let mut reading = world.read("gw", "oldest").await;
    reading.until("caught up @1").await;
    for is_cut in [false, true, false] {
        cut.store(is_cut, Ordering::Relaxed);
        let frame = reading.frame().await.unwrap().unwrap();
        let Some(Kind::Progress(progress)) = frame.kind else { panic!("{frame:?}") };
        assert_eq!((progress.stale, frame.cursor), (is_cut, world.at(1)));
        let told = head(&world).await;
        assert_eq!((told.stale, told.cursor), (is_cut, world.at(1)), "what this hub has");
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_is_sent_back_while_nobody_knows_how_far_the_log_goes() {
    let (world, cut) = cut_off();
    world.publish("a").await;
    cut.store(true, Ordering::Relaxed);
    let ahead = world.subscribe(crate::world::from("gw", &world.at(7))).await;
    assert_eq!(ahead.err().map(|status| status.code()), Some(Code::Unavailable), "not AHEAD");
    let refused = world.hub.publish(vec![event("b")]).await.unwrap_err();
    assert_eq!(refused.reason, Some(Reason::StoreUnavailable), "{refused}");
}

#[tokio::test(start_paused = true)]
async fn what_a_store_never_takes_is_told_as_such() {
    let world = refusing(Refused::TooLarge { bytes: 9, bytes_max: 7 });
    let Failure { code, reason, metadata, .. } =
        world.hub.publish(vec![event_to("a", "all")]).await.unwrap_err();
    assert_eq!((code, reason), (Code::InvalidArgument, Some(Reason::BatchTooLarge)));
    assert_eq!(metadata.get(error::BYTES_ALLOWED).map(String::as_str), Some("7"));
    let world = refusing(Refused::Unsupported("no such thing here".into()));
    let Failure { code, message, .. } = world.hub.publish(vec![event("a")]).await.unwrap_err();
    assert_eq!((code, message.as_str()), (Code::Unimplemented, "no such thing here"));
}
