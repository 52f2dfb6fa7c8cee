//! Events whose try got no answer: they may have been appended, and to which log.
//!
//! A hub that recognises an event by its id answers the original position. A hub with another log cannot: there the event
//! is appended a second time, and whoever publishes must be able to see that.
//!
//! ```text
//! publish(e1) to hub A, log a      no answer: e1 may be in log a
//! the try after it, hub A          a duplicate: it was there. Or appended now: it was not. Nothing is uncertain
//! the try after it, hub B, log b   appended to log b, and perhaps to log a, too: other_log is true
//! ```

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use galaxy_push_core::cursor::{Cursor, Epoch};
use galaxy_push_proto::v1::Event;

use crate::{Failure, Published};

/// How many events are remembered beyond the call that gave up on them: some 40 bytes each.
const EVENTS_MAX: usize = 4_096;

/// The logs that tries without an answer went to; `None`: nobody knows to which.
#[derive(Clone, Debug, Default)]
pub(crate) struct Unanswered(Vec<Option<Epoch>>);

impl Unanswered {
    /// A try to a hub with this log, as far as is known, got no answer.
    pub(crate) fn add(&mut self, log: Option<Epoch>) {
        if !self.0.contains(&log) {
            self.0.push(log);
        }
    }

    /// Whether an event that was appended to this log now may be in another one, too.
    fn elsewhere(&self, log: Option<Epoch>) -> bool {
        self.0.iter().any(|tried| tried.is_none() || *tried != log)
    }

    /// Marks what was appended a second time, perhaps.
    pub(crate) fn mark(&self, published: &mut [Published]) {
        published
            .iter_mut()
            .for_each(|event| event.other_log |= event.is_new() && self.elsewhere(event.log()));
    }
}

impl Published {
    /// The log that it is in.
    pub(crate) fn log(&self) -> Option<Epoch> {
        Cursor::parse(&self.cursor).ok().map(|cursor| cursor.epoch)
    }

    fn is_new(&self) -> bool {
        !self.duplicate && self.refusal.is_none() && !self.cursor.is_empty()
    }
}

/// Events that earlier calls gave up on without an answer, the oldest first. At most 4,096: the oldest is forgotten first, and a repeat of it
/// is then not marked.
#[derive(Debug, Default)]
pub(crate) struct UncertainEvents(VecDeque<(u64, Unanswered)>);

impl UncertainEvents {
    /// A call gave up on these events.
    pub(crate) fn record(&mut self, events: &[u64], tried: &Unanswered) {
        if tried.0.is_empty() {
            return;
        }
        for key in events {
            match self.0.iter_mut().find(|(known, _)| known == key) {
                Some((_, known)) => tried.0.iter().for_each(|log| known.add(*log)),
                None => self.0.push_back((*key, tried.clone())),
            }
        }
        while self.0.len() > EVENTS_MAX {
            self.0.pop_front();
        }
    }

    /// These events were answered: those among them that were uncertain are marked, and certain from now on.
    pub(crate) fn settle(&mut self, events: &[u64], published: &mut [Published]) {
        if self.0.is_empty() {
            return;
        }
        for (key, event) in events.iter().zip(published) {
            if let Some(index) = self.0.iter().position(|(known, _)| known == key)
                && let Some((_, tried)) = self.0.remove(index)
            {
                tried.mark(std::slice::from_mut(event));
            }
        }
    }
}

/// Names an event, as hubs do: by its source and its id.
pub(crate) fn key(event: &Event) -> u64 {
    let mut hasher = DefaultHasher::new();
    (&event.source, &event.id).hash(&mut hasher);
    hasher.finish()
}

/// Whether nobody knows what became of a request that reached a hub and ended like this.
pub(crate) fn is_unknown(failure: &Failure) -> bool {
    const UNAVAILABLE: i32 = 14;
    /// CANCELLED, UNKNOWN, DEADLINE_EXCEEDED, INTERNAL and UNAVAILABLE: a status that says nothing about the request.
    const VAGUE: [i32; 5] = [1, 2, 4, 13, UNAVAILABLE];
    match failure {
        Failure::Unreachable(_) => false,
        // Whoever names a reason has looked at the request, and refused it.
        Failure::Status(status) => VAGUE.contains(&status.code) && status.reason.is_empty(),
        Failure::NotGrpc { status, .. } => *status >= 500,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ServerStatus;

    fn published(epoch: u128, duplicate: bool) -> Published {
        let cursor = Cursor::start(Epoch(epoch)).next().to_string();
        Published { id: "1".into(), cursor, duplicate, refusal: None, other_log: false }
    }

    fn marked(tried: &[Option<u128>], duplicate: bool) -> bool {
        let mut unanswered = Unanswered::default();
        tried.iter().for_each(|log| unanswered.add(log.map(Epoch)));
        let mut all = [published(1, duplicate)];
        unanswered.mark(&mut all);
        all[0].other_log
    }

    #[test]
    fn an_event_that_may_be_in_another_log_is_marked() {
        for (tried, expected) in [
            (&[][..], false),
            (&[Some(1)], false),
            (&[Some(2)], true),
            (&[Some(1), Some(2)], true),
            (&[None], true),
        ] {
            assert_eq!(marked(tried, false), expected, "{tried:?}");
            assert!(!marked(tried, true), "the log knows it already: {tried:?}");
        }
    }

    #[test]
    fn uncertain_events_outlive_the_call_that_gave_up_and_end_with_an_answer() {
        let mut uncertain = UncertainEvents::default();
        let mut tried = Unanswered::default();
        uncertain.record(&[7], &tried);
        tried.add(Some(Epoch(2)));
        uncertain.record(&[7, 8], &tried);
        for expected in [true, false] {
            let mut all = [published(1, false), published(1, false)];
            uncertain.settle(&[9, 7], &mut all);
            assert_eq!(all.map(|event| event.other_log), [false, expected]);
        }
        (0..2 * EVENTS_MAX as u64).for_each(|event| uncertain.record(&[event], &tried));
        assert_eq!(uncertain.0.len(), EVENTS_MAX);
    }

    #[test]
    fn whoever_refuses_has_not_appended() {
        let status = |code, reason: &str| Failure::Status(ServerStatus::new(code, "").with_reason(reason));
        for surely_not in [
            Failure::Unreachable(String::new()),
            status(14, "DRAINING"),
            status(14, "STORE_UNAVAILABLE"),
            status(8, "OVERLOADED"),
            status(3, ""),
            Failure::NotGrpc { status: 404, content_type: String::new() },
        ] {
            assert!(!is_unknown(&surely_not), "{surely_not}");
        }
        for unknown in [Failure::Lost(String::new()), status(14, ""), Failure::Ended] {
            assert!(is_unknown(&unknown), "{unknown}");
        }
    }
}
