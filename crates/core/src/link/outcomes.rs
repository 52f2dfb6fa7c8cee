//! How items reach the application and what it makes of them: handler calls one after the other, or deliveries in
//! flight that are acked one by one; and what becomes of an item that keeps failing.
//!
//! A part of [`Link`]. Each item ends in exactly one outcome that commits: handled, or a dead letter.

use std::sync::Arc;
use std::time::Duration;

use super::{AckResult, Action, Course, DeadLetter, Delivery, DeliveryMode, HandlerTrouble, Link};
use crate::backoff::Cause;

impl Link {
    /// The item to give up, while the action is [`Action::DeadLetter`].
    #[must_use]
    pub fn dead_letter(&self) -> Option<DeadLetter<'_>> {
        match self.giving_up {
            Some(id) => self.flight.dead_letter(id),
            None => {
                let trouble = self.status.handler.as_ref()?;
                let item = self.batch.first()?;
                Some(DeadLetter { item, error: &trouble.error, failures: self.solo_failures })
            }
        }
    }

    /// What goes out now, in the stream form. Take it after each step.
    pub fn drain_deliveries(&mut self) -> Vec<Delivery> {
        std::mem::take(&mut self.outgoing)
    }

    /// The next action that brings an item closer to its outcome; `None` when there is nothing to hand over.
    pub(super) fn next_delivery(&mut self, now: Duration) -> Option<Action> {
        match self.config.delivery_mode {
            DeliveryMode::Batches | DeliveryMode::Items => self.call_handler(now),
            DeliveryMode::Stream { .. } => self.fill_flight(now),
        }
    }

    /// The next call of the handler, or what must come before it: a save that is due, the wait after a failure, or the dead letter.
    fn call_handler(&mut self, now: Duration) -> Option<Action> {
        if self.batch.is_empty() {
            self.one_by_one = false;
            self.commit(now); // frames that no handler is given
            return None;
        }
        // Before the pause: a save does not wait for a handler that fails.
        if let Some(save) = self.save_due(now) {
            return Some(save);
        }
        if let Some(until) = self.pause.filter(|until| now < *until) {
            return Some(Action::Pause { until });
        }
        self.pause = None;
        if self.config.retry.gives_up(self.solo_failures) {
            return Some(Action::DeadLetter);
        }
        let count = match self.config.delivery_mode {
            DeliveryMode::Items => self.store.room(),
            _ if self.one_by_one => 1,
            _ => usize::MAX,
        };
        self.batch.offer(count);
        if let Some(action) = self.save_ahead(self.batch.items().len(), now) {
            return Some(action);
        }
        self.status.handling_since = Some(now);
        Some(Action::Deliver)
    }

    /// The stream form: first items that have waited enough go out again or are given up, then new ones as long as there is room. With items
    /// left over it awaits acks and reads nothing.
    fn fill_flight(&mut self, now: Duration) -> Option<Action> {
        while let Some(id) = self.flight.pop_due(now) {
            if self.config.retry.gives_up(self.flight.failures(id)) {
                self.giving_up = Some(id);
                return Some(Action::DeadLetter);
            }
            self.outgoing.extend(self.flight.redeliver(id));
        }
        while self.batch.first().is_some_and(|item| self.flight.has_room(item)) {
            let Some(item) = self.batch.pop_first() else { break };
            if let Some(cursor) = item.commits() {
                cursor.clone_into(&mut self.resume);
            }
            self.outgoing.push(self.flight.push(item));
        }
        if let Some(tail) = self.batch.pop_tail() {
            self.resume.clone_from(&tail);
            let cursor = self.flight.note_tail(tail);
            self.move_to(cursor, 0, now);
        }
        self.show_flight();
        if self.batch.is_empty() {
            return None;
        }
        let save = self.save_due(now);
        Some(save.unwrap_or_else(|| Action::Await { until: self.next_wake(now) }))
    }

    /// Everything that was offered is dealt with.
    pub(super) fn handler_succeeded(&mut self, now: Duration, random: u64) {
        self.batch.finish_all();
        self.commit(now);
        self.forget_trouble();
        self.go_on(now, random);
    }

    /// The same item again, after a growing wait; what is before it and done commits. Only failures of an item by itself count against it: a
    /// batch that failed counts against none of its items, which are then offered one by one.
    ///
    /// ```text
    /// RetryPolicy::times(1), batches     the handler is given [a1 a2 a3] and fails on a2, having finished a1
    ///   a1 commits                       the batch failed, a2 has 0 failures of its own
    ///   [a2] fails                       1 failure: tried once more
    ///   [a2] fails                       2 failures: a dead letter; the cursor moves past a2
    ///   [a3]
    /// ```
    pub(super) fn handler_failed(&mut self, error: Arc<str>, now: Duration, random: u64) {
        let by_itself = match self.config.delivery_mode {
            DeliveryMode::Batches => self.batch.offered_together() == 1,
            DeliveryMode::Items | DeliveryMode::Stream { .. } => true,
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
            self.solo_failures = self.solo_failures.saturating_add(u32::from(by_itself));
            if !self.config.retry.gives_up(self.solo_failures) {
                self.pause = Some(now + wait);
            }
            self.one_by_one = self.config.retry.is_limited();
        }
        self.go_on(now, random);
    }

    /// The dead letter has the item: that is its outcome, and the cursor moves past it.
    pub(super) fn dead_letter_accepted(&mut self, now: Duration, random: u64) {
        self.status.counters.dead_letters += 1;
        match self.giving_up.take() {
            Some(id) => {
                self.flight.dead(id);
                self.commit_front(now);
            }
            None => {
                self.batch.finish_one();
                let committed = self.batch.commit();
                self.store.committed(committed.items);
                self.advance(committed.cursor, 1, now);
                self.forget_trouble();
            }
        }
        self.go_on(now, random);
    }

    /// A dead letter that nobody took is not lost: the callback is called again, after a growing wait.
    pub(super) fn dead_letter_failed(&mut self, error: Arc<str>, now: Duration, random: u64) {
        self.status.counters.dead_letter_failures += 1;
        match self.giving_up.take() {
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

    /// Notes what became of items in flight, and moves the cursor past the front. An ack of an item that is not out is ignored.
    pub(super) fn apply_acks(&mut self, acks: Vec<AckResult>, now: Duration, random: u64) {
        for AckResult { id, result } in acks {
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
        self.commit_front(now);
        // Every other action has an answer of its own still to come. To go on here would put another action in its place.
        if matches!(self.action, Action::Read { .. } | Action::Await { .. } | Action::Wait { .. }) {
            self.go_on(now, random);
        }
    }

    /// Moves the cursor past what the handler finished; returns how many items that were.
    pub(super) fn commit(&mut self, now: Duration) -> usize {
        self.status.handling_since = None;
        let committed = self.batch.commit();
        self.status.counters.handled += committed.items as u64;
        self.store.committed(committed.items);
        let calls = match self.config.delivery_mode {
            DeliveryMode::Batches => committed.items.min(1),
            _ => committed.items,
        };
        self.advance(committed.cursor, calls, now);
        committed.items
    }

    fn commit_front(&mut self, now: Duration) {
        let front = self.flight.commit_front();
        self.status.counters.handled += front.handled as u64;
        self.move_to(front.cursor, front.handled + front.dead, now);
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
        self.solo_failures = 0;
        self.handler_backoff.reset();
        self.pause = None;
    }

    fn show_flight(&mut self) {
        self.status.in_flight_items = self.flight.len();
        self.status.in_flight_bytes = self.flight.bytes();
    }

    /// When something is due that no input will say.
    pub(super) fn next_wake(&self, now: Duration) -> Duration {
        /// Long enough to cost nothing, short enough for any clock.
        const LATER: Duration = Duration::from_secs(3600);
        let waiting = matches!(self.course, Course::Wait { .. });
        let save = self.store.next_wake(&self.status, waiting);
        save.into_iter()
            .chain(self.flight.next_due())
            .chain(self.next_hub_query())
            .min()
            .unwrap_or(now + LATER)
    }
}
