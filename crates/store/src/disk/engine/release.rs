//! Lets go of the oldest segment once the window has left it: a group of its own carries forward what still counts in there, and
//! says that the segment is needed no more. It is taken away when that group is durable, and not before.
//!
//! One segment at a time, so that a group carries no more than lay in one. Nobody waits for it, so it comes between the groups
//! of publishers, and also where nothing is published: by the time that [`Engine::age`] is told. It may use what each segment
//! keeps free for it ([`Engine::reserve_bytes`]), so that also a disk that is full gets its room back.
//!
//! The newest segment is let go too, once all that was published into it is too old and what gathers needs another one. That one is
//! begun for the group that lets it go; where there is no room for it, in what the newest segment has not needed.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::group::{Group, Reply};
use super::super::lock::lock;
use super::super::record::{Context, Known, put_cut, put_standing};
use super::Engine;

impl<R: Reply> Engine<R> {
    /// It is so late by the clock of the log, which goes on although nothing is stamped.
    pub(crate) fn age(&mut self, now: Duration) {
        self.now_unix_ms = self.now_unix_ms.max(unix_ms(now));
        self.may_release = true;
    }

    /// The segment to let go of next, if there is one.
    pub(crate) fn to_let_go(&self) -> Option<u64> {
        if !self.may_release || self.dead.is_some() {
            return None;
        }
        let now_unix_ms = self.now_unix_ms.max(self.stager.at.stamp_unix_ms);
        match self.retention.left(now_unix_ms) {
            Some(_) => self.retention.first(),
            None => self.retention.newest_left(now_unix_ms).filter(|_| self.needs_another()),
        }
    }

    /// Whether publishers have their turn, though a segment is to go: they may write as much as was freed. So neither does one of them
    /// wait for all that goes after a long time away, nor does the disk hold more meanwhile, nor is anybody refused for a room that is
    /// about to be freed.
    pub(super) fn lets_in(&self) -> bool {
        let Some(group) = &self.stager.open else { return false };
        let wants = if self.needs_another() {
            super::least_length(group, self.reserve_bytes(group))
        } else {
            super::room_of(group)
        };
        self.freed >= wants
    }

    /// Whether the group that gathers needs another segment.
    fn needs_another(&self) -> bool {
        let group = self.stager.open.as_ref().filter(|group| !group.is_empty());
        group.is_some_and(|group| !self.fits(group, self.reserve_bytes(group)))
    }

    /// The group that lets go of this segment and all before it: the keys and standing records that lie there and still count,
    /// once more.
    pub(super) fn carry(&self, number: u64) -> Group<R> {
        let mut group = Group::default().after(self.durable.head.seq);
        let out = &mut group.body;
        let visible = lock(&self.visible);
        // What is carried counts at this time, so the next life begins no earlier.
        let stamp_unix_ms = self.stager.at.stamp_unix_ms.max(self.now_unix_ms).max(unix_ms(visible.now));
        let put_context = |out: &mut Vec<u8>, publisher: &str, share: Option<&str>| {
            Context { publisher, share, wall_unix_ms: 0, stamp_unix_ms }.put(out);
        };
        put_context(out, "", None);
        let uncertain = self.gathering_keys();
        let uncertain = |publisher: &str| uncertain.get(publisher).copied().unwrap_or_default();
        let mut last = None;
        for (from, to) in self.retention.keys_up_to(number) {
            for (publisher, known) in visible.published.between(from, to, uncertain) {
                if last != Some(publisher) {
                    put_context(out, publisher, None);
                    last = Some(publisher);
                }
                let at_unix_ms = unix_ms(known.at);
                let seq = known.value.unwrap_or_default().0;
                Known { text: known.text, content: known.content, seq, at_unix_ms, carried: true }.put(out);
            }
        }
        if let Some(cut) = visible.published.cut() {
            put_cut(out, unix_ms(cut));
        }
        let mut last = None;
        for (kind, message, share) in visible.standing.kept_up_to(number) {
            if last != Some(share) {
                put_context(out, "", share.map(|share| &**share));
                last = Some(share);
            }
            put_standing(out, kind, message);
        }
        group
    }

    /// How many keys of whom gather: the last that are remembered of each. Of them nothing is certain yet.
    fn gathering_keys(&self) -> BTreeMap<&str, usize> {
        let mut keys = BTreeMap::new();
        for (publisher, count) in self.stager.open.iter().flat_map(|group| &group.keys) {
            *keys.entry(&**publisher).or_default() += count;
        }
        keys
    }
}

fn unix_ms(at: Duration) -> u64 {
    u64::try_from(at.as_millis()).unwrap_or(u64::MAX)
}
