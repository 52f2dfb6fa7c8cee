//! What a segment's bytes hold: groups, damaged stretches, and how it ends.
//!
//! Pure. One group is written at a time, and the next only once it is durable. So bytes that are no group, with a group
//! behind them, are damage. At the very end they may be the group that was being written when the process or the machine
//! stopped, which nobody was told of: then some of its sectors were never written and are all zeros, as the space was before.
//! What cannot be that is damage too.

use super::format::{
    CLOSED, CONTINUED, ENTRY_BYTES_MIN, GROUP_HEAD_BYTES, GROUPS_START, GroupHead, HAS_ZERO_SECTOR, Sums,
    has_zero_sector,
};

/// What lies in a segment, in its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// A group as it was written.
    Group(GroupHead),
    /// These bytes were a group, or several.
    Damaged { from: u64, to: u64 },
}

/// How a segment ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Nothing was being written.
    Clean,
    /// The next segment was begun.
    Continued,
    /// The store was closed.
    Closed,
    /// A group was being written, and was never durable.
    Torn,
    /// Damaged; it held at most so many positions.
    Damaged { positions_max: u64 },
}

/// A segment that was looked through.
#[derive(Debug)]
pub(crate) struct Scanned {
    pub(crate) pieces: Vec<Piece>,
    pub(crate) end: End,
    /// Where its groups end, what is damaged included.
    pub(crate) end_offset: u64,
}

/// The bytes of one segment, and what is known of them from elsewhere.
pub(crate) struct Scan<'a> {
    pub(crate) file: &'a [u8],
    pub(crate) sums: &'a Sums,
    pub(crate) number: u64,
    /// How long the file should be.
    pub(crate) bytes: u64,
    /// Where its groups end, as the next segment says.
    pub(crate) end_offset: Option<u64>,
}

impl Scan<'_> {
    pub(crate) fn run(&self) -> Scanned {
        let (mut pieces, mut at) = (Vec::new(), GROUPS_START);
        loop {
            if self.end_offset.is_some_and(|end| at >= end) {
                return Scanned { pieces, end: End::Continued, end_offset: at };
            }
            match self.head_at(at) {
                Some((head, sum)) if self.is_whole(&head, sum) => {
                    if head.flags & (CONTINUED | CLOSED) != 0 {
                        let end = if head.flags & CLOSED != 0 { End::Closed } else { End::Continued };
                        return Scanned { pieces, end, end_offset: at };
                    }
                    pieces.push(Piece::Group(head));
                    at += head.padded_bytes();
                }
                broken => {
                    let beyond =
                        broken.map_or(at + GROUP_HEAD_BYTES as u64, |(head, _)| at + head.padded_bytes());
                    // Where the next segment says that more was here, it was durable.
                    let Some(next) = self.next_head(beyond).or(self.end_offset) else {
                        return self.ending(pieces, at, broken.map(|(head, _)| head));
                    };
                    pieces.push(Piece::Damaged { from: at, to: next });
                    at = next;
                }
            }
        }
    }

    /// Nothing that is a group follows, and no other segment says that there should be.
    fn ending(&self, mut pieces: Vec<Piece>, at: u64, head: Option<GroupHead>) -> Scanned {
        let rest = self.file.get(at as usize..).unwrap_or_default();
        let written = rest.iter().rposition(|byte| *byte != 0).map_or(0, |last| last as u64 + 1);
        let cut_off = self.bytes.saturating_sub(self.file.len() as u64);
        let (end, end_offset) = match head {
            _ if cut_off > 0 => (damaged(written + cut_off), at + written),
            Some(head) if self.is_torn(&head) => (End::Torn, at),
            Some(head) => (End::Damaged { positions_max: head.positions.into() }, at + head.padded_bytes()),
            None if self.is_blank(at) && !self.has_strayed(at) => {
                (if written == 0 { End::Clean } else { End::Torn }, at)
            }
            None => (damaged(written), at + written),
        };
        let end_offset = end_offset.next_multiple_of(GROUP_HEAD_BYTES as u64);
        if let End::Damaged { .. } = end {
            pieces.push(Piece::Damaged { from: at, to: end_offset });
        }
        Scanned { pieces, end, end_offset }
    }

    fn head_at(&self, at: u64) -> Option<(GroupHead, u32)> {
        let head = GroupHead::decode(self.file.get(at as usize..)?, self.sums)?;
        (head.0.segment == self.number && head.0.offset == at).then_some(head)
    }

    fn is_whole(&self, head: &GroupHead, sum: u32) -> bool {
        self.file.get(head.summed()).is_some_and(|body| self.sums.of(body) == sum)
    }

    /// Where the next head is, from `from` on.
    fn next_head(&self, from: u64) -> Option<u64> {
        let last = self.file.len().saturating_sub(GROUP_HEAD_BYTES) as u64;
        (from..=last).step_by(GROUP_HEAD_BYTES).find(|at| self.head_at(*at).is_some())
    }

    /// Whether a group of this store lies here that belongs elsewhere: what should lie here may lie there.
    fn has_strayed(&self, from: u64) -> bool {
        let last = self.file.len().saturating_sub(GROUP_HEAD_BYTES) as u64;
        (from..=last).step_by(GROUP_HEAD_BYTES).any(|at| {
            self.file.get(at as usize..).is_some_and(|bytes| GroupHead::decode(bytes, self.sums).is_some())
        })
    }

    /// Whether a sector of its body was never written.
    fn is_torn(&self, head: &GroupHead) -> bool {
        let group = head.offset as usize..(head.offset + head.padded_bytes()) as usize;
        let group = self.file.get(group).unwrap_or_default();
        head.flags & HAS_ZERO_SECTOR == 0 && has_zero_sector(group, head.offset)
    }

    fn is_blank(&self, at: u64) -> bool {
        let head = self.file.get(at as usize..at as usize + GROUP_HEAD_BYTES);
        head.is_none_or(|head| head.iter().all(|byte| *byte == 0))
    }
}

const fn damaged(bytes: u64) -> End {
    End::Damaged { positions_max: bytes / ENTRY_BYTES_MIN + 1 }
}
