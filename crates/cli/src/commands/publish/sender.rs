//! Sends events and says what became of them.
//!
//! Trying again is the publisher client's business, waiting that of `patience`; neither is done here.

use std::cell::RefCell;
use std::time::Duration;

use anyhow::anyhow;
use galaxy_push_client::{Failure, Published, Publisher, Tracing};
use galaxy_push_proto::v1;

use super::super::patience::{NoAnswer, patiently};
use super::progress::Progress;
use crate::peer::Peer;

const UNKNOWN: &str = "Whether the hub took the events is unknown: publish them again with the same ids";

pub(super) struct Sender {
    publisher: Publisher,
    hubs: String,
    peer: Peer,
    timeout: Duration,
    /// What was last said of why it takes long: it is said once, however many batches that lasts.
    told: String,
}

/// Why events were not acknowledged.
pub(super) enum NotSent {
    /// The hub refused the event of this index, and with it all of them.
    Refused { index: usize, what: String },
    /// Something else: text for people.
    Failed(anyhow::Error),
}

impl NotSent {
    /// The failure of these lines.
    pub(super) fn on_lines(self, name: &str, first: u64, last: u64) -> anyhow::Error {
        match self {
            Self::Refused { what, .. } => anyhow!("{name}: lines {first} to {last}: {what}"),
            Self::Failed(error) => error.context(format!("{name}: lines {first} to {last}")),
        }
    }
}

impl Sender {
    pub(super) fn new(
        hubs: &[String],
        peer: Peer,
        timeout: Duration,
        tracing: Tracing,
    ) -> anyhow::Result<Self> {
        let hubs = hubs.join(",");
        let builder = peer.clone().publisher(Publisher::builder().hub(&hubs));
        let publisher = builder.give_up_after(timeout).tracing(tracing).build()?;
        Ok(Self { publisher, hubs, peer, timeout, told: String::new() })
    }

    /// Sends events until all are acknowledged, or the time to give up.
    pub(super) async fn send(
        &mut self,
        events: Vec<v1::Event>,
        progress: &Progress,
    ) -> Result<Vec<Published>, NotSent> {
        let Self { publisher, hubs, peer, timeout: limit, told } = self;
        let told = RefCell::new(told);
        let tell = |text: &str| {
            if **told.borrow() != *text {
                progress.tell(text);
                text.clone_into(*told.borrow_mut());
            }
        };
        let trouble = publisher.trouble();
        let answer = patiently(hubs, peer, *limit, trouble, tell, publisher.publish(events)).await;
        let answer = answer.map_err(|no_answer| not_sent(&no_answer, hubs))?;
        let refused =
            answer.iter().enumerate().find_map(|(index, event)| Some((index, event.refusal.as_ref()?)));
        match refused {
            Some((index, refusal)) => Err(NotSent::Refused { index, what: refusal.reason.clone() }),
            None => Ok(answer),
        }
    }
}

fn not_sent(no_answer: &NoAnswer, hubs: &str) -> NotSent {
    if let Failure::Status(status) = &no_answer.failure
        && let Some((index, what)) = refused_event(&status.message)
    {
        return NotSent::Refused { index, what: what.to_owned() };
    }
    NotSent::Failed(no_answer.explain(hubs, UNKNOWN))
}

/// The index in a message such as `events[3].data: too large`, and what is said about that event.
fn refused_event(message: &str) -> Option<(usize, &str)> {
    let (index, what) = message.strip_prefix("events[")?.split_once(']')?;
    Some((index.parse().ok()?, what.trim_start_matches(['.', ':', ' '])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hub_names_the_event_it_refuses() {
        assert_eq!(refused_event("events[3].data: too large"), Some((3, "data: too large")));
        assert_eq!(refused_event("events[0]: no"), Some((0, "no")));
        assert_eq!(refused_event("events: too many"), None);
        assert_eq!(refused_event("draining"), None);
    }
}
