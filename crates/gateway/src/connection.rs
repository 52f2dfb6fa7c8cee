//! One user's connection, without its transport: a position in the edge window, and what is sent from it.
//!
//! A transport calls [`Connection::next`] whenever it can send, and writes what it is given; nothing is queued while it
//! cannot. The connection either *listens* (its mailbox names the entries that concern it) or *scans* the window from
//! its own place, which it does first, and whenever its mailbox has overflown. Both ways end in the same
//! [`Reader`], which decides what is said.
//!
//! It owns no socket and no task. Whoever owns it drops it, and with it the seat in the routes.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use galaxy_push_core::Now;
use galaxy_push_core::reader::{Control, Reader, Step};
use galaxy_push_core::window::{Outcome, Slot, Window};
use galaxy_push_proto::Failure;

use crate::edge::Edge;
use crate::grants::Identity;
use crate::quotas::Share;
use crate::routes::{Joined, Mailed, Place, Seat, Taken};
use handing::{Found, drop_past, found};
pub(crate) use settled::Mark;

mod handing;
mod settled;
#[cfg(test)]
mod tests;
#[cfg(all(test, shuttle))]
mod threads;

/// One thing to send.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Outgoing {
    /// About the stream itself.
    Control(Control),
    /// An entry of the window: an event, or a gap from upstream.
    Entry { slot: Slot, framed: Bytes },
    /// The topics asked for, which count from this cursor.
    Subscribed { cursor: String, topics: Vec<String> },
}

/// Why this side ends a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The process is shutting down. Come back after this long.
    Draining(Duration),
    /// The token has ended.
    TokenEnded,
    /// Somebody ended the session, for this reason.
    SessionInvalidated(Arc<str>),
    /// The peer read too slowly.
    Slow,
}

/// What to do after a visit that found nothing to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rest {
    /// There is more to look at.
    None,
    /// Everything is taken: nothing until the mailbox wakes, or until this time.
    Until(Duration),
    /// There is more to look at, which is not its user's turn before then.
    Turn(Duration),
}

/// A user's place in the window. See the module's head.
#[derive(Debug)]
pub(crate) struct Connection {
    edge: Arc<Edge>,
    seat: Seat,
    reader: Reader,
    identity: Identity,
    asked: BTreeSet<String>,
    topics_max: usize,
    /// When the token ends, on the edge's clock.
    expires: Option<Duration>,
    /// Taken from the mailbox and not yet visited. Everything before `covered` that concerns this connection is in it.
    inbox: VecDeque<Mailed>,
    covered: Place,
    swept: bool,
    scanning: bool,
    /// Decided already, and sent before anything else.
    ready: Vec<Outgoing>,
    turn_bytes: usize,
    /// How many entries and frames were handed out.
    handed: u64,
    /// Up to where that is surely taken.
    settled: Mark,
    /// What it may take of the work that is its user's.
    share: Share,
    /// When it began: what is older is replayed, and says nothing of how soon events are delivered.
    opened: Duration,
}

impl Connection {
    /// Takes a seat for a reader that was just opened.
    ///
    /// # Errors
    ///
    /// The session was invalidated.
    pub(crate) fn open(
        edge: Arc<Edge>,
        mut reader: Reader,
        identity: Identity,
        topics: BTreeSet<String>,
        limits: Limits,
    ) -> Result<Self, Failure> {
        let now = edge.clock.now();
        let seat = edge.routes.enter(&identity, topics.iter().map(topic), now.unix_ms)?;
        let ready = edge.read(now, |window| opening(&mut reader, window, now));
        let covered = edge.routes.dispatched();
        let settled = Mark { position: reader.position(), handed: 0 };
        let mut connection = Self {
            edge,
            seat,
            reader,
            identity,
            asked: topics,
            topics_max: limits.topics,
            expires: None,
            inbox: VecDeque::new(),
            covered,
            swept: false,
            scanning: true,
            ready,
            turn_bytes: limits.turn_bytes,
            handed: 0,
            settled,
            share: Share::unlimited(),
            opened: now.mono,
        };
        connection.expires = connection.expiry(now);
        Ok(connection)
    }

    /// Counts what it takes, and gives it back when the connection ends.
    pub(crate) fn sharing(mut self, share: Share) -> Self {
        self.share = share;
        self
    }

    /// Waits until there is something to send, and puts it into `out`: what one visit to the socket should carry.
    ///
    /// Cancel safe: nothing is taken before it is returned.
    ///
    /// # Errors
    ///
    /// Why the connection has to end.
    pub(crate) async fn next(&mut self, out: &mut Vec<Outgoing>) -> Result<(), Ending> {
        loop {
            let now = self.edge.clock.now();
            if let Some(ending) = self.ending(now) {
                if !self.is_opening() {
                    return Err(ending);
                }
                // The opening goes first, and nothing with it: only the gap in there may cross a hole, never a `Goodbye`.
                out.append(&mut self.ready);
                return Ok(());
            }
            if !self.ready.is_empty() && !self.is_opening() {
                // Answers wait for nothing, and cost nobody a lock.
                self.handed += self.ready.len() as u64;
                out.append(&mut self.ready);
                return Ok(());
            }
            let rest = self.visit(now, out);
            if !out.is_empty() {
                self.handed += out.len() as u64;
                return Ok(());
            }
            let leaving = self.seat.mailbox().leaving();
            let until = match (rest, leaving) {
                (Rest::None, _) => {
                    tokio::task::yield_now().await;
                    continue;
                }
                (Rest::Until(_), Some(leaving)) => return Err(leaving.ending), // everything is taken
                (Rest::Turn(turn), Some(leaving)) => turn.min(leaving.by),
                (Rest::Until(until) | Rest::Turn(until), None) => until,
            };
            let until = self.expires.map_or(until, |expires| expires.min(until));
            tokio::select! {
                biased;
                () = self.seat.mailbox().woken() => {}
                () = tokio::time::sleep_until(self.edge.clock.instant(until)) => {}
            }
        }
    }

    /// As [`Connection::next`]; but while what it returned last is still being written, only the end is waited for. Then it is
    /// taken.
    ///
    /// # Errors
    ///
    /// Why the connection has to end.
    pub(crate) async fn next_unless(&mut self, writing: bool, out: &mut Vec<Outgoing>) -> Result<(), Ending> {
        if writing {
            return Err(self.ended().await);
        }
        self.settle(self.mark());
        self.next(out).await
    }

    /// Waits until the connection has to end. Cancel safe.
    async fn ended(&self) -> Ending {
        loop {
            if let Some(ending) = self.ending(self.edge.clock.now()) {
                return ending;
            }
            let by = self.seat.mailbox().leaving().map(|leaving| leaving.by);
            let until = self.expires.into_iter().chain(by).min().map(|until| self.edge.clock.instant(until));
            let expired = async {
                match until {
                    Some(until) => tokio::time::sleep_until(until).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = self.seat.mailbox().woken() => {}
                () = expired => {}
            }
        }
    }

    /// Puts into `out` what can be sent now, up to the bytes of one turn.
    pub(crate) fn visit(&mut self, now: Now, out: &mut Vec<Outgoing>) -> Rest {
        let before = self.reader.omitted().expired;
        let rest = self.look(now, out);
        self.edge.metrics.expired.inc_by(self.reader.omitted().expired - before);
        rest
    }

    fn look(&mut self, now: Now, out: &mut Vec<Outgoing>) -> Rest {
        out.append(&mut self.ready);
        let mut budget = self.turn_bytes;
        loop {
            let rest = if self.scanning {
                self.scan(now, out, &mut budget)
            } else {
                self.listen(now, out, &mut budget)
            };
            match rest {
                Some(rest) => return rest,
                None if budget == 0 => return Rest::None,
                None => {}
            }
        }
    }

    /// Receives these topics too, and says so.
    ///
    /// # Errors
    ///
    /// A name that is none, too many topics, or one that is not granted. Nothing has changed then.
    pub(crate) fn subscribe(&mut self, topics: &[String]) -> Result<(), Failure> {
        let wanted = self.asked.iter().chain(topics).cloned().collect();
        self.identity.grants.check(&wanted, self.topics_max)?;
        let added: Vec<_> = wanted.difference(&self.asked).map(topic).collect();
        self.asked = wanted;
        if !added.is_empty() {
            match self.seat.add(added, self.inbox.is_empty()) {
                Joined::At(place) => pass(&mut self.reader, place),
                Joined::Scanning => {
                    self.scanning = true;
                    self.inbox.clear();
                }
            }
        }
        self.say_subscribed();
        Ok(())
    }

    /// Receives these topics no longer, and says so. Those not asked for are left alone.
    pub(crate) fn unsubscribe(&mut self, topics: &[String]) {
        let removed: Vec<_> = topics.iter().filter(|name| self.asked.remove(*name)).map(topic).collect();
        if !removed.is_empty() {
            self.seat.remove(removed);
        }
        self.say_subscribed();
    }

    /// Goes on with a newer token of the same user and session. Topics that it does not grant are received no longer.
    ///
    /// # Errors
    ///
    /// The token is somebody else's, or its session was invalidated.
    pub(crate) fn refresh(&mut self, identity: Identity) -> Result<(), Failure> {
        self.identity.same_as(&identity)?;
        let now = self.edge.clock.now();
        self.seat.renew_token(identity.issued, now.unix_ms)?;
        self.identity = identity;
        self.expires = self.expiry(now);
        let lost: Vec<_> =
            self.asked.iter().filter(|name| !self.identity.grants.admits(name)).cloned().collect();
        if !lost.is_empty() {
            self.unsubscribe(&lost);
        }
        Ok(())
    }

    /// The last position passed.
    pub(crate) fn passed(&self) -> String {
        self.reader.position().to_string()
    }

    /// The last position told, which a `Goodbye` may say. Empty: what is decided was not sent yet, and a gap in it might
    /// be the only one to cross a hole.
    pub(crate) fn told(&self) -> String {
        if self.is_opening() { String::new() } else { self.passed() }
    }

    /// Whether `Welcome`, and what belongs to it, was not sent yet.
    fn is_opening(&self) -> bool {
        self.ready.iter().any(|outgoing| matches!(outgoing, Outgoing::Control(_)))
    }

    /// Names the connection in `Welcome` and logs.
    pub(crate) fn id(&self) -> u64 {
        self.seat.id()
    }

    /// What it is called, to its user and in the log.
    pub(crate) fn name(&self) -> String {
        self.edge.name_of(self.id())
    }

    /// Why it has to end now, if it has to.
    pub(crate) fn must_end(&self) -> Option<Ending> {
        self.ending(self.edge.clock.now())
    }

    fn ending(&self, now: Now) -> Option<Ending> {
        let expired = self.expires.is_some_and(|expires| now.mono >= expires);
        let mailbox = self.seat.mailbox();
        let ending = mailbox.ending().or(expired.then_some(Ending::TokenEnded));
        if ending.is_some() {
            return ending;
        }
        let leaving = mailbox.leaving().filter(|leaving| now.mono >= leaving.by)?;
        self.cut_off();
        Some(leaving.ending)
    }

    fn expiry(&self, now: Now) -> Option<Duration> {
        let left = self.identity.expires_unix_ms?.saturating_sub(now.unix_ms);
        Some(now.mono.saturating_add(Duration::from_millis(left)))
    }

    fn say_subscribed(&mut self) {
        let (cursor, topics) = (self.passed(), self.asked.iter().cloned().collect::<Vec<_>>());
        // One that was not sent yet is overtaken by this one, which names all that is asked for: a peer that asks
        // without reading is owed two answers at most. The first names what it kept all the while; without it, a topic
        // that it left and joined again would seem to be kept, and what lies between to be missed.
        let is_answer = |outgoing: &mut Outgoing| matches!(outgoing, Outgoing::Subscribed { .. });
        let unsent: Vec<_> = self.ready.extract_if(.., is_answer).collect();
        if let Some(Outgoing::Subscribed { cursor, topics: mut kept }) = unsent.into_iter().next() {
            kept.retain(|topic| self.asked.contains(topic));
            if kept != topics {
                self.ready.push(Outgoing::Subscribed { cursor, topics: kept });
            }
        }
        self.ready.push(Outgoing::Subscribed { cursor, topics });
    }

    /// Reads the window itself, as far as it is dispatched. At the end of that the mailbox takes over.
    fn scan(&mut self, now: Now, out: &mut Vec<Outgoing>, budget: &mut usize) -> Option<Rest> {
        if let Some(turn) = self.share.turn(now.mono) {
            self.edge.metrics.turns_awaited.inc();
            return Some(Rest::Turn(turn));
        }
        let (place, left) = (self.reader.next(), *budget);
        let Self { edge, reader, seat, opened, .. } = self;
        let visit = edge.metrics.delivery.visit(*opened, now);
        let end = edge.routes.dispatched().slot;
        let step = edge.read(now, |window| {
            if !seat.renew(now.unix_ms, false) {
                return Found::NothingYet; // it ends
            }
            let step = reader.step_until(window, end, Some(seat), now);
            found(step, window, &visit, out, budget)
        });
        self.share.spend(self.reader.next().since(place), (left - *budget) as u64);
        match step {
            Found::Something => None,
            Found::NothingYet => Some(Rest::None),
            Found::End(until) => {
                // More may have been dispatched meanwhile: then scanning goes on.
                let place = self.seat.rejoin(self.reader.next())?;
                pass(&mut self.reader, place);
                (self.covered, self.scanning) = (place, false);
                self.share.done();
                Some(Rest::Until(until))
            }
        }
    }

    /// Visits the entries that the mailbox names.
    fn listen(&mut self, now: Now, out: &mut Vec<Outgoing>, budget: &mut usize) -> Option<Rest> {
        if self.inbox.is_empty() {
            // Read first: whatever lies before it is in the mailbox by now.
            let covered = self.edge.routes.dispatched();
            match self.seat.mailbox().take(&mut self.inbox) {
                Taken::Overflown(first) => {
                    if let Some(first) = first {
                        self.edge.read(now, |window| self.reader.seek(window, first));
                    }
                    self.scanning = true;
                    return None;
                }
                Taken::Mail { swept } => (self.covered, self.swept) = (covered, self.swept || swept),
            }
        }
        let Self { edge, reader, seat, inbox, covered, opened, .. } = self;
        let visit = edge.metrics.delivery.visit(*opened, now);
        let had_mail = !inbox.is_empty();
        let step = edge.read(now, |window| {
            if !seat.renew(now.unix_ms, true) {
                return Found::NothingYet; // it ends
            }
            while let Some(slot) = drop_past(inbox, reader, window) {
                if *budget == 0 {
                    return Found::Something;
                }
                let step = reader.read_at(window, slot, Some(seat), now);
                found(step, window, &visit, out, budget);
            }
            pass(reader, *covered);
            let step = reader.step_until(window, covered.slot, Some(seat), now);
            found(step, window, &visit, out, budget)
        });
        let until = match step {
            Found::End(until) => until,
            Found::Something => return None,
            Found::NothingYet => return Some(Rest::None),
        };
        if had_mail {
            return None; // more may have come meanwhile
        }
        if std::mem::take(&mut self.swept) {
            out.push(Outgoing::Control(Control::Progress { cursor: self.reader.position() }));
        }
        Some(Rest::Until(until))
    }
}

/// Bounds of one connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// The most topics asked for.
    pub(crate) topics: usize,
    /// The most bytes of frames per visit, unless one alone is larger.
    pub(crate) turn_bytes: usize,
}

/// Everything before `place` is known not to be for this reader. One that has read on since then stays where it is: a
/// position may be known to the window a moment before it is dispatched.
fn pass(reader: &mut Reader, place: Place) {
    if place.slot > reader.next() || place.cursor.follows(reader.position()) {
        reader.skip_to(place.slot, place.cursor);
    }
}

/// `Welcome`, and the gap that follows it at once: what is said about a place must not come between them.
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

fn topic(name: &String) -> String {
    format!("topic:{name}")
}
