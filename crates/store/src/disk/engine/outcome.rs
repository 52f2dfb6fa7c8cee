//! What becomes of a group that was on its way: it is durable, or it is given up, and with it what gathered meanwhile.

use std::io;

use bytes::Bytes;

use super::super::format::ENDING_BYTES;
use super::super::group::{Group, Reply};
use super::super::lock::lock;
use super::super::segments::Outcome;
use super::super::stage::Place;
use super::{Engine, Flight, Landed};
use crate::{Appended, Error, Refused};

impl<R: Reply> Engine<R> {
    /// The group on its way has come to this. If it is durable, what it changes is visible now, and is to be told; else it is
    /// given up, and what gathered meanwhile with it.
    pub(crate) fn done(&mut self, outcome: Outcome) {
        let Some(flight) = self.flying.take() else { return };
        if let Some(reason) = self.dead.clone() {
            // What a sync says counts no more.
            return self.give_up(Some(flight.group), &reason);
        }
        match outcome {
            Outcome::Durable { begun } => {
                self.stand(flight.next, begun);
                self.commit(flight, begun);
            }
            Outcome::Full { begun, was_cut, error } => {
                if begun.is_some() {
                    self.keep_segment(&flight, begun);
                    self.stand(flight.fallback, begun);
                } else if was_cut {
                    self.retention.cut(flight.fallback.segment, self.durable.offset);
                    self.stand(self.durable.in_length(self.durable.offset + ENDING_BYTES), None);
                }
                if flight.releases.is_some() {
                    // It is tried again when it is later, or another segment was begun.
                    self.may_release = false;
                    return self.stager.stand(self.durable);
                }
                self.lacks = Some(flight.wants);
                self.refuse(flight.group, &Refused::Unavailable(format!("the disk is full: {error}")));
            }
            Outcome::Failed(error) => {
                let reason = died(&error);
                self.dead = Some(reason.clone());
                self.give_up(Some(flight.group), &reason);
            }
        }
    }

    /// What is durable ends here. `begun`: the length of the segment, if it was begun just now.
    fn stand(&mut self, place: Place, begun: Option<u64>) {
        self.durable = match begun {
            Some(bytes) => place.in_length(bytes),
            None => place,
        };
        self.stager.stand(self.durable);
    }

    fn commit(&mut self, flight: Flight<R>, begun: Option<u64>) {
        self.keep_segment(&flight, begun);
        self.may_release |= begun.is_some();
        let (group, segment) = (flight.group, flight.next.segment);
        {
            // One hold of the lock: readers and publishers see all that a group changes, or nothing.
            let mut visible = lock(&self.visible);
            if let Some(up_to) = flight.releases {
                visible.standing.moved_up_to(up_to, segment);
                let (left, bytes) = self.retention.leave(up_to, segment, self.dedup_age, visible.now);
                self.left.extend(left);
                self.freed = (self.freed + bytes).saturating_sub(begun.unwrap_or_default());
                self.lacks = self.lacks.filter(|lacks| *lacks > self.freed);
            } else {
                self.lacks = None;
            }
            visible.commit(&group, segment);
        }
        self.stager.forget(&group);
        if let Some((from, to)) = group.times {
            // What is for live readers only takes no room on the disk, but its key may.
            self.retention.add(segment, 0, from);
            self.retention.add(segment, group.positions.into(), to);
        }
        self.retention.weigh(segment, group.frame_bytes);
        let synced = Some(group.positions);
        self.landed.push_back(Landed { group, body: flight.body, synced });
    }

    /// Nothing goes on from here: whoever waits for an answer finds that there is none.
    pub(crate) fn abandon(&mut self) {
        self.dead.get_or_insert_with(|| "an earlier append did not finish; restart the hub".to_owned());
        (self.stager.open, self.flying) = (None, None);
        self.landed.clear();
    }

    /// The store can go on no longer: what gathers and what comes is refused, and of what is on its way nobody knows.
    pub(crate) fn die(&mut self, reason: String) {
        let reason = self.dead.get_or_insert(reason).clone();
        if self.flying.is_none() {
            self.give_up(None, &reason);
        }
    }

    fn keep_segment(&mut self, flight: &Flight<R>, begun: Option<u64>) {
        if let Some((number, bytes)) = flight.begins.zip(begun) {
            self.retention.cut(number, flight.ends);
            self.retention.begin(number, bytes);
        }
    }

    /// Nothing of this group was written, nor of what gathers.
    fn refuse(&mut self, group: Group<R>, refused: &Refused) {
        let head = self.durable.head;
        let mut there = Group::default();
        for (reply, results) in self.take_back(Some(group)) {
            // What is for live readers only has no position: nobody knows whether it was told of, or was to be with this group.
            let may_be = |result: &&Appended| {
                result.duplicate && result.cursor.is_none_or(|cursor| !cursor.follows(head))
            };
            let repeats = results.iter().filter(may_be).count();
            if repeats == 0 {
                reply.answer(Err(refused.clone().into()));
            } else if repeats == results.len() && results.iter().all(|result| result.cursor.is_some()) {
                there.answers.push((reply, results));
            } else {
                reply.answer(Err(Error::Unknown(refused.to_string())));
            }
        }
        // Behind what they repeat, of which readers may not have been told yet.
        if !there.answers.is_empty() {
            self.landed.push_back(Landed { group: there, body: Bytes::new(), synced: None });
        }
    }

    /// The store can go on no longer: of this group nobody knows whether it was written, and what gathers was not.
    fn give_up(&mut self, group: Option<Group<R>>, reason: &str) {
        let on_its_way = group.as_ref().map_or(0, |group| group.answers.len());
        for (index, (reply, results)) in self.take_back(group).into_iter().enumerate() {
            // What it repeats is in the log, or nobody knows: nothing was refused of that.
            let is_unknown = index < on_its_way || results.iter().any(|result| result.duplicate);
            let reason = reason.to_owned();
            reply.answer(Err(if is_unknown {
                Error::Unknown(reason)
            } else {
                Refused::Unavailable(reason).into()
            }));
        }
    }

    /// What was staged is as if it had never been. Returns who waits for an answer: first those of the group on its way.
    fn take_back(&mut self, group: Option<Group<R>>) -> Vec<(R, Vec<Appended>)> {
        let gathering = self.stager.abort(self.durable);
        {
            let mut visible = lock(&self.visible);
            gathering.iter().chain(&group).for_each(|group| visible.give_up(group));
        }
        group.into_iter().chain(gathering).flat_map(|group| group.answers).collect()
    }
}

fn died(error: &io::Error) -> String {
    format!("the disk failed, and what was being written may be there or not: {error}")
}
