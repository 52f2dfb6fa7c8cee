//! What a user changes while the connection is open: its topics, and its token.
//!
//! Called by the WebSocket session for `subscribe`, `unsubscribe` and `refresh`. Each is answered by a `Subscribed`, which
//! [`Connection::next`] sends before anything else.

use super::{Added, Connection, Outgoing, skip_to};
use crate::state::grants::Identity;
use crate::state::refusal::Refusal;

impl Connection {
    /// Receives these topics too, and says so.
    ///
    /// # Errors
    ///
    /// A name that is none, too many topics, or one that is not granted. Nothing has changed then.
    pub(crate) fn subscribe(&mut self, topics: &[String]) -> Result<(), Refusal> {
        let wanted = self.asked.iter().chain(topics).cloned().collect();
        self.identity.grants.check(&wanted, self.topics_max)?;
        let added: Vec<_> = wanted.difference(&self.asked).map(recipient).collect();
        self.asked = wanted;
        if !added.is_empty() {
            match self.registration.add(added, self.inbox.is_empty()) {
                Added::At(upto) => skip_to(&mut self.reader, upto),
                Added::MustScan => {
                    self.scanning = true;
                    self.inbox.clear();
                }
            }
        }
        self.answer_subscribed();
        Ok(())
    }

    /// Receives these topics no longer, and says so. Those not asked for are left alone.
    pub(crate) fn unsubscribe(&mut self, topics: &[String]) {
        let removed: Vec<_> = topics.iter().filter(|name| self.asked.remove(*name)).map(recipient).collect();
        if !removed.is_empty() {
            self.registration.remove(removed);
        }
        self.answer_subscribed();
    }

    /// Goes on with a newer token of the same user and session. Topics that it does not grant are received no longer.
    ///
    /// # Errors
    ///
    /// The token is somebody else's, or its session was invalidated.
    pub(crate) fn refresh(&mut self, identity: Identity) -> Result<(), Refusal> {
        self.identity.same_as(&identity)?;
        let now = self.edge.clock.now();
        self.registration.replace_token(identity.issued, now.unix_ms)?;
        self.identity = identity;
        self.expires = self.expiry(now);
        let lost: Vec<_> =
            self.asked.iter().filter(|name| !self.identity.grants.admits(name)).cloned().collect();
        if !lost.is_empty() {
            self.unsubscribe(&lost);
        }
        Ok(())
    }

    /// Answers with all topics asked for. An answer that was not sent yet is replaced, so that a peer that asks without
    /// reading is owed two answers at most.
    ///
    /// The first of the two names what was asked for all the while. A peer that was told `a, b` and reads nothing shows why:
    ///
    /// ```text
    /// unsubscribe b     [a] is to be answered
    /// an event for b    is not for this user, and is passed over
    /// subscribe b       [a, b] alone would say that b was kept, and that the event for b is missing.
    ///                   So [a] is sent, then [a, b]: b was left, and counts from the second answer's cursor.
    /// ```
    fn answer_subscribed(&mut self) {
        let (cursor, topics) = (self.position(), self.asked.iter().cloned().collect::<Vec<_>>());
        let is_answer = |outgoing: &mut Outgoing| matches!(outgoing, Outgoing::Subscribed { .. });
        let unsent: Vec<_> = self.ready.extract_if(.., is_answer).collect();
        // What the first unsent answer names, and is still asked for, was asked for in all of them.
        if let Some(Outgoing::Subscribed { cursor, topics: mut kept }) = unsent.into_iter().next() {
            kept.retain(|topic| self.asked.contains(topic));
            if kept != topics {
                self.ready.push(Outgoing::Subscribed { cursor, topics: kept });
            }
        }
        self.ready.push(Outgoing::Subscribed { cursor, topics });
    }
}

/// A topic as the recipient of events.
pub(super) fn recipient(topic: &String) -> String {
    format!("topic:{topic}")
}
