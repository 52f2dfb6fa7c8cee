//! Random correct runs are clean; a random fault put into one is found whenever it really breaks a promise.

use std::collections::BTreeMap;

use galaxy_push_testkit::history::{
    Cursor, GapReason, Hash, Hop, LogLine, Open, Outcome, Position, PubAck, Welcome, What,
};
use galaxy_push_testkit::{Promise, Record, Sight, check};
use proptest::prelude::*;

use crate::model::{Dice, concerns, run};

const STEPS: usize = 400;

proptest! {
    // Without a file of old failures: a seed says all there is to say.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_correct_run_is_clean(seed: u64) {
        let report = check(&run(seed, STEPS));
        prop_assert!(report.is_clean(), "{report}");
    }

    #[test]
    fn a_fault_is_found(seed: u64) {
        let records = run(seed, STEPS);
        let mut dice = Dice::new(!seed);
        for (name, mutate, promises) in FAULTS {
            let run = Run::new(&records);
            let Some(faulty) = mutate(&run, &mut dice) else { continue };
            let report = check(&faulty);
            let found = promises.iter().any(|promise| report.breaks(*promise));
            prop_assert!(found, "{name} was not found as any of {promises:?}:\n{report}");
        }
    }
}

#[test]
fn every_fault_can_be_planted_and_every_outcome_happens() {
    let mut planted: BTreeMap<&str, u64> = FAULTS.iter().map(|(name, ..)| (*name, 0)).collect();
    let mut seen = check(&run(0, STEPS)).seen;
    for seed in 1..40 {
        let records = run(seed, STEPS);
        seen.merge(&check(&records).seen);
        for (name, mutate, _) in FAULTS {
            let put_in = mutate(&Run::new(&records), &mut Dice::new(seed)).is_some();
            *planted.entry(name).or_default() += u64::from(put_in);
        }
    }
    assert!(planted.values().all(|&count| count >= 10), "{planted:?}");
    seen.require(&[
        Sight::Resumed,
        Sight::Fresh,
        Sight::Trimmed,
        Sight::EpochChanged,
        Sight::Ahead,
        Sight::GarbageRefused,
        Sight::EpochChangedInStream,
        Sight::ResumedWithReplay,
        Sight::GapLapped,
        Sight::FellBehind,
        Sight::Progress,
        Sight::Subscribed,
        Sight::Ephemeral,
        Sight::DedupHit,
        Sight::UnknownLost,
        Sight::LiveJudged,
    ])
    .unwrap();
}

/// A correct run, looked at for places where a fault would break a promise.
struct Run<'a> {
    records: &'a [Record],
    log: BTreeMap<Position, &'a LogLine>,
    opens: BTreeMap<u64, &'a Open>,
}

type Mutate = fn(&Run<'_>, &mut Dice) -> Option<Vec<Record>>;

/// A hole shows at whatever comes next: an event, a gap, progress, another control frame.
const HOLE: &[Promise] = &[
    Promise::GapFreeOrTold,
    Promise::Resumable,
    Promise::Progress,
    Promise::CursorSafe,
    Promise::FrameOrder,
    Promise::Ordered,
];

const FAULTS: &[(&str, Mutate, &[Promise])] = &[
    ("drop an event", drop_event, HOLE),
    ("drop the last event", drop_last_event, &[Promise::Live, Promise::Progress]),
    ("swap two events", swap_events, &[Promise::Ordered]),
    ("repeat an event", repeat_event, &[Promise::Unique]),
    ("replay an event from before the cursor", replay_older, &[Promise::Unique]),
    ("remove a gap", remove_gap, HOLE),
    ("shorten a gap", shorten_gap, HOLE),
    ("move a cursor beyond an event", cursor_forward, &[Promise::Progress, Promise::CursorSafe]),
    ("move a cursor back", cursor_back, &[Promise::Progress, Promise::CursorSafe, Promise::Ordered]),
    ("leak an event", leak, &[Promise::Isolated]),
    ("change a payload", change_payload, &[Promise::OnePayload]),
    ("lie about an outcome", change_outcome, &[Promise::Resumable]),
    ("lose an acknowledged event", lose_logged, &[Promise::AckedOnce]),
    ("log an event twice", log_twice, &[Promise::AckedOnce, Promise::UnknownAtMostOnce]),
    ("refuse after the append", nack_landed, &[Promise::NackedNever]),
    ("log what nobody published", log_phantom, &[Promise::NoPhantom]),
    ("acknowledge before the order", reorder_acks, &[Promise::AckOrder]),
    ("reuse a generation", reuse_generation, &[Promise::Fenced]),
    ("feed a stream after a takeover", feed_overtaken, &[Promise::Fenced]),
    ("leave out a welcome", drop_welcome, &[Promise::FrameOrder]),
    ("go on after a goodbye", after_goodbye, &[Promise::FrameOrder]),
    ("never say caught up", drop_caught_up, &[Promise::Progress]),
];

impl<'a> Run<'a> {
    fn new(records: &'a [Record]) -> Self {
        let (mut log, mut opens) = (BTreeMap::new(), BTreeMap::new());
        for record in records {
            match &record.what {
                What::Log(line) => drop(log.insert(line.position.clone(), line)),
                What::Open(open) => drop(opens.insert(open.stream, open)),
                _ => {}
            }
        }
        Self { records, log, opens }
    }

    /// The first record from a random one on for which `fits` says yes.
    fn pick(&self, dice: &mut Dice, fits: impl Fn(usize, &What) -> bool) -> Option<usize> {
        let start = dice.below(self.records.len());
        (start..self.records.len()).chain(0..start).find(|&line| fits(line, &self.records[line].what))
    }

    fn what(&self, line: usize) -> &'a What {
        &self.records[line].what
    }

    /// Where the reader stands after a record, if the record says so.
    fn position(&self, line: usize) -> Option<&'a Position> {
        position(self.what(line))
    }

    /// The next record of the same stream that says where the reader stands.
    fn next(&self, line: usize) -> Option<usize> {
        let stream = self.what(line).stream();
        (line + 1..self.records.len())
            .find(|&other| self.what(other).stream() == stream && self.position(other).is_some())
    }

    /// The record before it on the same stream that says where the reader stands.
    fn before(&self, line: usize) -> Option<usize> {
        let stream = self.what(line).stream();
        (0..line).rfind(|&other| self.what(other).stream() == stream && self.position(other).is_some())
    }

    /// Whether the reader of this record's stream is owed what lies at a position, topics left aside.
    fn owed(&self, line: usize, position: &Position) -> bool {
        let Some(open) = self.what(line).stream().and_then(|stream| self.opens.get(&stream)) else {
            return false;
        };
        let Some(logged) = self.log.get(position) else { return false };
        open.recipients.is_empty() || open.recipients.iter().any(|pattern| concerns(pattern, &logged.to[0]))
    }

    fn without(&self, line: usize) -> Vec<Record> {
        let mut records = self.records.to_vec();
        records.remove(line);
        records
    }

    fn with(&self, line: usize, what: What) -> Vec<Record> {
        let mut records = self.records.to_vec();
        records[line].what = what;
        records
    }

    fn inserting(&self, after: usize, what: What) -> Vec<Record> {
        let mut records = self.records.to_vec();
        records.insert(after + 1, Record { what, ..records[after].clone() });
        records
    }
}

fn position(what: &What) -> Option<&Position> {
    let cursor = match what {
        What::Event(event) => return event.position.as_ref(),
        What::Gap(gap) => &gap.to,
        What::Progress(mark) | What::CaughtUp(mark) | What::FellBehind(mark) => &mark.cursor,
        What::Goodbye(goodbye) => &goodbye.cursor,
        What::Subscribed(subscribed) => &subscribed.cursor,
        _ => return None,
    };
    match cursor {
        Cursor::At(position) => Some(position),
        _ => None,
    }
}

fn is_event(what: &What) -> bool {
    matches!(what, What::Event(event) if event.position.is_some())
}

fn drop_event(run: &Run<'_>, dice: &mut Dice) -> Option<Vec<Record>> {
    Some(run.without(run.pick(dice, |line, what| is_event(what) && run.next(line).is_some())?))
}

fn drop_last_event(run: &Run<'_>, dice: &mut Dice) -> Option<Vec<Record>> {
    let ended = |line: usize| {
        let stream = run.what(line).stream();
        let process = &run.records[line].process;
        run.records[line..].iter().any(|record| match &record.what {
            What::Close(close) => Some(close.stream) == stream,
            What::Crash => record.process == *process,
            _ => false,
        })
    };
    let line = run.pick(dice, |line, what| is_event(what) && !ended(line))?;
    let stream = run.what(line).stream();
    let mut records = run.records[..line].to_vec();
    records.extend(run.records[line..].iter().filter(|record| record.what.stream() != stream).cloned());
    Some(records)
}

fn swap_events(run: &Run<'_>, dice: &mut Dice) -> Option<Vec<Record>> {
    let line = run.pick(dice, |line, what| {
        is_event(what) && run.next(line).is_some_and(|next| is_event(run.what(next)))
    })?;
    let next = run.next(line)?;
    let mut records = run.with(line, run.what(next).clone());
    records[next].what = run.what(line).clone();
    Some(records)
}

fn repeat_event(run: &Run<'_>, dice: &mut Dice) -> Option<Vec<Record>> {
    let line = run.pick(dice, |_, what| matches!(what, What::Event(_)))?;
    Some(run.inserting(line, run.what(line).clone()))
}

fn replay_older(run: &Run<'_>, dice: &mut Dice) -> Option<Vec<Record>> {
    let resumed = |what: &What| match what {
        What::Welcome(Welcome { outcome: Outcome::Resumed, cursor: Cursor::At(held), .. }) => {
            Some(held.clone())
        }
        _ => None,
    };
    let line = run.pick(dice, |line, what| resumed(what).is_some_and(|held| run.owed(line, &held)))?;
    let held = resumed(run.what(line))?;
    Some(run.inserting(line, event(run, run.what(line).stream()?, &held)))
}

fn remove_gap(run: &Run<'_>, dice: &mut Dice) -> Option<Vec<Record>> {
    let line = run.pick(dice, |line, what| match what {
        What::Gap(gap) if gap.reason == GapReason::Lapped => run.next(line).is_some() && hides(run, line),
        What::Gap(_) => run.next(line).is_some_and(|next| !matches!(run.what(next), What::Goodbye(_))),
        _ => false,
    })?;
    Some(run.without(line))
}

/// Whether a gap within one epoch covers anything the reader is owed.
fn hides(run: &Run<'_>, line: usize) -> bool {
    let What::Gap(gap) = run.what(line) else { return false };
    let (Cursor::At(from), Cursor::At(to)) = (&gap.from, &gap.to) else { return false };
    run.log
        .range(from..=to)
        .skip_while(|(position, _)| *position == from)
        .any(|(position, _)| run.owed(line, position))
}

fn shorten_gap(run: &Run<'_>, dice: &mut Dice) -> Option<Vec<Record>> {
    let line = run.pick(dice, |line, what| match what {
        What::Gap(gap) if gap.reason == GapReason::Lapped => {
            run.next(line).is_some() && run.position(line).is_some_and(|to| to.seq > 0 && run.owed(line, to))
        }
        _ => false,
    })?;
    let What::Gap(mut gap) = run.what(line).clone() else { return None };
    let to = run.position(line)?;
    gap.to = Cursor::At(Position { seq: to.seq - 1, ..to.clone() });
    gap.cursor = gap.to.clone();
    Some(run.with(line, What::Gap(gap)))
}

fn moved(what: &What, by: i64) -> Option<What> {
    let mut what = what.clone();
    let mut position = position(&what)?.clone();
    position.seq = position.seq.checked_add_signed(by)?;
    match &mut what {
        What::Progress(mark) | What::CaughtUp(mark) | What::FellBehind(mark) => {
            mark.cursor = Cursor::At(position)
        }
        What::Goodbye(goodbye) => goodbye.cursor = Cursor::At(position),
        _ => return None,
    }
    Some(what)
}

fn cursor_forward(run: &Run<'_>, dice: &mut Dice) -> Option<Vec<Record>> {
    let line = run.pick(dice, |line, what| {
        moved(what, 1).is_some_and(|moved| position(&moved).is_some_and(|beyond| run.owed(line, beyond)))
    })?;
    Some(run.with(line, moved(run.what(line), 1)?))
}

fn cursor_back(run: &Run<'_>, dice: &mut Dice) -> Option<Vec<Record>> {
    let line = run.pick(dice, |line, what| {
        let stood = run.before(line).and_then(|before| run.position(before));
        moved(what, -1).is_some() && stood == run.position(line)
    })?;
    Some(run.with(line, moved(run.what(line), -1)?))
}

fn leak(run: &Run<'_>, dice: &mut Dice) -> Option<Vec<Record>> {
    let foreign = |line: usize| {
        let next = run.position(line).map(|held| Position { seq: held.seq + 1, ..held.clone() })?;
        let user = run.opens.get(&run.what(line).stream()?)?.hop == Hop::User;
        let other = run.log.get(&next)?.to[0].starts_with("user:");
        (user && other && !run.owed(line, &next)).then_some(next)
    };
    let line = run.pick(dice, |line, what| !matches!(what, What::Goodbye(_)) && foreign(line).is_some())?;
    Some(run.inserting(line, event(run, run.what(line).stream()?, &foreign(line)?)))
}

fn event(run: &Run<'_>, stream: u64, position: &Position) -> What {
    let logged = run.log[position];
    What::Event(galaxy_push_testkit::history::Event {
        stream,
        position: Some(position.clone()),
        id: logged.id.clone(),
        hash: logged.hash,
        ephemeral: false,
        shown_to: Vec::new(),
    })
}

fn change_payload(run: &Run<'_>, dice: &mut Dice) -> Option<Vec<Record>> {
    let line = run.pick(dice, |_, what| is_event(what))?;
    let What::Event(mut event) = run.what(line).clone() else { return None };
    event.hash = Hash(event.hash.0 ^ 1);
    Some(run.with(line, What::Event(event)))
}

fn change_outcome(run: &Run<'_>, dice: &mut Dice) -> Option<Vec<Record>> {
    let line = run.pick(
        dice,
        |_, what| matches!(what, What::Welcome(welcome) if welcome.outcome != Outcome::EpochChanged),
    )?;
    let What::Welcome(mut welcome) = run.what(line).clone() else { return None };
    let user = run.opens[&welcome.stream].hop == Hop::User;
    welcome.outcome = match welcome.outcome {
        Outcome::Fresh => Outcome::Resumed,
        Outcome::Trimmed if user => Outcome::Ahead,
        Outcome::Trimmed => Outcome::Resumed,
        Outcome::Ahead => Outcome::EpochChanged,
        Outcome::Resumed | Outcome::EpochChanged => Outcome::Trimmed,
    };
    Some(run.with(line, What::Welcome(welcome)))
}

fn lose_logged(run: &Run<'_>, dice: &mut Dice) -> Option<Vec<Record>> {
    Some(run.without(run.pick(dice, |_, what| matches!(what, What::Log(_)))?))
}

fn log_twice(run: &Run<'_>, dice: &mut Dice) -> Option<Vec<Record>> {
    let line = run.pick(dice, |_, what| matches!(what, What::Log(_)))?;
    let What::Log(mut logged) = run.what(line).clone() else { return None };
    let of_epoch = run.log.keys().filter(|position| position.epoch == logged.position.epoch);
    logged.position.seq = of_epoch.map(|position| position.seq).max()? + 1;
    Some(run.inserting(line, What::Log(logged)))
}

fn nack_landed(run: &Run<'_>, dice: &mut Dice) -> Option<Vec<Record>> {
    let line = run.pick(dice, |_, what| {
        matches!(what, What::PubAck(PubAck { position: Some(_), duplicate: false, .. }))
    })?;
    let What::PubAck(ack) = run.what(line) else { return None };
    Some(run.with(line, What::PubNack(ack.call)))
}

fn log_phantom(run: &Run<'_>, dice: &mut Dice) -> Option<Vec<Record>> {
    let line = run.pick(dice, |_, what| matches!(what, What::Log(_)))?;
    let What::Log(mut logged) = run.what(line).clone() else { return None };
    logged.id = "phantom".into();
    Some(run.with(line, What::Log(logged)))
}

/// Two entries change places in the log and in every stream, but not in the order of their acknowledgements.
fn reorder_acks(run: &Run<'_>, dice: &mut Dice) -> Option<Vec<Record>> {
    let acked = |what: &What| match what {
        What::PubAck(PubAck { position: Some(position), .. }) => Some(position.clone()),
        _ => None,
    };
    let after = |position: &Position| Position { seq: position.seq + 1, ..position.clone() };
    let line = run
        .pick(dice, |_, what| acked(what).is_some_and(|position| run.log.contains_key(&after(&position))))?;
    let one = acked(run.what(line))?;
    let two = after(&one);
    let mut records = run.records.to_vec();
    for record in &mut records {
        let place = match &mut record.what {
            What::PubAck(PubAck { position: Some(position), .. }) => position,
            What::Log(logged) => &mut logged.position,
            _ => continue,
        };
        if *place == one {
            place.seq += 1;
        } else if *place == two {
            place.seq -= 1;
        }
    }
    Some(records)
}

fn reuse_generation(run: &Run<'_>, dice: &mut Dice) -> Option<Vec<Record>> {
    let older = |line: usize| {
        let What::Welcome(welcome) = run.what(line) else { return None };
        let open = run.opens[&welcome.stream];
        run.records[..line].iter().rev().find_map(|record| match &record.what {
            What::Welcome(other)
                if other.epoch == welcome.epoch && run.opens[&other.stream].reader == open.reader =>
            {
                (open.hop == Hop::Gateway).then_some(other.generation)
            }
            _ => None,
        })
    };
    let line = run.pick(dice, |line, _| older(line).is_some())?;
    let What::Welcome(mut welcome) = run.what(line).clone() else { return None };
    welcome.generation = older(line)?;
    Some(run.with(line, What::Welcome(welcome)))
}

/// A stream goes on as if a rival had not been welcomed just before one of its events was appended.
fn feed_overtaken(run: &Run<'_>, dice: &mut Dice) -> Option<Vec<Record>> {
    let line = run.pick(dice, |_, what| {
        is_event(what) && what.stream().is_some_and(|stream| run.opens[&stream].hop == Hop::Gateway)
    })?;
    let position = run.position(line)?.clone();
    let open = run.opens[&run.what(line).stream()?];
    let head = Position { seq: position.seq - 1, ..position };
    let rival = Open { stream: u64::MAX, presented: Cursor::Empty, ..open.clone() };
    let welcome = Welcome {
        stream: u64::MAX,
        outcome: Outcome::Fresh,
        cursor: Cursor::At(head.clone()),
        oldest: head.clone(),
        epoch: head.epoch.clone(),
        head,
        generation: u64::MAX,
    };
    let mut records = run.inserting(line, What::Open(rival));
    records.insert(line + 2, Record { what: What::Welcome(welcome), ..records[line].clone() });
    Some(records)
}

fn drop_welcome(run: &Run<'_>, dice: &mut Dice) -> Option<Vec<Record>> {
    // A goodbye alone would be a stream that was not opened.
    let goes_on = |line| run.next(line).is_some_and(|next| !matches!(run.what(next), What::Goodbye(_)));
    Some(run.without(run.pick(dice, |line, what| matches!(what, What::Welcome(_)) && goes_on(line))?))
}

fn after_goodbye(run: &Run<'_>, dice: &mut Dice) -> Option<Vec<Record>> {
    let line = run.pick(dice, |line, what| matches!(what, What::Goodbye(_)) && run.before(line).is_some())?;
    Some(run.inserting(line, run.what(run.before(line)?).clone()))
}

fn drop_caught_up(run: &Run<'_>, _: &mut Dice) -> Option<Vec<Record>> {
    let last = run.records.iter().rposition(|record| matches!(record.what, What::CaughtUp(_)))?;
    let stream = run.what(last).stream();
    let mut records = run.records.to_vec();
    records.retain(|record| !(matches!(record.what, What::CaughtUp(_)) && record.what.stream() == stream));
    Some(records)
}
