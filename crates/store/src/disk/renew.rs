//! Makes durable what the last life may have left undone, before anybody is told of it.
//!
//! A process that was killed between the write of a group and its sync leaves the group to be read, though it is on no disk yet.
//! And after a sync that failed the system may call durable what it never wrote. So the last group is written once more, byte for
//! byte, and synced: then a machine that stops later cannot take back what readers were told in between. All groups before it were
//! synced before it was written. Called by [`recover`](super::recover).

use std::io;
use std::ops::Range;

use super::files::Files;
use super::format::{GROUPS_START, SegmentHead};
use super::scan::{End, Piece, Scanned};
use super::segments::name;

/// The last segment, once it was looked through. Nothing is written if it says that it was closed, or that another followed.
pub(super) fn renew(files: &dyn Files, number: u64, file: &[u8], scanned: &Scanned) -> io::Result<()> {
    if matches!(scanned.end, End::Closed | End::Continued) {
        return Ok(());
    }
    let range = match scanned.pieces.last() {
        Some(Piece::Group(head)) => head.offset..head.offset + head.padded_bytes(),
        Some(Piece::Damaged { .. }) => return Ok(()),
        None => 0..GROUPS_START,
    };
    let bytes = file.get(range.start as usize..range.end as usize).unwrap_or_default();
    let mut open = files.open(&name(number))?;
    open.write(range.start, bytes)?;
    open.sync()?;
    files.sync()
}

/// Writes the copy of a segment's head that is damaged, and lies there, once more: it never touches the other one.
pub(super) fn mend(files: &dyn Files, head: &SegmentHead, copy: &Range<u64>) -> io::Result<()> {
    let mut file = files.open(&name(head.number))?;
    file.write(copy.start, &head.encode()[copy.start as usize..copy.end as usize])?;
    file.sync()
}
