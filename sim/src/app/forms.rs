//! The forms of a handler, as an application writes them.

use std::future::{Future, ready};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use galaxy_push_client::{Ack, Batch, BatchHandler, Delivery, HandlerError, Item, PushStream};
use galaxy_push_testkit::history::How;
use tokio::time::sleep;

use crate::journal::{Done, Journal};
use crate::rng::{Rng, now_us};
use crate::scenario::Handlers;

/// A client calls a handler again within this time, if that did not fail several times.
const AGAIN_WITHIN: Duration = Duration::from_secs(1);

/// What all calls of one process share.
#[derive(Debug)]
pub(super) struct Desk {
    plan: Handlers,
    /// From here on it fails seldom.
    calm_from: Duration,
    journal: Journal,
    rng: Rng,
    calls: u64,
}

pub(super) type Shared = Arc<Mutex<Desk>>;

/// What is done with a delivery.
enum Fate {
    Ack,
    Fail,
    Drop,
}

impl Desk {
    pub(super) fn new(plan: Handlers, calm_from: Duration, journal: Journal, rng: Rng) -> Self {
        Self { plan, calm_from, journal, rng, calls: 0 }
    }

    /// Something goes wrong now and then, or it would be slower than what is published, and never reach the head. With little in
    /// flight each time holds up all that follows: in the calm that is ten times rarer, so that it makes up for what it missed.
    fn is_unlucky(&mut self) -> bool {
        let is_calm = u128::from(now_us()) >= self.calm_from.as_micros();
        self.rng.percent(2) && (!is_calm || self.rng.percent(10))
    }

    /// Whether the handler fails on this item now.
    fn fails(&mut self, item: &Item) -> bool {
        let fails = self.is_unlucky() || self.is_poisonous(item);
        if fails {
            self.journal.pause(AGAIN_WITHIN);
        }
        fails
    }

    /// Some items can never be dealt with.
    fn is_poisonous(&self, item: &Item) -> bool {
        let number = item.cursor().bytes().fold(7_u64, |sum, byte| sum.wrapping_mul(31) + u64::from(byte));
        matches!(item, Item::Event(_)) && number % 1_000 < self.plan.poisonous_permille
    }

    /// Whether it fails on what it can never take; what lies behind that waits.
    fn chokes_on(&mut self, item: &Item) -> bool {
        let chokes = self.is_poisonous(item);
        if chokes {
            self.journal.pause(AGAIN_WITHIN);
        }
        chokes
    }

    fn dawdles(&mut self) -> Option<Duration> {
        let pause = self.rng.between(Duration::from_millis(1), Duration::from_millis(20));
        self.rng.percent(15).then_some(pause)
    }

    /// What becomes of a delivery, and after which pause.
    fn fate(&mut self, item: &Item) -> (Fate, Option<Duration>) {
        let fails = self.fails(item);
        let fate = if self.is_unlucky() {
            self.journal.pause(AGAIN_WITHIN);
            Fate::Drop
        } else if fails {
            Fate::Fail
        } else {
            Fate::Ack
        };
        let pause = self.rng.between(Duration::from_millis(1), Duration::from_millis(60));
        (fate, self.rng.percent(12).then_some(pause))
    }
}

fn locked(desk: &Shared) -> MutexGuard<'_, Desk> {
    desk.lock().unwrap_or_else(PoisonError::into_inner)
}

fn write(done: Done) {
    done.into_iter().for_each(|(recorder, what)| recorder.record(now_us(), what));
}

fn explained(error: &anyhow::Error) -> HandlerError {
    HandlerError::msg(format!("{error:#}"))
}

/// Items one by one.
pub(super) fn one_by_one(
    desk: Shared,
) -> impl FnMut(Item) -> std::pin::Pin<Box<dyn Future<Output = Result<(), HandlerError>> + Send>> + Send + 'static
{
    move |item| {
        let desk = desk.clone();
        Box::pin(async move {
            let (fails, pause) = {
                let mut desk = locked(&desk);
                let (fails, pause) = (desk.fails(&item), desk.dawdles());
                desk.journal.offer(std::slice::from_ref(&item)).map_err(|error| explained(&error))?;
                (fails, pause)
            };
            if let Some(pause) = pause {
                sleep(pause).await;
            }
            if fails {
                return Err(HandlerError::msg("not today"));
            }
            write(locked(&desk).journal.finish(&item, How::Success, None));
            Ok(())
        })
    }
}

/// Whatever one read brought, as a whole or piece by piece.
pub(super) struct Batches {
    desk: Shared,
}

impl Batches {
    pub(super) fn new(desk: Shared) -> Self {
        Self { desk }
    }
}

impl BatchHandler for Batches {
    async fn handle(&mut self, batch: &mut Batch) -> Result<(), HandlerError> {
        let items = batch.items().to_vec();
        let (call, piecewise, unlucky) = {
            let mut desk = locked(&self.desk);
            desk.journal.offer(&items).map_err(|error| explained(&error))?;
            desk.calls += 1;
            // As a whole it fails as often as one item, or large ones would never succeed.
            let unlucky = desk.is_unlucky();
            if unlucky {
                desk.journal.pause(AGAIN_WITHIN);
            }
            (Some(desk.calls), desk.plan.piecewise, unlucky)
        };
        for item in &items {
            let (fails, pause) = {
                let mut desk = locked(&self.desk);
                let fails = if piecewise { desk.fails(item) } else { unlucky || desk.chokes_on(item) };
                (fails, desk.dawdles())
            };
            if let Some(pause) = pause {
                sleep(pause).await;
            }
            if fails {
                return Err(HandlerError::msg("not today"));
            }
            if piecewise {
                write(locked(&self.desk).journal.finish(item, How::Success, call));
                batch.finish_one();
            }
        }
        if !piecewise {
            let mut desk = locked(&self.desk);
            items.iter().for_each(|item| write(desk.journal.finish(item, How::Success, call)));
        }
        Ok(())
    }
}

/// Takes what is given up, and fails on that, too, now and then.
pub(super) fn dead_letter(
    desk: Shared,
) -> impl FnMut(Item, HandlerError) -> std::future::Ready<Result<(), HandlerError>> + Send + 'static {
    use galaxy_push_testkit::history::Form;

    move |item, _| {
        let mut desk = locked(&desk);
        if desk.rng.percent(20) {
            desk.journal.pause(AGAIN_WITHIN);
            return ready(Err(HandlerError::msg("nobody takes it")));
        }
        write(match desk.plan.form {
            Form::Stream => desk.journal.outcome(&item, How::DeadLetter, None),
            Form::Items | Form::Batches => desk.journal.finish(&item, How::DeadLetter, None),
        });
        ready(Ok(()))
    }
}

/// Acks what comes out of a stream, each delivery by itself.
pub(super) async fn acks(mut stream: PushStream, desk: Shared) {
    while let Some(delivery) = stream.next().await {
        let written = take(delivery, &desk);
        // A frame that is none breaks a promise of its own: nothing is acked any more, and the reader is not live.
        if written.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

fn take(delivery: Delivery, desk: &Shared) -> anyhow::Result<()> {
    let first = delivery.failures() == 0;
    let (item, ack) = delivery.into_parts();
    let (fate, pause) = {
        let mut desk = locked(desk);
        if first {
            desk.journal.deliver(&item)?;
        }
        desk.fate(&item)
    };
    match pause {
        None => judge(item, ack, fate, desk),
        Some(pause) => {
            let desk = desk.clone();
            tokio::spawn(async move {
                sleep(pause).await;
                judge(item, ack, fate, &desk);
            });
        }
    }
    Ok(())
}

fn judge(item: Item, ack: Ack, fate: Fate, desk: &Shared) {
    match fate {
        Fate::Ack => {
            write(locked(desk).journal.outcome(&item, How::Success, None));
            ack.ack();
        }
        Fate::Fail => ack.fail(HandlerError::msg("not today")),
        // One that only says where the stream stands is acked by that.
        Fate::Drop => drop(ack),
    }
}
