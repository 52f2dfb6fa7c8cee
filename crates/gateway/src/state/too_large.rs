//! Users whose own limit is below an event: they close with 1009, come back, and would meet the same event for ever.
//!
//! Called by `ws` when a user closes so, and when one comes. The encoder notes what it writes ([`LargestSent`]), and leaves out
//! the positions that are named here: it tells a gap over each. Nobody says which frame was too large. The largest one
//! behind the cursor that the user comes back with is taken for it; if it was another one, the user closes again, and the
//! next one follows.
//!
//! What is remembered is bounded, and pure: the caller passes the time.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use galaxy_push_core::cursor::{Cursor, StartFrom};
use galaxy_push_core::window::{Slot, Traits, Window};
use galaxy_push_listener::subscriber;

use crate::state::grants::Identity;

#[cfg(test)]
mod tests;

/// A reader is remembered for this long after it last closed with 1009, or came back from that.
const REMEMBERED_FOR: Duration = Duration::from_secs(600);

/// So many readers are remembered. Beyond that the one that would be forgotten first is: it meets its event once more.
const READERS_MAX: usize = 4_096;

/// So many positions are left out of one reader's streams: as many as can be on the way to it when it closes.
const POSITIONS_MAX: usize = 128;

/// So many frames of one stream are noted.
const FRAMES_MAX: usize = 8;

/// The largest events that one stream was sent, each smaller than the one before it: whatever cursor its user comes back
/// with, the first one behind that is the largest one behind it.
#[derive(Clone, Debug, Default)]
pub(crate) struct LargestSent(Vec<(Slot, usize)>);

/// One of them, by its place in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    /// Its position; of an ephemeral event, which has none and never comes again, the one before it.
    at: Cursor,
    is_ephemeral: bool,
}

/// Whom it concerns.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ReaderKey {
    /// A user or a session, by name.
    Named { user: Option<String>, session: Option<String> },
    /// Somebody without a name, by its address.
    From(Option<IpAddr>),
    /// The same, by the cursor it came back with, too.
    Resuming(Option<IpAddr>, String),
}

/// The readers that are remembered.
#[derive(Debug, Default)]
pub(crate) struct TooLarge(Mutex<Entries>);

#[derive(Debug, Default)]
struct Entries {
    by_who: BTreeMap<Arc<ReaderKey>, Entry>,
    /// Each of them once, in the order in which they are forgotten.
    ends: BTreeSet<(Duration, Arc<ReaderKey>)>,
}

#[derive(Debug, Default)]
struct Entry {
    until: Duration,
    /// What the stream was sent that it closed: one of these was too large.
    suspects: Vec<Frame>,
    /// The positions that are left out of its streams, in the order in which they were found out.
    skipped: Vec<Cursor>,
}

impl LargestSent {
    /// An event of this many bytes is sent.
    pub(crate) fn note(&mut self, slot: Slot, bytes: usize) {
        let larger = self.0.partition_point(|&(_, noted)| noted >= bytes);
        // Where there is no room the last one makes it: its user had taken a larger one before, so it is the least likely.
        self.0.truncate(larger.min(FRAMES_MAX - 1));
        if self.0.last().is_none_or(|&(_, noted)| noted > bytes) {
            self.0.push((slot, bytes));
        }
    }

    /// Where they lie in the log. Those that have left the window are sent to nobody any more.
    pub(crate) fn frames(&self, window: &Window) -> Vec<Frame> {
        let entries = self.0.iter().filter_map(|&(slot, _)| window.get(slot));
        let frame = |traits: Traits, at| Frame { at, is_ephemeral: traits.has(Traits::EPHEMERAL) };
        entries.map(|entry| frame(entry.traits, entry.cursor)).collect()
    }
}

impl Frame {
    fn is_behind(&self, cursor: Cursor) -> bool {
        self.at.epoch != cursor.epoch || self.at.follows(cursor) || self.is_ephemeral && self.at == cursor
    }
}

impl ReaderKey {
    pub(crate) fn of(identity: &Identity, address: Option<IpAddr>) -> Self {
        match (&identity.user, &identity.session) {
            (None, None) => Self::From(address.map(subscriber)),
            (user, session) => Self::Named { user: user.clone(), session: session.clone() },
        }
    }

    /// Under which name it is remembered what is left out of a stream that is opened at this cursor.
    fn resuming(&self, ask: StartFrom) -> Self {
        match self {
            Self::From(address) => {
                let cursor = if let StartFrom::At(cursor) = ask { cursor.to_string() } else { String::new() };
                Self::Resuming(*address, cursor)
            }
            named => named.clone(),
        }
    }
}

impl TooLarge {
    /// This reader has closed with 1009 a stream that was sent these.
    pub(crate) fn record_close(&self, who: ReaderKey, suspects: Vec<Frame>, now: Duration) {
        if !suspects.is_empty() {
            self.lock().remember(who, now).suspects = suspects;
        }
    }

    /// This reader comes and asks for a stream from there: what is left out of it.
    pub(crate) fn positions_to_skip(&self, who: &ReaderKey, ask: StartFrom, now: Duration) -> Vec<Cursor> {
        let mut entries = self.lock();
        entries.forget(now);
        if ask == StartFrom::Head || entries.by_who.is_empty() {
            return Vec::new(); // nothing is replayed to it
        }
        let resuming = who.resuming(ask);
        if let Some(entry) = entries.by_who.get_mut(who)
            && let Some(found) = largest_behind(ask, &entry.suspects)
        {
            entry.suspects.clear();
            if !found.is_ephemeral {
                entries.remember(resuming.clone(), now).skip(found.at);
            }
        }
        entries.by_who.get(&resuming).map(|entry| entry.skipped.clone()).unwrap_or_default()
    }

    /// How many readers are remembered.
    pub(crate) fn len(&self, now: Duration) -> usize {
        let mut entries = self.lock();
        entries.forget(now);
        entries.by_who.len()
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The largest frame behind a cursor.
fn largest_behind(ask: StartFrom, suspects: &[Frame]) -> Option<Frame> {
    let StartFrom::At(cursor) = ask else { return suspects.first().copied() };
    // A stream may have gone from one epoch to another: what it was sent before that lies before the cursor.
    let epoch = suspects.iter().position(|frame| frame.at.epoch == cursor.epoch);
    suspects.iter().skip(epoch.unwrap_or(0)).find(|frame| frame.is_behind(cursor)).copied()
}

impl Entry {
    fn skip(&mut self, position: Cursor) {
        self.skipped.retain(|known| *known != position);
        if self.skipped.len() == POSITIONS_MAX {
            self.skipped.remove(0);
        }
        self.skipped.push(position);
    }
}

impl Entries {
    /// The reader of this name, remembered from now on.
    fn remember(&mut self, who: ReaderKey, now: Duration) -> &mut Entry {
        self.forget(now);
        let who = Arc::new(who);
        match self.by_who.get(&who) {
            Some(entry) => {
                self.ends.remove(&(entry.until, who.clone()));
            }
            None if self.by_who.len() >= READERS_MAX => {
                if let Some((_, first)) = self.ends.pop_first() {
                    self.by_who.remove(&first);
                }
            }
            None => {}
        }
        let until = now.saturating_add(REMEMBERED_FOR);
        self.ends.insert((until, who.clone()));
        let entry = self.by_who.entry(who).or_default();
        entry.until = until;
        entry
    }

    fn forget(&mut self, now: Duration) {
        while self.ends.first().is_some_and(|(until, _)| *until <= now)
            && let Some((_, who)) = self.ends.pop_first()
        {
            self.by_who.remove(&who);
        }
    }
}
