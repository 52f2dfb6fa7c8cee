//! A model of who waits for whom at the table's lock (`cargo xtask threads`).

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::FutureExt as _;
use galaxy_push_core::ambient::Ambient;
use galaxy_push_core::cursor::{Epoch, StartFrom};
use galaxy_push_core::reader::{Reader, Settings};
use galaxy_push_listener::Clock;
use shuttle::thread;

use super::*;
use crate::schedules::explore;
use crate::state::connection::{Connection, Limits, Outgoing};
use crate::state::edge::{Change, Edge};
use crate::state::grants::{Grants, Identity};

/// The fault: a user that asks for nothing, or gives up what it never had, stopped everybody for a moment. If it needed the lock,
/// two threads would wait for each other here.
#[test]
fn what_changes_nothing_costs_no_lock() {
    explore(
        "gateway: no change",
        "a user that asks for what it has, or gives up what it has not, waits for no lock",
        || {
            let clock = Clock::start(Ambient::new(|| 0, || 0), Duration::ZERO);
            let edge = Edge::new(Bounds::default(), 16, clock, Arc::new(Counters::default()));
            edge.apply(&[Change::Begin(Cursor::start(Epoch(1)))]);
            let reader = edge.read(edge.clock.now(), |window| {
                Reader::open(window, StartFrom::Head, "", Settings::default())
            });
            let identity = Identity { grants: Grants::everything(), ..Identity::default() };
            let limits = Limits { topics: 8, turn_bytes: 1 << 10 };
            let asked = BTreeSet::from(["t".to_owned()]);
            let mut connection = Connection::open(edge.clone(), reader, identity, asked, limits).unwrap();
            assert_eq!(connection.next(&mut Vec::new()).now_or_never(), Some(Ok(())));

            let locked = edge.routes.write();
            let asking = thread::spawn(move || {
                let mut out = Vec::new();
                let changes: [&dyn Fn(&mut Connection); 4] = [
                    &|connection| connection.unsubscribe(&[]),
                    &|connection| connection.unsubscribe(&["never asked for".to_owned()]),
                    &|connection| connection.subscribe(&[]).unwrap(),
                    &|connection| connection.subscribe(&["t".to_owned()]).unwrap(),
                ];
                for change in changes {
                    change(&mut connection);
                    assert_eq!(connection.next(&mut out).now_or_never(), Some(Ok(())));
                }
                (connection, out)
            });
            thread::yield_now();
            let (connection, answers) = asking.join().unwrap();
            drop(locked);
            drop(connection);
            let is_right =
                |answer: &Outgoing| matches!(answer, Outgoing::Subscribed { topics, .. } if topics == &["t"]);
            assert!(answers.len() == 4 && answers.iter().all(is_right), "{answers:?}");
        },
    );
}
