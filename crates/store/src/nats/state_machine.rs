//! Messages in the order of the stream, and what readers are handed of them.
//!
//! Pure, and the same for every hub: whether a request counts follows from what lies between its pack and the message that
//! the pack's writer had read, and from nothing else ([`claims`](super::claims)).
//!
//! # The rules, in the order in which a message meets them
//!
//! | the message | what becomes of it | at every hub alike |
//! |---|---|---|
//! | has a number that was read or passed over | [`Read::Again`]: nothing changes | no: the connection began again |
//! | is of another version of the format | [`Fatal::Version`]: the hub ends | all of that version |
//! | comes behind numbers that were not read | those are lost: a gap for readers | no: others may have read them |
//! | was written by no hub | [`Read::Foreign`]: skipped | yes |
//! | was written for another epoch | [`Read::OtherEpoch`]: skipped | yes |
//! | says that its writer had read it, or what came later | [`Read::Impossible`]: skipped | yes |
//! | comes behind a later pack of the same hub | [`Read::Overtaken`]: skipped | yes |
//! | has a writer that was too far behind | [`RequestOutcome::Dead`]: none of its requests is appended | yes |
//! | needs what this hub has not read | [`RequestOutcome::Doubtful`]: a gap for readers | no: others may know |
//! | has a key that lies between, with another content | [`RequestOutcome::Reused`]: that request is skipped | yes |
//! | has a key that lies between, with the same content | appended but for that item, which is a duplicate | yes |
//!
//! "Between" is behind the last message that the writer had read, and before its own. Two hubs publish one id at the same time:
//!
//! ```text
//! message 7   by hub A, which had read 6: id x   appended at 7
//! message 8   by hub B, which had read 6: id x   7 lies between and has x: a duplicate, with the position of 7
//! message 9   by hub B, which had read 8: id y   nothing lies between: appended at 9
//! ```

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use galaxy_push_core::cursor::{Cursor, Epoch, MESSAGE_MAX, Seq};
use galaxy_push_core::window::Traits;

use super::claims::{Bounds, Claim, Claims, Mark, PriorUse};
use super::index::{Index, Place};
use super::pack::{self, HubId, NoPack, Pack};
use crate::Appended;
use crate::batch::Batch;
use crate::dedup::{Bounds as DedupBounds, Content, Key};

mod entries;
mod output;
#[cfg(test)]
mod tests;

use entries::Entries;
pub use output::{Output, Record};

/// A message of the stream.
#[derive(Clone, Debug)]
pub struct Message {
    /// Its number in the stream, from 1 on.
    pub number: u64,
    /// When the broker took it, in milliseconds since the Unix epoch.
    pub stamp_unix_ms: u64,
    /// What it holds.
    pub payload: Bytes,
}

/// What a message turned out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read {
    /// It, or one behind it, was read before.
    Again,
    /// No hub wrote it: skipped by everybody.
    Foreign,
    /// It was written for another epoch: skipped by everybody.
    OtherEpoch(Epoch),
    /// It says that its writer had read what came behind it: skipped by everybody.
    Impossible,
    /// It came behind a later pack of the same hub, or twice: skipped by everybody.
    Overtaken(HubId, u64),
    /// A pack, and what became of its requests.
    Pack(Judged),
}

/// What became of a pack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judged {
    /// The hub that wrote it.
    pub hub: HubId,
    /// Which of its packs it is.
    pub number: u64,
    /// What became of each request.
    pub outcomes: Vec<RequestOutcome>,
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestOutcome {
    /// It was appended, but for the duplicates in it; of each item.
    Appended(Vec<Appended>),
    /// Another content lies between under a key of it: skipped whole, by everybody.
    Reused {
        /// Which item of the request; `None`: its records together.
        item: Option<usize>,
    },
    /// Its writer was too far behind: skipped whole, by everybody.
    Dead,
    /// Others may have it, and this hub lacks what it would be judged by.
    Doubtful,
}

/// Why a hub cannot read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fatal {
    /// Another version of the format.
    #[error(
        "message {number} of the stream is of version {version} of the format, and this build reads version {}: \
             run hubs of one version on a stream",
        pack::VERSION
    )]
    Version {
        /// The message.
        number: u64,
        /// Its version.
        version: u16,
    },
    /// The stream has more messages than there are positions.
    #[error(
        "the stream has come to message {0}, and positions end there: let it begin anew, under another epoch"
    )]
    Full(u64),
}

/// A reader of the stream.
#[derive(Debug)]
pub struct StateMachine {
    epoch: Epoch,
    claims: Claims,
    index: Index,
    /// The last message read, or known to be lost.
    last: u64,
    /// Messages were lost, and nothing was read behind them yet.
    keys_lost: bool,
    /// From here on it was read without a hole.
    whole_from: u64,
    /// The last position handed on. `None`: nothing is, while claims from before what was read may live.
    told_to: Option<Cursor>,
    /// What comes is new, not from before this reader.
    is_live: bool,
}

/// A request in its place.
struct Request {
    batch: Batch,
    /// Of each item that has a key.
    marks: Vec<Option<Mark>>,
    /// The message it lies in.
    message: u64,
    /// How many items of the message come behind it.
    behind: usize,
}

/// What is known of the keys of a request.
enum Finding {
    /// It is to be appended, but for what was said before.
    Items(Vec<Said>),
    /// Its records were said before, together, up to this position.
    Whole(Option<Seq>),
    /// Another content was published.
    Reused(Option<usize>),
    /// Perhaps something was.
    Doubtful,
}

/// Whether an item was said before.
#[derive(Clone, Copy)]
enum Said {
    Never,
    Before(Option<Seq>),
    /// By this item of the same request.
    Above(usize),
}

impl StateMachine {
    /// Reads from message `first` on: the first that the stream still has, or will have.
    #[must_use]
    pub fn new(epoch: Epoch, first: u64, dedup: DedupBounds, bounds: Bounds) -> Self {
        let first = first.max(1);
        Self {
            epoch,
            claims: Claims::new(bounds, first),
            index: Index::new(dedup),
            last: first - 1,
            keys_lost: first > 1,
            whole_from: first,
            told_to: None,
            is_live: false,
        }
    }

    /// The next message. What readers are handed is added to `told`. `mono` is the caller's monotonic clock: by it keys
    /// that are known grow old while nothing comes.
    ///
    /// # Errors
    ///
    /// [`Fatal`]: nobody knows what the log says from here on. Nothing has changed.
    pub fn read(&mut self, message: &Message, mono: Duration, told: &mut Vec<Output>) -> Result<Read, Fatal> {
        let Message { number, stamp_unix_ms: stamp, ref payload } = *message;
        if number <= self.last {
            return Ok(Read::Again);
        }
        if number > MESSAGE_MAX {
            return Err(Fatal::Full(number));
        }
        let pack = match pack::read(payload) {
            Ok(pack) => Some(pack),
            Err(NoPack::Foreign) => None,
            Err(NoPack::Version(version)) => return Err(Fatal::Version { number, version }),
        };
        self.lost(number - 1, told);
        self.last = number;
        self.index.stamp(stamp, mono);
        // Behind the stamp: whatever was lost may have come at any time up to what follows the hole.
        if std::mem::take(&mut self.keys_lost) {
            self.index.cut();
        }
        self.claims.read(number, stamp, pack.as_ref().map_or(0, Pack::items));
        let is_whole = self.whole_from == 1;
        if self.told_to.is_none() && (is_whole || self.claims.are_dead_before(self.whole_from, stamp)) {
            self.begin(number - 1, told);
        }
        let read = pack.map_or(Read::Foreign, |pack| self.pack(pack, stamp, told));
        if self.told_to.is_some() {
            let end = Cursor::end_of_message(self.epoch, number);
            self.told_to = Some(end);
            Output::push_upto(told, end);
        }
        Ok(read)
    }

    /// Says that the messages up to this one are gone, if they were not read: whether or not one follows yet.
    pub fn lost(&mut self, upto: u64, told: &mut Vec<Output>) {
        if upto <= self.last {
            return;
        }
        let end = |message| Cursor::end_of_message(self.epoch, message);
        if let Some(told_to) = &mut self.told_to {
            Output::push_gap(told, end(self.last), end(upto));
            *told_to = end(upto);
        }
        self.last = upto;
        self.whole_from = upto + 1;
        self.keys_lost = true;
    }

    /// What was there when this reader began has been read: what comes is new. From here on it is handed on, and what cannot be
    /// judged is told as a gap.
    pub fn caught_up(&mut self, told: &mut Vec<Output>) {
        self.is_live = true;
        if self.told_to.is_none() {
            self.begin(self.last, told);
        }
    }

    /// The last message read, or known to be lost.
    #[must_use]
    pub const fn last(&self) -> u64 {
        self.last
    }

    /// Every message from this one on was read.
    pub(super) const fn whole_from(&self) -> u64 {
        self.whole_from
    }

    /// The epoch.
    #[must_use]
    pub const fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// How far back this hub knows what was published, at `mono` on the clock of [`StateMachine::read`].
    pub fn dedup_horizon(&mut self, mono: Duration) -> Duration {
        self.index.pass(mono);
        self.index.horizon()
    }

    /// Lets go of the keys that are too old, and of their memory.
    pub fn trim(&mut self, mono: Duration) {
        self.index.pass(mono);
        self.index.trim();
    }

    /// Which keys are known now.
    pub(super) fn index(&mut self, mono: Duration) -> &mut Index {
        self.index.pass(mono);
        &mut self.index
    }

    fn begin(&mut self, behind: u64, told: &mut Vec<Output>) {
        let base = Cursor::end_of_message(self.epoch, behind);
        told.push(Output::Begin(base));
        self.told_to = Some(base);
    }

    fn pack(&mut self, pack: Pack, stamp: u64, told: &mut Vec<Output>) -> Read {
        let (head, message, mut behind) = (pack.head, self.last, pack.items());
        if head.epoch != self.epoch {
            return Read::OtherEpoch(head.epoch);
        }
        // Before it could count among the packs of its hub: what is said of their order rests on what each had read.
        if head.read >= message {
            return Read::Impossible;
        }
        if !self.claims.comes_in_order(head.hub, head.number) {
            return Read::Overtaken(head.hub, head.number);
        }
        let claim = self.claims.weigh(head.read, stamp);
        let outcomes = pack.requests.into_iter().map(|batch| {
            behind -= batch.items.len();
            let marks = batch.items.iter().map(|item| item.key.as_ref().map(|(key, _)| Mark::of(key)));
            let request = Request { marks: marks.collect(), batch, message, behind };
            match claim {
                Claim::Dead => RequestOutcome::Dead,
                Claim::Doubtful => self.doubt(request, told),
                Claim::Heeded => self.judge(request, head.read, told),
            }
        });
        let outcomes = outcomes.collect();
        Read::Pack(Judged { hub: head.hub, number: head.number, outcomes })
    }

    fn judge(&mut self, request: Request, read: u64, told: &mut Vec<Output>) -> RequestOutcome {
        match self.find(&request, read) {
            Finding::Items(said) => RequestOutcome::Appended(self.append(request, &said, told)),
            Finding::Whole(seq) => {
                let again = Appended { cursor: self.at(seq), duplicate: true };
                RequestOutcome::Appended(vec![again; request.batch.items.len()])
            }
            Finding::Reused(item) => RequestOutcome::Reused { item },
            Finding::Doubtful => self.doubt(request, told),
        }
    }

    /// What lies between the pack of a request and the message that its writer had read. The first there wins.
    fn find(&self, request: &Request, read: u64) -> Finding {
        let items = &request.batch.items;
        if let Some((key, content)) = &request.batch.key {
            return match self.claims.find(Mark::of(key), read) {
                None => Finding::Items(vec![Said::Never; items.len()]),
                Some(PriorUse::Appended(same, seq)) if same == *content => Finding::Whole(seq),
                Some(PriorUse::Appended(..)) => Finding::Reused(None),
                Some(PriorUse::Doubtful) => Finding::Doubtful,
            };
        }
        let mut here = HashMap::<Mark, (Content, usize)>::new(); // looked up only, never iterated
        let (mut said, mut is_doubtful) = (Vec::with_capacity(items.len()), false);
        for (index, (item, mark)) in items.iter().zip(&request.marks).enumerate() {
            let (Some(mark), Some((_, content))) = (mark, &item.key) else {
                said.push(Said::Never);
                continue;
            };
            let above = (items.len() > 1).then(|| here.insert(*mark, (*content, index))).flatten();
            said.push(match (self.claims.find(*mark, read), above) {
                (Some(PriorUse::Appended(other, _)), _) | (_, Some((other, _))) if other != *content => {
                    return Finding::Reused(Some(index));
                }
                (Some(PriorUse::Appended(_, seq)), _) => Said::Before(seq),
                (Some(PriorUse::Doubtful), _) => {
                    is_doubtful = true;
                    Said::Never
                }
                (None, Some((_, above))) => Said::Above(above),
                (None, None) => Said::Never,
            });
        }
        if is_doubtful { Finding::Doubtful } else { Finding::Items(said) }
    }

    /// Gives each item that was not said before its place, and hands it on. A duplicate leaves its place empty.
    fn append(&mut self, request: Request, said: &[Said], told: &mut Vec<Output>) -> Vec<Appended> {
        let (message, items, stamp) = (request.message, request.batch.items, request.batch.stamp_unix_ms);
        let (count, share) = (items.len(), &request.batch.publisher);
        let mut results = Vec::<Appended>::with_capacity(count);
        let mut entries = Entries::with_capacity(&items, self.told_to);
        let mut records = Vec::new();
        for (index, ((item, mark), said)) in items.into_iter().zip(request.marks).zip(said).enumerate() {
            let before = match *said {
                Said::Never => None,
                Said::Before(seq) => Some(self.at(seq)),
                Said::Above(above) => Some(results.get(above).and_then(|above| above.cursor)),
            };
            if let Some(cursor) = before {
                results.push(Appended { cursor, duplicate: true });
                continue;
            }
            let is_ephemeral = item.traits.has(Traits::EPHEMERAL);
            let place = self.place(message, request.behind + count - 1 - index);
            let cursor = (!is_ephemeral).then_some(place);
            results.push(Appended { cursor, duplicate: false });
            if !is_ephemeral || self.is_live {
                entries.put(&item, cursor, stamp);
            }
            if let (Some(mark), Some((key, content))) = (mark, item.key) {
                self.remember(mark, key, content, cursor);
            }
            if let Some(change) = item.change {
                let (share, wall_unix_ms) = (share.clone(), request.batch.now.unix_ms);
                records.push(Record { cursor: place, change, share, wall_unix_ms, is_doubtful: false });
            }
        }
        if let Some((key, content)) = request.batch.key {
            let last = results.last().and_then(|last| last.cursor);
            self.remember(Mark::of(&key), key, content, last);
        }
        Output::push_records(told, records); // they hold, whoever is handed them
        if let Some(told_to) = &mut self.told_to {
            let entries = entries.finish();
            *told_to = entries.last().map_or(*told_to, |last| last.cursor);
            Output::push_entries(told, entries);
        }
        results
    }

    /// Nobody here knows whether it counts, so nobody here may claim its keys.
    fn doubt(&mut self, request: Request, told: &mut Vec<Output>) -> RequestOutcome {
        let first = self.place(request.message, request.behind + request.batch.items.len() - 1);
        let last = self.place(request.message, request.behind);
        Output::push_records(told, self.doubtful(&request));
        let items = request.batch.items.into_iter().zip(request.marks);
        let of_items = items.filter_map(|(item, mark)| Some((mark?, item.key?)));
        let of_all = request.batch.key.map(|key| (Mark::of(&key.0), key));
        for (mark, (key, content)) in of_items.chain(of_all) {
            self.claims.keep(mark, PriorUse::Doubtful);
            self.index.doubt(key, content);
        }
        if let Some(told_to) = &mut self.told_to {
            Output::push_gap(told, first.before(), last);
            *told_to = last;
        }
        RequestOutcome::Doubtful
    }

    fn doubtful(&self, request: &Request) -> Vec<Record> {
        let (batch, count) = (&request.batch, request.batch.items.len());
        let records = batch.items.iter().enumerate().filter_map(|(index, item)| {
            Some(Record {
                cursor: self.place(request.message, request.behind + count - 1 - index),
                change: item.change.clone()?,
                share: batch.publisher.clone(),
                wall_unix_ms: batch.now.unix_ms,
                is_doubtful: true,
            })
        });
        records.collect()
    }

    fn remember(&mut self, mark: Mark, key: Key, content: Content, cursor: Option<Cursor>) {
        let seq = cursor.map(|cursor| cursor.seq);
        self.claims.keep(mark, PriorUse::Appended(content, seq));
        self.index.remember(key, content, Place::At(seq));
    }

    fn at(&self, seq: Option<Seq>) -> Option<Cursor> {
        seq.map(|seq| Cursor { epoch: self.epoch, seq })
    }

    /// The position of the item with so many behind it.
    fn place(&self, message: u64, behind: usize) -> Cursor {
        // A pack has no more items than there are places.
        Cursor::in_message(self.epoch, message, u16::try_from(behind).unwrap_or(u16::MAX))
    }
}
