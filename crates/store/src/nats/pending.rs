//! What of this hub waits to be sent or is in flight, and the answers.
//!
//! Pure. A batch waits until there is room in a pack; a pack is in flight until it is read back, or is known never to come, or
//! nobody has answered for too long. `T` is to whom an answer goes.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use galaxy_push_core::cursor::{Cursor, Epoch, MESSAGE_ITEMS_MAX, Seq};

use super::index::{Index, Place};
use super::pack::{self, Head, HubId};
use super::state_machine::RequestOutcome;
use crate::batch::Batch;
use crate::dedup::{Content, Key, Known};
use crate::{Appended, Error, Refused};

/// What was not read back within this is answered *unknown*; what was not even sent, *refused*.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// The most packs that a broker has stored, and that were not read back yet.
const STORED_MAX: usize = 256;

/// How much may wait and be in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The largest payload that the broker takes, in bytes, without what travels beside it.
    pub payload_bytes: usize,
    /// To how many bytes a pack gathers, unless one batch alone is larger.
    pub pack_bytes: usize,
    /// The most packs that no broker has answered. While they are in flight, what comes gathers.
    pub packs: usize,
    /// The most batches that wait.
    pub batches: usize,
    /// The most bytes that wait, unless one batch alone is larger.
    pub bytes: usize,
}

impl Default for Limits {
    /// 1 MiB a payload, packs of 128 KiB, 16 of them in flight, 65,536 batches and 64 MiB that wait.
    fn default() -> Self {
        Self { payload_bytes: 1 << 20, pack_bytes: 128 << 10, packs: 16, batches: 1 << 16, bytes: 64 << 20 }
    }
}

/// A pack that is ready to be published.
#[derive(Clone, Debug)]
pub struct Sealed {
    /// Which of this hub's packs it is.
    pub number: u64,
    /// The message.
    pub payload: Bytes,
}

/// To whom an answer goes, and the answer.
pub(super) type Answer<T> = (T, Result<Vec<Appended>, Error>);

/// The batches of one hub.
#[derive(Debug)]
pub(super) struct Pending<T> {
    hub: HubId,
    limits: Limits,
    /// In the order in which they came. Bounded by [`Limits::batches`] and [`Limits::bytes`].
    waiting: VecDeque<Waiting<T>>,
    waiting_bytes: usize,
    /// In the order of their numbers. Bounded by [`Limits::packs`] and [`STORED_MAX`].
    in_flight: VecDeque<InFlightPack<T>>,
    sealed: u64,
    answers: Vec<Answer<T>>,
}

#[derive(Debug)]
struct Waiting<T> {
    batch: Batch,
    bytes: usize,
    reply: T,
    since: Duration,
}

#[derive(Debug)]
struct InFlightPack<T> {
    number: u64,
    /// The last message that was read before it: it comes behind that.
    read: u64,
    /// Of each request in it; `None`: it was answered.
    requests: Vec<Option<Request<T>>>,
    is_stored: bool,
    /// When the first of its requests came.
    since: Duration,
}

#[derive(Debug)]
struct Request<T> {
    reply: T,
    /// Of each item of the batch, how it is answered.
    items: Vec<Slot>,
    since: Duration,
}

/// How an item is answered.
#[derive(Clone, Copy, Debug)]
enum Slot {
    /// As the next item of the request is.
    Sent,
    /// It was known before.
    Known(Option<Cursor>),
    /// As this one is, of which it is a duplicate.
    Above(usize),
}

/// What becomes of a batch when it comes to be sent.
enum Prepared {
    Answer(Result<Vec<Appended>, Error>),
    Request(Batch, Vec<Slot>),
}

impl<T> Pending<T> {
    pub(super) fn new(hub: HubId, limits: Limits) -> Self {
        let (waiting, in_flight, answers) = (VecDeque::new(), VecDeque::new(), Vec::new());
        Self { hub, limits, waiting, waiting_bytes: 0, in_flight, sealed: 0, answers }
    }

    /// Has a batch wait, behind those that came before it.
    pub(super) fn push(&mut self, batch: Batch, reply: T, now: Duration) {
        if batch.items.is_empty() {
            self.answers.push((reply, Ok(Vec::new())));
            return;
        }
        let bytes = pack::request_bytes(&batch);
        let bytes_max = self.limits.payload_bytes.saturating_sub(pack::HEAD_BYTES);
        let refused = if bytes > bytes_max || batch.items.len() > MESSAGE_ITEMS_MAX {
            Some(Refused::TooLarge { bytes, bytes_max })
        } else if self.waiting.len() >= self.limits.batches
            || self.waiting_bytes + bytes > self.limits.bytes && !self.waiting.is_empty()
        {
            Some(Refused::Unavailable("as much waits for the brokers as may wait".to_owned()))
        } else {
            None
        };
        if let Some(refused) = refused {
            self.answers.push((reply, Err(refused.into())));
            return;
        }
        self.waiting_bytes += bytes;
        self.waiting.push_back(Waiting { batch, bytes, reply, since: now });
    }

    /// Answers at once, without anything being sent.
    pub(super) fn refuse(&mut self, reply: T, refused: Refused) {
        self.answers.push((reply, Err(refused.into())));
    }

    /// The next pack, if there is anything to send and room for it. `read` is the last message read, up to which `index` knows
    /// what was published.
    pub(super) fn seal(&mut self, epoch: Epoch, read: u64, index: &mut Index) -> Option<Sealed> {
        let unanswered = self.in_flight.iter().filter(|pack| !pack.is_stored).count();
        if unanswered >= self.limits.packs || self.in_flight.len() >= self.limits.packs + STORED_MAX {
            return None;
        }
        let bytes_max = self.limits.pack_bytes.min(self.limits.payload_bytes);
        let (mut payload, mut requests, mut items) = (Vec::new(), Vec::new(), 0);
        let head = Head { epoch, hub: self.hub, number: self.sealed + 1, read };
        let mut since = Duration::MAX;
        while let Some(next) = self.waiting.front() {
            let fits = payload.len() + next.bytes <= bytes_max
                && items + next.batch.items.len() <= MESSAGE_ITEMS_MAX;
            if !requests.is_empty() && !fits {
                break;
            }
            let Some(next) = self.waiting.pop_front() else { break };
            self.waiting_bytes -= next.bytes;
            match prepare(next.batch, epoch, index) {
                Prepared::Answer(answer) => self.answers.push((next.reply, answer)),
                Prepared::Request(batch, slots) => {
                    if requests.is_empty() {
                        payload.reserve(pack::HEAD_BYTES + next.bytes);
                        pack::put_head(&mut payload, &head);
                    }
                    pack::put_request(&mut payload, &batch);
                    items += batch.items.len();
                    since = since.min(next.since);
                    requests.push(Some(Request { reply: next.reply, items: slots, since: next.since }));
                }
            }
        }
        // All were answered by what is known: nothing is sent, and the number is not used up.
        if requests.is_empty() {
            return None;
        }
        self.sealed = head.number;
        self.in_flight.push_back(InFlightPack {
            number: head.number,
            read,
            requests,
            is_stored: false,
            since,
        });
        Some(Sealed { number: head.number, payload: payload.into() })
    }

    /// A pack of this hub was read back. What was sent before it, and did not come before it, does not count any more if it
    /// comes. All messages from `whole_from` on were read: what may lie in a hole before may have come.
    pub(super) fn judged(&mut self, number: u64, outcomes: &[RequestOutcome], whole_from: u64) {
        while self.in_flight.front().is_some_and(|pack| pack.number < number) {
            let Some(pack) = self.in_flight.pop_front() else { break };
            if pack.read + 1 >= whole_from {
                self.refuse_pack(pack, "a broker lost it, or took what came after it first");
            } else {
                self.doubt_pack(pack, "messages of the log are lost, and it may have been among them");
            }
        }
        if self.in_flight.front().is_none_or(|pack| pack.number != number) {
            return; // nobody waits for it any more
        }
        let Some(pack) = self.in_flight.pop_front() else { return };
        for (request, outcome) in pack.requests.into_iter().zip(outcomes) {
            if let Some(request) = request {
                let answer = answer(outcome, &request.items);
                self.answers.push((request.reply, answer));
            }
        }
    }

    /// A broker has stored a pack: it will be read back, and another may be in flight.
    pub(super) fn stored(&mut self, number: u64) {
        if let Some(pack) = self.in_flight.iter_mut().find(|pack| pack.number == number) {
            pack.is_stored = true;
        }
    }

    /// A pack never comes: it was not sent, or no broker took it.
    pub(super) fn refused(&mut self, number: u64, why: &str) {
        let Some(index) = self.in_flight.iter().position(|pack| pack.number == number) else { return };
        if let Some(pack) = self.in_flight.remove(index) {
            self.refuse_pack(pack, why);
        }
    }

    /// Answers whoever has waited too long.
    pub(super) fn expire(&mut self, now: Duration) {
        let is_over = |since: Duration| now.saturating_sub(since) >= ANSWER_WITHIN;
        while self.waiting.front().is_some_and(|waiting| is_over(waiting.since)) {
            let Some(waiting) = self.waiting.pop_front() else { break };
            self.waiting_bytes -= waiting.bytes;
            let refused = Refused::Unavailable(format!("no broker took anything within {ANSWER_WITHIN:?}"));
            self.answers.push((waiting.reply, Err(refused.into())));
        }
        for pack in self.in_flight.iter_mut().filter(|pack| is_over(pack.since)) {
            for slot in &mut pack.requests {
                if let Some(request) = slot.take_if(|request| is_over(request.since)) {
                    let unknown = Error::Unknown(format!("no broker answered within {ANSWER_WITHIN:?}"));
                    self.answers.push((request.reply, Err(unknown)));
                }
            }
            pack.since = pack.requests.iter().flatten().map(|request| request.since).min().unwrap_or(now);
        }
        // Should one come after all, `judged` finds nobody who waits for it.
        self.in_flight.retain(|pack| pack.requests.iter().any(Option::is_some));
    }

    /// When somebody has waited too long.
    pub(super) fn next_expiry(&self) -> Option<Duration> {
        let waiting = self.waiting.front().map(|waiting| waiting.since);
        let since = self.in_flight.iter().map(|pack| pack.since).chain(waiting).min();
        since.map(|since| since + ANSWER_WITHIN)
    }

    /// Refuses what was not sent, and says of what was that nobody knows: this hub ends.
    pub(super) fn end(&mut self, why: &str) {
        for waiting in std::mem::take(&mut self.waiting) {
            self.answers.push((waiting.reply, Err(Refused::Unavailable(why.to_owned()).into())));
        }
        self.waiting_bytes = 0;
        for pack in std::mem::take(&mut self.in_flight) {
            self.doubt_pack(pack, why);
        }
    }

    pub(super) fn take_answers(&mut self) -> Vec<Answer<T>> {
        std::mem::take(&mut self.answers)
    }

    /// How many batches wait or are in flight.
    pub(super) fn len(&self) -> usize {
        self.waiting.len() + self.in_flight.iter().flat_map(|pack| &pack.requests).flatten().count()
    }

    fn doubt_pack(&mut self, pack: InFlightPack<T>, why: &str) {
        for request in pack.requests.into_iter().flatten() {
            self.answers.push((request.reply, Err(Error::Unknown(why.to_owned()))));
        }
    }

    fn refuse_pack(&mut self, pack: InFlightPack<T>, why: &str) {
        for request in pack.requests.into_iter().flatten() {
            self.answers.push((request.reply, Err(Refused::Unavailable(why.to_owned()).into())));
        }
    }
}

/// Leaves out what is known, and answers what needs nothing sent.
fn prepare(mut batch: Batch, epoch: Epoch, index: &mut Index) -> Prepared {
    let at = |seq: Option<Seq>| seq.map(|seq| Cursor { epoch, seq });
    let count = batch.items.len();
    if let Some((key, content)) = &batch.key {
        return match index.look_up(key, *content) {
            Known::No => Prepared::Request(batch, vec![Slot::Sent; count]),
            Known::Other => Prepared::Answer(Err(reused(None))),
            Known::Same(Place::Doubtful) => Prepared::Answer(Err(doubtful())),
            Known::Same(Place::At(seq)) => {
                Prepared::Answer(Ok(vec![Appended { cursor: at(seq), duplicate: true }; count]))
            }
        };
    }
    let slots = match look_up(&batch, epoch, index) {
        Ok(slots) => slots,
        Err(error) => return Prepared::Answer(Err(error)),
    };
    if !slots.iter().any(|slot| matches!(slot, Slot::Sent)) {
        return Prepared::Answer(Ok(merge(&[], &slots)));
    }
    let mut kept = slots.iter().map(|slot| matches!(slot, Slot::Sent));
    batch.items.retain(|_| kept.next().unwrap_or(true));
    Prepared::Request(batch, slots)
}

/// How each event of a batch is answered, or why the batch as a whole is not sent.
fn look_up(batch: &Batch, epoch: Epoch, index: &mut Index) -> Result<Vec<Slot>, Error> {
    let mut here = HashMap::<&Key, (Content, usize)>::new(); // looked up only, never iterated
    let count = batch.items.len();
    let (mut slots, mut is_doubtful) = (Vec::with_capacity(count), false);
    for (place, item) in batch.items.iter().enumerate() {
        let Some((key, content)) = &item.key else {
            slots.push(Slot::Sent);
            continue;
        };
        let above = (count > 1).then(|| here.insert(key, (*content, place))).flatten();
        let known = index.look_up(key, *content);
        if known == Known::Other || above.is_some_and(|(other, _)| other != *content) {
            return Err(reused(Some(place)));
        }
        slots.push(match (known, above) {
            (_, Some((_, above))) => Slot::Above(above),
            (Known::Same(Place::At(seq)), None) => Slot::Known(seq.map(|seq| Cursor { epoch, seq })),
            (Known::Same(Place::Doubtful), None) => {
                is_doubtful = true;
                Slot::Sent
            }
            (Known::No | Known::Other, None) => Slot::Sent,
        });
    }
    if is_doubtful { Err(doubtful()) } else { Ok(slots) }
}

fn reused(item: Option<usize>) -> Error {
    Refused::IdReused { item }.into()
}

fn doubtful() -> Error {
    Error::Unknown("it may have been published, and this hub lacks what would tell".to_owned())
}

/// What an outcome means to whoever published.
fn answer(outcome: &RequestOutcome, slots: &[Slot]) -> Result<Vec<Appended>, Error> {
    match outcome {
        RequestOutcome::Appended(sent) => Ok(merge(sent, slots)),
        RequestOutcome::Reused { item } => {
            let mut sent = slots.iter().enumerate().filter(|(_, slot)| matches!(slot, Slot::Sent));
            let item = item.and_then(|item| sent.nth(item)).map(|(index, _)| index);
            Err(reused(item))
        }
        RequestOutcome::Dead => {
            let text = "the log went on too far before it came, or this hub is behind";
            Err(Refused::Unavailable(text.to_owned()).into())
        }
        RequestOutcome::Doubtful => {
            let text = "messages of the log are lost, and this hub cannot tell what became of it";
            Err(Error::Unknown(text.to_owned()))
        }
    }
}

/// The results of a batch, of those of what was sent of it.
fn merge(sent: &[Appended], slots: &[Slot]) -> Vec<Appended> {
    let (mut sent, mut results) = (sent.iter().copied(), Vec::<Appended>::with_capacity(slots.len()));
    for slot in slots {
        let result = match *slot {
            Slot::Sent => sent.next().unwrap_or(Appended { cursor: None, duplicate: false }),
            Slot::Known(cursor) => Appended { cursor, duplicate: true },
            Slot::Above(above) => {
                Appended { cursor: results.get(above).and_then(|above| above.cursor), duplicate: true }
            }
        };
        results.push(result);
    }
    results
}
