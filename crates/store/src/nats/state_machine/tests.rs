//! Tests of what a stream says: rule by rule, and with hubs that do everything at random.

mod oracle;
mod reader;
mod rules;
mod world;

use std::collections::BTreeMap;
use std::time::Duration;

use galaxy_push_core::window::Traits;

use super::{Read, RequestOutcome, StateMachine};
use crate::dedup::Bounds as DedupBounds;
use crate::{Appended, Error, Refused};
use oracle::{Entry, Oracle, Outcome};
use reader::Reader;
use world::{DEDUP_AGE_MS, EPOCH, SKEW_MS, Ticket, World};

/// How many seeds each test run tries.
const SEEDS: u64 = 200;

/// How many things happen in each.
const STEPS: usize = 1_500;

#[test]
fn hubs_that_lag_lose_and_reorder_agree_on_every_entry_duplicate_and_refusal() {
    for seed in 0..SEEDS {
        let checked = std::panic::catch_unwind(|| check_seed(seed));
        assert!(checked.is_ok(), "seed {seed}");
    }
}

fn check_seed(seed: u64) {
    let mut world = World::new(seed);
    world.run(STEPS);
    let oracle = Oracle::of(&world.stream, EPOCH, world.weather.bounds);
    for reader in &world.readers {
        reader.check(&oracle);
        if !reader.has_missed && reader.first == 1 {
            assert_eq!((reader.base().unwrap_or(0), &reader.gaps[..]), (0, &[][..]), "nothing was lost");
        }
    }
    let all = || oracle.entries.iter().chain(&oracle.ephemeral).map(|(_, entry)| entry);
    let mut of_ticket = BTreeMap::<usize, Vec<&Entry>>::new();
    for entry in all() {
        of_ticket.entry(entry.ticket().unwrap()).or_default().push(entry);
    }
    for (number, ticket) in world.tickets.iter().enumerate() {
        let entries = of_ticket.get(&number).map(Vec::as_slice).unwrap_or_default();
        check_answer(ticket, entries, &oracle);
    }
    if !world.weather.loses {
        no_key_comes_twice_of_late(&oracle);
    }
    for _ in 0..8 {
        read_from_anywhere(&mut world, &oracle);
    }
}

/// What a publisher was told is what the log says.
fn check_answer(ticket: &Ticket, entries: &[&Entry], oracle: &Oracle) {
    for (index, entry) in entries.iter().enumerate() {
        let again = entries[..index].iter().any(|before| before.key == entry.key);
        assert!(!again, "an item is in the log once: {entry:?}");
    }
    let items = &ticket.batch.items;
    match ticket.answer.as_ref() {
        Some(Ok(results)) => {
            assert_eq!(results.len(), items.len());
            let appended = results.iter().filter(|result| !result.duplicate).count();
            assert_eq!(appended, entries.len(), "acknowledged is what is in the log: {results:?}");
            for (item, result) in items.iter().zip(results) {
                let Appended { cursor, duplicate } = *result;
                let Some(cursor) = cursor else {
                    let is_of = |entry: &Entry| entry.key == item.key;
                    assert!(oracle.ephemeral.values().any(is_of), "no position, and it was not ephemeral");
                    assert!(duplicate || item.traits.has(Traits::EPHEMERAL));
                    continue;
                };
                let entry = oracle.entries.get(&cursor.seq.0);
                let entry =
                    entry.unwrap_or_else(|| panic!("{cursor} was acknowledged, and nothing is there"));
                assert_eq!(entry.key, item.key, "a position names one payload");
                assert!(duplicate || entries.contains(&entry), "{entry:?}");
            }
        }
        Some(Err(Error::Refused(refused))) => {
            assert!(entries.is_empty(), "{refused}, and yet it is in the log: {entries:?}");
            if let Refused::IdReused { item } = refused {
                let (key, content) = items[item.unwrap()].key.as_ref().unwrap();
                let in_log = oracle.entries.values().chain(oracle.ephemeral.values());
                let others = in_log.filter_map(|entry| entry.key.as_ref());
                let others = others.chain(items.iter().filter_map(|item| item.key.as_ref()));
                let mut others = others.filter(|(other, _)| other == key);
                assert!(others.any(|(_, other)| other != content), "{key:?} is said to be reused");
            }
        }
        Some(Err(Error::Unknown(_))) | None => {}
    }
}

/// Where nothing is lost, every hub knows what was published while it should.
fn no_key_comes_twice_of_late(oracle: &Oracle) {
    let mut before = BTreeMap::new();
    let all: BTreeMap<_, _> = oracle.entries.iter().chain(&oracle.ephemeral).collect();
    for (seq, entry) in all {
        let (key, _) = entry.key.clone().unwrap();
        let name = (key.publisher().to_string(), key.text().to_owned());
        if let Some((other, at)) = before.insert(name, (seq, entry.stamp_ms)) {
            let apart = entry.stamp_ms.saturating_sub(at);
            assert!(apart + SKEW_MS >= DEDUP_AGE_MS, "{key:?} at {other} and {apart} ms later at {seq}");
        }
    }
}

/// A reader that begins anywhere, and misses some of what follows perhaps.
fn read_from_anywhere(world: &mut World, oracle: &Oracle) {
    let first = 1 + world.rng.below(world.stream.len() as u64);
    let (has_holes, catches_up) = (world.rng.percent(50), world.rng.percent(30));
    let mut fold = StateMachine::new(EPOCH, first, DedupBounds::default(), world.weather.bounds);
    let (mut reader, mut told, mut skip) = (Reader::new(first), Vec::new(), 0);
    if catches_up {
        fold.caught_up(&mut told);
        reader.goes_live();
    }
    for message in &world.stream[first as usize - 1..] {
        if has_holes && skip == 0 && world.rng.percent(2) {
            skip = 1 + world.rng.below(30);
        }
        if skip > 0 {
            skip -= 1;
            continue;
        }
        let outcomes = oracle.outcomes.get(&message.number);
        match fold.read(message, Duration::ZERO, &mut told).unwrap() {
            Read::Pack(judged) => {
                assert!(outcomes.is_none_or(|outcomes| outcomes.len() == judged.outcomes.len()));
                for (index, judged) in judged.outcomes.iter().enumerate() {
                    check_outcome(judged, outcomes.map(|outcomes| &outcomes[index]));
                }
            }
            read => assert_eq!(outcomes, None, "{read:?}, and others count it"),
        }
    }
    if skip > 0 {
        fold.lost(world.stream.len() as u64, &mut told);
    }
    reader.take(&mut told);
    reader.check(oracle);
    let spans = |from: u64| {
        let stamps = world.stream[from as usize - 1..].iter().map(|message| message.stamp_unix_ms);
        stamps.clone().max().unwrap_or_default() - stamps.min().unwrap_or_default()
    };
    assert!(has_holes || reader.base().is_some() || spans(first) < 20_000 + SKEW_MS, "it begins in time");
}

/// `None`: whoever has read everything skips the whole pack, because a later one of its hub came first.
fn check_outcome(judged: &RequestOutcome, outcome: Option<&Outcome>) {
    match (judged, outcome) {
        (RequestOutcome::Appended(results), Some(Outcome::Appended(places))) => {
            let results = results.iter().map(|result| (result.cursor.map(|at| at.seq.0), result.duplicate));
            assert_eq!(&results.collect::<Vec<_>>(), places);
        }
        (RequestOutcome::Reused { item }, Some(Outcome::Reused(other))) => assert_eq!(item, other),
        (RequestOutcome::Dead, None | Some(Outcome::Dead)) | (RequestOutcome::Doubtful, _) => {}
        _ => panic!("{judged:?}, and everybody else says {outcome:?}"),
    }
}
