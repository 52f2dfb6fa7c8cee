//! What is found when a log is opened or looked at.

use std::ops::Range;

use galaxy_push_core::cursor::Cursor;

use super::segments::name;

/// What was found in a data directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Recovered {
    /// The position before the first entry. `None`: nothing was there.
    pub first: Option<Cursor>,
    /// Entries that were handed to the sink.
    pub entries: u64,
    /// Groups that were read.
    pub groups: u64,
    /// Segments that were read.
    pub segments: u64,
    /// Bytes of segments that were read.
    pub bytes: u64,
    /// The last stamp of the log, in milliseconds since the Unix epoch: it goes on from there, or from the wall clock if that is
    /// later. 0: it has none.
    pub stamped_unix_ms: u64,
    /// A group was being written when the last life ended, and was cut off: nobody was told of it.
    pub torn: bool,
    /// What was damaged or missing.
    pub damage: Vec<Damage>,
    /// Copies of heads that were damaged, each of which there is twice: nothing is lost, and a store that was opened has mended it.
    pub worn: Vec<Damage>,
}

/// Something in a data directory that was damaged or missing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}: {what}")]
#[non_exhaustive]
pub struct Damage {
    /// The file.
    pub file: String,
    /// What is wrong, and where.
    pub what: String,
    /// From where in the file to where, if it is a stretch of it.
    pub bytes: Option<Range<u64>>,
    /// The positions that are lost: those behind the first up to the second. `None`: none that is known of.
    pub lost: Option<(Cursor, Cursor)>,
}

impl Damage {
    /// One of the two copies of a segment's head.
    pub(super) fn of_copy(number: u64, bytes: Range<u64>) -> Self {
        let what = "one of the two copies of its head is damaged, and the other is whole".to_owned();
        Self { file: name(number), what, bytes: Some(bytes), lost: None }
    }
}
