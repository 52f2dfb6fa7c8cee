//! Opens what an earlier life has left: finds the segments, judges them, and hands everything on in its order.
//!
//! What is damaged is never skipped in silence: its positions are told to the sink as a gap, and each finding is in the
//! [`Recovered`]. How many positions a damaged end held is not always known; then as many are given up as it can have held,
//! because a position that somebody may have seen is never given to another event. What cannot be judged at all is refused by
//! the name of the file.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use galaxy_push_core::cursor::{Cursor, Seq};

use super::files::Files;
use super::format::{ENTRY_BYTES_MIN, GROUPS_START, GroupHead, HeadError, SegmentHead, Sums, unmask};
use super::record::{Record, records};
use super::recovery::{Damage, Recovered};
use super::renew::{mend, renew};
use super::replay::Replay;
use super::retention::Retention;
use super::scan::{End, Piece, Scan, Scanned};
use super::segments::{end_former, name, number};
use super::stage::Place;
use super::visible::Visible;
use super::{OpenError, Options, Progress, SEGMENT_BYTES_MAX};
use crate::Sink;

const MISSING: &str = "the file is missing";

/// A log that can go on.
pub(crate) struct Opened {
    pub(crate) identity: SegmentHead,
    pub(crate) at: Place,
    pub(crate) retention: Retention,
    pub(crate) visible: Visible,
    pub(crate) recovered: Recovered,
}

/// The files of the segments and what their heads say.
struct ExistingLog<'a> {
    files: &'a dyn Files,
    heads: BTreeMap<u64, Option<SegmentHead>>,
    identity: SegmentHead,
    sums: Sums,
    /// Where one copy of a head is damaged.
    worn: BTreeMap<u64, Range<u64>>,
}

/// Opens the log in these files, to go on with it: what was written last is durable before anybody is told of it. `None`: there
/// is none yet.
pub(crate) fn open(
    files: &dyn Files,
    options: &Options,
    sink: &Arc<dyn Sink>,
) -> Result<Option<Opened>, OpenError> {
    read_log(files, options, sink, ExistingLog::renew)
}

/// As [`open`], and changes nothing: of what was written last nobody knows whether it is durable.
pub(crate) fn look(
    files: &dyn Files,
    options: &Options,
    sink: &Arc<dyn Sink>,
) -> Result<Option<Opened>, OpenError> {
    read_log(files, options, sink, |_| Ok(()))
}

fn read_log<'a>(
    files: &'a dyn Files,
    options: &Options,
    sink: &Arc<dyn Sink>,
    renew: impl FnOnce(&ExistingLog<'a>) -> Result<(), OpenError>,
) -> Result<Option<Opened>, OpenError> {
    let Some(mut found) = find(files)? else { return Ok(None) };
    found.forget_unborn()?;
    let (oldest, stamped_unix_ms) = found.oldest()?;
    sink.stamped_until(stamped_unix_ms);
    // First what says that the others are not needed: it may not be durable yet.
    renew(&found)?;
    for number in found.heads.range(..oldest).map(|(number, _)| *number).collect::<Vec<_>>() {
        // Half removed when the last life ended.
        _ = files.remove(&name(number));
        found.heads.remove(&number);
    }
    found.replay(oldest, stamped_unix_ms, options, sink).map(Some)
}

fn find(files: &dyn Files) -> Result<Option<ExistingLog<'_>>, OpenError> {
    let names = files.list().map_err(|error| OpenError::io("the directory", error))?;
    let numbers = names.iter().filter_map(|name| number(name));
    let (mut heads, mut identity, mut worn) = (BTreeMap::new(), None::<SegmentHead>, BTreeMap::new());
    for number in numbers {
        let front = read(files, number, GROUPS_START)?;
        let head = match SegmentHead::decode(&front) {
            Ok(head) if head.number == number => Some(head),
            Ok(head) => return Err(OpenError::Misplaced { file: name(number), number: head.number }),
            Err(HeadError::Version(version)) => {
                return Err(OpenError::Version { file: name(number), version });
            }
            Err(HeadError::Unreadable) => None,
        };
        match (&identity, head) {
            (None, Some(head)) => identity = Some(head),
            (Some(known), Some(head)) if (known.epoch, known.salt) != (head.epoch, head.salt) => {
                return Err(OpenError::Foreign { file: name(number) });
            }
            _ => {}
        }
        heads.insert(number, head);
        worn.extend(SegmentHead::worn(&front).map(|range| (number, range)));
    }
    let Some(identity) = identity else { return unreadable(files, &heads).map(|()| None) };
    let sums = Sums::new(identity.epoch, identity.salt);
    Ok(Some(ExistingLog { files, heads, identity, sums, worn }))
}

/// Without any readable head: the first segment was being made, or everything is damaged.
fn unreadable(files: &dyn Files, heads: &BTreeMap<u64, Option<SegmentHead>>) -> Result<(), OpenError> {
    let Some((first, _)) = heads.first_key_value() else { return Ok(()) };
    let bytes = read(files, *first, u64::MAX)?;
    let groups = bytes.get(GROUPS_START as usize..).unwrap_or_default();
    if heads.len() == 1 && *first == 1 && groups.iter().all(|byte| *byte == 0) {
        return Ok(());
    }
    Err(OpenError::Unreadable { file: name(*first) })
}

fn read(files: &dyn Files, number: u64, bytes_max: u64) -> Result<Vec<u8>, OpenError> {
    files.read(&name(number), bytes_max).map_err(|error| OpenError::io(&name(number), error))
}

impl ExistingLog<'_> {
    fn scan(&self, number: u64) -> Result<(Vec<u8>, Scanned), OpenError> {
        let file = read(self.files, number, u64::MAX)?;
        let head = self.heads.get(&number).copied().flatten();
        let has_next = self.heads.contains_key(&(number + 1));
        let next = self.heads.get(&(number + 1)).copied().flatten();
        let scan = Scan {
            file: &file,
            sums: &self.sums,
            number,
            // Where another one follows, this one was cut.
            bytes: if has_next { 0 } else { head.map_or(0, |head| head.bytes) },
            end_offset: next.map(|next| next.previous_end),
        };
        let scanned = scan.run();
        Ok((file, scanned))
    }

    fn last(&self) -> u64 {
        self.heads.last_key_value().map_or(0, |(number, _)| *number)
    }

    /// Takes away the last segment if it was being made when the last life ended: nothing was ever in it.
    fn forget_unborn(&mut self) -> Result<(), OpenError> {
        let last = self.last();
        if self.heads.get(&last).copied().flatten().is_some() {
            return Ok(());
        }
        let (file, scanned) = self.scan(last)?;
        let groups = file.get(GROUPS_START as usize..).unwrap_or_default();
        let is_blank = scanned.pieces.is_empty() && groups.iter().all(|byte| *byte == 0);
        let was_followed = last > 1
            && self.heads.contains_key(&(last - 1))
            && matches!(self.scan(last - 1)?.1.end, End::Continued);
        if is_blank && !was_followed {
            self.heads.remove(&last);
            self.files.remove(&name(last)).map_err(|error| OpenError::io(&name(last), error))?;
        }
        Ok(())
    }

    /// What was written last is durable from here on.
    fn renew(&self) -> Result<(), OpenError> {
        let last = self.last();
        if self.heads.is_empty() {
            return Ok(());
        }
        let (file, scanned) = self.scan(last)?;
        renew(self.files, last, &file, &scanned).map_err(|error| OpenError::io(&name(last), error))?;
        if let Some(Some(head)) = self.heads.get(&last).filter(|_| last > 1 && scanned.pieces.is_empty()) {
            // The last life may have ended before the segment before said that this one follows.
            end_former(self.files, &self.sums, last - 1, head.previous_end)
                .map_err(|error| OpenError::io(&name(last - 1), error))?;
        }
        for (number, range) in &self.worn {
            let Some(Some(head)) = self.heads.get(number) else { continue };
            mend(self.files, head, range).map_err(|error| OpenError::io(&name(*number), error))?;
        }
        Ok(())
    }

    /// The first segment that is needed, and the last stamp, as the last group says.
    fn oldest(&self) -> Result<(u64, u64), OpenError> {
        let stamped =
            self.heads.values().flatten().map(|head| head.stamped_unix_ms).max().unwrap_or_default();
        for number in self.heads.keys().rev() {
            let (file, scanned) = self.scan(*number)?;
            let last = scanned.pieces.iter().rev().find_map(|piece| match piece {
                Piece::Group(head) => Some(head),
                Piece::Damaged { .. } => None,
            });
            if let Some(last) = last {
                let mut body = file.get(last.body()).unwrap_or_default().to_vec();
                unmask(&mut body, last.mask);
                let stamps = records(&body).filter_map(|record| match record {
                    Ok(Record::Context(context)) => Some(context.stamp_unix_ms),
                    _ => None,
                });
                return Ok((last.oldest, stamps.max().unwrap_or_default().max(stamped)));
            }
        }
        Ok((self.heads.first_key_value().map_or(1, |(number, _)| *number), stamped))
    }

    fn replay(
        &self,
        oldest: u64,
        stamped_unix_ms: u64,
        options: &Options,
        sink: &Arc<dyn Sink>,
    ) -> Result<Opened, OpenError> {
        let known = self.heads.values().flatten().map(|head| head.bytes);
        // Who wrote one that is gone may have made it as long as any may be.
        let segment_bytes_max = known.chain([options.segment_bytes, SEGMENT_BYTES_MAX]).max();
        let mut course = Course {
            replay: Replay::new(options, sink.clone(), stamped_unix_ms),
            segment_bytes_max: segment_bytes_max.unwrap_or_default(),
            has_base: false,
            head: Cursor::start(self.identity.epoch),
            group: 0,
            recovered: Recovered::default(),
            known_end: false,
        };
        let (mut offset, mut segment_bytes, last) = (GROUPS_START, 0, self.last());
        let bytes_total = self.heads.range(oldest..).map(|(number, _)| self.files.length(&name(*number)));
        let bytes_total = bytes_total.map(|length| length.unwrap_or_default()).sum::<u64>();
        let mut next = oldest;
        for (number, head) in self.heads.range(oldest..) {
            report_progress(options, course.recovered.bytes, bytes_total)?;
            let number = *number;
            if next < number {
                course.missing(next, number - next);
            }
            next = number.saturating_add(1);
            let (file, scanned) = self.scan(number)?;
            offset = scanned.end_offset;
            // More can be written where it is known what there is; behind damage lies what shows that it is damage.
            let is_sound = matches!(scanned.pieces.last(), None | Some(Piece::Group(_)));
            let is_known =
                head.is_some() && is_sound && matches!(scanned.end, End::Clean | End::Closed | End::Torn);
            segment_bytes = if is_known { file.len() as u64 } else { 0 };
            // Of one that was being begun only half of the head may ever have been written.
            if let Some(range) =
                self.worn.get(&number).filter(|_| number < last || !scanned.pieces.is_empty())
            {
                course.recovered.worn.push(Damage::of_copy(number, range.clone()));
            }
            course.segment(number, *head, file, &scanned, number == last)?;
        }
        report_progress(options, course.recovered.bytes, bytes_total)?;
        course.ended(last);
        let head = course.head;
        let Course { replay, mut recovered, group, .. } = course;
        let (visible, retention, stamp_unix_ms) = replay.finish(head);
        recovered.stamped_unix_ms = stamp_unix_ms;
        // In what is allocated already, so that a full disk takes as much after a start as it would have before.
        let at = Place { head, group, segment: last, offset, segment_bytes, oldest, stamp_unix_ms };
        Ok(Opened { identity: self.identity, at, retention, visible, recovered })
    }
}

fn report_progress(options: &Options, bytes: u64, bytes_total: u64) -> Result<(), OpenError> {
    let answer = options.on_progress.as_ref().map(|on_progress| on_progress(Progress { bytes, bytes_total }));
    if answer.is_some_and(|next| next.is_break()) { Err(OpenError::Stopped) } else { Ok(()) }
}

/// On the way through the segments.
struct Course {
    replay: Replay,
    /// The longest that a segment can have been.
    segment_bytes_max: u64,
    /// The sink knows where the log begins.
    has_base: bool,
    head: Cursor,
    group: u64,
    recovered: Recovered,
    /// The last segment says that another one follows.
    known_end: bool,
}

impl Course {
    fn segment(
        &mut self,
        number: u64,
        head: Option<SegmentHead>,
        file: Vec<u8>,
        scanned: &Scanned,
        is_the_last: bool,
    ) -> Result<(), OpenError> {
        self.recovered.bytes += file.len() as u64;
        self.recovered.segments += 1;
        let length = file.len() as u64;
        let file = bytes::Bytes::from(file);
        if head.is_none() {
            self.damage(number, "its head is damaged; the groups in it were read".to_owned(), None);
        }
        if let Some(head) = head {
            self.reach(number, head.after)?;
        }
        self.replay.segment(number, length);
        for (index, piece) in scanned.pieces.iter().enumerate() {
            match piece {
                Piece::Group(head) => {
                    self.reach(number, head.after)?;
                    self.group_of(number, head, &file)?;
                }
                Piece::Damaged { from, to } => {
                    // Otherwise what follows says how many positions there were.
                    let is_last = is_the_last && index + 1 == scanned.pieces.len();
                    let lost = match scanned.end {
                        End::Damaged { positions_max } if is_last => Some(positions_max),
                        // What ends the segment does not say what lay before it, and no other segment follows.
                        End::Torn | End::Closed if is_last => Some((to - from) / ENTRY_BYTES_MIN + 1),
                        _ => None,
                    };
                    self.lose(number, Some(*from..*to), lost);
                }
            }
        }
        if is_the_last && self.known_end && head.is_none() && scanned.pieces.is_empty() {
            // It was begun, or the one before would not say so; and may have been longer than what is left of it.
            let bytes = length.max(self.segment_bytes_max);
            self.lose(number, Some(0..length), Some(bytes / ENTRY_BYTES_MIN + 1));
        }
        self.recovered.torn |= scanned.end == End::Torn;
        self.known_end = scanned.end == End::Continued;
        Ok(())
    }

    fn group_of(&mut self, number: u64, head: &GroupHead, file: &bytes::Bytes) -> Result<(), OpenError> {
        self.group = head.number;
        self.recovered.groups += 1;
        let mut body = file.slice(head.body());
        if head.mask != 0 {
            let mut plain = body.to_vec();
            unmask(&mut plain, head.mask);
            body = plain.into();
        }
        match self.replay.group(&mut self.head, &body) {
            Ok(entries) => self.recovered.entries += entries,
            Err(_) => return Err(OpenError::Nonsense { file: name(number), offset: head.offset }),
        }
        Ok(())
    }

    /// What follows begins after this position: whatever lies between is lost.
    fn reach(&mut self, number: u64, after: Seq) -> Result<(), OpenError> {
        let after = Cursor { seq: after, ..self.head };
        if !self.has_base {
            self.head = after;
            self.begin();
            return Ok(());
        }
        if self.head.follows(after) {
            return Err(OpenError::Overlap { file: name(number) });
        }
        if after.follows(self.head) {
            let from = std::mem::replace(&mut self.head, after);
            let what = format!("positions after {from} up to {after} are lost before or in it");
            self.damage(number, what, Some((from, after)));
            self.replay.keys_lost();
            self.replay.lost(from, after);
        }
        Ok(())
    }

    /// Something is damaged; it held at most so many positions, if they are not known from what follows.
    fn lose(&mut self, number: u64, bytes: Option<Range<u64>>, positions_max: Option<u64>) {
        self.replay.keys_lost();
        let what = match &bytes {
            Some(bytes) => format!("the bytes from {} to {} are damaged", bytes.start, bytes.end),
            None => MISSING.to_owned(),
        };
        let Some(positions) = positions_max.filter(|positions| *positions > 0) else {
            return self.recovered.damage.push(Damage { file: name(number), what, bytes, lost: None });
        };
        if !self.has_base {
            self.begin();
        }
        let (from, to) = (self.head, self.head.plus(positions));
        self.head = to;
        self.recovered.damage.push(Damage { file: name(number), what, bytes, lost: Some((from, to)) });
        self.replay.lost(from, to);
    }

    /// So many segments, from this one on, are not there.
    fn missing(&mut self, number: u64, count: u64) {
        let what = match count {
            1 => MISSING.to_owned(),
            _ => format!("{MISSING}, and so are the {} after it", count - 1),
        };
        self.damage(number, what, None);
        self.replay.keys_lost();
        self.known_end = false;
    }

    fn begin(&mut self) {
        self.has_base = true;
        self.recovered.first = Some(self.head);
        self.replay.begin(self.head);
    }

    /// After the last segment that is there.
    fn ended(&mut self, last: u64) {
        if self.known_end {
            let positions = self.segment_bytes_max / ENTRY_BYTES_MIN;
            self.lose(last + 1, None, Some(positions));
        }
        if !self.has_base {
            self.begin();
        }
    }

    fn damage(&mut self, number: u64, what: String, lost: Option<(Cursor, Cursor)>) {
        self.recovered.damage.push(Damage { file: name(number), what, bytes: None, lost });
    }
}
