//! Records that were offered to the log and not answered yet: they take their room before they are read back.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::batch::Batch;
use crate::standing::Change;

/// The most records under way, unless one request alone has more: whoever asks whether there is room looks at all of them.
const RECORDS_MAX: usize = 4_096;

/// A request for records that is under way.
#[derive(Debug, PartialEq, Eq)]
pub struct Ticket {
    number: u64,
    records: usize,
}

/// The requests under way.
#[derive(Debug, Default)]
pub(super) struct InFlight {
    last: u64,
    /// How many records were not answered.
    records: usize,
    /// Of those that were not read back, what they change and in whose share of the room.
    changes: BTreeMap<u64, (Vec<Change>, Option<Arc<str>>)>,
}

impl InFlight {
    pub(super) fn has_room(&self, batch: &Batch) -> bool {
        self.records == 0 || self.records + batch.items.len() <= RECORDS_MAX
    }

    pub(super) fn begin(&mut self, batch: &Batch) -> Ticket {
        self.last += 1;
        let ticket = Ticket { number: self.last, records: batch.items.len() };
        let changes = batch.items.iter().filter_map(|item| item.change.clone());
        self.changes.insert(ticket.number, (changes.collect(), batch.publisher.clone()));
        self.records += ticket.records;
        ticket
    }

    /// Whatever became of them, it is known now, or nobody waits for it.
    pub(super) fn read_back(&mut self, ticket: &Ticket) {
        self.changes.remove(&ticket.number);
    }

    pub(super) fn answered(&mut self, ticket: &Ticket) {
        self.changes.remove(&ticket.number);
        self.records -= ticket.records.min(self.records);
    }

    pub(super) fn changes(&self) -> impl Iterator<Item = (&Change, Option<&Arc<str>>)> {
        self.changes
            .values()
            .flat_map(|(changes, share)| changes.iter().map(move |each| (each, share.as_ref())))
    }
}
