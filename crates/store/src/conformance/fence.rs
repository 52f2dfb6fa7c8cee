//! What the fence of a log that has several doors must do.

use std::collections::{BTreeMap, BTreeSet};
use std::future::{pending, ready};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt as _};
use galaxy_push_core::cursor::Cursor;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use crate::fence::{ASKED_WITHIN, PINGED_WITHIN, Question, Stream};
use crate::{Committed, Error, Fence, Holder, Sink, Store};

/// So often each of two doors takes an id while the other does, too.
const ROUNDS: u64 = 20;

/// How long anything may take that has no limit of its own.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a machine that is busy with other things may take beside what is promised.
const SLACK: Duration = Duration::from_secs(2);

/// What a door was told of who takes ids, and what it says of its streams.
struct Doorkeeper {
    told: Mutex<Vec<(String, Holder)>>,
    /// By their instance; none is there that never answers a ping.
    streams: Mutex<BTreeMap<String, Stream>>,
    bell: watch::Sender<()>,
}

impl Sink for Doorkeeper {
    fn begin(&self, _: Cursor) {}

    fn committed(&self, _: &[Committed]) {}

    fn damaged(&self, _: Cursor, _: Cursor) {}

    fn taken(&self, gateway: &str, by: &Holder) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.push((gateway.to_owned(), by.clone()));
        drop(told);
        self.bell.send_replace(());
    }

    fn asked(&self, question: &Question) -> BoxFuture<'static, Option<Stream>> {
        if question.instance == "silent" && question.pings {
            return pending().boxed();
        }
        let streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        let found = streams.get(&question.instance).filter(|_| question.gateway == "g");
        ready(found.map(|stream| Stream { is_alive: question.pings, ..*stream })).boxed()
    }
}

/// One hub's door, and what it was told.
struct Door {
    store: Arc<dyn Store>,
    keeper: Arc<Doorkeeper>,
}

impl Door {
    fn fence(&self) -> &dyn Fence {
        self.store.fence().expect("a log with several doors has a fence")
    }

    fn told(&self, gateway: &str) -> Vec<Holder> {
        let told = self.keeper.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.iter().filter(|(id, _)| id == gateway).map(|(_, by)| by.clone()).collect()
    }

    async fn until_told(&self, gateway: &str, by: &Holder) {
        let mut bell = self.keeper.bell.subscribe();
        let told = timeout(PATIENCE, async {
            while self.told(gateway).last() != Some(by) {
                bell.changed().await.expect("the door is open");
            }
        });
        told.await.unwrap_or_else(|_| panic!("a door is not told that {gateway} was taken by {by:?}"));
    }

    /// Takes an id as a hub does.
    async fn take(&self, gateway: &str, instance: &str, attempt: u64) -> Holder {
        loop {
            let found = self.fence().read(gateway).await.expect("it can be read");
            let next = found.succeeded_by(instance, attempt, "peer", 1).expect("it comes in time");
            if self.fence().swap(gateway, found.revision, next.clone()).await.expect("it can be written") {
                return next;
            }
        }
    }
}

/// Checks the fence of a log to which `make` opens one door after another. What is taken at one is told to the other `within` this time.
///
/// # Panics
///
/// With what is broken.
pub async fn check_fence<F>(make: F, within: Duration)
where
    F: Fn(Arc<dyn Sink>) -> Result<Arc<dyn Store>, Error>,
{
    let open = || {
        let (told, streams) = (Mutex::default(), Mutex::default());
        let keeper = Arc::new(Doorkeeper { told, streams, bell: watch::Sender::new(()) });
        Door { store: make(keeper.clone()).expect("it opens"), keeper }
    };
    let (a, b) = (open(), open());
    a_register_is_written_by_whoever_read_it_last(&a, &b, within).await;
    of_two_that_take_an_id_at_once_one_has_it(&a, &b).await;
    ids_have_nothing_to_do_with_each_other(&a, &b).await;
    what_is_amended_leaves_the_id_where_it_is(&a, &b).await;
    a_door_answers_for_its_own_streams(&a, &b).await;
    let gone = b.fence().door();
    drop(b);
    let asked = Instant::now();
    assert_eq!(a.fence().ask(gone, of("here", false)).await, None, "it is gone");
    assert!(asked.elapsed() < ASKED_WITHIN + SLACK);
}

fn of(instance: &str, pings: bool) -> Question {
    Question { gateway: "g".to_owned(), instance: instance.to_owned(), pings }
}

async fn a_register_is_written_by_whoever_read_it_last(a: &Door, b: &Door, within: Duration) {
    let before = a.fence().read("g").await.expect("it can be read");
    assert_eq!((before.revision, before.holder.instance.as_str()), (0, ""), "nobody has it");
    assert!(before.holder.attempts.is_empty());
    let next = |instance| before.succeeded_by(instance, 1, "peer", 1).expect("it comes in time");
    let taken = Instant::now();
    assert_eq!(a.fence().swap("g", 0, next("a")).await, Ok(true));
    b.until_told("g", &next("a")).await;
    assert!(taken.elapsed() <= within, "another door is told after {:?}", taken.elapsed());
    assert_eq!(b.fence().swap("g", 0, next("b")).await, Ok(false), "it has changed");
    let found = b.fence().read("g").await.expect("it can be read");
    assert!(found.revision > 0 && found.holder.generation >= next("a").generation);
    assert_eq!((found.holder.instance, found.holder.attempts), ("a".to_owned(), vec![("a".to_owned(), 1)]));
    let back = a.take("g", "a", 2).await;
    b.until_told("g", &back).await;
    assert!(b.told("g").windows(2).all(|pair| pair[0].generation < pair[1].generation), "in order");
}

async fn of_two_that_take_an_id_at_once_one_has_it(a: &Door, b: &Door) {
    let rounds = async |door: &Door, instance: &str| {
        let mut taken = Vec::new();
        for attempt in 1..=ROUNDS {
            taken.push(door.take("race", instance, attempt).await);
        }
        taken
    };
    let (of_a, of_b) = tokio::join!(rounds(a, "a"), rounds(b, "b"));
    let all: BTreeSet<u64> = of_a.iter().chain(&of_b).map(|holder| holder.generation).collect();
    assert_eq!(all.len() as u64, 2 * ROUNDS, "a generation is given out once");
    let last = of_a.iter().chain(&of_b).max_by_key(|holder| holder.generation);
    let found = b.fence().read("race").await.expect("it can be read").holder;
    let last = last.expect("there are rounds");
    assert_eq!(found.instance, last.instance);
    let mut attempts = found.attempts;
    attempts.sort();
    assert_eq!(attempts, [("a".to_owned(), ROUNDS), ("b".to_owned(), ROUNDS)], "nothing of either is lost");
    // What was taken in between may have been over before anybody was told.
    let other = if last.instance == "a" { b } else { a };
    other.until_told("race", last).await;
}

async fn ids_have_nothing_to_do_with_each_other(a: &Door, b: &Door) {
    let long = "x".repeat(255);
    let ids = ["g.1", "g.*", ">", "g 1", "ä", &long[..254], &long];
    for (attempt, id) in (1..).zip(ids) {
        let taken = a.take(id, id, attempt).await;
        b.until_told(id, &taken).await;
    }
    for (attempt, id) in (1..).zip(ids) {
        let holder = b.fence().read(id).await.expect("it can be read").holder;
        assert_eq!(holder.attempts, [(id.to_owned(), attempt)]);
    }
}

async fn what_is_amended_leaves_the_id_where_it_is(a: &Door, b: &Door) {
    let taken = a.take("flapping", "a", 1).await;
    b.until_told("flapping", &taken).await;
    let found = b.fence().read("flapping").await.expect("it can be read");
    assert_eq!(found.door, a.fence().door());
    assert_ne!(found.door, b.fence().door(), "no two doors are the same");
    let mut amended = found.clone();
    amended.holder.flap.hold_off(false, Duration::from_secs(1_700_000_000));
    assert_eq!(b.fence().amend("flapping", &amended).await, Ok(true));
    assert_eq!(b.fence().amend("flapping", &amended).await, Ok(false), "it has changed");
    for door in [a, b] {
        let read = door.fence().read("flapping").await.expect("it can be read");
        assert_eq!((read.door, &read.holder.flap), (found.door, &amended.holder.flap));
        assert_eq!(read.holder.generation, taken.generation, "nobody has taken it");
        assert_eq!(
            (&read.holder.instance, &read.holder.attempts),
            (&found.holder.instance, &found.holder.attempts)
        );
        assert!(read.revision > found.revision);
    }
    // Whoever takes it goes on from there, and the door that had it is told.
    let next = b.take("flapping", "b", 1).await;
    assert_eq!(next.flap, amended.holder.flap);
    a.until_told("flapping", &next).await;
}

async fn a_door_answers_for_its_own_streams(a: &Door, b: &Door) {
    let stream = Stream {
        is_alive: true,
        open_for: Duration::from_millis(1_234),
        attempt_for: Duration::from_millis(56_789),
    };
    for (door, instance) in [(a, "at-a"), (b, "here"), (b, "silent")] {
        let mut streams = door.keeper.streams.lock().unwrap_or_else(PoisonError::into_inner);
        streams.insert(instance.to_owned(), stream);
    }
    let ask = async |door: u128, instance, pings| {
        let asked = Instant::now();
        let answer = a.fence().ask(door, of(instance, pings)).await;
        let within = if pings { PINGED_WITHIN } else { ASKED_WITHIN };
        assert!(asked.elapsed() < within + SLACK, "{:?}", asked.elapsed());
        answer
    };
    let there = b.fence().door();
    // Right after a start nobody may have heard of the other yet.
    let heard = timeout(PATIENCE, async {
        while ask(there, "here", false).await.is_none() {
            sleep(Duration::from_millis(1)).await;
        }
    });
    heard.await.expect("one door hears the other");
    assert_eq!(ask(there, "here", true).await, Some(stream));
    assert_eq!(ask(there, "here", false).await, Some(Stream { is_alive: false, ..stream }), "that was said");
    assert_eq!(ask(there, "at-a", true).await, None, "it is at this one");
    assert_eq!(ask(there, "silent", true).await, None, "it takes too long");
    assert_eq!(ask(u128::MAX, "here", true).await, None, "there is no such door");
    let other = Question { gateway: "other".to_owned(), ..of("here", true) };
    assert_eq!(a.fence().ask(there, other).await, None);
    // Many at once, each with its own answer.
    let answers = (0..100).map(|n| ask(there, if n % 2 == 0 { "here" } else { "at-a" }, n % 3 == 0));
    for (n, answer) in futures_util::future::join_all(answers).await.into_iter().enumerate() {
        assert_eq!(answer.map(|stream| stream.is_alive), (n % 2 == 0).then_some(n % 3 == 0), "{n}");
    }
}
