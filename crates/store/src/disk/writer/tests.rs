//! Who has the turn at the engine.

use std::time::Duration;

use galaxy_push_core::cursor::{Cursor, Epoch};

use super::super::simulated::Disk;
use super::super::{Options, assemble};
use super::*;
use crate::Committed;

struct Nobody;

impl Sink for Nobody {
    fn begin(&self, _: Cursor) {}
    fn committed(&self, _: &[Committed]) {}
    fn damaged(&self, _: Cursor, _: Cursor) {}
}

/// Else the keeper, which takes the engine again as soon as it has let go of it, passes a syncer whose disk has nothing to do.
#[test]
fn whoever_waits_for_the_engine_has_it_next() {
    let disk = Arc::new(Disk::default());
    let (engine, segments, _) = assemble(disk, &Options::default(), Epoch(1), 7, Arc::new(Nobody)).unwrap();
    let keeper = Keeper::new(engine, segments, None, 0);
    let shared = &*keeper.shared;
    let engine = lock(&shared.engine);
    let is_next = thread::scope(|scope| {
        scope.spawn(|| drop(shared.engine()));
        // Only another thread can wait, and only its turn shows that it does.
        let is_next = (0..10_000).any(|_| {
            thread::park_timeout(Duration::from_millis(1));
            shared.turn.try_lock().is_err()
        });
        drop(engine);
        is_next
    });
    assert!(is_next, "who waits has the turn");
}
