//! Reads what lies on a disk, by the format as it is written down (docs/adr/0017) and with none of the store's code, and writes
//! the log down in the history: the truth by which everything else is judged.
//!
//! Called by [`HubDisk`](super::HubDisk): for what is new whenever the store hands something on, and for all of it whenever a hub
//! has opened its log. What it has written down once it does not write down again, unless it has changed.

use std::collections::BTreeMap;
use std::ops::Range;

use anyhow::{Context as _, ensure};
use galaxy_push_proto::v1;
use galaxy_push_proto::v1::push_event::Kind;
use galaxy_push_testkit::Recorder;
use galaxy_push_testkit::history::{Cursor, Hash, Kept, LogLine, LogRecord, Name, Position, Says, What};
use prost::Message as _;

use super::crc::crc;
use crate::frames::{self, event_hash, invalidation_hash, membership_hash};
use crate::rng::{Rng, UNIX_MS_START, now_us};

/// Where groups begin in a file, and what their offsets are multiples of.
const GROUPS_START: usize = 1_024;
const GROUP_HEAD_BYTES: usize = 64;

/// Flags of a group without records: nothing follows in this file.
const ENDS: u8 = 2 | 4;

/// What was read so far.
#[derive(Debug, Default)]
pub(super) struct Reading {
    /// The log, once a file says which it is.
    log: Option<Log>,
    /// The last file that was read, and up to where.
    at: (String, usize),
    /// What lies where.
    known: BTreeMap<u64, Hash>,
}

/// What every checksum of a log begins with, and its name.
#[derive(Clone, Debug)]
struct Log {
    epoch: Name,
    seed: Vec<u8>,
}

/// A group as it lies in a file.
#[derive(Clone, Debug)]
pub(super) struct Group {
    pub(super) epoch: Name,
    /// Its positions: behind the first, up to the second.
    pub(super) after: u64,
    pub(super) through: u64,
    /// Where it lies in its file, padding included.
    pub(super) bytes: Range<usize>,
    /// It holds nothing but events.
    has_events_alone: bool,
    ends: bool,
    entries: Vec<Entry>,
}

#[derive(Clone, Debug)]
struct Entry {
    seq: u64,
    hash: Hash,
    line: LogLine,
    record: Option<LogRecord>,
}

impl Reading {
    /// The file to go on with.
    pub(super) fn file(&self) -> String {
        self.at.0.clone()
    }

    /// Writes down what was appended to the file that was read last, and to those behind it.
    pub(super) fn more(&mut self, files: &[(String, Vec<u8>)], recorder: &Recorder) {
        for (name, bytes) in files {
            if *name != self.at.0 {
                self.at = (name.clone(), GROUPS_START);
            }
            if self.log.is_none() {
                self.log = Log::of(bytes);
            }
            let Some(log) = self.log.clone() else { continue };
            while let Some(group) = log.group(name, bytes, self.at.1).filter(|group| !group.ends) {
                self.at.1 = group.bytes.end;
                group.entries.into_iter().for_each(|entry| self.entry(entry, recorder));
            }
        }
        self.say_head(recorder);
    }

    /// Reads everything, and writes down what is there.
    ///
    /// # Errors
    ///
    /// When no file says which log it is.
    pub(super) fn all(&mut self, files: Vec<(String, Vec<u8>)>, recorder: &Recorder) -> anyhow::Result<()> {
        let log = files.iter().find_map(|(_, bytes)| Log::of(bytes));
        let log = log.context("no file on the disk says which log it is of")?;
        self.log = Some(log.clone());
        let mut stretches: Vec<(u64, u64)> = Vec::new();
        for (name, bytes) in &files {
            for group in log.groups(name, bytes) {
                ensure!(group.entries.len() as u64 == group.through - group.after, "{name}: {group:?}");
                match stretches.last_mut().filter(|last| last.1 == group.after) {
                    Some(last) => last.1 = group.through,
                    None => stretches.push((group.after, group.through)),
                }
                self.at = (name.clone(), group.bytes.end);
                group.entries.into_iter().for_each(|entry| self.entry(entry, recorder));
            }
        }
        recorder.record(now_us(), What::Kept(Kept { epoch: log.epoch, stretches }));
        self.say_head(recorder);
        Ok(())
    }

    /// Some group of these files that holds nothing but events, all of them written down.
    pub(super) fn pick(&self, files: &[(String, Vec<u8>)], rng: &mut Rng) -> Option<(String, Group)> {
        let log = self.log.as_ref()?;
        let of_file = |(name, bytes): &(String, Vec<u8>)| {
            let name = name.clone();
            log.groups(&name, bytes).into_iter().map(move |group| (name.clone(), group))
        };
        let is_told = |group: &Group| group.entries.iter().all(|entry| self.known.contains_key(&entry.seq));
        let mut groups: Vec<_> = files.iter().flat_map(of_file).collect();
        groups.retain(|(_, group)| group.has_events_alone && !group.entries.is_empty() && is_told(group));
        (!groups.is_empty()).then(|| groups.swap_remove(rng.below(groups.len() as u64) as usize))
    }

    fn entry(&mut self, entry: Entry, recorder: &Recorder) {
        let before = self.known.insert(entry.seq, entry.hash);
        if before == Some(entry.hash) {
            return;
        }
        recorder.record(now_us(), What::Log(entry.line));
        if let Some(record) = entry.record {
            recorder.record(now_us(), What::LogRecord(record));
        }
    }

    fn say_head(&self, recorder: &Recorder) {
        let Some(log) = &self.log else { return };
        let seq = self.known.last_key_value().map_or(0, |(seq, _)| *seq);
        recorder.record(now_us(), What::Head(Position { epoch: log.epoch.clone(), seq }));
    }
}

impl Log {
    /// What the head of a file says, whichever copy of it can be read.
    fn of(file: &[u8]) -> Option<Self> {
        let copies = [0, 512].into_iter().filter_map(|at| file.get(at..at + 128));
        let mut whole = copies.filter(|head| {
            head.starts_with(b"GPUSHLOG")
                && number(head, 12, 4) == u64::from(crc(&[&head[..12], &head[16..]]))
        });
        let head = whole.next()?;
        let epoch = u128::from_le_bytes(head[16..32].try_into().ok()?);
        // As a cursor shows it.
        let epoch = galaxy_push_core::cursor::Epoch(epoch).to_string().into();
        Some(Self { epoch, seed: head[16..40].to_vec() })
    }

    /// All groups of a file, over whatever is damaged between them.
    fn groups(&self, name: &str, file: &[u8]) -> Vec<Group> {
        let (mut groups, mut at) = (Vec::new(), GROUPS_START);
        while at + GROUP_HEAD_BYTES <= file.len() {
            match self.group(name, file, at) {
                Some(group) if group.ends => break,
                Some(group) => {
                    at = group.bytes.end;
                    groups.push(group);
                }
                None => at += GROUP_HEAD_BYTES,
            }
        }
        groups
    }

    /// The whole group at this place.
    fn group(&self, name: &str, file: &[u8], at: usize) -> Option<Group> {
        let head = file.get(at..at + GROUP_HEAD_BYTES)?;
        let is_head = head.starts_with(b"GPgr")
            && number(head, 4, 4) == u64::from(crc(&[&self.seed, &head[8..]]))
            && name.strip_suffix(".log")?.parse() == Ok(number(head, 8, 8))
            && number(head, 16, 8) == at as u64;
        if !is_head {
            return None;
        }
        let (after, body_bytes) = (number(head, 32, 8), number(head, 52, 4) as usize);
        let end = at + (GROUP_HEAD_BYTES + body_bytes + 1).next_multiple_of(GROUP_HEAD_BYTES);
        let padded = file.get(at + GROUP_HEAD_BYTES..end)?;
        if number(head, 56, 4) != u64::from(crc(&[&self.seed, padded])) {
            return None;
        }
        let (ends, mask) = (head[60] & ENDS != 0, head[61]);
        let body: Vec<_> = padded[..body_bytes].iter().map(|byte| byte ^ mask).collect();
        let (entries, has_events_alone) = self.records(&body)?;
        let through = after + number(head, 48, 4);
        let epoch = self.epoch.clone();
        Some(Group { epoch, after, through, bytes: at..end, has_events_alone, ends, entries })
    }

    /// The entries of a group's body, and whether it holds nothing else.
    fn records(&self, mut body: &[u8]) -> Option<(Vec<Entry>, bool)> {
        let (mut entries, mut events_alone) = (Vec::new(), true);
        while !body.is_empty() {
            match take(&mut body, 1)?[0] {
                1 => {
                    sized(&mut body)?;
                    take(&mut body, 1)?;
                    sized(&mut body)?;
                    take(&mut body, 16)?;
                }
                2 => {
                    let [kind, _, has_content] = *take(&mut body, 3)? else { return None };
                    take(&mut body, if has_content == 0 { 0 } else { 16 })?;
                    events_alone &= kind == 0;
                    // A frame as it travels: a flag, the length, the message.
                    entries.push(self.entry(sized(&mut body)?.get(5..)?)?);
                }
                3 | 5 => {
                    events_alone = false;
                    take(&mut body, 32)?;
                    sized(&mut body)?;
                }
                4 => {
                    events_alone = false;
                    take(&mut body, 1)?;
                    sized(&mut body)?;
                }
                6 => {
                    // From when on a publisher's ids are known.
                    take(&mut body, 8)?;
                }
                _ => return None,
            }
        }
        Some((entries, events_alone))
    }

    fn entry(&self, message: &[u8]) -> Option<Entry> {
        let frame = v1::PushEvent::decode(message).ok()?;
        let Cursor::At(position) = frames::cursor(&frame.cursor) else { return None };
        let appended_us = frame.appended_unix_ms.saturating_sub(UNIX_MS_START) * 1_000;
        let of_unix = |at: &prost_types::Timestamp| {
            let unix_us = at.seconds.unsigned_abs() * 1_000_000 + u64::from(at.nanos.unsigned_abs()) / 1_000;
            unix_us.saturating_sub(UNIX_MS_START * 1_000)
        };
        let mut line = LogLine {
            position: position.clone(),
            source: "".into(),
            id: "".into(),
            to: Vec::new(),
            hash: Hash(0),
            standing: true,
            collapse_key: None,
            expires_at_us: None,
            appended_us: Some(appended_us),
            bytes: message.len() as u64,
        };
        let record = match frame.kind? {
            Kind::Event(event) => {
                let ttl = event.ttl.as_ref().map(|ttl| ttl.seconds.unsigned_abs() * 1_000_000);
                line.source = event.source.as_str().into();
                line.id = event.id.as_str().into();
                line.to = event.to.iter().map(|to| Name::from(to.as_str())).collect();
                (line.hash, line.standing) = (event_hash(&event), false);
                line.collapse_key =
                    (!event.collapse_key.is_empty()).then(|| event.collapse_key.as_str().into());
                line.expires_at_us = ttl.map(|ttl| appended_us + ttl);
                None
            }
            Kind::SessionInvalidation(said) => {
                line.hash = invalidation_hash(&said);
                let before_us = frames::explicit(&said).map(of_unix);
                let says = Says::Void { holder: said.recipient.as_str().into(), before_us };
                Some((says, said.expires_at.as_ref().map(of_unix)))
            }
            Kind::Membership(said) => {
                line.hash = membership_hash(&said);
                let (holder, recipient) =
                    (said.recipient.as_str().into(), format!("topic:{}", said.topic).into());
                let says = Says::Member { holder, recipient, member: said.member };
                Some((says, said.expires_at.as_ref().map(of_unix)))
            }
            _ => return None,
        };
        if line.standing {
            line.id = line.hash.to_string().into();
        }
        let appended_us = Some(appended_us);
        let record = record.map(|(says, until_us)| LogRecord {
            position: position.clone(),
            says,
            until_us,
            appended_us,
        });
        Some(Entry { seq: position.seq, hash: line.hash, line, record })
    }
}

/// A little-endian number.
fn number(bytes: &[u8], at: usize, length: usize) -> u64 {
    bytes[at..at + length].iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

fn take<'a>(bytes: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(count)?;
    *bytes = rest;
    Some(taken)
}

/// Bytes behind their length in four bytes.
fn sized<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = number(take(bytes, 4)?, 0, 4) as usize;
    take(bytes, length)
}
