//! One user's connection, without its transport: a position in the edge window, and what is sent from it.
//!
//! A transport calls [`Connection::next`] whenever it can send, and writes what it is given. Nothing is queued while it
//! cannot: a user that does not read costs a position. The connection is in one of two modes. Both end in the same
//! [`Reader`], which decides what is said.
//!
//! | mode | what it reads | when it changes |
//! |---|---|---|
//! | scanning | the window itself, from its own position on | at the end of what is dispatched it goes live |
//! | live | the entries that its mailbox names | when it must scan: see below |
//!
//! It begins by scanning. A live connection must scan again in three cases:
//!
//! ```text
//! its mailbox was full                                          it scans from the first slot that the mailbox held
//! delivery was paused, and goes on                              it scans from its own position
//! topics were added, and it had not read everything before      it scans from its own position
//! ```
//!
//! `topics` is what a user changes while it is open, `closing` how it ends, `confirmed` what its
//! user has surely received, `step` what a reader's step means.
//!
//! It owns no socket and no task. Whoever owns it drops it, and with it the registration in the routes.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use galaxy_push_core::Now;
use galaxy_push_core::reader::{Control, Reader, Step};
use galaxy_push_core::window::{Outcome, Slot, Window};

use crate::state::close::CloseReason;
use crate::state::edge::Edge;
use crate::state::grants::Identity;
use crate::state::quotas::Share;
use crate::state::refusal::Refusal;
use crate::state::routes::{Added, DispatchedUpTo, QueuedSlot, Received, Registration};
pub(crate) use confirmed::Mark;
use step::{StepResult, apply_step, skip_read};
use topics::recipient;

mod closing;
mod confirmed;
mod step;
#[cfg(test)]
mod tests;
#[cfg(all(test, shuttle))]
mod threads;
mod topics;

/// One thing to send.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Outgoing {
    /// About the stream itself.
    Control(Control),
    /// An entry of the window: an event, or a gap from upstream.
    Entry { slot: Slot, framed: Bytes },
    /// The topics asked for. Those that were not named before count from this cursor.
    Subscribed { cursor: String, topics: Vec<String> },
}

/// What to do after a turn that produced nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// Go on at once, after others had their turn: there is more to read.
    None,
    /// Everything is produced. Wait until the mailbox wakes the connection, or until this time of the edge's clock, at which
    /// the reader has something to say by itself.
    Until(Duration),
    /// There is more to read, but it is not this user's turn before then.
    Turn(Duration),
}

/// A user's position in the window. See the module's head.
#[derive(Debug)]
pub(crate) struct Connection {
    edge: Arc<Edge>,
    registration: Registration,
    reader: Reader,
    identity: Identity,
    /// The topics asked for, without those that memberships grant. At most `topics_max`.
    asked: BTreeSet<String>,
    topics_max: usize,
    /// When the token expires, on the edge's clock.
    expires: Option<Duration>,
    /// Received from the mailbox and not read yet. At most as many as a mailbox holds.
    inbox: VecDeque<QueuedSlot>,
    /// Where `inbox` ends, while the connection is live: every entry before this that concerns it is in `inbox` or was read. The
    /// reader may skip to here once `inbox` is empty.
    covered: DispatchedUpTo,
    /// The routes asked it to say its position, even if nothing came for it.
    progress_requested: bool,
    scanning: bool,
    /// Decided already, and sent before anything else: the opening, and answers to its user.
    ready: Vec<Outgoing>,
    /// With so many bytes of frames a turn is over: its last run may bring as many again, or one larger frame.
    turn_bytes: usize,
    /// How many entries and frames were given to the transport.
    produced: u64,
    /// Up to where its transport has said that the user received them. Only the log line of a shutdown that cuts the user off uses it.
    confirmed: Mark,
    /// What it may use of the work that is its user's.
    share: Share,
    /// When it began. What is older is replayed, and says nothing of how soon events are delivered.
    opened: Duration,
}

/// Bounds of one connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// The most topics asked for.
    pub(crate) topics: usize,
    /// With so many bytes of frames a turn is over: its last run may bring as many again, or one larger frame.
    pub(crate) turn_bytes: usize,
}

impl Connection {
    /// Registers a reader that was just opened, and decides what opens its stream.
    ///
    /// # Errors
    ///
    /// [`Refusal::SessionInvalidated`].
    pub(crate) fn open(
        edge: Arc<Edge>,
        mut reader: Reader,
        identity: Identity,
        topics: BTreeSet<String>,
        limits: Limits,
    ) -> Result<Self, Refusal> {
        let now = edge.clock.now();
        // First: from here on a session invalidation finds the connection, and closes it.
        let registration = edge.routes.register(&identity, topics.iter().map(recipient), now.unix_ms)?;
        let ready = edge.read(now, |window| opening(&mut reader, window, now));
        let covered = edge.routes.dispatched();
        let confirmed = Mark { position: reader.position(), produced: 0 };
        let mut connection = Self {
            edge,
            registration,
            reader,
            identity,
            asked: topics,
            topics_max: limits.topics,
            expires: None,
            inbox: VecDeque::new(),
            covered,
            progress_requested: false,
            scanning: true,
            ready,
            turn_bytes: limits.turn_bytes,
            produced: 0,
            confirmed,
            share: Share::unlimited(),
            opened: now.mono,
        };
        connection.expires = connection.expiry(now);
        Ok(connection)
    }

    /// Counts its work against this share, which is given back when the connection is dropped.
    pub(crate) fn sharing(mut self, share: Share) -> Self {
        self.share = share;
        self
    }

    /// Waits until there is something to send, and puts it into `out`: what one write to the socket should carry.
    ///
    /// # Cancel safety
    ///
    /// Dropped while it waits, nothing is lost: whatever was produced has been returned.
    ///
    /// # Errors
    ///
    /// Why the connection has to close.
    pub(crate) async fn next(&mut self, out: &mut Vec<Outgoing>) -> Result<(), CloseReason> {
        loop {
            let now = self.edge.clock.now();
            if let Some(reason) = self.close_reason(now) {
                if !self.is_opening() {
                    return Err(reason);
                }
                // The opening goes first, and nothing with it: only the gap in there may cross a hole, never a `Goodbye`.
                out.append(&mut self.ready);
                return Ok(());
            }
            if !self.ready.is_empty() && !self.is_opening() {
                // Answers wait for nothing, and cost nobody a lock.
                self.produced += self.ready.len() as u64;
                out.append(&mut self.ready);
                return Ok(());
            }
            // Asked before it is looked for more: what is dispatched before it is told to leave is found by this look.
            let pending_close = self.registration.mailbox().pending_close();
            let wait = self.collect(now, out);
            if !out.is_empty() {
                self.produced += out.len() as u64;
                return Ok(());
            }
            let until = match (wait, pending_close) {
                (Wait::None, _) => {
                    tokio::task::yield_now().await;
                    continue;
                }
                (Wait::Until(_), Some(close)) => return Err(close.reason), // everything is delivered
                (Wait::Turn(turn), Some(close)) => turn.min(close.deadline),
                (Wait::Until(until) | Wait::Turn(until), None) => until,
            };
            let until = self.expires.map_or(until, |expires| expires.min(until));
            tokio::select! {
                biased;
                () = self.registration.mailbox().woken() => {}
                () = tokio::time::sleep_until(self.edge.clock.instant(until)) => {}
            }
        }
    }

    /// Puts into `out` what can be sent now, up to the bytes of one turn.
    pub(crate) fn collect(&mut self, now: Now, out: &mut Vec<Outgoing>) -> Wait {
        let before = self.reader.omitted().expired;
        let wait = self.collect_turn(now, out);
        self.edge.counters.expired.inc_by(self.reader.omitted().expired - before);
        wait
    }

    /// As [`Connection::collect`], without counting.
    ///
    /// One turn may change the mode, and then goes on in the other one: a full mailbox is followed by a scan at once.
    fn collect_turn(&mut self, now: Now, out: &mut Vec<Outgoing>) -> Wait {
        out.append(&mut self.ready);
        let mut budget = self.turn_bytes;
        loop {
            let wait = if self.scanning {
                self.scan_window(now, out, &mut budget)
            } else {
                self.read_mailbox(now, out, &mut budget)
            };
            match wait {
                Some(wait) => return wait,
                None if budget == 0 => return Wait::None,
                None => {}
            }
        }
    }

    /// Reads the window itself, as far as it is dispatched. At the end of that the mailbox takes over.
    ///
    /// `None`: it produced something, or changed the mode; call again.
    fn scan_window(&mut self, now: Now, out: &mut Vec<Outgoing>, budget: &mut usize) -> Option<Wait> {
        if let Some(turn) = self.share.turn(now.mono) {
            self.edge.counters.turns_awaited.inc();
            return Some(Wait::Turn(turn));
        }
        let (before, left) = (self.reader.next(), *budget);
        let Self { edge, reader, registration, opened, .. } = self;
        let timer = edge.counters.delivery.timer(*opened, now);
        // Not to the window's end: while delivery is paused, what lies beyond must not be read, and an entry that is
        // appended and not dispatched yet will be in the mailbox.
        let end = edge.routes.dispatched().slot;
        let step = edge.read(now, |window| {
            if !registration.refresh_access(now.unix_ms, false) {
                return StepResult::Nothing; // its session is void, so it closes
            }
            let step = reader.step_until(window, end, Some(registration), now);
            apply_step(step, window, &timer, out, budget)
        });
        self.share.spend(self.reader.next().since(before), (left - *budget) as u64);
        match step {
            StepResult::Produced => None,
            StepResult::Nothing => Some(Wait::None),
            StepResult::AtEnd(until) => {
                // More may have been dispatched meanwhile: then scanning goes on.
                let upto = self.registration.go_live(self.reader.next(), self.reader.expected())?;
                skip_to(&mut self.reader, upto);
                (self.covered, self.scanning) = (upto, false);
                self.share.done();
                Some(Wait::Until(until))
            }
        }
    }

    /// Reads the entries that the mailbox names, then skips to the end of what is dispatched.
    ///
    /// ```text
    /// dispatched   1 for ann, 2 for bob, 3 for ann, 4 for bob     ann's mailbox: 1, 3; covered: 5
    /// ann's turn   reads 1 and 3 by their slots, skips to 5       2 and 4 are never looked at
    /// ```
    ///
    /// `None`: it produced something, or changed the mode; call again.
    fn read_mailbox(&mut self, now: Now, out: &mut Vec<Outgoing>, budget: &mut usize) -> Option<Wait> {
        if self.inbox.is_empty() {
            // Read first: whatever lies before it is in the mailbox by now.
            let covered = self.edge.routes.dispatched();
            match self.registration.mailbox().receive(&mut self.inbox) {
                Received::Overflowed(from) => {
                    if let Some(from) = from {
                        self.edge.read(now, |window| {
                            self.reader.seek(window, from.first);
                            if from.first < window.oldest() {
                                self.reader.seek(window, from.lasting);
                            }
                        });
                    }
                    self.scanning = true;
                    return None;
                }
                Received::Slots { progress_requested } => {
                    self.covered = covered;
                    self.progress_requested |= progress_requested;
                }
            }
        }
        let Self { edge, reader, registration, inbox, covered, opened, .. } = self;
        let timer = edge.counters.delivery.timer(*opened, now);
        let had_slots = !inbox.is_empty();
        let step = edge.read(now, |window| {
            if !registration.refresh_access(now.unix_ms, true) {
                return StepResult::Nothing; // its session is void, so it closes
            }
            while let Some(slot) = skip_read(inbox, reader, window) {
                if *budget == 0 {
                    return StepResult::Produced;
                }
                // Not to `covered`: what lies behind its last entry is for others, and no lag.
                let lag_end = inbox.back().map_or(slot, |last| last.slot).next();
                let step = reader.read_at(window, slot, lag_end, Some(registration), now);
                apply_step(step, window, &timer, out, budget);
            }
            // What lies between is for others: without this, a quiet user would fall out of the window.
            skip_to(reader, *covered);
            if covered.slot < window.oldest() && covered.slot < edge.routes.dispatched().slot {
                return StepResult::Produced; // what has come since says whether anything of that was for it
            }
            let step = reader.step_until(window, covered.slot, Some(registration), now);
            apply_step(step, window, &timer, out, budget)
        });
        let until = match step {
            StepResult::AtEnd(until) => until,
            StepResult::Produced => return None,
            StepResult::Nothing => return Some(Wait::None),
        };
        if had_slots {
            return None; // more may have come meanwhile
        }
        if std::mem::take(&mut self.progress_requested) {
            out.push(Outgoing::Control(Control::Progress { cursor: self.reader.position() }));
        }
        Some(Wait::Until(until))
    }

    /// The last position that was produced or is not for this user: where a new topic counts from.
    pub(crate) fn position(&self) -> String {
        self.reader.position().to_string()
    }

    /// The position that a `Goodbye` may say. Empty: the opening was not sent yet, and a gap in it might be the only frame
    /// that may cross a hole.
    pub(crate) fn goodbye_cursor(&self) -> String {
        if self.is_opening() { String::new() } else { self.position() }
    }

    /// Whether `Welcome`, and what belongs to it, was not sent yet.
    fn is_opening(&self) -> bool {
        self.ready.iter().any(|outgoing| matches!(outgoing, Outgoing::Control(_)))
    }

    /// Names the connection in `Welcome` and logs.
    pub(crate) fn id(&self) -> u64 {
        self.registration.id()
    }

    /// What it is called, to its user and in the log.
    pub(crate) fn name(&self) -> String {
        self.edge.name_of(self.id())
    }
}

/// Moves the reader to `upto`, since nothing before that is left for it. A reader that has read on stays where it is: a
/// position may be known to the window a moment before it is dispatched.
fn skip_to(reader: &mut Reader, upto: DispatchedUpTo) {
    if upto.slot > reader.next() || upto.cursor.follows(reader.position()) {
        reader.skip_to(upto.slot, upto.cursor);
    }
}

/// `Welcome`, and the gap that follows it at once: no other frame with a cursor must come between them.
fn opening(reader: &mut Reader, window: &Window, now: Now) -> Vec<Outgoing> {
    let mut ready = Vec::with_capacity(2);
    let mut expected = 1;
    while ready.len() < expected {
        let Step::Control(control) = reader.step(window, None, now) else { break };
        if let Control::Welcome {
            outcome: Outcome::Trimmed | Outcome::EpochChanged | Outcome::Ahead, ..
        } = control
        {
            expected = 2;
        }
        ready.push(Outgoing::Control(control));
    }
    ready
}
