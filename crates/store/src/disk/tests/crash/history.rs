//! What everybody was told over all lives of a log, and what must therefore be there.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use galaxy_push_core::cursor::Cursor;
use galaxy_push_core::frame::LogKind;

use super::super::super::lock::lock;
use super::super::super::segments::Job;
use super::super::super::simulated::Rng;
use super::super::world::{Asked, Life, Publisher, START_MS};
use super::{Seen, options, positioned};
use crate::{Appended, Batch, Error, Standing};

/// Everything that anybody was told.
pub(super) struct History {
    /// What lies at each position, for ever.
    pub(super) truth: BTreeMap<u64, (LogKind, Bytes)>,
    /// When each was stamped, and how late it is.
    pub(super) stamps: BTreeMap<u64, u64>,
    pub(super) now_ms: u64,
    pub(super) acked: Vec<(Batch, Vec<Appended>)>,
    /// What is in the log, acknowledged or not, in its order.
    pub(super) applied: Vec<Batch>,
    pub(super) head: u64,
    /// Under way, in their order; the last one may be gathering.
    pub(super) pending: Vec<Group>,
    pub(super) epoch: Option<Cursor>,
}

/// What is made durable together.
#[derive(Default)]
pub(super) struct Group {
    pub(super) batches: Vec<(Batch, Asked)>,
    /// It was handed to the disk, or is about to be.
    pub(super) sealed: bool,
}

impl Group {
    pub(super) fn is_refused(&self) -> bool {
        self.batches.iter().all(|(_, reply)| matches!(reply.answer(), Some(Err(Error::Refused(_)))))
    }
}

impl History {
    /// Something new, into the group that gathers.
    pub(super) fn publish(&mut self, life: &mut Life, publisher: &mut Publisher, rng: &mut Rng) {
        if self.pending.last().is_none_or(|group| group.sealed) {
            self.pending.push(Group::default());
        }
        for _ in 0..=rng.below(3) {
            let (batch, reply) = (publisher.batch(), Asked::default());
            self.now_ms = publisher.now_ms;
            life.engine.stage(batch.clone(), reply.clone());
            self.pending.last_mut().unwrap().batches.push((batch, reply));
        }
    }

    /// Nothing comes for a while.
    pub(super) fn wait(&mut self, life: &mut Life, publisher: &mut Publisher, rng: &mut Rng) {
        publisher.now_ms += rng.below(8_000);
        self.now_ms = publisher.now_ms;
        life.age(publisher.now_ms);
    }

    pub(super) fn seal(&mut self, life: &mut Life, seen: &mut Seen) -> Option<Job> {
        let job = life.engine.seal();
        let gathers = life.engine.gathering_bytes().is_some();
        if !gathers {
            self.pending.iter_mut().for_each(|group| group.sealed = true);
        }
        if job.as_ref().is_some_and(|job| job.is_release) {
            seen.releases += 1;
            seen.overtaken += u64::from(gathers);
        }
        self.acknowledge(life, seen);
        job
    }

    /// Takes the answers that have come: group by group, in order, and never an answer but that it is there.
    pub(super) fn acknowledge(&mut self, life: &Life, seen: &mut Seen) {
        let in_flight = self.pending.len();
        // Whatever is before them, they are in the log neither now nor ever.
        self.pending.retain(|group| !group.is_refused());
        seen.refused += (in_flight - self.pending.len()) as u64;
        while let Some(group) = self.pending.first() {
            let answers: Vec<_> = group.batches.iter().map(|(_, reply)| reply.answer()).collect();
            if answers.iter().all(Option::is_none) || answers.iter().flatten().any(Result::is_err) {
                break;
            }
            let group = self.pending.remove(0);
            for ((batch, _), answer) in group.batches.into_iter().zip(answers) {
                let Some(Ok(results)) = answer else { panic!("a group is acknowledged as a whole") };
                for ((kind, event), cursor) in
                    positioned(&batch).zip(results.iter().filter_map(|result| result.cursor))
                {
                    self.told(cursor.seq.0, kind, &event);
                    self.stamps.insert(cursor.seq.0, batch.stamp_unix_ms);
                    self.head = cursor.seq.0;
                }
                self.applied.push(batch.clone());
                self.acked.push((batch, results));
            }
        }
        let told = lock(&life.reader.0);
        // All of it may have left the window.
        let base = told.base.map(|base| base.seq.0);
        let last = told.held.last_key_value().map(|(seq, _)| *seq).or(base);
        assert_eq!(last, Some(self.head));
    }

    pub(super) fn told(&mut self, seq: u64, kind: LogKind, event: &Bytes) {
        let before = self.truth.insert(seq, (kind, event.clone()));
        assert!(
            before.is_none_or(|before| before == (kind, event.clone())),
            "{seq} names one payload for ever"
        );
    }

    /// The log goes on from here: what had landed is told now.
    pub(super) fn opened(&mut self, life: &Life) {
        let landed = self.landed(life);
        let stamps = self.there(landed).flat_map(|batch| positioned(batch).map(|_| batch.stamp_unix_ms));
        let stamps: Vec<_> = (self.head + 1..).zip(stamps).collect();
        self.stamps.extend(stamps);
        let told = lock(&life.reader.0);
        self.epoch = self.epoch.or(told.base);
        let base = told.base.map_or(0, |base| base.seq.0);
        let held: Vec<_> = told.held.iter().map(|(seq, held)| (*seq, held.clone())).collect();
        drop(told);
        for (seq, (kind, event)) in held {
            self.told(seq, kind, &event);
            self.head = self.head.max(seq);
        }
        self.head = self.head.max(base);
        let in_flight = std::mem::take(&mut self.pending).into_iter().take(landed);
        self.applied.extend(in_flight.flat_map(|group| group.batches).map(|(batch, _)| batch));
    }

    /// How many of the groups under way are there: one only with all before it.
    pub(super) fn landed(&self, life: &Life) -> usize {
        let told = lock(&life.reader.0);
        let head = told.held.last_key_value().map(|(seq, _)| *seq).or(told.base.map(|base| base.seq.0));
        let beyond = head.unwrap_or_default().saturating_sub(self.head);
        let mut ends = vec![0];
        for group in self.pending.iter().filter(|group| group.sealed) {
            let count = group.batches.iter().flat_map(|(batch, _)| positioned(batch)).count() as u64;
            ends.push(ends.last().unwrap() + count);
        }
        let landed = ends.iter().rposition(|end| *end == beyond);
        landed.unwrap_or_else(|| panic!("{beyond} of {ends:?} are there: all of a group or nothing"))
    }

    /// What of the groups under way is there.
    pub(super) fn there(&self, landed: usize) -> impl Iterator<Item = &Batch> {
        self.pending.iter().take(landed).flat_map(|group| &group.batches).map(|(batch, _)| batch)
    }

    pub(super) fn check(&self, life: &Life, seed: u64, seen: &mut Seen) {
        assert_eq!(life.recovered.damage, [], "seed {seed}: a crash damages nothing");
        let landed = self.landed(life);
        let told = lock(&life.reader.0);
        assert_eq!(told.gaps, [], "seed {seed}");
        let base = told.base.unwrap();
        if let Some(before) = self.epoch {
            assert_eq!(base.epoch, before.epoch, "seed {seed}: the epoch goes on");
        }
        // Everything the window holds, by any of its bounds, is there, and is what it was.
        let window = options(seed).window;
        let there: Vec<_> = self.there(landed).flat_map(positioned).collect();
        let mut bytes = there.iter().map(|(_, event)| event.len() as u64 + 100).sum::<u64>();
        for (events, (seq, (kind, event))) in (there.len()..).zip(self.truth.iter().rev()) {
            bytes += event.len() as u64 + 100;
            if *seq <= base.seq.0 {
                let age_ms = self.now_ms - self.stamps[seq];
                let is_too_old = u128::from(age_ms) > window.age.as_millis();
                let held = events as u64 >= window.events || bytes > window.bytes || is_too_old;
                assert!(held, "seed {seed}: {seq} is gone, and the window holds it");
                break;
            }
            assert_eq!(told.held.get(seq), Some(&(*kind, event.clone())), "seed {seed}: {seq} has changed");
        }
        // What is there may have left the window before anybody was told of it.
        let (left, behind) = there.split_at(there.len().min(base.seq.0.saturating_sub(self.head) as usize));
        let beyond = told.held.range(self.head + 1..).map(|(_, held)| held.clone());
        assert_eq!(beyond.collect::<Vec<_>>(), behind, "seed {seed}");
        if let Some(last) = left.last() {
            let bytes = behind.iter().chain([last]).map(|(_, event)| event.len() as u64 + 100).sum::<u64>();
            let stamps = self.there(landed).flat_map(|batch| positioned(batch).map(|_| batch.stamp_unix_ms));
            let age_ms = stamps.take(left.len()).last().map_or(0, |stamp| self.now_ms - stamp);
            let is_too_old = u128::from(age_ms) > window.age.as_millis();
            let held = behind.len() as u64 >= window.events || bytes > window.bytes || is_too_old;
            assert!(held, "seed {seed}: what was under way is gone, and the window holds it");
            seen.left_untold += 1;
        }
        drop(told);
        self.check_standing(life, landed, seed);
        self.check_keys(life, seed, seen);
        seen.torn += u64::from(life.recovered.torn);
        let counts = if landed > 0 { &mut seen.landed } else { &mut seen.lost };
        *counts += u64::from(!self.pending.is_empty());
    }

    pub(super) fn check_standing(&self, life: &Life, landed: usize, seed: u64) {
        let mut expected = Standing::new(crate::standing::RECORDS_MAX);
        for batch in self.applied.iter().chain(self.there(landed)) {
            for change in batch.items.iter().filter_map(|item| item.change.as_ref()) {
                expected.apply(change, batch.publisher.as_ref(), batch.now.unix_ms);
            }
        }
        let mut page = expected.page(None, usize::MAX, 0, START_MS);
        assert_eq!(life.standing(), std::mem::take(&mut page.records), "seed {seed}: what holds");
    }

    /// Everything published within the age is recognised, with its position.
    pub(super) fn check_keys(&self, life: &Life, seed: u64, seen: &mut Seen) {
        let visible = life.engine.visible();
        let mut visible = lock(&visible);
        let now = visible.now;
        let base = lock(&life.reader.0).base.unwrap();
        let stamped = self.applied.iter().filter(|batch| positioned(batch).next().is_some());
        let stamped_ms = stamped.map(|batch| batch.stamp_unix_ms).max().unwrap_or_default();
        let told_ms = lock(&life.reader.0).stamped_until_ms;
        assert!(
            now.as_millis() as u64 >= stamped_ms && told_ms >= stamped_ms,
            "seed {seed}: the clock goes on"
        );
        for (batch, results) in &self.acked {
            let age = now.saturating_sub(Duration::from_millis(batch.stamp_unix_ms));
            let is_remembered = age <= options(seed).dedup.age;
            for (item, result) in batch.items.iter().zip(results) {
                let Some((key, content)) = &item.key else { continue };
                let known = visible.published.get(key, now);
                let expected = (*content, result.cursor.map(|cursor| cursor.seq));
                let expected = is_remembered.then_some(expected);
                assert_eq!(known, expected, "seed {seed}: {key:?}, {age:?} old");
                seen.too_old += u64::from(!is_remembered);
                let has_left = result.cursor.is_some_and(|cursor| base.follows(cursor));
                seen.carried += u64::from(is_remembered && has_left);
            }
        }
    }
}
