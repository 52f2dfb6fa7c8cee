//! When the cursor goes into the application's store, and what a store that fails costs.
//!
//! A part of [`Link`], beside what arrives and how it is delivered. It does not know what a store is: each load
//! and each save is an [`Action`].
//!
//! After the handler, the default: once `every` handler calls have moved the cursor, or `within` after the first of
//! them, and whenever the link is about to wait or end. A save that fails holds nobody up: the next one is tried after a
//! growing wait, and until one succeeds more than `every` calls may be repeated after a crash. Before the handler, the
//! opposite: without a save there is no call, because a call whose cursor is not stored might be repeated.
//!
//! ```text
//! after the handler, every 2:   h(i1)  h(i2)  save(i2)  h(i3)  … crash: i3 is handled again
//! within 1 s:                   h(i1)  … 1 s without another call … save(i1)
//! before the handler:           save(i1)  h(i1) fails  h(i1)  save(i2)  h(i2)  … crash: i2 is lost
//! ```

use std::sync::Arc;
use std::time::Duration;

use super::{Action, Course, Input, Link, Order, State, Status, StoreTrouble, Storing};
use crate::backoff::{Backoff, Cause, ConfigError};
use crate::cursor::Cursor;

/// How often a load is tried before the cursor counts as unreadable.
const LOAD_TRIES: u32 = 5;

/// What the link remembers of the store: what it holds, what is not saved yet, and how it has been failing.
#[derive(Debug)]
pub(super) struct Store {
    /// `None`: there is no store.
    settings: Option<Storing>,
    pub(super) loaded: bool,
    /// What the store is known to hold.
    held: Option<String>,
    /// Handler calls since the last save.
    unsaved: u32,
    /// When the first of them ended.
    unsaved_since: Duration,
    /// Of the batch, so many items are covered by a save before the handler.
    ahead: usize,
    /// Of the batch, so many items the save under way will cover.
    ahead_next: usize,
    backoff: Backoff,
    /// No save before this, because the last one failed.
    retry_at: Duration,
    /// The save of a stopping link is under way or over.
    last: bool,
}

impl Store {
    pub(super) fn try_new(settings: Option<Storing>, backoff: Backoff) -> Result<Self, ConfigError> {
        if settings.as_ref().is_some_and(|storing| storing.every == 0 || storing.deadline.is_zero()) {
            return Err(ConfigError("storing every 0 calls, or with a deadline of 0, cannot work"));
        }
        Ok(Self {
            loaded: settings.is_none(),
            settings,
            held: None,
            unsaved: 0,
            unsaved_since: Duration::ZERO,
            ahead: 0,
            ahead_next: 0,
            backoff,
            retry_at: Duration::ZERO,
            last: false,
        })
    }

    fn settings(&self, order: Order) -> Option<&Storing> {
        self.settings.as_ref().filter(|storing| storing.order == order)
    }

    /// Items left the batch.
    pub(super) fn committed(&mut self, items: usize) {
        self.ahead = self.ahead.saturating_sub(items);
    }

    /// How many items may be handled one by one before the next save, at least 1.
    pub(super) fn room(&self) -> usize {
        match &self.settings {
            None => usize::MAX,
            Some(Storing { order: Order::AfterHandler, every, .. }) => {
                every.saturating_sub(self.unsaved).max(1) as usize
            }
            Some(storing) => storing.every as usize,
        }
    }

    /// When a save is due, if nothing happens before; for a link that waits nothing but the last failure holds it up.
    pub(super) fn next_wake(&self, status: &Status, waiting: bool) -> Option<Duration> {
        let storing = self.settings(Order::AfterHandler).filter(|_| self.loaded && self.owes(status))?;
        let due = if waiting { Duration::ZERO } else { self.unsaved_since + storing.within };
        Some(self.retry_at.max(due))
    }

    fn owes(&self, status: &Status) -> bool {
        !status.cursor.is_empty() && self.held.as_ref() != Some(&status.cursor)
    }
}

impl Link {
    /// The store has answered, or has not in time.
    pub(super) fn store_answered(&mut self, input: Input, now: Duration, random: u64) {
        let late = || Arc::from("the cursor store did not answer in time");
        match (&mut self.action, input) {
            (Action::Load { .. }, Input::Loaded(cursor)) => self.loaded(cursor, now),
            (Action::Load { .. }, Input::LoadFailed(error)) => self.load_failed(error, now, random),
            (Action::Load { .. }, Input::TimerFired) => self.load_failed(late(), now, random),
            (Action::Save { cursor, .. }, Input::Saved) => {
                let cursor = std::mem::take(cursor);
                self.saved(cursor);
            }
            (Action::Save { .. }, Input::SaveFailed(error)) => self.save_failed(error, now, random),
            (Action::Save { .. }, Input::TimerFired) => self.save_failed(late(), now, random),
            _ => return,
        }
        self.go_on(now, random);
    }

    pub(super) fn load(&self, now: Duration) -> Action {
        let deadline = self.store.settings.as_ref().map_or(Duration::ZERO, |storing| storing.deadline);
        Action::Load { until: now + deadline }
    }

    /// The store has answered. Nothing stored leaves the start as configured; anything stored is given to the hub as it
    /// is, but for an empty text, which would mean the head and skip everything in silence.
    fn loaded(&mut self, cursor: Option<String>, now: Duration) {
        self.store.loaded = true;
        self.store.backoff.reset();
        self.status.store = None;
        self.show(State::Connecting, now);
        match cursor {
            // As if it held the start: until the cursor moves nothing need be saved.
            None => self.store.held = Some(self.status.cursor.clone()),
            Some(empty) if empty.is_empty() => self.report_unreadable_cursor(),
            Some(cursor) => {
                self.store.held = Some(cursor.clone());
                self.status.stored.clone_from(&cursor);
                self.start_from(cursor);
            }
        }
    }

    /// The store cannot say where to start. After some tries the client starts as with an unreadable cursor: from the
    /// oldest event held, after a gap. A broken store must not keep a gateway from its events.
    ///
    /// But whoever saves before each call handles nothing twice: all that the window holds would come again. It waits for its store.
    fn load_failed(&mut self, error: Arc<str>, now: Duration, random: u64) {
        let wait = self.note_store_trouble(error, now, random);
        let waits = self.store.settings(Order::BeforeHandler).is_some();
        if waits || self.store.backoff.failures() < LOAD_TRIES {
            self.show(State::BackingOff, now);
            self.course = Course::Wait { until: now + wait };
        } else {
            self.store.loaded = true;
            self.show(State::Connecting, now);
            self.report_unreadable_cursor();
        }
    }

    /// The save that is due now, with the cursor after the handler.
    pub(super) fn save_due(&mut self, now: Duration) -> Option<Action> {
        let storing = self.store.settings(Order::AfterHandler)?;
        let waiting = self.stopping || self.pause.is_some() || matches!(self.course, Course::Wait { .. });
        let enough = self.store.unsaved >= storing.every
            || now >= self.store.unsaved_since + storing.within
            || waiting;
        // A link that stops has no later try that it could wait for.
        let may = now >= self.store.retry_at || self.stopping;
        (enough && may && self.store.loaded && self.store.owes(&self.status))
            .then(|| Action::Save { cursor: self.status.cursor.clone(), until: now + storing.deadline })
    }

    /// The last save of a link that stops, tried once.
    pub(super) fn save_last(&mut self, now: Duration) -> Option<Action> {
        // Once, whatever comes of it: a store that fails must not keep a process from ending.
        if std::mem::replace(&mut self.store.last, true) { None } else { self.save_due(now) }
    }

    /// The save without which the first `count` items must not be handed over.
    pub(super) fn save_ahead(&mut self, count: usize, now: Duration) -> Option<Action> {
        let storing = self.store.settings(Order::BeforeHandler)?;
        if self.store.ahead >= count {
            return None;
        }
        let until = now + storing.deadline;
        let cursor =
            self.batch.leads_to(count).filter(|cursor| self.store.held.as_deref() != Some(cursor))?;
        if now < self.store.retry_at {
            return Some(Action::Pause { until: self.store.retry_at });
        }
        // Not `ahead` yet: only a save that succeeds covers these items.
        self.store.ahead_next = count;
        Some(Action::Save { cursor: cursor.to_owned(), until })
    }

    fn saved(&mut self, cursor: String) {
        self.status.counters.saves += 1;
        self.status.store = None;
        self.status.stored.clone_from(&cursor);
        self.store.held = Some(cursor);
        self.store.unsaved = 0;
        self.store.ahead = self.store.ahead_next;
        self.store.backoff.reset();
        self.store.retry_at = Duration::ZERO;
    }

    fn save_failed(&mut self, error: Arc<str>, now: Duration, random: u64) {
        let wait = self.note_store_trouble(error, now, random);
        self.store.retry_at = now + wait;
    }

    fn note_store_trouble(&mut self, error: Arc<str>, now: Duration, random: u64) -> Duration {
        self.status.counters.store_failures += 1;
        let wait = self.store.backoff.delay(Cause::Lost, None, random);
        let since = self.status.store.as_ref().map_or(now, |trouble| trouble.since);
        self.status.store = Some(StoreTrouble { error, failures: self.store.backoff.failures(), since });
        wait
    }

    /// A cursor from outside, as the place to start.
    fn start_from(&mut self, cursor: String) {
        self.received = Cursor::parse(&cursor).ok();
        self.resume.clone_from(&cursor);
        self.status.cursor = cursor;
    }

    /// Moves the cursor; so many handler calls did it.
    pub(super) fn move_to(&mut self, cursor: Option<String>, calls: usize, now: Duration) {
        let Some(cursor) = cursor else { return };
        // Asked before the cursor moves: the time runs from the first call that is not saved.
        if !self.store.owes(&self.status) {
            self.store.unsaved_since = now;
        }
        self.store.unsaved = self.store.unsaved.saturating_add(u32::try_from(calls).unwrap_or(u32::MAX));
        self.status.cursor = cursor;
    }
}
