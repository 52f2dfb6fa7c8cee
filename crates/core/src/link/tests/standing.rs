//! Standing records: no cut, wherever it falls, makes a client miss one.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::frame::{LogKind, StandingFrame, put_log_frame};
use crate::wire::{Fields, Value};

#[track_caller]
fn check_standing(start: &str, script: &str, expected: &str) {
    let config = Config { start: long(start), hubs: 2, standing: true, ..Config::default() };
    check_with(config, script, expected);
}

#[test]
fn a_welcome_is_not_resumed_from_before_its_standing_records() {
    check_standing(
        "oldest",
        "begin | receive welcome:2@a4 standing+@a4 | handled | receive new@a4 goodbye:1@a4 | handled | lost | timer | begin
         | receive welcome:2@a6 standing+@a6 standing@a6 | handled | lost | timer | begin",
        r#"
        deliver welcome@a4 standing@a4
        read within 15000, catching up at "oldest"
        deliver goodbye@a4
        read within 1000, catching up at "oldest"
        wait 200, backing off at "oldest"
        dial 1 within 5000
        subscribe 2 from "oldest" within 5000
        read within 5000, connecting at "oldest"
        deliver welcome@a6 standing@a6 standing@a6
        read within 15000, catching up at "a6"
        wait 200, backing off at "a6"
        dial 0 within 5000
        subscribe 3 from "a6" within 5000
        read within 5000, connecting at "a6"
        "#,
    );
}

#[test]
fn a_gap_within_a_stream_is_not_resumed_from_before_its_standing_records() {
    check_standing(
        "a1",
        "begin | receive welcome:1@a1 a2 gap:4:a2@a9 | handled | lost | timer | begin
         | receive welcome:1@a2 a3 record@a4 gap:8:a4@a5 | handled",
        r#"
        deliver welcome@a1 a2 gap:Lapped:a2..a9
        read within 15000, catching up at "a2"
        wait 200, backing off at "a2"
        dial 1 within 5000
        subscribe 2 from "a2" within 5000
        read within 5000, connecting at "a2"
        deliver welcome@a2 a3 sessioninvalidation@a4 gap:Damaged:a4..a5
        read within 15000, catching up at "a4"
        "#,
    );
}

#[test]
fn a_hub_that_sends_no_standing_records_moves_the_cursor_with_its_next_frame() {
    check_standing(
        "a1",
        "begin | receive welcome:3@a1 gap:1:a1@a5 | handled | receive gap:4:a5@a9 | handled | receive caught@a9 | handled
         | receive gap:6:a9@a10 | handled",
        r#"
        deliver welcome@a1 gap:Trimmed:a1..a5
        read within 15000, catching up at "a5"
        deliver gap:Lapped:a5..a9
        read within 15000, catching up at "a5"
        deliver caughtup@a9
        read within 15000, live at "a9"
        deliver gap:TooLarge:a9..a10
        read within 15000, live at "a10"
        "#,
    );
}

/// A hub whose log holds events and memberships of some keys. It keeps the last few positions, in epoch a.
#[derive(Debug, Default)]
struct Hub {
    /// What lies at each position from 1 on: an event, or a key that begins or ends to be a member.
    log: Vec<Option<(u8, bool)>>,
    floor: u64,
    next: u64,
    queue: Vec<Vec<u8>>,
}

impl Hub {
    fn head(&self) -> u64 {
        self.log.len() as u64
    }

    fn holds(&self) -> BTreeSet<u8> {
        members(self.log.iter().flatten().copied())
    }

    fn control(&mut self, word: &str) {
        self.queue.push(frame(word));
    }

    fn standing(&mut self, at: u64) {
        let keys: Vec<u8> = self.holds().into_iter().collect();
        for index in 0..=keys.len() {
            let mut standing = StandingFrame::default();
            keys.get(index).iter().for_each(|key| standing.push(LogKind::Membership, &[**key, 1]));
            self.queue.push(standing.finish(&long(&format!("a{at}")), index < keys.len()));
        }
    }

    fn subscribe(&mut self, cursor: &str) {
        self.queue.clear();
        let asked = Cursor::parse(cursor).ok().map(|cursor| cursor.seq.0);
        match asked {
            Some(at) if at >= self.floor => {
                self.next = at;
                self.control(&format!("welcome:1@a{at}"));
            }
            _ => {
                let (outcome, at) = asked.map_or((2, self.floor), |at| (3, at));
                self.next = self.floor;
                self.control(&format!("welcome:{outcome}@a{at}"));
                self.standing(at);
                if outcome == 3 {
                    self.control(&format!("gap:1:a{at}@a{}", self.floor));
                }
            }
        }
        self.read();
    }

    fn read(&mut self) {
        if self.next < self.floor {
            self.control(&format!("gap:4:a{}@a{}", self.next, self.floor));
            self.next = self.floor;
            self.standing(self.floor);
        }
        for at in self.next..self.head() {
            let cursor = Cursor::parse(&long(&format!("a{}", at + 1))).ok();
            let mut out = Vec::new();
            match self.log[at as usize] {
                None => put_log_frame(&mut out, LogKind::Event, cursor, b"", 1),
                Some((key, member)) => {
                    put_log_frame(&mut out, LogKind::Membership, cursor, &[key, u8::from(member)], 1);
                }
            }
            self.queue.push(out);
        }
        self.next = self.head();
    }
}

fn members(changes: impl Iterator<Item = (u8, bool)>) -> BTreeSet<u8> {
    let mut members = BTreeSet::new();
    for (key, member) in changes {
        if member {
            members.insert(key)
        } else {
            members.remove(&key)
        };
    }
    members
}

/// What a gateway makes of it: `Standing` replaces all, once it is whole.
#[derive(Debug, Default)]
struct Gateway {
    members: BTreeSet<u8>,
    coming: BTreeSet<u8>,
}

impl Gateway {
    fn apply(&mut self, item: &Item) {
        match item {
            Item::Welcome(_) | Item::Gap(_) => self.coming.clear(),
            Item::Standing(frame) => {
                let mut more = false;
                for field in Fields::of(frame.view().body()) {
                    match field.unwrap() {
                        (2, Value::Bytes(record)) => _ = self.coming.insert(record[0]),
                        (3, _) => more = true,
                        other => panic!("{other:?}"),
                    }
                }
                if !more {
                    self.members = std::mem::take(&mut self.coming);
                }
            }
            Item::Membership(frame) => {
                let (key, member) = (frame.view().body()[0], frame.view().body()[1] == 1);
                if member {
                    self.members.insert(key)
                } else {
                    self.members.remove(&key)
                };
            }
            _ => {}
        }
    }
}

#[derive(Clone, Debug)]
enum Happening {
    Append(Option<(u8, bool)>),
    Trim(u64),
    /// So many of the frames on their way arrive.
    Arrive(usize),
    /// The hub goes on reading, though not all has arrived.
    Read,
    Cut,
}

fn any_happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        3 => prop::option::weighted(0.7, (0u8..4, any::<bool>())).prop_map(Happening::Append),
        2 => (0u64..3).prop_map(Happening::Trim),
        4 => (1usize..4).prop_map(Happening::Arrive),
        1 => Just(Happening::Read),
        2 => Just(Happening::Cut),
    ]
}

fn arrive(world: &mut World, hub: &mut Hub, gateway: &mut Gateway, frames: usize) {
    let frames = frames.min(hub.queue.len());
    let bytes: Vec<u8> = hub.queue.drain(..frames).flatten().collect();
    world.step(Input::Received(bytes.into()));
    while world.action == Action::Deliver {
        world.link.batch_mut().items().iter().for_each(|item| gateway.apply(item));
        world.play("handled");
    }
}

fn begin(world: &mut World, hub: &mut Hub) {
    world.step(Input::Connected);
    let Action::Subscribe { cursor, .. } = world.action.clone() else { panic!("{:?}", world.action) };
    hub.subscribe(&cursor);
    world.step(Input::Subscribed);
}

proptest! {
    #[test]
    fn whatever_is_cut_the_records_are_those_of_the_hub(
        before in prop::collection::vec((0u8..4, any::<bool>()), 0..8),
        happenings in prop::collection::vec(any_happening(), 1..80),
        from_start in any::<bool>(),
    ) {
        let start = if from_start { long("a0") } else { "oldest".to_owned() };
        let mut world = World::new(Config { start, standing: true, ..Config::default() });
        let (mut hub, mut gateway) = (Hub::default(), Gateway::default());
        hub.floor = if from_start { 0 } else { before.len() as u64 };
        hub.log.extend(before.into_iter().map(Some));
        begin(&mut world, &mut hub);
        for happening in happenings {
            match happening {
                Happening::Append(entry) => hub.log.push(entry),
                Happening::Trim(to_hold) => hub.floor = hub.floor.max(hub.head().saturating_sub(to_hold)),
                Happening::Arrive(frames) => {
                    if hub.queue.is_empty() {
                        hub.read();
                    }
                    arrive(&mut world, &mut hub, &mut gateway, frames);
                }
                Happening::Read => hub.read(),
                Happening::Cut => {
                    world.play_all(&["lost", "timer"]);
                    begin(&mut world, &mut hub);
                }
            }
        }
        for _ in 0..2 {
            arrive(&mut world, &mut hub, &mut gateway, usize::MAX);
            hub.read();
        }
        prop_assert_eq!(gateway.members, hub.holds(), "{}", world.transcript);
    }
}
