//! Which entries of the log a reader must see, may see, or must not see.

pub(super) mod governed;

use super::index::{Index, Pos};
use super::log::{Entry, EpochLog};
use crate::history::{Hop, Name, Open};
use governed::Governed;

/// Above this many recipients, looking at every entry is quicker than asking the index for each recipient.
const INDEXED_MAX: usize = 64;

/// What a reader may expect of one entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Right {
    /// It must not be shown.
    None,
    /// It may be shown or left out.
    Maybe,
    /// It is owed, or a gap.
    Owed,
}

/// A reader's recipients as they are at some step of its stream.
pub(super) struct Entitlement<'h> {
    everything: bool,
    standing: bool,
    collapses: bool,
    grants: Vec<Granted<'h>>,
    /// What standing records do to it, if it is a user's.
    pub(super) governed: Governed<'h>,
}

struct Granted<'h> {
    recipient: &'h str,
    /// What it stands for: numbers of the index, in order.
    members: Vec<u32>,
    /// Entries after this position count; `None`: all.
    after: Option<Pos>,
    until: Until,
}

#[derive(Clone, Copy)]
enum Until {
    /// It still counts.
    Now,
    /// Taken away: up to this position an entry may be shown, beyond it must not.
    Position(Pos),
    /// Taken away at a moment nobody knows, or not yet.
    Unknown,
}

/// Entries of a range that a reader is owed at a time, or that it would be if nothing newer superseded them.
pub(super) struct Owed<'a, 'h> {
    index: &'a Index<'h>,
    entitlement: &'a Entitlement<'h>,
    log: Option<&'a EpochLog<'h>>,
    epoch: u32,
    which: Which,
    next: usize,
    upto: u64,
    at_us: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Which {
    Owed,
    Superseded,
}

impl<'h> Entitlement<'h> {
    pub(super) fn new(index: &Index<'h>, open: &'h Open) -> Self {
        let mut entitlement = Self {
            everything: open.recipients.is_empty(),
            standing: open.standing && open.hop == Hop::Gateway,
            collapses: open.collapses,
            grants: Vec::new(),
            governed: Governed::new(index, open),
        };
        for recipient in &open.recipients {
            entitlement.grant(index, recipient, None);
        }
        entitlement
    }

    pub(super) fn grant(&mut self, index: &Index<'h>, recipient: &'h str, after: Option<Pos>) {
        let members = index.matching(recipient);
        self.grants.push(Granted { recipient, members, after, until: Until::Now });
    }

    pub(super) fn ungrant(&mut self, recipient: &str, after: Option<Pos>) {
        for grant in &mut self.grants {
            if grant.recipient == recipient && !matches!(grant.until, Until::Position(_)) {
                grant.until = after.map_or(Until::Unknown, Until::Position);
            }
        }
    }

    /// What the reader may expect of an entry at a time.
    pub(super) fn right(&self, index: &Index<'h>, epoch: u32, entry: &Entry<'h>, at_us: u64) -> Right {
        if entry.line.standing {
            return if self.standing { Right::Owed } else { Right::None };
        }
        if self.everything {
            return Right::Owed;
        }
        let pos = Pos { epoch, seq: entry.seq };
        let rights = self.grants.iter().filter(|grant| grant.is_for(&entry.to)).map(|grant| grant.right(pos));
        let asked = rights.max().unwrap_or(Right::None);
        asked.max(self.governed.right(index, pos, entry, at_us)).min(self.governed.at_most(pos, at_us))
    }

    /// Whether an event of these recipients may be shown, wherever it lies.
    pub(super) fn may_see(&self, to: &[Name]) -> bool {
        let mut patterns = self.grants.iter().map(|grant| grant.recipient);
        let mut patterns = patterns.by_ref().chain(self.governed.recipients());
        self.everything || patterns.any(|pattern| to.iter().any(|to| matches(pattern, to)))
    }

    /// The entries of `(after, upto]` that are owed to a reader that stands at `after` at this time.
    pub(super) fn owed<'a>(
        &'a self,
        index: &'a Index<'h>,
        after: Pos,
        upto: u64,
        at_us: u64,
    ) -> Owed<'a, 'h> {
        self.entries(index, after, upto, at_us, Which::Owed)
    }

    /// The entries of `(after, upto]` that a collapsing reader need not get, because something newer has their key.
    pub(super) fn superseded<'a>(
        &'a self,
        index: &'a Index<'h>,
        after: Pos,
        upto: u64,
        at_us: u64,
    ) -> Owed<'a, 'h> {
        self.entries(index, after, upto, at_us, Which::Superseded)
    }

    /// Whether anything in `(after, upto]` may be for this reader, by now.
    pub(super) fn may_concern(&self, index: &Index<'h>, after: Pos, upto: u64, at_us: u64) -> bool {
        let Some(log) = index.log(after.epoch) else { return false };
        let mut next = log.index_after(after.seq);
        while let Some(found) = self.candidate(log, next) {
            let entry = &log.entries[found];
            if entry.seq > upto {
                return false;
            }
            if entry.at_us <= at_us && self.right(index, after.epoch, entry, at_us) != Right::None {
                return true;
            }
            next = found + 1;
        }
        false
    }

    fn entries<'a>(
        &'a self,
        index: &'a Index<'h>,
        after: Pos,
        upto: u64,
        at_us: u64,
        which: Which,
    ) -> Owed<'a, 'h> {
        let log = index.log(after.epoch);
        let next = log.map_or(0, |log| log.index_after(after.seq));
        Owed { index, entitlement: self, log, epoch: after.epoch, which, next, upto, at_us }
    }

    fn selects(&self, index: &Index<'h>, epoch: u32, entry: &Entry<'h>, at_us: u64, which: Which) -> bool {
        self.right(index, epoch, entry, at_us) == Right::Owed
            && entry.line.expires_at_us.is_none_or(|expires| at_us < expires)
            && (self.collapses && self.has_newer(entry)) == (which == Which::Superseded)
    }

    fn has_newer(&self, entry: &Entry<'h>) -> bool {
        let superseded = &entry.superseded_for;
        !superseded.is_empty()
            && (self.everything || self.grants.iter().any(|grant| grant.is_for(superseded)))
    }

    /// The first entry from `index` on that may concern this reader.
    fn candidate(&self, log: &EpochLog<'h>, index: usize) -> Option<usize> {
        let members = || self.grants.iter().flat_map(|grant| &grant.members).chain(self.governed.numbers());
        if self.everything || members().nth(INDEXED_MAX).is_some() {
            return (index < log.entries.len()).then_some(index);
        }
        let standing = if self.standing { log.next_standing(index) } else { None };
        members().filter_map(|&recipient| log.next_for(recipient, index)).chain(standing).min()
    }
}

impl Granted<'_> {
    fn is_for(&self, to: &[u32]) -> bool {
        to.iter().any(|to| self.members.binary_search(to).is_ok())
    }

    fn right(&self, pos: Pos) -> Right {
        let beyond = |limit: Pos| pos.epoch != limit.epoch || pos.seq > limit.seq;
        if self.after.is_some_and(|after| !beyond(after)) {
            return Right::None;
        }
        match self.until {
            Until::Now => Right::Owed,
            Until::Unknown => Right::Maybe,
            Until::Position(limit) if beyond(limit) => Right::None,
            Until::Position(_) => Right::Maybe,
        }
    }
}

impl<'a, 'h> Iterator for Owed<'a, 'h> {
    type Item = &'a Entry<'h>;

    fn next(&mut self) -> Option<Self::Item> {
        let log = self.log?;
        while let Some(found) = self.entitlement.candidate(log, self.next) {
            let entry = &log.entries[found];
            if entry.seq > self.upto {
                return None;
            }
            self.next = found + 1;
            if self.entitlement.selects(self.index, self.epoch, entry, self.at_us, self.which) {
                return Some(entry);
            }
        }
        None
    }
}

fn matches(pattern: &str, recipient: &str) -> bool {
    pattern.strip_suffix('*').map_or(pattern == recipient, |prefix| recipient.starts_with(prefix))
}
