//! What a stream says, by the rules as they are written and with everything that was ever in it: slow, and without anything to
//! remember or to forget.

use std::collections::BTreeMap;

use bytes::Bytes;
use galaxy_push_core::cursor::{Cursor, Epoch};
use galaxy_push_core::frame::EventView;
use galaxy_push_core::window::Traits;

use super::super::Message;
use crate::batch::{Batch, Item};
use crate::dedup::{Content, Key};
use crate::nats::ClaimBounds;
use crate::nats::pack::{self, Head, HubId};

/// What was appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) key: Option<(Key, Content)>,
    pub(super) event: Bytes,
    pub(super) stamp_ms: u64,
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Of each item: its position, and whether that is an earlier one.
    Appended(Vec<(Option<u64>, bool)>),
    Reused(Option<usize>),
    Dead,
}

/// What all readers must agree on.
#[derive(Debug, Default)]
pub(super) struct Oracle {
    bounds: ClaimBounds,
    read: Vec<(Message, u64)>,
    packs: Vec<(HubId, u64)>,
    appended: Vec<(u64, Key, Content, Option<u64>)>,
    pub(super) entries: BTreeMap<u64, Entry>,
    /// By their place.
    pub(super) ephemeral: BTreeMap<u64, Entry>,
    /// By message.
    pub(super) outcomes: BTreeMap<u64, Vec<Outcome>>,
}

impl Entry {
    /// The batch that it came with.
    pub(super) fn ticket(&self) -> Option<usize> {
        EventView::of(&self.event).attribute("ticket").and_then(|ticket| ticket.parse().ok())
    }
}

impl Oracle {
    pub(super) fn of(stream: &[Message], epoch: Epoch, bounds: ClaimBounds) -> Self {
        let mut oracle = Self { bounds, ..Self::default() };
        stream.iter().for_each(|message| oracle.message(message, epoch));
        oracle
    }

    fn message(&mut self, message: &Message, epoch: Epoch) {
        let pack = pack::read(&message.payload).ok();
        let items = pack.as_ref().map_or(0, |pack| pack.items());
        self.read.push((message.clone(), items.max(1) as u64));
        let Some(pack) = pack.filter(|pack| pack.head.epoch == epoch && pack.head.read < message.number)
        else {
            return;
        };
        let head = pack.head;
        if self.packs.iter().any(|(hub, number)| *hub == head.hub && *number >= head.number) {
            return;
        }
        self.packs.push((head.hub, head.number));
        let is_dead = self.is_dead(message, &head);
        let mut behind = items;
        let outcomes = pack.requests.iter().map(|request| {
            behind -= request.items.len();
            if is_dead { Outcome::Dead } else { self.request(message, head.read, request, behind) }
        });
        let outcomes = outcomes.collect();
        self.outcomes.insert(message.number, outcomes);
    }

    fn is_dead(&self, message: &Message, head: &Head) -> bool {
        let lies_between = |number| number > head.read && number < message.number;
        let between = || self.read.iter().filter(|(other, _)| lies_between(other.number));
        between().any(|(other, _)| other.stamp_unix_ms + self.bounds.age_ms <= message.stamp_unix_ms)
            || between().map(|(_, items)| items).sum::<u64>() > self.bounds.items
    }

    fn request(&mut self, message: &Message, read: u64, request: &Batch, behind: usize) -> Outcome {
        let known = |key: &Key| {
            let mut all = self.appended.iter().filter(|(number, ..)| *number > read);
            all.find(|(_, known, ..)| known == key).map(|(_, _, content, seq)| (*content, *seq))
        };
        let count = request.items.len();
        if let Some((key, content)) = &request.key {
            match known(key) {
                Some((same, seq)) if same == *content => return Outcome::Appended(vec![(seq, true); count]),
                Some(_) => return Outcome::Reused(None),
                None => {}
            }
        }
        let mut places = Vec::<(Option<u64>, bool)>::new();
        for (index, item) in request.items.iter().enumerate() {
            let behind = (behind + count - 1 - index) as u16;
            let seq = Cursor::in_message(Epoch(0), message.number, behind).seq.0;
            let own = (!item.traits.has(Traits::EPHEMERAL)).then_some(seq);
            let Some((key, content)) = &item.key else {
                places.push((own, false));
                continue;
            };
            let above = request.items[..index].iter().position(|above| is_of(above, key));
            let above = above.and_then(|at| Some((request.items[at].key.as_ref()?.1, places[at].0)));
            match known(key).or(above) {
                None => places.push((own, false)),
                Some((same, seq)) if same == *content && above.is_none_or(|(above, _)| above == same) => {
                    places.push((seq, true));
                }
                Some(_) => return Outcome::Reused(Some(index)),
            }
        }
        for (index, (item, (place, is_again))) in request.items.iter().zip(&places).enumerate() {
            if *is_again {
                continue;
            }
            let behind = (behind + count - 1 - index) as u16;
            let seq = Cursor::in_message(Epoch(0), message.number, behind).seq.0;
            if let Some((key, content)) = &item.key {
                self.appended.push((message.number, key.clone(), *content, *place));
            }
            let entry =
                Entry { key: item.key.clone(), event: item.event.clone(), stamp_ms: message.stamp_unix_ms };
            let kept = if place.is_some() { &mut self.entries } else { &mut self.ephemeral };
            kept.insert(seq, entry);
        }
        if let Some((key, content)) = &request.key {
            let last = places.last().and_then(|(place, _)| *place);
            self.appended.push((message.number, key.clone(), *content, last));
        }
        Outcome::Appended(places)
    }
}

fn is_of(item: &Item, key: &Key) -> bool {
    item.key.as_ref().is_some_and(|(other, _)| other == key)
}
