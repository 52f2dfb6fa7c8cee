//! Tests of what is handed on when. What brokers do is in the tests of the I/O half.

use std::sync::Mutex;

use galaxy_push_core::cursor::Epoch;

use super::*;
use crate::nats::{ClaimBounds, HubId, Limits, Settings};
use crate::{Committed, DedupBounds};

const EPOCH: Epoch = Epoch::with_holes(3);

/// Hands that have everything, and note what is told.
#[derive(Default)]
struct Hands {
    sink: Gaps,
    asked: u64,
    read: u64,
}

#[derive(Default)]
struct Gaps(Mutex<Vec<(Cursor, Cursor)>>);

impl Sink for Gaps {
    fn begin(&self, _: Cursor) {}

    fn committed(&self, _: &[Committed]) {}

    fn damaged(&self, from: Cursor, to: Cursor) {
        self.0.lock().unwrap().push((from, to));
    }
}

impl DriverIo<()> for Hands {
    fn sink(&self) -> &dyn Sink {
        &self.sink
    }

    fn fence_is_known(&self) -> bool {
        true
    }

    fn fence_was_known_within(&self, _: Duration) -> bool {
        true
    }

    fn keep(&mut self, _: &[Record]) {}

    fn read_records_again(&mut self) -> u64 {
        self.asked += 1;
        self.asked
    }

    fn is_connected(&self) -> bool {
        true
    }

    fn publish(&mut self, _: Sealed) -> Result<(), String> {
        Ok(())
    }

    fn answer(&mut self, (): (), _: Result<Vec<Appended>, Error>) {}

    fn has_read(&mut self, message: u64) {
        self.read = message;
    }
}

/// Of a stream that ended with this message when the hub began.
fn driver(last: u64) -> Driver<()> {
    let (dedup, claims, limits) = (DedupBounds::default(), ClaimBounds::default(), Limits::default());
    let door = Door::new(Settings { epoch: EPOCH, hub: HubId(1), first: 1, dedup, claims, limits });
    Driver::new(door, last, Duration::ZERO)
}

fn take(driver: &mut Driver<()>, next: Next, hands: &mut Hands) {
    driver.hold(next, hands, Duration::ZERO);
    driver.turn(hands, Duration::ZERO).unwrap();
}

fn end(message: u64) -> Cursor {
    Cursor::end_of_message(EPOCH, message)
}

/// The fault: a hub that had read everything and was cut off learned of a hole only once a message came behind it.
#[test]
fn a_hole_behind_which_nothing_comes_is_told_once_the_records_were_read_again() {
    let (mut driver, mut hands) = (driver(0), Hands::default());
    take(&mut driver, Next::AtEnd, &mut hands);
    assert!(!driver.is_opening());
    take(&mut driver, Next::Gone(7), &mut hands);
    assert!(driver.waits_for_records() && hands.sink.0.lock().unwrap().is_empty(), "they may be among them");
    driver.records_read(1);
    driver.turn(&mut hands, Duration::ZERO).unwrap();
    assert_eq!(*hands.sink.0.lock().unwrap(), [(end(0), end(7))]);
    assert_eq!((driver.door().last_read(), hands.read), (7, 7));
    take(&mut driver, Next::Gone(7), &mut hands);
    assert!(!driver.is_holding() && hands.asked == 1, "it says nothing new");
}

/// What goes while a start reads lies before its base.
#[test]
fn a_start_of_which_everything_is_gone_is_over() {
    let (mut driver, mut hands) = (driver(5), Hands::default());
    take(&mut driver, Next::Gone(5), &mut hands);
    driver.records_read(1);
    driver.turn(&mut hands, Duration::ZERO).unwrap();
    assert_eq!((driver.is_opening(), hands.read), (false, 5));
    assert!(hands.sink.0.lock().unwrap().is_empty());
}
