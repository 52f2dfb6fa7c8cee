//! Every publish call with its answer, and where its event landed.

use std::collections::HashMap;

use super::log::Pos;
use crate::history::{CallId, Hash, PubAck, PubCall};

/// What became of a call.
#[derive(Clone, Copy)]
pub(super) enum Answer<'h> {
    Acked(&'h PubAck),
    Nacked,
    /// No answer, or none that says anything.
    Unknown,
}

/// One call for one event.
pub(super) struct Call<'h> {
    pub(super) call: &'h PubCall,
    /// Its record.
    pub(super) line: usize,
    pub(super) at_us: u64,
    pub(super) answer: Answer<'h>,
    /// The record of the answer.
    pub(super) answered: Option<usize>,
    /// The last position acknowledged to anyone before this call began.
    pub(super) acked_before: Option<(Pos, usize)>,
}

/// All calls for one source and id, and the places in the log that have them.
#[derive(Default)]
pub(super) struct Attempts {
    pub(super) calls: Vec<usize>,
    /// Positions, in the order of epochs and places.
    pub(super) landed: Vec<Pos>,
}

/// All publishes of a history.
#[derive(Default)]
pub(super) struct Publishes<'h> {
    pub(super) calls: Vec<Call<'h>>,
    /// By source and id, in the order of their first call.
    pub(super) attempts: Vec<Attempts>,
    /// Records that answer no call, or open one twice.
    pub(super) unsound: Vec<(usize, &'static str)>,
    by_call: HashMap<CallId, usize>,
    by_key: HashMap<(&'h str, &'h str), usize>,
    by_payload: HashMap<(&'h str, Hash), Vec<usize>>,
    /// The record in which a batch was first acknowledged, as a whole or one of it.
    batches: HashMap<u64, usize>,
    acked: Option<(Pos, usize)>,
}

impl<'h> Publishes<'h> {
    pub(super) fn called(&mut self, line: usize, at_us: u64, call: &'h PubCall) {
        let number = self.calls.len();
        if self.by_call.insert(call.call, number).is_some() {
            self.unsound.push((line, "this call number was used before"));
        }
        let attempts = *self.by_key.entry((&call.source, &call.id)).or_insert_with(|| {
            self.attempts.push(Attempts::default());
            self.attempts.len() - 1
        });
        self.attempts[attempts].calls.push(number);
        self.by_payload.entry((&call.id, call.hash)).or_default().push(number);
        let acked_before = self.acked;
        self.calls.push(Call { call, line, at_us, answer: Answer::Unknown, answered: None, acked_before });
    }

    pub(super) fn answered(&mut self, line: usize, call: CallId, answer: Answer<'h>, position: Option<Pos>) {
        let Some(known) = self.by_call.get(&call).map(|&number| &mut self.calls[number]) else {
            self.unsound.push((line, "an answer to a call that was not recorded"));
            return;
        };
        if known.answered.is_some() {
            self.unsound.push((line, "a second answer to this call"));
        }
        known.answer = answer;
        known.answered = Some(line);
        if let (Answer::Acked(_), Some(batch)) = (answer, known.call.batch) {
            self.batches.entry(batch).or_insert(line);
        }
        if let Some(position) = position {
            // A later epoch replaces an earlier one here: the two have no order to be checked.
            let rises =
                self.acked.is_none_or(|(acked, _)| acked.epoch != position.epoch || acked.seq < position.seq);
            if rises {
                self.acked = Some((position, line));
            }
        }
    }

    pub(super) fn landed(&mut self, source: &'h str, id: &'h str, position: Pos) {
        if let Some(&attempts) = self.by_key.get(&(source, id)) {
            self.attempts[attempts].landed.push(position);
        }
    }

    /// All calls for this source and id.
    pub(super) fn of(&self, source: &str, id: &str) -> Option<&Attempts> {
        self.by_key.get(&(source, id)).map(|&attempts| &self.attempts[attempts])
    }

    /// The records that acknowledge what was published under this source and id, or a batch that it was in.
    pub(super) fn acks(&self, source: &str, id: &str) -> impl Iterator<Item = usize> {
        let calls = self.of(source, id).into_iter().flat_map(|attempts| &attempts.calls);
        calls.filter_map(|&number| {
            let call = &self.calls[number];
            let alone = call.answered.filter(|_| matches!(call.answer, Answer::Acked(_)));
            let of_batch = call.call.batch.and_then(|batch| self.batches.get(&batch).copied());
            alone.or(of_batch)
        })
    }

    /// The calls that published this payload under this id.
    pub(super) fn of_payload<'s>(
        &'s self,
        id: &'s str,
        hash: Hash,
    ) -> impl Iterator<Item = &'s Call<'h>> + Clone {
        let numbers: &'s [usize] = self.by_payload.get(&(id, hash)).map_or(&[], Vec::as_slice);
        let calls: &'s [Call<'h>] = &self.calls;
        numbers.iter().map(move |&number| &calls[number])
    }
}

impl Call<'_> {
    /// Whether the event of this call may be in the log.
    pub(super) const fn may_land(&self) -> bool {
        !matches!(self.answer, Answer::Nacked)
    }
}
