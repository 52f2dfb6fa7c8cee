//! What a crash costs: the table of docs/semantics.md, crash by crash.
//!
//! Each life of the process is a real client over real HTTP/2 in a runtime of its own, and a crash is the end of that
//! runtime in the middle of whatever it was doing: nothing is flushed, nothing is told.

use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use galaxy_push_client::{CursorStore, Item, StoreError};
use galaxy_push_core::cursor::Cursor;
use tokio::runtime;
use tokio::sync::Notify;

use crate::hub::{Dial, Hub, Step, at, caught_up, event, welcome};

/// How many crashes each mode goes through at each point.
const CRASHES: u32 = 2_500;

/// What the hub still holds of a log, in events.
const WINDOW: u64 = 12;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Mode {
    /// The cursor is stored after the handler, every so many calls.
    After(u32),
    /// The cursor is stored before the handler.
    Before,
    /// There is no store, and each life starts here.
    Memory(&'static str),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Point {
    BeforeHandler,
    InsideHandler,
    HandlerDone,
    CursorStored,
}

/// What outlives the processes.
#[derive(Default)]
struct Disk {
    cursor: Option<String>,
    /// Per event: how often the handler began with it, and how often its effect happened.
    events: BTreeMap<u64, (u32, u32)>,
    /// Events whose effect this life repeated.
    repeated: u32,
    /// The event at which this life ends. Once it has crashed nothing more happens in it.
    doomed: Option<u64>,
    crashed: bool,
}

impl Disk {
    fn effect(&mut self, seq: u64) {
        let effects = &mut self.events.entry(seq).or_default().1;
        self.repeated += u32::from(*effects > 0);
        *effects += 1;
    }
}

#[derive(Clone)]
struct Life {
    disk: Arc<Mutex<Disk>>,
    over: Arc<Notify>,
    mode: Mode,
    point: Point,
}

impl Life {
    /// Ends the life at this very `.await`.
    async fn crash(&self) -> ! {
        self.disk.lock().unwrap().crashed = true;
        self.over.notify_one();
        pending().await
    }

    fn crashed(&self) -> bool {
        self.disk.lock().unwrap().crashed
    }

    fn dies(&self, seq: u64, point: Point) -> bool {
        self.point == point && self.disk.lock().unwrap().doomed == Some(seq)
    }

    async fn handle(self, item: Item) {
        if self.crashed() {
            pending::<()>().await;
        }
        let Item::Event(frame) = item else { return };
        let seq = Cursor::parse(frame.cursor()).unwrap().seq.0;
        if self.dies(seq, Point::BeforeHandler) {
            self.crash().await;
        }
        self.disk.lock().unwrap().events.entry(seq).or_default().0 += 1;
        if self.dies(seq, Point::InsideHandler) {
            if seq.is_multiple_of(2) {
                self.disk.lock().unwrap().effect(seq);
            }
            self.crash().await;
        }
        self.disk.lock().unwrap().effect(seq);
        let stored_later = matches!(self.mode, Mode::After(_)) && self.point == Point::CursorStored;
        if (self.dies(seq, Point::HandlerDone) || self.dies(seq, Point::CursorStored)) && !stored_later {
            self.disk.lock().unwrap().crashed = true;
            self.over.notify_one();
        }
    }
}

impl CursorStore for Life {
    async fn load(&mut self) -> Result<Option<String>, StoreError> {
        Ok(self.disk.lock().unwrap().cursor.clone())
    }

    async fn save(&mut self, cursor: &str) -> Result<(), StoreError> {
        if self.crashed() {
            pending::<()>().await;
        }
        self.disk.lock().unwrap().cursor = Some(cursor.to_owned());
        let seq = Cursor::parse(cursor).unwrap().seq.0;
        let reached = self.disk.lock().unwrap().doomed.is_some_and(|doomed| seq >= doomed);
        if self.point == Point::CursorStored && matches!(self.mode, Mode::After(_)) && reached {
            self.crash().await;
        }
        Ok(())
    }
}

/// One life: the log is at `head` when it begins and at `last` when it ends.
fn live(disk: &Arc<Mutex<Disk>>, mode: Mode, point: Point, head: u64, last: u64, doomed: Option<u64>) {
    let runtime = runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let life = Life { disk: disk.clone(), over: Arc::default(), mode, point };
    let lives_on = doomed.is_none();
    {
        let mut disk = disk.lock().unwrap();
        (disk.doomed, disk.crashed, disk.repeated) = (doomed, false, 0);
    }
    runtime.block_on(async {
        let hub = Hub::new([Dial::Answer(Arc::new(move |cursor| answer(cursor, head, last)))]);
        let client = match mode {
            Mode::After(every) => hub
                .client()
                .cursor("oldest")
                .cursor_store(life.clone())
                .save_every(every, Duration::from_secs(1)),
            Mode::Before => hub.client().cursor("oldest").cursor_store(life.clone()).at_most_once(),
            Mode::Memory(start) => hub.client().cursor(start),
        };
        let handler = life.clone();
        let client = client.start(move |item: Item| {
            let life = handler.clone();
            async move {
                life.handle(item).await;
                Ok(())
            }
        });
        let client = client.unwrap();
        if lives_on {
            client.status().wait_for(|status| status.cursor == at(last)).await.unwrap();
            client.shutdown().await;
        } else {
            life.over.notified().await;
        }
    });
}

fn answer(cursor: &str, head: u64, last: u64) -> Vec<Step> {
    let oldest = head.saturating_sub(WINDOW);
    let from = match cursor {
        "" => head,
        "oldest" => oldest,
        cursor => Cursor::parse(cursor).unwrap().seq.0,
    };
    assert!(from >= oldest && from <= head, "the test itself must not let a cursor leave the window");
    // Many events in one DATA frame, so that one read brings them all: the store must not be late even then.
    let replay =
        joined([welcome(&at(from))].into_iter().chain((from + 1..=head).map(event)).chain([caught_up(head)]));
    vec![replay, joined((head + 1..=last).map(event)), Step::Sleep(Duration::MAX)]
}

fn joined(steps: impl Iterator<Item = Step>) -> Step {
    let bytes = steps.map(|step| if let Step::Send(bytes) = step { bytes } else { Vec::new() });
    Step::Send(bytes.collect::<Vec<_>>().concat())
}

/// What all the crashes of one mode at one point have cost.
#[derive(Debug, Default, PartialEq)]
struct Cost {
    /// Events at which a life ended and whose effect never happened.
    lost: u32,
    /// Other events whose effect never happened.
    missed: u32,
    /// Events whose effect happened more than once.
    repeated: u32,
    /// The most effects that one crash repeated.
    repeated_at_once: u32,
    /// Events at which a life ended and with which a handler began again.
    begun_again: u32,
}

fn crash_often(mode: Mode, point: Point) -> Cost {
    let disk = Arc::new(Mutex::new(Disk::default()));
    let (mut cost, mut head, mut ends) = (Cost::default(), 0, BTreeSet::new());
    for number in 0..CRASHES {
        // A little is published while nobody lives, more while somebody does, and any of that may be the end.
        head += u64::from(number % 2);
        let last = head + 1 + u64::from(number % 4);
        let end = head + 1 + u64::from(number / 4) % (last - head);
        live(&disk, mode, point, head, last, Some(end));
        cost.repeated_at_once = cost.repeated_at_once.max(disk.lock().unwrap().repeated);
        ends.insert(end);
        head = last;
    }
    live(&disk, mode, point, head, head + 1, None);
    let disk = disk.lock().unwrap();
    cost.repeated_at_once = cost.repeated_at_once.max(disk.repeated);
    for seq in 1..=head + 1 {
        let (begun, effects) = disk.events.get(&seq).copied().unwrap_or_default();
        match ends.contains(&seq) {
            true => {
                cost.lost += u32::from(effects == 0);
                cost.begun_again += u32::from(begun > 1);
            }
            false => cost.missed += u32::from(effects == 0),
        }
        cost.repeated += u32::from(effects > 1);
    }
    cost
}

/// The cost of the crashes at each point: before the handler, inside, after it, after the save.
fn table(mode: Mode) -> [Cost; 4] {
    let points = [Point::BeforeHandler, Point::InsideHandler, Point::HandlerDone, Point::CursorStored];
    points.map(|point| crash_often(mode, point))
}

#[test]
fn a_cursor_stored_after_the_handler_loses_nothing_and_repeats_one_call() {
    let [before, inside, done, stored] = table(Mode::After(1));
    assert_eq!(before, Cost::default(), "handled once, after the restart");
    assert_eq!((inside.lost, inside.missed, inside.begun_again), (0, 0, CRASHES), "handled again");
    assert!(inside.repeated > 0, "where the effect had happened before the crash");
    assert_eq!((done.lost, done.missed, done.repeated), (0, 0, CRASHES), "handled twice");
    assert_eq!((inside.repeated_at_once, done.repeated_at_once), (1, 1), "one call at most");
    assert_eq!(stored, Cost::default(), "once");
}

#[test]
fn a_cursor_stored_every_third_call_repeats_three_calls_at_most() {
    let table = table(Mode::After(3));
    assert!(table.iter().all(|cost| (cost.lost, cost.missed) == (0, 0)), "nothing is lost");
    assert!(table.iter().all(|cost| cost.repeated_at_once <= 3));
    assert_eq!(table[2].repeated_at_once, 3, "and the bound is met");
    assert!(table[2].repeated >= CRASHES);
    assert_eq!(table[3], Cost::default(), "once");
}

#[test]
fn a_cursor_stored_before_the_handler_repeats_nothing_and_loses_what_was_at_work() {
    let [before, inside, done, stored] = table(Mode::Before);
    assert_eq!(before, Cost { lost: CRASHES, ..Cost::default() }, "lost, because its cursor was stored");
    assert_eq!((inside.begun_again, inside.repeated, inside.missed), (0, 0, 0), "never again");
    assert!(inside.lost > 0 && inside.lost < CRASHES, "its effect is unknown");
    assert_eq!((done, stored), (Cost::default(), Cost::default()), "once");
}

#[test]
fn a_cursor_in_memory_loses_from_the_head_and_repeats_a_window_from_the_oldest() {
    let [before, inside, done, stored] = table(Mode::Memory(""));
    assert_eq!(before.lost, CRASHES, "lost");
    assert_eq!((inside.begun_again, inside.repeated), (0, 0), "never again");
    assert_eq!((done.lost, done.repeated, stored.lost, stored.repeated), (0, 0, 0, 0), "not twice");
    for cost in [before, inside, done, stored] {
        assert!(cost.missed > CRASHES, "and what was published while nobody lived is missed, untold");
    }
    for cost in table(Mode::Memory("oldest")) {
        assert_eq!((cost.lost, cost.missed), (0, 0));
        assert!(cost.repeated > CRASHES);
        assert!(cost.repeated_at_once > 3 && u64::from(cost.repeated_at_once) <= WINDOW, "a whole window");
    }
}
