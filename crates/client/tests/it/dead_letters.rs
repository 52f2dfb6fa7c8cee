//! Items that keep failing are given up, one by one, and nothing behind them is held up for ever.

use std::future::{pending, ready};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use galaxy_push_client::{Batch, BatchHandler, BuildError, HandlerError, Item, RetryPolicy, State};
use tokio::time::Instant;

use crate::hub::{Dial, Hub, Notes, Step, at, caught_up, event, settle, until, welcome};

/// A hub that sends 6, 7 and 8.
fn hub() -> Hub {
    let frames = [welcome(&at(5)), event(6), event(7), event(8), caught_up(8), Step::Sleep(Duration::MAX)];
    Hub::new([Dial::Serve(frames.into())])
}

/// Takes dead letters, but the first `fails` times.
#[derive(Clone, Default)]
struct Letters(Arc<Mutex<(Vec<Letter>, u32)>>);

/// The cursor and the error.
type Letter = (String, String);

impl Letters {
    fn failing(fails: u32) -> Self {
        Self(Arc::new(Mutex::new((Vec::new(), fails))))
    }

    fn handler(&self) -> impl galaxy_push_client::DeadLetterHandler + use<> {
        let letters = self.clone();
        move |item: Item, error: HandlerError| {
            let mut letters = letters.0.lock().unwrap();
            if let Some(left) = letters.1.checked_sub(1) {
                letters.1 = left;
                return ready(Err(HandlerError::msg("the queue of dead letters is full")));
            }
            letters.0.push((item.cursor().to_owned(), error.to_string()));
            ready(Ok(()))
        }
    }

    fn taken(&self) -> Vec<Letter> {
        self.0.lock().unwrap().0.clone()
    }
}

/// Notes everything, and fails on 7.
fn hates_seven(notes: &Notes) -> impl galaxy_push_client::Handler + use<> {
    let notes = notes.clone();
    move |item: Item| {
        notes.note(&item);
        let hated = item.cursor() == at(7) && matches!(item, Item::Event(_));
        ready(if hated { Err(HandlerError::msg("not 7")) } else { Ok(()) })
    }
}

#[tokio::test(start_paused = true)]
async fn after_the_retries_the_dead_letter_takes_it_and_the_cursor_moves_on() {
    let (notes, letters) = (Notes::default(), Letters::default());
    let builder = hub().client().retry(RetryPolicy::times(2)).dead_letter(letters.handler());
    let before = Instant::now();
    let client = builder.start(hates_seven(&notes)).unwrap();
    let status = until(&client, |status| status.cursor == at(8) && status.state == State::Live).await;
    settle().await;
    assert_eq!(notes.text(), "Welcome 6 7 7 7 8 CaughtUp");
    assert_eq!(letters.taken(), [(at(7), "not 7".to_owned())]);
    assert!(before.elapsed() >= Duration::from_millis(400), "the calls are apart: 200 + 200 ms");
    assert_eq!(
        (status.handler, status.counters.dead_letters, status.counters.handler_failures),
        (None, 1, 3)
    );
}

#[tokio::test(start_paused = true)]
async fn a_dead_letter_that_fails_is_tried_again_and_shown() {
    let letters = Letters::failing(3);
    let builder = hub().client().retry(RetryPolicy::times(0)).dead_letter(letters.handler());
    let client = builder.start(hates_seven(&Notes::default())).unwrap();
    let failing = until(&client, |status| status.counters.dead_letter_failures == 2).await;
    let trouble = failing.handler.unwrap();
    assert_eq!(trouble.dead_letter_error.as_deref(), Some("the queue of dead letters is full"));
    assert_eq!((&*trouble.error, failing.cursor), ("not 7", at(6)), "it is not lost meanwhile");
    let status = until(&client, |status| status.cursor == at(8)).await;
    assert_eq!((status.counters.dead_letters, status.counters.dead_letter_failures), (1, 3));
    assert_eq!(letters.taken().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_panics_and_a_dead_letter_that_panics_are_failures() {
    let mut calls = 0;
    let builder =
        hub().client().retry(RetryPolicy::times(1)).dead_letter(move |_: Item, error: HandlerError| {
            calls += 1;
            assert!(calls > 1, "dead letters panic too");
            assert_eq!(error.to_string(), "the handler panicked: seven");
            ready(Ok(()))
        });
    let client = builder.start(|item: Item| {
        assert!(item.cursor() != at(7), "seven");
        ready(Ok(()))
    });
    let status = until(&client.unwrap(), |status| status.cursor == at(8)).await;
    assert_eq!((status.counters.dead_letters, status.counters.dead_letter_failures), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_hangs_is_given_up_after_its_deadline() {
    let letters = Letters::default();
    let builder = hub().client().retry(RetryPolicy::times(1)).dead_letter(letters.handler());
    let client = builder.handler_deadline(Duration::from_secs(30)).start(|item: Item| async move {
        if item.cursor() == at(7) {
            pending::<()>().await;
        }
        Ok(())
    });
    let client = client.unwrap();
    let busy = until(&client, |status| status.cursor == at(6) || status.handling_since.is_some()).await;
    assert!(busy.handling_since.is_some(), "a handler at work is seen");
    until(&client, |status| status.cursor == at(8)).await;
    assert_eq!(letters.taken(), [(at(7), "the handler was not done after 30s".to_owned())]);
    assert_eq!(client.counters().dials, 1);
}

#[tokio::test(start_paused = true)]
async fn of_a_failing_batch_only_the_item_at_fault_is_given_up() {
    struct HatesSeven(Arc<Mutex<Vec<String>>>);
    impl BatchHandler for HatesSeven {
        async fn handle(&mut self, batch: &mut Batch) -> Result<(), HandlerError> {
            match batch.items().iter().any(|item| matches!(item, Item::Event(_)) && item.cursor() == at(7)) {
                true => Err(HandlerError::msg("one of you")),
                false => {
                    self.0.lock().unwrap().extend(batch.items().iter().map(|item| item.cursor().to_owned()));
                    Ok(())
                }
            }
        }
    }
    let (handled, letters) = (Arc::default(), Letters::default());
    let builder = hub().client().retry(RetryPolicy::times(1)).dead_letter(letters.handler());
    let client = builder.start_batches(HatesSeven(Arc::clone(&handled))).unwrap();
    until(&client, |status| status.cursor == at(8) && status.state == State::Live).await;
    settle().await;
    assert_eq!(letters.taken(), [(at(7), "one of you".to_owned())]);
    assert_eq!(*handled.lock().unwrap(), [at(5), at(6), at(8), at(8)]);
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_while_a_dead_letter_is_taken_is_immediate() {
    let builder =
        hub().client().retry(RetryPolicy::times(0)).dead_letter(async |_: Item, _: HandlerError| {
            pending::<()>().await;
            Ok(())
        });
    let client = builder.start(hates_seven(&Notes::default())).unwrap();
    until(&client, |status| status.counters.handler_failures == 1).await;
    settle().await;
    let before = Instant::now();
    assert_eq!(client.shutdown().await.cursor, at(6));
    assert_eq!(before.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_limit_and_a_dead_letter_belong_together() {
    let start = |builder: galaxy_push_client::Builder| builder.start(Notes::default().handler()).unwrap_err();
    let limited = hub().client().retry(RetryPolicy::times(3));
    assert!(matches!(start(limited), BuildError::NoDeadLetter));
    let never = hub().client().dead_letter(Letters::default().handler());
    assert!(matches!(start(never), BuildError::NoRetryLimit));
}
