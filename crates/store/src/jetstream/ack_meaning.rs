//! What an acknowledgement means on these brokers, as far as they say: for whoever operates a hub, who is told what was found
//! rather than what was hoped for.

use std::fmt;
use std::time::Duration;

use serde::Deserialize;
use tokio::time::timeout;

use super::connect::Link;
use crate::nats::stream_view::StreamView;

/// How long a broker may take to say how it is set.
const ASK_WITHIN: Duration = Duration::from_millis(500);

/// What an acknowledgement means.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct AckMeaning {
    /// How many brokers keep the log.
    pub replicas: usize,
    /// The version of the broker that this hub is connected to.
    pub version: String,
    /// When brokers sync what they store. `None`: they do not say, to whom has no right to ask.
    pub syncs: Option<Syncs>,
}

/// When a broker syncs what it stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Syncs {
    /// Before it acknowledges.
    Always,
    /// Every so often: what came since is lost where the machine fails.
    Every(Duration),
}

/// What a broker says of itself, but for what does not matter here.
#[derive(Debug, Deserialize)]
struct Answer {
    data: Data,
}

#[derive(Debug, Deserialize)]
struct Data {
    config: Option<Config>,
    jetstream: Option<JetStream>,
}

#[derive(Debug, Deserialize)]
struct JetStream {
    config: Option<Config>,
}

#[derive(Debug, Deserialize)]
struct Config {
    sync_interval: Option<u64>,
    sync_always: Option<bool>,
}

impl AckMeaning {
    pub(super) async fn find(link: &Link, look: &StreamView) -> Self {
        let info = link.client.server_info();
        let subject = format!("$SYS.REQ.SERVER.{}.JSZ", info.server_id);
        let asked = timeout(ASK_WITHIN, link.client.request(subject, r#"{"config":true}"#.into())).await;
        let syncs = asked.ok().and_then(Result::ok).and_then(|answer| syncs(&answer.payload));
        Self { replicas: look.replicas, version: info.version, syncs }
    }

    /// Whether nothing that is acknowledged is lost with one machine, and publishes go on without it.
    #[must_use]
    pub const fn outlives_a_machine(&self) -> bool {
        self.replicas > 2
    }

    /// Whether brokers are known to sync before they acknowledge.
    #[must_use]
    pub fn is_synced(&self) -> bool {
        self.syncs == Some(Syncs::Always)
    }
}

fn syncs(answer: &[u8]) -> Option<Syncs> {
    let Data { config, jetstream } = serde_json::from_slice::<Answer>(answer).ok()?.data;
    let config = config.or_else(|| jetstream.and_then(|jetstream| jetstream.config))?;
    if config.sync_always == Some(true) {
        return Some(Syncs::Always);
    }
    config.sync_interval.map(|nanoseconds| Syncs::Every(Duration::from_nanos(nanoseconds)))
}

impl fmt::Display for AckMeaning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.replicas {
            0 | 1 => f.write_str("stored by one broker: nothing is taken while it is away")?,
            2 => f.write_str("stored by two brokers: nothing is taken while one of them is away")?,
            replicas => write!(f, "stored by {} of {replicas} brokers", replicas / 2 + 1)?,
        }
        match self.syncs {
            Some(Syncs::Always) => f.write_str(", each of which has synced it (sync_interval: always)"),
            Some(Syncs::Every(interval)) => write!(
                f,
                ", which sync it later (sync_interval: {interval:?}): a power cut on as many machines may lose it; set \
                 sync_interval: always"
            ),
            None => f.write_str(
                ", which do not say when they sync it: by themselves within 2 minutes, so that a power cut on as many \
                 machines may lose it; with sync_interval: always, before",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_acknowledgement_means_what_was_found() {
        let meaning = |replicas, syncs| AckMeaning { replicas, version: String::new(), syncs }.to_string();
        assert!(
            meaning(3, Some(Syncs::Always))
                .starts_with("stored by 2 of 3 brokers, each of which has synced it")
        );
        assert!(meaning(5, None).starts_with("stored by 3 of 5 brokers, which do not say"));
        let every = meaning(1, Some(Syncs::Every(Duration::from_secs(120))));
        assert!(
            every.starts_with("stored by one broker") && every.contains("sync_interval: 120s"),
            "{every}"
        );
    }

    #[test]
    fn a_broker_says_when_it_syncs() {
        let answer = |config: &str| format!(r#"{{"server":{{}},"data":{{"streams":1,"config":{config}}}}}"#);
        let syncs_of = |config: &str| syncs(answer(config).as_bytes());
        assert_eq!(syncs_of(r#"{"sync_interval":120000000000,"sync_always":true}"#), Some(Syncs::Always));
        let every = Some(Syncs::Every(Duration::from_secs(120)));
        assert_eq!(syncs_of(r#"{"sync_interval":120000000000}"#), every);
        assert_eq!((syncs_of("{}"), syncs(b"no")), (None, None));
    }
}
