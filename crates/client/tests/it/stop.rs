//! A shutdown is immediate from every state.

use std::time::Duration;

use futures_util::future;
use galaxy_push_client::{
    Batch, BatchHandler, CursorStore, HandlerError, Item, PushClient, State, Status, StoreError,
};
use tokio::time::Instant;
use tonic::Code;

use crate::hub::{Dial, Hub, Notes, Step, at, caught_up, code, event, settle, until, welcome};

async fn stop_at_once(client: PushClient) -> Status {
    let before = Instant::now();
    let last = client.shutdown().await;
    assert_eq!(before.elapsed(), Duration::ZERO);
    assert_eq!(last.state, State::Stopped);
    last
}

async fn stopped_while(dial: Dial, reached: impl FnMut(&Status) -> bool) -> Status {
    let hub = Hub::new([dial]);
    let client = hub.client().start(Notes::default().handler()).unwrap();
    until(&client, reached).await;
    settle().await;
    stop_at_once(client).await
}

#[tokio::test(start_paused = true)]
async fn stops_while_dialing() {
    stopped_while(Dial::Hang, |status| status.counters.dials == 1).await;
}

#[tokio::test(start_paused = true)]
async fn stops_while_subscribing() {
    stopped_while(Dial::Serve(vec![Step::Ignore]), |status| status.attempt == 1).await;
}

#[tokio::test(start_paused = true)]
async fn stops_while_waiting_for_a_welcome() {
    stopped_while(Dial::Serve(vec![Step::Sleep(Duration::MAX)]), |status| status.attempt == 1).await;
}

#[tokio::test(start_paused = true)]
async fn stops_while_reading() {
    let steps = vec![welcome(&at(5)), caught_up(6), Step::Sleep(Duration::MAX)];
    let last =
        stopped_while(Dial::Serve(steps), |status| status.state == State::Live && status.cursor == at(6))
            .await;
    assert_eq!(last.cursor, at(6));
}

#[tokio::test(start_paused = true)]
async fn stops_while_backing_off() {
    stopped_while(Dial::Refused, |status| status.state == State::BackingOff).await;
}

#[tokio::test(start_paused = true)]
async fn stops_while_refused_or_conflicted() {
    stopped_while(Dial::Serve(vec![code(Code::Unauthenticated)]), |status| status.state == State::Refused)
        .await;
    stopped_while(Dial::Serve(vec![code(Code::Aborted)]), |status| status.state == State::Conflicted).await;
}

#[tokio::test(start_paused = true)]
async fn stops_on_a_frozen_link() {
    let steps = vec![welcome(&at(5)), Step::Freeze];
    stopped_while(Dial::Serve(steps), |status| status.cursor == at(5)).await;
}

#[tokio::test(start_paused = true)]
async fn stops_while_the_handler_works_and_keeps_what_it_had_finished() {
    let hub = Hub::new([Dial::Serve(vec![welcome(&at(5)), event(6), event(7), Step::Sleep(Duration::MAX)])]);
    let client = hub.client().start(|item: Item| async move {
        if item.cursor() == at(7) {
            future::pending::<()>().await;
        }
        Ok(())
    });
    let client = client.unwrap();
    settle().await;
    assert_eq!(stop_at_once(client).await.cursor, at(6));
}

#[tokio::test(start_paused = true)]
async fn stops_while_a_batch_is_half_done() {
    struct Half;
    impl BatchHandler for Half {
        async fn handle(&mut self, batch: &mut Batch) -> Result<(), HandlerError> {
            while batch.items().iter().any(|item| item.cursor() != at(7)) {
                batch.finish_one();
            }
            future::pending().await
        }
    }
    let hub = Hub::new([Dial::Serve(vec![welcome(&at(5)), event(6), event(7), Step::Sleep(Duration::MAX)])]);
    let client = hub.client().start_batches(Half).unwrap();
    settle().await;
    assert!([at(5), at(6)].contains(&stop_at_once(client).await.cursor), "how much one read brings is open");
}

#[tokio::test(start_paused = true)]
async fn stops_while_the_handler_keeps_failing() {
    let hub = Hub::new([Dial::Serve(vec![welcome(&at(5)), event(6), Step::Sleep(Duration::MAX)])]);
    let client = hub.client().start(|item: Item| {
        future::ready(if item.cursor() == at(6) { Err(HandlerError::msg("no")) } else { Ok(()) })
    });
    let client = client.unwrap();
    until(&client, |status| status.handler.as_ref().is_some_and(|trouble| trouble.failures > 3)).await;
    assert_eq!(stop_at_once(client).await.cursor, at(5));
}

/// A cursor store that answers nothing, or no saves.
struct Stuck {
    loads: bool,
}

impl CursorStore for Stuck {
    async fn load(&mut self) -> Result<Option<String>, StoreError> {
        if !self.loads {
            future::pending::<()>().await;
        }
        Ok(Some(at(5)))
    }

    async fn save(&mut self, _: &str) -> Result<(), StoreError> {
        future::pending().await
    }
}

#[tokio::test(start_paused = true)]
async fn stops_while_the_store_is_asked_where_to_start() {
    let client = Hub::new([]).client().cursor_store(Stuck { loads: false }).start(Notes::default().handler());
    let client = client.unwrap();
    settle().await;
    assert_eq!(stop_at_once(client).await.counters.dials, 0);
}

#[tokio::test(start_paused = true)]
async fn stops_while_it_waits_to_ask_again() {
    let client = Hub::new([]).client().cursor_store(Stuck { loads: false }).start(Notes::default().handler());
    let client = client.unwrap();
    until(&client, |status| status.state == State::BackingOff).await;
    settle().await;
    stop_at_once(client).await;
}

#[tokio::test(start_paused = true)]
async fn a_store_that_hangs_holds_up_the_stop_for_its_deadline_only() {
    let steps = vec![welcome(&at(5)), event(6), caught_up(6), Step::Sleep(Duration::MAX)];
    let hub = Hub::new([Dial::Serve(steps)]);
    let client = hub.client().cursor_store(Stuck { loads: true }).start(Notes::default().handler()).unwrap();
    until(&client, |status| status.cursor == at(6)).await;
    settle().await;
    let before = Instant::now();
    let last = client.shutdown().await;
    assert_eq!((last.state, last.cursor, last.stored), (State::Stopped, at(6), at(5)));
    assert_eq!(before.elapsed(), Duration::from_secs(5));
}

#[tokio::test(start_paused = true)]
async fn stops_while_at_most_once_waits_for_its_store() {
    let steps = vec![welcome(&at(5)), event(6), Step::Sleep(Duration::MAX)];
    let hub = Hub::new([Dial::Serve(steps)]);
    let builder = hub.client().cursor_store(Stuck { loads: true }).at_most_once();
    let client = builder.start(Notes::default().handler()).unwrap();
    until(&client, |status| status.counters.handled == 1).await;
    settle().await;
    assert_eq!(stop_at_once(client).await.cursor, at(5), "nothing is owed to a store that is ahead");
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_that_is_not_awaited_still_stops() {
    let hub = Hub::new([Dial::Hang]);
    let client = hub.client().start(Notes::default().handler()).unwrap();
    let mut status = client.status();
    let other = client.clone();
    drop(client.shutdown());
    status.wait_for(|status| status.state == State::Stopped).await.unwrap();
    stop_at_once(other).await;
}
