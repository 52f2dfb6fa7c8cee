//! Writes groups into segments: the one place that writes to the disk.
//!
//! Called by whoever has a [`Job`] from the [`engine`](super::engine). It decides nothing and remembers only which file is
//! open. A sync that fails is never tried again: the system may have dropped what it could not write, and would then call the
//! rest durable.

use std::io;
use std::sync::Arc;

use bytes::Bytes;

use super::files::{FileAt, Files};
use super::format::{
    CLOSED, CONTINUED, ENDING_BYTES, GROUP_HEAD_BYTES, GroupHead, LENGTH_STEP, SegmentHead, Sums,
};

/// What is to be made durable.
#[derive(Debug)]
pub(crate) struct Job {
    /// Segments to take away before all else, because there may be no room.
    pub(crate) remove: Vec<u64>,
    /// A segment to begin first.
    pub(crate) begin: Option<Begin>,
    pub(crate) segment: u64,
    pub(crate) offset: u64,
    /// One group.
    pub(crate) bytes: Bytes,
    /// It only lets a segment go: nobody waits for it.
    #[cfg(test)]
    pub(crate) is_release: bool,
}

/// A segment to begin.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Begin {
    pub(crate) head: SegmentHead,
    /// The length that will do where there is no room for the whole, and the one that is worth another try before.
    pub(crate) least_bytes: u64,
    pub(crate) good_bytes: u64,
    /// There was no room a moment ago: the whole is not tried in vain.
    pub(crate) is_short: bool,
    /// Nothing more is to be written into the segment before, so what that has left may be given back for this one.
    pub(crate) may_cut: bool,
}

/// What became of it.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// It is durable. The length of the segment that was begun for it.
    Durable { begun: Option<u64> },
    /// There was no room, and nothing of it is left. The length of the segment to begin, if that was begun; and whether the one
    /// before was cut behind its last group.
    Full { begun: Option<u64>, was_cut: bool, error: io::Error },
    /// Nobody knows.
    Failed(io::Error),
}

/// The segment that is written to.
#[derive(Debug)]
pub(crate) struct Segments {
    files: Arc<dyn Files>,
    sums: Sums,
    current: Option<Current>,
    /// How many syncs there were.
    pub(crate) syncs: u64,
}

#[derive(Debug)]
struct Current {
    file: Box<dyn FileAt>,
    number: u64,
    bytes: u64,
}

/// The name of a segment's file.
pub(crate) fn name(number: u64) -> String {
    format!("{number:020}.log")
}

/// No segment has a higher number, so that there is always one for the next: a stray file is none.
const NUMBER_MAX: u64 = u64::MAX / 2;

/// The number of the segment whose file this is.
pub(crate) fn number(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".log")?;
    let is_name = digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|number| is_name && (1..=NUMBER_MAX).contains(number))
}

impl Segments {
    pub(crate) fn new(files: Arc<dyn Files>, sums: Sums) -> Self {
        Self { files, sums, current: None, syncs: 0 }
    }

    pub(crate) fn run(&mut self, job: &Job) -> Outcome {
        job.remove.iter().for_each(|number| remove(&*self.files, *number));
        let mut was_cut = false;
        let begun = match &job.begin {
            Some(begin) => self.begin_within(begin, &mut was_cut).map(Some),
            None if self.current.is_none() => self.resume(job.segment, job.offset).map(|()| None),
            None => Ok(None),
        };
        let begun = match begun {
            Ok(begun) => begun,
            Err(error) if finds_no_room(&error) => return Outcome::Full { begun: None, was_cut, error },
            Err(error) => return Outcome::Failed(error),
        };
        match self.write(job) {
            Ok(()) => Outcome::Durable { begun },
            Err(error) => self.take_back(job, begun, error),
        }
    }

    /// Begins a segment that is as long as there is room for, after few tries: whoever publishes to a full disk tries it each time.
    /// Returns its length.
    fn begin_within(&mut self, begin: &Begin, was_cut: &mut bool) -> io::Result<u64> {
        let mut no_room = None;
        for bytes in self.lengths(begin).into_iter().flatten() {
            match self.begin(&SegmentHead { bytes, ..begin.head }) {
                Err(error) if finds_no_room(&error) => no_room = Some(error),
                begun => return begun.map(|()| bytes),
            }
        }
        let no_room = no_room.unwrap_or(io::ErrorKind::StorageFull.into());
        if !begin.may_cut || !self.cut(begin)? {
            return Err(no_room);
        }
        *was_cut = true;
        self.begin(&SegmentHead { bytes: begin.least_bytes, ..begin.head })?;
        Ok(begin.least_bytes)
    }

    /// The lengths to try, each less than the one before. What the system says is free may not be had, or more may be.
    fn lengths(&self, begin: &Begin) -> [Option<u64>; 4] {
        let (whole, least) = (begin.head.bytes, begin.least_bytes);
        let free = self.files.free_bytes().ok().flatten();
        let most = free.unwrap_or(whole / 4).max(least);
        let mut within = whole;
        while within > most {
            within = (within / 2).max(least);
        }
        if begin.good_bytes <= most {
            within = within.max(begin.good_bytes);
        }
        let whole = Some(whole).filter(|_| !begin.is_short || within == whole);
        let mut shortest = u64::MAX;
        [whole, Some(within), Some(begin.good_bytes), Some(least)].map(|bytes| {
            let bytes = bytes.filter(|bytes| *bytes < shortest)?;
            shortest = bytes;
            Some(bytes)
        })
    }

    /// Goes on in the segment with which an earlier life has ended, at this offset. What says that it was closed, and what is left
    /// of a group that was never durable, is wiped first, on the disk and not only where it can be seen: after a wipe whose sync failed
    /// it may look wiped. Behind a group there are zeros.
    fn resume(&mut self, number: u64, offset: u64) -> io::Result<()> {
        let bytes = self.files.length(&name(number))?;
        let mut file = self.files.open(&name(number))?;
        file.wipe(offset, bytes)?;
        file.sync().map_err(unknown)?;
        self.current = Some(Current { file, number, bytes });
        Ok(())
    }

    /// Ends the segment behind its last group, as if the store were closed, and gives back what it has left. False: that is too little
    /// for the one to begin. Then it is kept, for whatever else fills the disk may take it, and later less may do.
    ///
    /// If no other one follows, it has none the less said that nothing follows in it.
    fn cut(&mut self, begin: &Begin) -> io::Result<bool> {
        let (number, end) = (begin.head.number - 1, begin.head.previous_end);
        let bytes = match &self.current {
            Some(current) => current.bytes,
            None => self.files.length(&name(number))?,
        };
        let back = bytes.saturating_sub((end + ENDING_BYTES).next_multiple_of(LENGTH_STEP));
        let free = self.files.free_bytes().ok().flatten();
        if back == 0 || free.is_some_and(|free| free + back < begin.least_bytes) {
            return Ok(false);
        }
        // Not before that is known: what an earlier life has cut must go on to say that it was closed.
        if self.current.is_none() {
            self.resume(number, end)?;
        }
        let Some(current) = self.current.as_mut() else { return Ok(false) };
        match current.file.write(end, &ending(number, end, CLOSED, &self.sums)) {
            Ok(()) => current.file.sync().map_err(unknown)?,
            Err(error) if finds_no_room(&error) => {
                current.file.wipe(end, current.bytes).map_err(unknown)?;
                current.file.sync().map_err(unknown)?;
                return Ok(false);
            }
            Err(error) => return Err(error),
        }
        current.bytes = end + ENDING_BYTES;
        // One that cannot be cut is closed, and needs no room.
        _ = self.files.cut(&name(number), current.bytes);
        Ok(true)
    }

    /// The border to the disk.
    pub(crate) fn files(&self) -> Arc<dyn Files> {
        self.files.clone()
    }

    /// Says at the end of the segment that the store was closed: then nothing there can be taken for half a group.
    pub(crate) fn end(&mut self, offset: u64, flag: u8) -> io::Result<()> {
        let Some(current) = &mut self.current else { return Ok(()) };
        let end = ending(current.number, offset, flag, &self.sums);
        if offset + end.len() as u64 > current.bytes {
            return Ok(());
        }
        current.file.write(offset, &end)?;
        current.file.sync()
    }

    /// Makes a segment, durable with its name, before anything in it counts.
    pub(crate) fn begin(&mut self, head: &SegmentHead) -> io::Result<()> {
        let name_of = name(head.number);
        // First, lest there is no room to open it when the other one is durable already.
        let earlier = match &self.current {
            None if head.number > 1 => open_former(&*self.files, head.number - 1)?,
            _ => None,
        };
        let mut file = match self.files.create(&name_of, head.bytes) {
            Ok(file) => file,
            Err(error) if finds_no_room(&error) => {
                // Left half made it would only be in the way. Without a head nobody takes it for a segment.
                _ = self.files.remove(&name_of);
                return Err(error);
            }
            Err(error) => return Err(error),
        };
        match file.write(0, &head.encode()) {
            Err(error) if finds_no_room(&error) => {
                // Some of its head may be there. If it came back, it would hide what is written behind the end of the one before.
                self.files.remove(&name_of).and_then(|()| self.files.sync()).map_err(unknown)?;
                return Err(error);
            }
            written => written?,
        }
        // From here on an error is no full disk, whatever the system calls it: what is durable is not known.
        file.sync().map_err(unknown)?;
        self.files.sync().map_err(unknown)?;
        let former = self.current.replace(Current { file, number: head.number, bytes: head.bytes });
        match (former, earlier) {
            (Some(former), _) => self.former(former, head.previous_end),
            (None, Some(file)) => {
                end_opened(&*self.files, file, &self.sums, head.number - 1, head.previous_end)
            }
            (None, None) => Ok(()),
        }
    }

    /// Ends the segment before, and gives back the space that it did not need.
    fn former(&self, mut former: Current, end: u64) -> io::Result<()> {
        let ending = ending(former.number, end, CONTINUED, &self.sums);
        former.file.write(end, &ending).map_err(unknown)?;
        former.file.sync().map_err(unknown)?;
        _ = self.files.cut(&name(former.number), end + ENDING_BYTES);
        Ok(())
    }

    fn write(&mut self, job: &Job) -> io::Result<()> {
        let Some(current) = &mut self.current else {
            return Err(io::Error::other("no segment is open"));
        };
        if job.bytes.is_empty() {
            return Ok(());
        }
        current.file.write(job.offset, &job.bytes)?;
        self.syncs += 1;
        current.file.sync().map_err(unknown)
    }

    /// After a write for which there was no room: as if it had never been tried, or nobody knows.
    fn take_back(&mut self, job: &Job, begun: Option<u64>, error: io::Error) -> Outcome {
        let Some(current) = self.current.as_mut().filter(|_| finds_no_room(&error)) else {
            return Outcome::Failed(error);
        };
        let (offset, bytes) = (job.offset, current.bytes);
        let wiped = current.file.wipe(offset, bytes).and_then(|()| current.file.sync());
        match wiped {
            Ok(()) => Outcome::Full { begun, was_cut: false, error },
            Err(error) => Outcome::Failed(error),
        }
    }
}

/// Takes away a segment that is not needed: also while another is written to. One that stays is taken away when the store is
/// opened next.
pub(crate) fn remove(files: &dyn Files, number: u64) {
    _ = files.remove(&name(number));
}

/// The segment before lies there since an earlier life, or is gone by now. It too says that another one follows, lest that one goes
/// missing and nobody notices; and gives back the space that it did not need.
pub(crate) fn end_former(files: &dyn Files, sums: &Sums, number: u64, end: u64) -> io::Result<()> {
    let file = open_former(files, number).map_err(unknown)?;
    file.map_or(Ok(()), |file| end_opened(files, file, sums, number, end))
}

/// `None`: it is gone.
fn open_former(files: &dyn Files, number: u64) -> io::Result<Option<Box<dyn FileAt>>> {
    match files.open(&name(number)) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn end_opened(
    files: &dyn Files,
    mut file: Box<dyn FileAt>,
    sums: &Sums,
    number: u64,
    end: u64,
) -> io::Result<()> {
    match file.write(end, &ending(number, end, CONTINUED, sums)) {
        Ok(()) => file.sync().map_err(unknown)?,
        // It was cut short before, and there is no room to say so.
        Err(error) if finds_no_room(&error) => {}
        Err(error) => return Err(error),
    }
    _ = files.cut(&name(number), end + ENDING_BYTES);
    Ok(())
}

/// A group without records, that says why nothing follows.
pub(crate) fn ending(segment: u64, offset: u64, flags: u8, sums: &Sums) -> Vec<u8> {
    let mut group = vec![0; GROUP_HEAD_BYTES];
    let none = GroupHead {
        segment,
        offset,
        number: 0,
        after: galaxy_push_core::cursor::Seq::ZERO,
        oldest: 0,
        positions: 0,
        body_bytes: 0,
        flags,
        mask: 0,
    };
    none.seal(&mut group, sums);
    group
}

fn finds_no_room(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

fn unknown(error: io::Error) -> io::Error {
    if finds_no_room(&error) { io::Error::other(error) } else { error }
}
