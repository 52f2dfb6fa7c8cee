//! Sends events and waits for the hub's answer: says when that takes long, and explains why there was none.
//!
//! Trying again is the publisher client's business, not done here.

use std::time::Duration;

use anyhow::anyhow;
use galaxy_push_client::{Failure, Published, Publisher};
use galaxy_push_proto::v1;
use tokio::time::{sleep, timeout};

use super::progress::Progress;

/// How long whoever waits is left without a word.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long asking what is wrong may take.
const ASKING: Duration = Duration::from_secs(1);

pub(super) struct Sender {
    publisher: Publisher,
    hubs: String,
    timeout: Duration,
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
    pub(super) fn new(hubs: &[String], timeout: Duration) -> anyhow::Result<Self> {
        let hubs = hubs.join(",");
        let publisher = Publisher::builder().hub(&hubs).give_up_after(timeout).build()?;
        Ok(Self { publisher, hubs, timeout })
    }

    /// Sends events until all are acknowledged, or the time to give up.
    pub(super) async fn send(
        &mut self,
        events: Vec<v1::Event>,
        progress: &Progress,
    ) -> Result<Vec<Published>, NotSent> {
        let Self { publisher, hubs, timeout: limit } = self;
        let answer = tokio::select! {
            biased;
            answer = timeout(*limit, publisher.publish(events)) => match answer {
                Ok(answer) => answer.map_err(|failure| not_sent(failure, hubs, *limit)),
                Err(_) => {
                    let silence = Failure::Lost("the hub did not answer in time".to_owned());
                    Err(not_sent(silence, hubs, *limit))
                }
            },
            hopeless = tell_why_it_takes_long(hubs, *limit, progress) => Err(not_sent(hopeless, hubs, PATIENCE)),
        }?;
        let refused =
            answer.iter().enumerate().find_map(|(index, event)| Some((index, event.refusal.as_ref()?)));
        match refused {
            Some((index, refusal)) => Err(NotSent::Refused { index, what: refusal.reason.clone() }),
            None => Ok(answer),
        }
    }
}

/// After a moment, asks the hub how it is and tells what it says. Returns only if waiting longer makes no sense.
async fn tell_why_it_takes_long(hubs: &str, limit: Duration, progress: &Progress) -> Failure {
    sleep(PATIENCE).await;
    let asked = async {
        Publisher::builder().hub(hubs).give_up_after(Duration::ZERO).build().ok()?.head().await.err()
    };
    let why = match timeout(ASKING, asked).await {
        // A proxy in front of a hub that is down answers 502 and the like; other answers do not become a hub.
        Ok(Some(failure @ Failure::NotGrpc { status: 400..=499, .. })) => return failure,
        Ok(Some(failure)) => failure.to_string(),
        Ok(None) | Err(_) => "the hub has not answered yet".to_owned(),
    };
    progress.tell(&format!("{why}; still trying, for {} in all", humantime::format_duration(limit)));
    std::future::pending().await
}

fn not_sent(failure: Failure, hubs: &str, waited: Duration) -> NotSent {
    if let Failure::Status(status) = &failure
        && let Some((index, what)) = refused_event(&status.message)
    {
        return NotSent::Refused { index, what: what.to_owned() };
    }
    let waited = humantime::format_duration(waited);
    NotSent::Failed(match &failure {
        Failure::Status(_) => anyhow!("{failure}"),
        Failure::NotGrpc { status, .. } => anyhow!(
            "{hubs} is no hub: it answered with HTTP status {status}\n\n  tip: --hub is the hub listener, on port 7400 \
             unless `hub-addr` says otherwise; users' port 8080 and the admin port 7401 take no publishers"
        ),
        Failure::Unreachable(_) => anyhow!(
            "{failure}; gave up after {waited}\n\n  tip: start a hub with `galaxy-push serve`, or name another with --hub"
        ),
        _ => anyhow!(
            "{failure}; gave up after {waited}. Whether the hub took the events is unknown: publish them again with \
             the same ids"
        ),
    })
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
