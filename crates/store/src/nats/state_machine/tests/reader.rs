//! What readers at one hub were told, and whether it is what the stream says.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Included};

use bytes::Bytes;
use galaxy_push_core::frame::{FrameView, message};
use galaxy_push_core::window::Traits;

use super::super::Output;
use super::oracle::Oracle;
use super::world::EPOCH;

/// What was told, checked as far as it can be without knowing the stream.
#[derive(Debug)]
pub(super) struct Reader {
    /// The first message that was there.
    pub(super) first: u64,
    base: Option<u64>,
    /// Everything up to here was told.
    told_to: u64,
    entries: BTreeMap<u64, Bytes>,
    ephemeral: Vec<Bytes>,
    pub(super) gaps: Vec<(u64, u64)>,
    /// Messages went before they were read.
    pub(super) has_missed: bool,
    is_live: bool,
    continues: bool,
}

impl Reader {
    pub(super) fn new(first: u64) -> Self {
        let (entries, ephemeral, gaps) = (BTreeMap::new(), Vec::new(), Vec::new());
        let (base, told_to, has_missed, is_live, continues) = (None, 0, false, false, false);
        Self { first, base, told_to, entries, ephemeral, gaps, has_missed, is_live, continues }
    }

    pub(super) fn misses(&mut self, some: bool) {
        self.has_missed |= some;
    }

    pub(super) fn goes_live(&mut self) {
        self.is_live = true;
    }

    pub(super) fn end(&self) -> u64 {
        self.told_to
    }

    /// The position that it began behind.
    pub(super) fn base(&self) -> Option<u64> {
        self.base
    }

    pub(super) fn take(&mut self, told: &mut Vec<Output>) {
        for told in told.drain(..) {
            assert!(self.base.is_some() || matches!(told, Output::Begin(_)), "it begins first: {told:?}");
            match told {
                Output::Begin(base) => {
                    assert_eq!(self.base.replace(base.seq.0), None, "it begins once");
                    self.told_to = base.seq.0;
                }
                Output::Records(_) => panic!("there are no records in here"),
                Output::Entries(entries) => entries.iter().for_each(|entry| self.entry(entry)),
                Output::Gap { from, to } => {
                    assert!(!self.continues, "no gap within a request");
                    assert!(from.seq.0 >= self.told_to && to.follows(from), "{from} {to}");
                    self.gaps.push((from.seq.0, to.seq.0));
                    self.told_to = to.seq.0;
                }
                Output::Upto(to) => {
                    assert!(!self.continues && to.seq.0 >= self.told_to);
                    self.told_to = to.seq.0;
                }
            }
        }
    }

    fn entry(&mut self, entry: &crate::Committed) {
        assert_eq!(entry.cursor.epoch, EPOCH);
        let view = FrameView::read(message(&entry.frame)).expect("a frame can be read");
        let body = Bytes::copy_from_slice(view.body());
        self.continues = entry.traits.has(Traits::CONTINUES);
        if entry.traits.has(Traits::EPHEMERAL) {
            assert!(view.cursor().is_empty() && entry.cursor.seq.0 >= self.told_to, "the position before it");
            self.told_to = entry.cursor.seq.0;
            assert!(self.is_live, "what is for live readers only is not told of the past");
            self.ephemeral.push(body);
        } else {
            assert_eq!(view.cursor(), entry.cursor.to_string());
            assert!(entry.cursor.seq.0 > self.told_to, "positions rise");
            self.told_to = entry.cursor.seq.0;
            self.entries.insert(entry.cursor.seq.0, body);
        }
    }

    /// What it was told is what the stream says, and what it was not told lies in a gap.
    pub(super) fn check(&self, oracle: &Oracle) {
        let Some(base) = self.base else { return };
        for (seq, event) in &self.entries {
            let entry = oracle.entries.get(seq);
            assert_eq!(entry.map(|entry| &entry.event), Some(event), "position {seq} of {self:?}");
            assert!(!self.is_in_gap(*seq), "what was told was not missed");
        }
        for (seq, entry) in oracle.entries.range((Excluded(base), Included(self.told_to))) {
            assert!(
                self.entries.contains_key(seq) || self.is_in_gap(*seq),
                "{seq} is left out in silence: {entry:?}"
            );
        }
        for event in &self.ephemeral {
            assert!(oracle.ephemeral.values().any(|entry| entry.event == *event), "{event:?}");
        }
    }

    fn is_in_gap(&self, seq: u64) -> bool {
        self.gaps.iter().any(|(from, to)| *from < seq && seq <= *to)
    }
}
