//! Hubs that lag, die, start late and write at the same time, over a log that lets go of what is old.

use std::collections::BTreeMap;

use super::*;

/// How many seeds each test run tries, and how many things happen in each.
const SEEDS: u64 = 100;
const STEPS: usize = 2_000;

struct Rng(u64);

impl Rng {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound
    }
}

/// A write that was decided and has not come to the bucket.
struct Writing {
    matter: Matter,
    revision: u64,
    value: Value,
}

struct Hub {
    records: Records,
    /// Of the log, how many it has read.
    read: usize,
    /// Which of these void tokens: it believes them, whatever they are worth.
    believed: Vec<usize>,
    /// What its publishers wait for.
    jobs: Vec<(Matter, Cursor)>,
    writing: Option<Writing>,
}

#[derive(Default)]
struct World {
    log: Vec<Record>,
    /// What the log has let go of.
    first: usize,
    bucket: BTreeMap<String, (u64, Value)>,
    revision: u64,
    /// Which records were acknowledged, or are believed by a hub that has seen to it that they stand.
    acknowledged: BTreeSet<usize>,
}

impl World {
    fn start(&self) -> Hub {
        let mut records = records();
        let values: Vec<_> = self.bucket.values().cloned().collect();
        assert!(records.read_anew(values, NOW_MS).is_empty());
        Hub { records, read: self.first, believed: Vec::new(), jobs: Vec::new(), writing: None }
    }

    /// A record that some hub appends.
    fn append(&mut self, rng: &mut Rng) -> (Matter, Cursor) {
        let seq = self.log.len() as u64 + 1;
        let record = match rng.below(3) {
            0 => voided(at(seq), ["user:1", "user:2"][rng.below(2)], rng.below(40) as i64),
            is_member => joined(at(seq), is_member == 1),
        };
        self.log.push(record.clone());
        (record.change.matter(), record.cursor)
    }

    /// A hub reads on, and cannot judge some of what voids tokens.
    fn read(&self, hub: &mut Hub, rng: &mut Rng) {
        let Some(record) = self.log.get(hub.read) else { return };
        let is_of_tokens = matches!(record.change.matter(), Matter::Tokens(_));
        let is_doubtful = is_of_tokens && rng.below(4) == 0;
        if is_doubtful {
            hub.jobs.retain(|(_, upto)| *upto != record.cursor); // nobody knows, its publisher is told
        }
        hub.records.apply(&Record { is_doubtful, ..record.clone() }, NOW_MS);
        hub.believed.extend(is_of_tokens.then_some(hub.read));
        hub.read += 1;
    }

    /// The bucket takes what a hub has decided to write, or has another revision by now.
    fn swap(&mut self, hub: &mut Hub) {
        let Some(Writing { matter, revision, value }) = hub.writing.take() else { return };
        let there = self.bucket.get(&key(&matter));
        if there.map_or(0, |(revision, _)| *revision) == revision {
            self.revision += 1;
            let value = Value::read(&key(&matter), &value.write().into()).unwrap();
            hub.records.wrote(&matter, self.revision, value.at);
            self.bucket.insert(key(&matter), (self.revision, value));
        } else {
            self.look_up(hub, &matter);
        }
    }

    fn look_up(&self, hub: &mut Hub, matter: &Matter) {
        match self.bucket.get(&key(matter)).cloned() {
            Some((revision, value)) => hub.records.found(revision, value, NOW_MS),
            None => hub.records.missing(matter, 0),
        }
    }

    /// Goes on with what its publishers wait for.
    fn serve(&mut self, hub: &mut Hub, rng: &mut Rng) {
        if hub.writing.is_some() || hub.jobs.is_empty() {
            return;
        }
        let index = rng.below(hub.jobs.len());
        let (matter, upto) = hub.jobs[index].clone();
        if upto.seq.0 as usize > hub.read {
            return; // it was not read back
        }
        match hub.records.step(&matter, upto) {
            Step::Write { revision, value } => hub.writing = Some(Writing { matter, revision, value }),
            Step::Stands => {
                hub.jobs.remove(index);
                self.acknowledged.insert(upto.seq.0 as usize - 1);
            }
        }
    }

    /// Sees to it that all that a hub knows stands.
    fn check(&mut self, hub: &mut Hub) {
        let matters: Vec<_> = hub.records.known.keys().cloned().collect();
        for matter in matters {
            let upto = hub.records.at(&matter).unwrap();
            self.look_up(hub, &matter);
            while let Step::Write { revision, value } = hub.records.step(&matter, upto) {
                hub.writing = Some(Writing { matter: matter.clone(), revision, value });
                self.swap(hub);
            }
        }
        self.acknowledged.extend(&hub.believed);
    }

    /// What was acknowledged holds at this hub, or what was said later of the same membership.
    fn judge(&self, hub: &mut Hub, seed: u64) {
        let is_member = memberships(&mut hub.records) == 1;
        let held = ["user:1", "user:2"].map(|recipient| void_before(&mut hub.records, recipient));
        let of_memberships = |record: &&Record| record.change.matter() == membership();
        for index in &self.acknowledged {
            let record = &self.log[*index];
            match record.change.matter() {
                // Of two that were made one the later moment counts.
                Matter::Tokens(recipient) => {
                    let before = void_before(&mut alone(record), &recipient)[0];
                    let held = &held[usize::from(&*recipient == "user:2")];
                    assert!(held.iter().any(|other| *other >= before), "seed {seed}: {before} of {held:?}");
                }
                Matter::Membership(..) => {
                    let mut later = self.log[*index..].iter().filter(of_memberships);
                    let is_so = later.any(|record| record.change.takes_away() != is_member);
                    assert!(is_so, "seed {seed}: {is_member} after {}", record.cursor);
                }
            }
        }
    }
}

/// What holds where only this was said.
fn alone(record: &Record) -> Records {
    let mut records = records();
    records.apply(record, NOW_MS);
    records
}

#[test]
fn what_was_acknowledged_holds_at_every_hub_whoever_died() {
    let acknowledged: usize = (0..SEEDS).map(run).sum();
    assert!(acknowledged > 20 * SEEDS as usize, "{acknowledged}");
}

/// Returns how many records were acknowledged.
fn run(seed: u64) -> usize {
    let (mut rng, mut world) = (Rng(seed), World::default());
    let mut hubs: Vec<_> = (0..3).map(|_| world.start()).collect();
    for _ in 0..STEPS {
        let hub = &mut hubs[rng.below(3)];
        match rng.below(40) {
            0..=7 => {
                let job = world.append(&mut rng);
                hub.jobs.push(job);
            }
            8..=21 => (0..=rng.below(4)).for_each(|_| world.read(hub, &mut rng)),
            22..=29 => world.serve(hub, &mut rng),
            30..=36 => world.swap(hub),
            37 => world.check(hub),
            38 => *hub = world.start(), // what it had under way is gone
            _ => {
                let mut late = world.start();
                while late.read < world.log.len() {
                    world.read(&mut late, &mut rng);
                }
                world.judge(&mut late, seed);
            }
        }
        // The log keeps what somebody waits for, and what is not read.
        let waited = hubs.iter().flat_map(|hub| &hub.jobs).map(|(_, upto)| upto.seq.0 as usize - 1);
        let kept = hubs.iter().map(|hub| hub.read).chain(waited).min().unwrap_or(0);
        world.first = world.first.max(kept.saturating_sub(rng.below(20)));
    }
    settle(&mut world, &mut hubs, &mut rng, seed);
    world.acknowledged.len()
}

/// Everybody reads to the end and looks up what it knows: then all are of one mind, whoever starts now too.
fn settle(world: &mut World, hubs: &mut Vec<Hub>, rng: &mut Rng, seed: u64) {
    for _ in 0..4 {
        for hub in hubs.iter_mut() {
            while hub.read < world.log.len() {
                world.read(hub, rng);
            }
            world.swap(hub);
            let _lacking = hub.records.read_anew(world.bucket.values().cloned().collect(), NOW_MS);
            world.check(hub);
        }
    }
    hubs.push(world.start());
    let all = |hub: &mut Hub| hub.records.page(None, 1 << 20, 0, NOW_MS).records;
    let expected = all(&mut hubs[0]);
    for hub in hubs {
        assert_eq!(all(hub), expected, "seed {seed}");
        world.judge(hub, seed);
    }
}
