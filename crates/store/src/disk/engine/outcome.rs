//! What becomes of a group that was on its way: it is durable, or it is given up, and with it what gathered meanwhile.

use std::io;

use super::super::segments::{ENDING_BYTES, Outcome};
use super::super::stage::{Group, Place};
use super::{Engine, Flight, Landed, Reply, lock};
use crate::{Error, Refused};

impl<R: Reply> Engine<R> {
    /// The group on its way has come to this. If it is durable, what it changes is visible now, and is to be told; else it is
    /// given up, and what gathered meanwhile with it.
    pub(crate) fn done(&mut self, outcome: Outcome) {
        let Some(flight) = self.flying.take() else { return };
        if let Some(reason) = self.dead.clone() {
            // What a sync says counts no more.
            let unknown = Error::Unknown(reason.clone());
            return self.give_up(Some(flight.group), &unknown, &Refused::Unavailable(reason));
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
                    self.stand(self.durable.in_length(self.durable.offset + ENDING_BYTES, 0), None);
                }
                if flight.releases.is_some() {
                    // It is tried again when it is later, or another segment was begun.
                    self.may_release = false;
                    return self.stager.stand(self.durable);
                }
                self.lacks = Some(flight.wants);
                let refused = Refused::Unavailable(format!("the disk is full: {error}"));
                self.give_up(Some(flight.group), &Error::Refused(refused.clone()), &refused);
            }
            Outcome::Failed(error) => {
                let reason = died(&error);
                self.dead = Some(reason.clone());
                let unknown = Error::Unknown(reason.clone());
                self.give_up(Some(flight.group), &unknown, &Refused::Unavailable(reason));
            }
        }
    }

    /// What is durable ends here. `begun`: the length of the segment, if it was begun just now.
    fn stand(&mut self, place: Place, begun: Option<u64>) {
        self.durable = match begun {
            Some(bytes) => place.in_length(bytes, self.reserve_bytes),
            None => place,
        };
        self.stager.stand(self.durable);
    }

    fn commit(&mut self, flight: Flight<R>, begun: Option<u64>) {
        self.keep_segment(&flight, begun);
        self.may_release |= begun.is_some();
        let (group, segment) = (flight.group, flight.next.segment);
        {
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
            self.give_up(None, &Error::Unknown(reason.clone()), &Refused::Unavailable(reason));
        }
    }

    fn keep_segment(&mut self, flight: &Flight<R>, begun: Option<u64>) {
        if let Some((number, bytes)) = flight.begins.zip(begun) {
            self.retention.cut(number, flight.ends);
            self.retention.begin(number, bytes);
        }
    }

    fn give_up(&mut self, group: Option<Group<R>>, error: &Error, refused: &Refused) {
        let gathering = self.stager.abort(self.durable);
        {
            let mut visible = lock(&self.visible);
            gathering.iter().chain(&group).for_each(|group| visible.give_up(group));
        }
        let answers = group.into_iter().flat_map(|group| group.answers);
        answers.for_each(|(reply, _)| reply.answer(Err(error.clone())));
        for (reply, results) in gathering.into_iter().flat_map(|group| group.answers) {
            // What it repeats is in the log, or nobody knows: nothing was refused of that.
            let repeats = results.iter().any(|result| result.duplicate);
            reply.answer(Err(if repeats {
                Error::Unknown(refused.to_string())
            } else {
                refused.clone().into()
            }));
        }
    }
}

fn died(error: &io::Error) -> String {
    format!("the disk failed, and what was being written may be there or not: {error}")
}
