//! The bytes on the disk: heads of segments and groups, and the records inside a group.
//!
//! Pure. [`scan`](super::scan) reads with it, [`stage`](super::stage) writes. All numbers are little-endian. Every checksum
//! starts from the store's epoch and salt, and a group's head names the segment and offset where it belongs: bytes of
//! another log, of another place, or made up by a publisher are never taken for a group.

use std::ops::Range;

use galaxy_push_core::cursor::{Epoch, Seq};

use crate::fields::Fields;

/// The version of the format, in every segment's head.
pub(crate) const VERSION: u32 = 1;

/// A disk writes or loses this much at once.
pub(crate) const SECTOR_BYTES: usize = 512;

/// Where the groups of a segment begin: behind two copies of its head, each in a sector of its own.
pub(crate) const GROUPS_START: u64 = 1024;

/// The length of a group's head. Groups begin at multiples of it, so that a head never lies across two sectors.
pub(crate) const GROUP_HEAD_BYTES: usize = 64;

/// No entry is shorter than this on the disk, so damaged bytes hold at most so many positions.
pub(crate) const ENTRY_BYTES_MIN: u64 = 24;

const SEGMENT_HEAD_BYTES: usize = 128;
const SEGMENT_MAGIC: [u8; 8] = *b"GPUSHLOG";
const PADDING: u8 = 0xFF;
const GROUP_MAGIC: [u8; 4] = *b"GPgr";

/// What a segment says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHead {
    pub(crate) epoch: Epoch,
    /// Random, and no reader is told: nobody can write a payload that looks like a group.
    pub(crate) salt: u64,
    /// Segments are numbered from 1 on.
    pub(crate) number: u64,
    /// The length of the file.
    pub(crate) bytes: u64,
    /// The last position before it.
    pub(crate) after: Seq,
    /// The number of the last group before it.
    pub(crate) after_group: u64,
    /// Where the groups of the segment before it end.
    pub(crate) previous_end: u64,
    /// The log was stamped up to here before it, in milliseconds since the Unix epoch.
    pub(crate) stamped_unix_ms: u64,
}

/// What a group says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GroupHead {
    pub(crate) segment: u64,
    pub(crate) offset: u64,
    /// Groups are numbered through all segments.
    pub(crate) number: u64,
    /// The last position before it.
    pub(crate) after: Seq,
    /// The first segment that is needed once this group is durable.
    pub(crate) oldest: u64,
    /// How many positions it holds.
    pub(crate) positions: u32,
    pub(crate) body_bytes: u32,
    pub(crate) flags: u8,
    /// With this each byte of the body was changed, so that no sector has nothing but zeros in it.
    pub(crate) mask: u8,
}

/// There was no such mask: a sector of its body looks as if it had never been written.
pub(crate) const HAS_ZERO_SECTOR: u8 = 1;
/// Nothing follows in this segment: the next one was begun, and is durable.
pub(crate) const CONTINUED: u8 = 2;
/// Nothing follows in this segment: the store was closed.
pub(crate) const CLOSED: u8 = 4;

/// How much room the end of a segment takes, an empty group that says [`CONTINUED`] or [`CLOSED`], in bytes. Kept free in each.
pub(crate) const ENDING_BYTES: u64 = 2 * GROUP_HEAD_BYTES as u64;

/// A segment that is no longer than it must be is a multiple of this long: file systems give room in such pieces.
pub(crate) const LENGTH_STEP: u64 = 4 << 10;

/// Why a segment's head cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeadError {
    /// It was never written, or it is damaged.
    Unreadable,
    /// Another version wrote it.
    Version(u32),
}

/// The checksums of one store.
#[derive(Clone, Debug)]
pub(crate) struct Sums(crc32fast::Hasher);

impl Sums {
    pub(crate) fn new(epoch: Epoch, salt: u64) -> Self {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&epoch.0.to_le_bytes());
        hasher.update(&salt.to_le_bytes());
        Self(hasher)
    }

    pub(crate) fn of(&self, bytes: &[u8]) -> u32 {
        let mut hasher = self.0.clone();
        hasher.update(bytes);
        hasher.finalize()
    }
}

impl SegmentHead {
    /// Both copies and the space behind them, up to where groups begin.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut head = Vec::with_capacity(GROUPS_START as usize);
        head.extend_from_slice(&SEGMENT_MAGIC);
        head.extend_from_slice(&VERSION.to_le_bytes());
        head.extend_from_slice(&[0; 4]);
        head.extend_from_slice(&self.epoch.0.to_le_bytes());
        for number in [
            self.salt,
            self.number,
            self.bytes,
            self.after.0,
            self.after_group,
            self.previous_end,
            self.stamped_unix_ms,
        ] {
            head.extend_from_slice(&number.to_le_bytes());
        }
        head.resize(SEGMENT_HEAD_BYTES, 0);
        let sum = segment_sum(&head);
        head[12..16].copy_from_slice(&sum.to_le_bytes());
        let mut both = head.clone();
        both.resize(SECTOR_BYTES, 0);
        both.extend_from_slice(&head);
        both.resize(GROUPS_START as usize, 0);
        both
    }

    /// Reads whichever copy is whole.
    pub(crate) fn decode(file: &[u8]) -> Result<Self, HeadError> {
        let copies = [0, SECTOR_BYTES].map(|at| Self::decode_copy(file.get(at..).unwrap_or_default()));
        let version = copies.iter().find(|copy| matches!(copy, Err(HeadError::Version(_)))).copied();
        let whole = copies.into_iter().find(Result::is_ok);
        whole.or(version).unwrap_or(Err(HeadError::Unreadable))
    }

    /// Where the copy lies that cannot be read, or says another thing than the one before it, while the other is whole.
    pub(crate) fn worn(file: &[u8]) -> Option<Range<u64>> {
        let copies = [0, SECTOR_BYTES].map(|at| Self::decode_copy(file.get(at..).unwrap_or_default()));
        let at = match copies {
            [Err(_), Ok(_)] => 0,
            [Ok(_), Err(_)] => SECTOR_BYTES as u64,
            [Ok(first), Ok(second)] if first != second => SECTOR_BYTES as u64,
            _ => return None,
        };
        Some(at..at + SECTOR_BYTES as u64)
    }

    fn decode_copy(head: &[u8]) -> Result<Self, HeadError> {
        let head = head.get(..SEGMENT_HEAD_BYTES).ok_or(HeadError::Unreadable)?;
        let mut fields = Fields(head);
        let (magic, version, sum) = (fields.take(8), fields.u32(), fields.u32());
        if magic != Some(&SEGMENT_MAGIC) || sum != Some(segment_sum(head)) {
            return Err(HeadError::Unreadable);
        }
        if version != Some(VERSION) {
            return Err(HeadError::Version(version.unwrap_or_default()));
        }
        let epoch = fields.take(16).and_then(|bytes| bytes.try_into().ok()).map(u128::from_le_bytes);
        let mut next = || fields.u64().ok_or(HeadError::Unreadable);
        Ok(Self {
            epoch: Epoch(epoch.ok_or(HeadError::Unreadable)?),
            salt: next()?,
            number: next()?,
            bytes: next()?,
            after: Seq(next()?),
            after_group: next()?,
            previous_end: next()?,
            stamped_unix_ms: next()?,
        })
    }
}

fn segment_sum(head: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&head[..12]);
    hasher.update(&head[16..]);
    hasher.finalize()
}

impl GroupHead {
    /// How much room the group takes.
    ///
    /// One byte of padding at least, and none of it zero: so the last sector never reads as if it had not been written.
    pub(crate) fn padded_bytes(&self) -> u64 {
        (GROUP_HEAD_BYTES as u64 + u64::from(self.body_bytes) + 1).next_multiple_of(GROUP_HEAD_BYTES as u64)
    }

    /// Where its body lies in the segment.
    pub(crate) fn body(&self) -> Range<usize> {
        let start = self.offset as usize + GROUP_HEAD_BYTES;
        start..start + self.body_bytes as usize
    }

    /// What its checksum is of: the body and the padding.
    pub(crate) fn summed(&self) -> Range<usize> {
        self.body().start..(self.offset + self.padded_bytes()) as usize
    }

    /// Writes the head into the front of `group`, which is the body behind room for it, and pads it. Returns the mask that
    /// the body was given.
    pub(crate) fn seal(mut self, group: &mut Vec<u8>, sums: &Sums) -> u8 {
        self.body_bytes = (group.len() - GROUP_HEAD_BYTES) as u32;
        group.resize(self.padded_bytes() as usize, PADDING);
        if has_zero_sector(group, self.offset) {
            match mask_for(group, self.offset) {
                Some(mask) => self.mask = mask,
                None => self.flags |= HAS_ZERO_SECTOR,
            }
            unmask(&mut group[GROUP_HEAD_BYTES..], self.mask);
        }
        let mut head = Vec::with_capacity(GROUP_HEAD_BYTES);
        head.extend_from_slice(&GROUP_MAGIC);
        head.extend_from_slice(&[0; 4]);
        for number in [self.segment, self.offset, self.number, self.after.0, self.oldest] {
            head.extend_from_slice(&number.to_le_bytes());
        }
        for number in [self.positions, self.body_bytes, sums.of(&group[GROUP_HEAD_BYTES..])] {
            head.extend_from_slice(&number.to_le_bytes());
        }
        head.extend_from_slice(&[self.flags, self.mask]);
        head.resize(GROUP_HEAD_BYTES, 0);
        let sum = sums.of(&head[8..]);
        head[4..8].copy_from_slice(&sum.to_le_bytes());
        group[..GROUP_HEAD_BYTES].copy_from_slice(&head);
        self.mask
    }

    /// The head at the front of `bytes`, wherever it belongs, and the checksum of its body.
    pub(crate) fn decode(bytes: &[u8], sums: &Sums) -> Option<(Self, u32)> {
        let head = bytes.get(..GROUP_HEAD_BYTES)?;
        let mut fields = Fields(head);
        if fields.take(4)? != GROUP_MAGIC || fields.u32()? != sums.of(&head[8..]) {
            return None;
        }
        let (segment, offset, number) = (fields.u64()?, fields.u64()?, fields.u64()?);
        let (after, oldest, positions) = (Seq(fields.u64()?), fields.u64()?, fields.u32()?);
        let (body_bytes, body_sum) = (fields.u32()?, fields.u32()?);
        let (flags, mask) = (fields.u8()?, fields.u8()?);
        let head = Self { segment, offset, number, after, oldest, positions, body_bytes, flags, mask };
        Some((head, body_sum))
    }
}

/// Whether a sector behind the first one would read as if it had never been written.
pub(crate) fn has_zero_sector(group: &[u8], offset: u64) -> bool {
    let first = SECTOR_BYTES - offset as usize % SECTOR_BYTES;
    let rest = group.get(first..).unwrap_or_default();
    rest.chunks(SECTOR_BYTES).any(|sector| sector.iter().all(|byte| *byte == 0))
}

/// A byte that no sector behind the first one consists of.
fn mask_for(group: &[u8], offset: u64) -> Option<u8> {
    let first = SECTOR_BYTES - offset as usize % SECTOR_BYTES;
    let mut taken = [false; 256];
    (taken[0], taken[usize::from(PADDING)]) = (true, true);
    for sector in group.get(first..).unwrap_or_default().chunks(SECTOR_BYTES) {
        if sector.iter().all(|byte| *byte == sector[0]) {
            taken[usize::from(sector[0])] = true;
        }
    }
    (0..=u8::MAX).find(|byte| !taken[usize::from(*byte)])
}

/// Takes the mask off, or puts it on.
pub(crate) fn unmask(body: &mut [u8], mask: u8) {
    if mask != 0 {
        body.iter_mut().for_each(|byte| *byte ^= mask);
    }
}
