//! How items reach the application and what it makes of them: handler calls one after the other, or deliveries in
//! flight that are acked one by one; and what becomes of an item that keeps failing.
//!
//! The second part of [`Link`]. Each item ends in exactly one outcome that commits: handled, or a dead letter.

use std::sync::Arc;
use std::time::Duration;

use super::{Action, Course, DeadLetter, Handed, Handing, HandlerTrouble, Link, Verdict};
use crate::backoff::Cause;

impl Link {
    /// The item to give up, while the action is [`Action::DeadLetter`].
    #[must_use]
    pub fn dead_letter(&self) -> Option<DeadLetter<'_>> {
        match self.dead {
            Some(id) => self.flight.dead_letter(id),
            None => {
                let trouble = self.status.handler.as_ref()?;
                let item = self.batch.first()?;
                Some(DeadLetter { item, error: &trouble.error, failures: self.blamed })
            }
        }
    }

    /// What goes out now, in the stream form. Take it after each step.
    pub fn take_handed(&mut self) -> Vec<Handed> {
        std::mem::take(&mut self.handed)
    }

    /// The next action that brings an item closer to its outcome; `None` when there is nothing to hand over.
    pub(super) fn hand_over(&mut self, now: Duration) -> Option<Action> {
        match self.config.handing {
            Handing::Batches | Handing::Items => self.call(now),
            Handing::Stream { .. } => self.send(now),
        }
    }

    fn call(&mut self, now: Duration) -> Option<Action> {
        if self.batch.is_empty() {
            self.narrow = false;
            self.commit(now); // frames that no handler is given
            return None;
        }
        if let Some(save) = self.save_due(now) {
            return Some(save);
        }
        if let Some(until) = self.pause.filter(|until| now < *until) {
            return Some(Action::Pause { until });
        }
        self.pause = None;
        if self.config.retry.gives_up(self.blamed) {
            return Some(Action::DeadLetter);
        }
        let count = match self.config.handing {
            Handing::Items => self.store.room(),
            _ if self.narrow => 1,
            _ => usize::MAX,
        };
        self.batch.offer(count);
        if let Some(action) = self.save_ahead(self.batch.items().len(), now) {
            return Some(action);
        }
        self.status.handling_since = Some(now);
        Some(Action::Deliver)
    }

    fn send(&mut self, now: Duration) -> Option<Action> {
        while let Some(id) = self.flight.take_due(now) {
            if self.config.retry.gives_up(self.flight.failures(id)) {
                self.dead = Some(id);
                return Some(Action::DeadLetter);
            }
            self.handed.extend(self.flight.hand_again(id));
        }
        while self.batch.first().is_some_and(|item| self.flight.has_room(item)) {
            let Some(item) = self.batch.take_first() else { break };
            if let Some(cursor) = item.commits() {
                cursor.clone_into(&mut self.resume);
            }
            self.handed.push(self.flight.push(item));
        }
        if let Some(tail) = self.batch.take_tail() {
            self.resume.clone_from(&tail);
            let cursor = self.flight.pass(tail);
            self.move_to(cursor, 0, now);
        }
        self.show_flight();
        if self.batch.is_empty() {
            return None;
        }
        let save = self.save_due(now);
        Some(save.unwrap_or_else(|| Action::Await { until: self.wakes(now) }))
    }

    pub(super) fn handled(&mut self, now: Duration, random: u64) {
        self.batch.finish_all();
        self.commit(now);
        self.forget_trouble();
        self.go_on(now, random);
    }

    /// The same item again, after a growing wait; what is before it and done commits. Given up are only items that
    /// failed by themselves: a batch that failed counts against none of its items, which are then offered one by one.
    pub(super) fn handler_failed(&mut self, error: Arc<str>, now: Duration, random: u64) {
        let by_itself = match self.config.handing {
            Handing::Batches => self.batch.offered_together() == 1,
            Handing::Items | Handing::Stream { .. } => true,
        };
        let nothing_left = self.batch.items().is_empty();
        if self.commit(now) > 0 {
            self.forget_trouble();
        }
        self.status.counters.handler_failures += 1;
        if !nothing_left {
            let wait = self.handler_backoff.delay(Cause::Lost, None, random);
            let cursor = self.batch.items().first().map(|item| item.cursor().to_owned());
            self.note_trouble(error, self.handler_backoff.failures(), cursor, now);
            self.blamed = self.blamed.saturating_add(u32::from(by_itself));
            if !self.config.retry.gives_up(self.blamed) {
                self.pause = Some(now + wait);
            }
            self.narrow = self.config.retry.is_limited();
        }
        self.go_on(now, random);
    }

    pub(super) fn dead_lettered(&mut self, now: Duration, random: u64) {
        self.status.counters.dead_letters += 1;
        match self.dead.take() {
            Some(id) => {
                self.flight.dead(id);
                self.land(now);
            }
            None => {
                self.batch.finish_one();
                let settled = self.batch.settle();
                self.store.settled(settled.items);
                self.advance(settled.cursor, 1, now);
                self.forget_trouble();
            }
        }
        self.go_on(now, random);
    }

    /// A dead letter that nobody took is not lost: the callback is called again, after a growing wait.
    pub(super) fn dead_letter_failed(&mut self, error: Arc<str>, now: Duration, random: u64) {
        self.status.counters.dead_letter_failures += 1;
        match self.dead.take() {
            Some(id) => {
                let failures = self.flight.dead_letter_failed(id);
                let wait = self.handler_backoff.delay_after(failures.saturating_sub(1), random);
                self.flight.wait(id, now + wait);
            }
            None => {
                self.pause = Some(now + self.handler_backoff.delay(Cause::Lost, None, random));
            }
        }
        if let Some(trouble) = &mut self.status.handler {
            trouble.dead_letter_error = Some(error);
        }
        self.go_on(now, random);
    }

    pub(super) fn judged(&mut self, verdicts: Vec<Verdict>, now: Duration, random: u64) {
        for Verdict { id, result } in verdicts {
            let Err(error) = result else {
                self.flight.handled(id);
                continue;
            };
            let Some(failures) = self.flight.failed(id, error.clone()) else { continue };
            self.status.counters.handler_failures += 1;
            let wait = if self.config.retry.gives_up(failures) {
                Duration::ZERO
            } else {
                self.handler_backoff.delay_after(failures - 1, random)
            };
            self.flight.wait(id, now + wait);
            let cursor = self.flight.cursor(id);
            self.note_trouble(error, failures, cursor, now);
        }
        self.land(now);
        if matches!(self.action, Action::Read { .. } | Action::Await { .. } | Action::Wait { .. }) {
            self.go_on(now, random);
        }
    }

    /// Moves the cursor past what the handler finished; returns how many items that were.
    pub(super) fn commit(&mut self, now: Duration) -> usize {
        self.status.handling_since = None;
        let settled = self.batch.settle();
        self.status.counters.handled += settled.items as u64;
        self.store.settled(settled.items);
        let calls = match self.config.handing {
            Handing::Batches => settled.items.min(1),
            _ => settled.items,
        };
        self.advance(settled.cursor, calls, now);
        settled.items
    }

    fn land(&mut self, now: Duration) {
        let landed = self.flight.land();
        self.status.counters.handled += landed.handled as u64;
        self.move_to(landed.cursor, landed.handled + landed.dead, now);
        if !self.flight.in_trouble() {
            self.status.handler = None;
        }
        self.show_flight();
    }

    /// The stream goes on behind what is committed.
    fn advance(&mut self, cursor: Option<String>, calls: usize, now: Duration) {
        if let Some(cursor) = &cursor {
            self.resume.clone_from(cursor);
        }
        self.move_to(cursor, calls, now);
    }

    fn note_trouble(&mut self, error: Arc<str>, failures: u32, cursor: Option<String>, now: Duration) {
        let before = self.status.handler.take();
        let since = before.map_or(now, |trouble| trouble.since);
        self.status.handler = Some(HandlerTrouble {
            error,
            failures,
            since,
            cursor: cursor.unwrap_or_default(),
            dead_letter_error: None,
        });
    }

    fn forget_trouble(&mut self) {
        self.status.handler = None;
        self.blamed = 0;
        self.handler_backoff.reset();
        self.pause = None;
    }

    fn show_flight(&mut self) {
        self.status.in_flight_items = self.flight.len();
        self.status.in_flight_bytes = self.flight.bytes();
    }

    /// When something is due that no input will say.
    pub(super) fn wakes(&self, now: Duration) -> Duration {
        /// Long enough to cost nothing, short enough for any clock.
        const LATER: Duration = Duration::from_secs(3600);
        let waiting = matches!(self.course, Course::Wait { .. });
        let save = self.store.wakes(&self.status, waiting);
        save.into_iter().chain(self.flight.next_due()).chain(self.asks_at()).min().unwrap_or(now + LATER)
    }
}
