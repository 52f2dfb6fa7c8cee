//! The ground truth: the log of each epoch as it was dumped, with an index of who is concerned.

use std::collections::HashMap;

use crate::history::{Hash, LogKnown, LogLine, LogRecord, Says, Uncounted};

/// Records begin with one, unless they say otherwise.
const SECOND_US: u64 = 1_000_000;

/// A position with its epoch as a number of the index. Positions of two epochs have no order but this arbitrary one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Pos {
    pub(super) epoch: u32,
    pub(super) seq: u64,
}

/// One entry of the log.
pub(super) struct Entry<'h> {
    pub(super) seq: u64,
    pub(super) line: &'h LogLine,
    /// The record that dumped it.
    pub(super) record: usize,
    /// When it was appended, if `log` lines are written then or say so.
    pub(super) at_us: u64,
    /// When it was dumped.
    pub(super) told_us: u64,
    /// Its recipients, as numbers of the index.
    pub(super) to: Vec<u32>,
    /// Those of them for whom a later entry has the same collapse key.
    pub(super) superseded_for: Vec<u32>,
}

/// Whom a standing record is about: a holder; and the recipient, if it is a membership.
pub(super) type About<'h> = (&'h str, Option<&'h str>);

/// What a standing record says.
pub(super) struct Record<'h> {
    pub(super) said: &'h LogRecord,
    /// When it was appended, if `log` lines are written then.
    pub(super) at_us: u64,
    /// Its fingerprint; `None` if the log has no line for it.
    pub(super) hash: Option<Hash>,
}

impl Record<'_> {
    /// Whether it says that something holds, and not that it no longer does.
    pub(super) const fn holds(&self) -> bool {
        matches!(self.said.says, Says::Member { member: true, .. } | Says::Void { .. })
    }

    /// Whether it holds beside others about the same.
    pub(super) const fn is_beside(&self) -> bool {
        matches!(self.said.says, Says::Void { .. })
    }

    /// Tokens issued before this are void, if it is about tokens.
    pub(super) fn before_us(&self) -> u64 {
        match self.said.says {
            Says::Void { before_us: Some(before_us), .. } => before_us,
            Says::Void { .. } | Says::Member { .. } => self.at_us,
        }
    }

    /// Whether it says so itself, to the microsecond.
    pub(super) const fn is_explicit(&self) -> bool {
        matches!(self.said.says, Says::Void { before_us: Some(_), .. })
    }

    /// Whether it lasts as long as another one, and voids as much.
    pub(super) fn outlasts(&self, other: &Self) -> bool {
        // One that does not say so itself begins with a second, which nobody knows here.
        let rounding_us = if self.is_explicit() == other.is_explicit() { 0 } else { SECOND_US };
        self.before_us() + rounding_us >= other.before_us() && self.lasts_as_long_as(other)
    }

    pub(super) fn lasts_as_long_as(&self, other: &Self) -> bool {
        self.said.until_us.is_none_or(|until| other.said.until_us.is_some_and(|other| other <= until))
    }

    /// Whether it says that something no longer holds, so that whoever cannot judge it believes it.
    pub(super) const fn takes_away(&self) -> bool {
        matches!(self.said.says, Says::Member { member: false, .. } | Says::Void { .. })
    }

    pub(super) const fn seq(&self) -> u64 {
        self.said.position.seq
    }
}

fn about(says: &Says) -> About<'_> {
    match says {
        Says::Member { holder, recipient, .. } => (holder, Some(recipient)),
        Says::Void { holder, .. } => (holder, None),
    }
}

/// The log of one epoch.
#[derive(Default)]
pub(super) struct EpochLog<'h> {
    /// In the order of their positions.
    pub(super) entries: Vec<Entry<'h>>,
    /// The last position, from entries and `head` records.
    pub(super) head: u64,
    /// When it was first heard of from the log itself, and from which process: the one that keeps it.
    pub(super) began: Option<(u64, &'h str)>,
    /// Two records that give one position to different payloads.
    pub(super) conflicts: Vec<(usize, usize)>,
    /// By what they are about, in the order of their positions.
    pub(super) records: HashMap<About<'h>, Vec<Record<'h>>>,
    /// The same of those that do not count and take something away: in doubt they are believed.
    pub(super) uncounted: HashMap<About<'h>, Vec<Record<'h>>>,
    /// What the standing records of a fingerprint are about.
    pub(super) about: HashMap<Hash, About<'h>>,
    known: Option<&'h LogKnown>,
    concerned: HashMap<u32, Vec<usize>>,
    standing: Vec<usize>,
}

impl<'h> EpochLog<'h> {
    pub(super) fn add(&mut self, entry: Entry<'h>) {
        self.head = self.head.max(entry.seq);
        self.entries.push(entry);
    }

    pub(super) fn add_record(&mut self, said: &'h LogRecord, at_us: u64) {
        let at_us = said.appended_us.unwrap_or(at_us);
        self.records.entry(about(&said.says)).or_default().push(Record { said, at_us, hash: None });
    }

    pub(super) fn add_uncounted(&mut self, said: &'h Uncounted, at_us: u64) {
        let record = Record { said: &said.record, at_us, hash: Some(said.hash) };
        if record.takes_away() {
            self.uncounted.entry(about(&said.record.says)).or_default().push(record);
        }
    }

    /// What was said of this by then and does not count.
    pub(super) fn in_doubt(&self, about: About<'h>, at_us: u64) -> impl Iterator<Item = &Record<'h>> {
        self.uncounted.get(&about).into_iter().flatten().filter(move |record| record.at_us <= at_us)
    }

    pub(super) const fn set_known(&mut self, known: &'h LogKnown) {
        self.known = Some(known);
    }

    /// To be called once, when all entries are in.
    pub(super) fn seal(&mut self) {
        self.entries.sort_by_key(|entry| entry.seq);
        let conflicts = &mut self.conflicts;
        self.entries.dedup_by(|later, kept| {
            let same_place = later.seq == kept.seq;
            if same_place && (&later.line.id, later.line.hash) != (&kept.line.id, kept.line.hash) {
                conflicts.push((kept.record, later.record));
            }
            same_place
        });
        let mut newest = HashMap::new();
        for entry in self.entries.iter_mut().rev() {
            let Some(key) = &entry.line.collapse_key else { continue };
            entry.superseded_for =
                entry.to.iter().copied().filter(|to| newest.insert((&**key, *to), ()).is_some()).collect();
        }
        let hashes: HashMap<u64, Hash> = self
            .entries
            .iter()
            .filter(|entry| entry.line.standing)
            .map(|entry| (entry.seq, entry.line.hash))
            .collect();
        for (about, records) in &mut self.records {
            records.sort_by_key(|record| record.seq());
            for record in records {
                record.hash = hashes.get(&record.seq()).copied();
                self.about.extend(record.hash.map(|hash| (hash, *about)));
            }
        }
        for (index, entry) in self.entries.iter().enumerate() {
            if entry.line.standing {
                self.standing.push(index);
            }
            for &recipient in &entry.to {
                self.concerned.entry(recipient).or_default().push(index);
            }
        }
    }

    pub(super) fn get(&self, seq: u64) -> Option<&Entry<'h>> {
        self.entries.get(self.index_after(seq.checked_sub(1)?)).filter(|entry| entry.seq == seq)
    }

    /// The index of the first entry after this position.
    pub(super) fn index_after(&self, seq: u64) -> usize {
        // Positions are nearly always without holes, so that the place is where counting says it is.
        if let (Some(first), Ok(offset)) = (self.entries.first(), usize::try_from(seq)) {
            let guess = (offset + 1).saturating_sub(usize::try_from(first.seq).unwrap_or(usize::MAX));
            let at = |index: usize| self.entries.get(index).map(|entry| entry.seq);
            if at(guess) == Some(seq + 1) && (guess == 0 || at(guess - 1).is_some_and(|before| before <= seq))
            {
                return guess;
            }
        }
        self.entries.partition_point(|entry| entry.seq <= seq)
    }

    /// The first entry from `index` on that has this recipient.
    pub(super) fn next_for(&self, recipient: u32, index: usize) -> Option<usize> {
        next_in(self.concerned.get(&recipient)?, index)
    }

    /// The first standing record from `index` on.
    pub(super) fn next_standing(&self, index: usize) -> Option<usize> {
        next_in(&self.standing, index)
    }

    /// Whether an entry at this position would be known.
    pub(super) fn is_whole_at(&self, seq: u64) -> bool {
        self.known.is_none_or(|known| seq > known.after && known.through.is_none_or(|through| seq <= through))
    }
}

fn next_in(indexes: &[usize], from: usize) -> Option<usize> {
    indexes.get(indexes.partition_point(|&index| index < from)).copied()
}
