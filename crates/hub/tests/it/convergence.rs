//! However a peer is cut off, stalled and outrun, it ends up with exactly the memberships that hold.
//!
//! The peer below is what a gateway must be. It takes all frames of a `Standing` as the whole truth, then each record in
//! its place. While a `Standing` is due (after a `Welcome` that is not RESUMED, and after a gap in mid-stream) it does
//! not move its cursor: cut off there, it asks as before, and is told again.

use std::collections::BTreeSet;

use galaxy_push_core::window::Bounds;
use galaxy_push_hub::Config;
use galaxy_push_proto::feature;
use galaxy_push_proto::v1::push_event::Kind;
use galaxy_push_proto::v1::{GapReason, GatewaySubscribeRequest, Membership, Outcome, PushEvent};

use crate::records::membership;
use crate::world::{Reading, World, event, from, large};

/// Reproducible randomness.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

#[derive(Default)]
struct Peer {
    cursor: String,
    members: BTreeSet<String>,
    /// What the frames of an unfinished `Standing` said.
    telling: BTreeSet<String>,
    due: bool,
    opening_gap: bool,
    told: usize,
}

impl Peer {
    fn request(&self) -> GatewaySubscribeRequest {
        let features = [feature::STANDING, feature::SESSION_INVALIDATION, feature::MEMBERSHIP];
        GatewaySubscribeRequest {
            features: features.map(str::to_owned).into(),
            max_receive_bytes: 100_000,
            ..from("gw", if self.cursor.is_empty() { "oldest" } else { &self.cursor })
        }
    }

    fn take(&mut self, frame: PushEvent) {
        match frame.kind.unwrap() {
            Kind::Welcome(welcome) => {
                self.due = welcome.outcome() != Outcome::Resumed;
                self.opening_gap = self.due && welcome.outcome() != Outcome::Fresh;
                self.telling.clear();
            }
            Kind::Gap(_) if std::mem::take(&mut self.opening_gap) => {}
            Kind::Gap(gap) => self.due = gap.reason() != GapReason::TooLarge,
            Kind::Standing(standing) => {
                assert!(self.due, "a Standing that nothing announced");
                self.telling.extend(standing.memberships.iter().map(key));
                if !standing.more {
                    self.members = std::mem::take(&mut self.telling);
                    (self.due, self.told) = (false, self.told + 1);
                }
            }
            Kind::Membership(record) if record.member => drop(self.members.insert(key(&record))),
            Kind::Membership(record) => drop(self.members.remove(&key(&record))),
            _ => {}
        }
        if !self.due && !frame.cursor.is_empty() {
            self.cursor = frame.cursor;
        }
    }

    /// Reads so many frames.
    async fn read(&mut self, reading: &mut Reading, frames: u64) {
        for _ in 0..frames {
            self.take(reading.frame().await.unwrap().unwrap());
        }
    }
}

fn key(record: &Membership) -> String {
    format!("{} {}", record.recipient, record.topic)
}

#[tokio::test(start_paused = true)]
async fn a_peer_ends_up_with_the_memberships_that_hold() {
    let (mut told, mut resumed) = (0, 0);
    for seed in 0..60 {
        let (mut dice, mut expected) = (Dice(seed), BTreeSet::new());
        let bounds = Bounds { events: 40, ..Bounds::default() };
        let world = World::new(Config::default().window(bounds));
        let mut peer = Peer::default();
        let mut reading = None;
        for step in 0..120 {
            match dice.below(10) {
                0..4 => {
                    let member = dice.below(3) > 0;
                    let topic = format!("{}{}", dice.below(30), "x".repeat(200));
                    let record = membership(&format!("user:{}", dice.below(40)), &topic, member);
                    if member {
                        expected.insert(key(&record))
                    } else {
                        expected.remove(&key(&record))
                    };
                    world.hub.set_memberships(vec![record]).await.unwrap();
                }
                4..6 => {
                    for i in 0..dice.below(60) {
                        let id = format!("{step}.{i}");
                        world.publish_all(vec![if i % 3 == 0 { large(&id) } else { event(&id) }]).await;
                    }
                }
                6 => reading = None,
                _ => {
                    if reading.is_none() {
                        reading = Some(world.subscribe(peer.request()).await.unwrap());
                    }
                    let before = (peer.told, peer.due);
                    peer.read(reading.as_mut().unwrap(), dice.below(5)).await;
                    resumed += usize::from(before == (peer.told, peer.due));
                }
            }
        }
        drop(reading);
        let mut reading = world.subscribe(peer.request()).await.unwrap();
        let head = world.hub.head().cursor.to_string();
        while peer.due || peer.cursor != head {
            peer.read(&mut reading, 1).await;
        }
        assert_eq!(peer.members, expected, "seed {seed}");
        told += peer.told;
    }
    assert!(told > 100 && resumed > 100, "both ways were taken: {told}, {resumed}");
}
