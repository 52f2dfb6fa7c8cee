//! The stream that a log lies in: how it is made, whether one that is there will do, and what its leader says of it.

use std::time::Duration;

use async_nats::jetstream::context::GetStreamErrorKind;
use async_nats::jetstream::stream::{Config, DiscardPolicy, Info, RetentionPolicy, StorageType};
use async_nats::jetstream::{self, ErrorCode};
use galaxy_push_core::cursor::Epoch;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

use super::connect::{Link, START_AGAIN, START_WITHIN};
use super::{Notice, OpenError, Options};
use crate::nats::pack;
use crate::nats::stream_view::StreamView;

/// Where the epoch is in the stream's metadata.
const EPOCH: &str = "galaxy-push-epoch";

/// The namespace: there is one.
pub(super) const NAMESPACE: &str = "default";

/// For so much longer than the window or the index of keys a message is kept: claims are heeded for 10 s, whoever begins late shows
/// nothing of the first 20 s, and hubs and brokers may be some seconds apart.
const KEPT_LONGER: Duration = Duration::from_secs(80);

/// So many bytes more than twice the window's are kept: what packs take beside their events, and what is too old for the window.
const KEPT_MORE: u64 = 64 << 20;

/// The stream of a log. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Log {
    context: jetstream::Context,
    name: String,
    subject: String,
}

/// A question for the first message of a subject from a number on.
#[derive(Serialize)]
struct NextFrom<'a> {
    seq: u64,
    next_by_subj: &'a str,
}

#[derive(Deserialize)]
struct StoredMessage {
    message: Option<FoundMessage>,
    error: Option<Refusal>,
}

#[derive(Deserialize)]
struct FoundMessage {
    seq: u64,
}

#[derive(Debug, Deserialize)]
struct Refusal {
    code: u16,
}

/// The code of the answer that there is no such message.
const NOT_FOUND: u16 = 404;

impl Log {
    /// Finds the stream, or makes it.
    pub(super) async fn open(link: &Link, options: &Options) -> Result<Self, OpenError> {
        check(options)?;
        let name = format!("{}-{NAMESPACE}", options.prefix);
        let subject = format!("{}.{NAMESPACE}.log", options.prefix);
        let log = Self { context: link.context.clone(), name, subject };
        let give_up = Instant::now() + START_WITHIN;
        loop {
            match log.find_or_make(options).await {
                Err(OpenError::Stream { source, .. }) if Instant::now() < give_up && may_pass(&source) => {
                    options.notice(&Notice::Trouble(format!("the stream cannot be used yet: {source}")));
                }
                done => return done.map(|()| log),
            }
            sleep(START_AGAIN).await;
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn subject(&self) -> &str {
        &self.subject
    }

    pub(super) fn failed(&self, source: async_nats::Error) -> OpenError {
        OpenError::Stream { name: self.name.clone(), source }
    }

    /// Asks the leader.
    pub(super) async fn look(&self) -> Result<StreamView, async_nats::Error> {
        let stream = self.context.get_stream(&self.name).await?;
        Ok(look_of(stream.cached_info()))
    }

    /// Whether this is the answer that there is no such stream.
    pub(super) fn is_gone(error: &async_nats::Error) -> bool {
        error
            .downcast_ref::<jetstream::context::GetStreamError>()
            .is_some_and(|error| matches!(error.kind(), GetStreamErrorKind::JetStream(error) if error.error_code() == ErrorCode::STREAM_NOT_FOUND))
    }

    /// A consumer of everything from this message on, on the subject that it delivers to.
    pub(super) async fn consume(
        &self,
        config: jetstream::consumer::push::Config,
    ) -> Result<jetstream::consumer::PushConsumer, async_nats::Error> {
        Ok(self.context.create_consumer_on_stream(config, &*self.name).await?)
    }

    /// The number of the first message from this one on, by the leader: what a consumer does not deliver may be there all the same,
    /// as its broker may lag behind.
    pub(super) async fn next_from(&self, number: u64) -> Result<Option<u64>, async_nats::Error> {
        let ask = NextFrom { seq: number, next_by_subj: &self.subject };
        let answer: StoredMessage =
            self.context.request(format!("STREAM.MSG.GET.{}", self.name), &ask).await?;
        match (answer.message, answer.error) {
            (Some(message), _) => Ok(Some(message.seq)),
            (None, Some(error)) if error.code == NOT_FOUND => Ok(None),
            (None, error) => Err(format!("the leader does not say what it has: {error:?}").into()),
        }
    }

    /// When a broker took this message, in milliseconds since the Unix epoch, by the leader. `None`: it has it no more, or does not answer.
    pub(super) async fn stamp_of(&self, number: u64) -> Option<u64> {
        let stream = self.context.get_stream_no_info(&self.name).await.ok()?;
        let message = stream.get_raw_message(number).await.ok()?;
        u64::try_from(message.time.unix_timestamp_nanos() / 1_000_000).ok()
    }

    /// When the last message was stamped by the hub that wrote it, in milliseconds since the Unix epoch; or else by its broker.
    pub(super) async fn last_stamp(&self, look: &StreamView) -> Option<u64> {
        if look.last < look.first {
            return None;
        }
        let stream = self.context.get_stream_no_info(&self.name).await.ok()?;
        let message = stream.get_raw_message(look.last).await.ok()?;
        let taken = u64::try_from(message.time.unix_timestamp_nanos() / 1_000_000).ok();
        let pack = pack::read(&message.payload).ok();
        let written = pack.and_then(|pack| pack.requests.iter().map(|request| request.stamp_unix_ms).max());
        written.or(taken)
    }

    /// Gives the stream another epoch, if it still has this one.
    pub(super) async fn begin_anew(&self, old: Epoch, new: Epoch) -> Result<(), async_nats::Error> {
        let stream = self.context.get_stream(&self.name).await?;
        let info = stream.cached_info();
        if look_of(info).epoch == Some(old) {
            let mut config = info.config.clone();
            config.metadata.insert(EPOCH.to_owned(), new.to_string());
            self.context.update_stream(config).await?;
        }
        Ok(())
    }

    async fn find_or_make(&self, options: &Options) -> Result<(), OpenError> {
        let wanted = self.wanted(options);
        let found = match self.context.get_stream(&self.name).await {
            Ok(stream) => stream.cached_info().clone(),
            Err(error) => {
                let error: async_nats::Error = error.into();
                if !Self::is_gone(&error) {
                    return Err(self.failed(error));
                }
                let made = self.context.create_stream(wanted.clone()).await;
                made.map_err(|error| self.failed(error.into()))?.cached_info().clone()
            }
        };
        match difference(&found.config, &wanted) {
            Some(difference) => {
                Err(OpenError::Setting(format!("the stream {} will not do: {difference}", self.name)))
            }
            None => Ok(()),
        }
    }

    fn wanted(&self, options: &Options) -> Config {
        let epoch = Epoch::with_holes(options.ambient.random_128());
        let age = options.window.age.max(options.dedup.age).saturating_add(KEPT_LONGER);
        let bytes = options.window.bytes.saturating_mul(2).saturating_add(KEPT_MORE);
        Config {
            name: self.name.clone(),
            description: Some("A log of Galaxy Push. Only its hubs write to it.".to_owned()),
            subjects: vec![self.subject.clone()],
            retention: RetentionPolicy::Limits,
            storage: StorageType::File,
            discard: DiscardPolicy::Old,
            max_age: age,
            max_bytes: i64::try_from(bytes).unwrap_or(i64::MAX),
            num_replicas: options.replicas,
            allow_direct: true,
            metadata: [(EPOCH.to_owned(), epoch.to_string())].into(),
            ..Config::default()
        }
    }
}

/// What the leader said.
pub(super) fn look_of(info: &Info) -> StreamView {
    let state = &info.state;
    let replicas = info.config.num_replicas.max(1);
    StreamView {
        epoch: info
            .config
            .metadata
            .get(EPOCH)
            .and_then(|text| text.parse().ok())
            .filter(|epoch: &Epoch| epoch.has_holes()),
        made: info.created.unix_timestamp_nanos(),
        first: if state.messages == 0 { state.last_sequence + 1 } else { state.first_sequence },
        last: state.last_sequence,
        stamp_unix_ms: None,
        bytes: state.bytes,
        replicas,
        heard: heard(info, replicas / 2),
    }
}

/// How long ago the leader has heard from so many others.
fn heard(info: &Info, others: usize) -> Option<Duration> {
    let Some(last) = others.checked_sub(1) else { return Some(Duration::ZERO) };
    let peers = info.cluster.iter().flat_map(|cluster| &cluster.replicas);
    let mut heard: Vec<_> = peers.filter(|peer| !peer.offline).map(|peer| peer.active).collect();
    heard.sort_unstable();
    heard.get(last).copied()
}

fn check(options: &Options) -> Result<(), OpenError> {
    let is_name = |text: &str| {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        (1..=64).contains(&text.len()) && text.chars().all(allowed)
    };
    if !is_name(&options.prefix) {
        let why = "the prefix must be 1 to 64 letters, digits, `-` and `_`";
        return Err(OpenError::Setting(why.to_owned()));
    }
    if !(1..=5).contains(&options.replicas) {
        return Err(OpenError::Setting("a stream has 1 to 5 replicas; 3 outlive any one machine".to_owned()));
    }
    Ok(())
}

/// Whether a cluster that has just begun may answer otherwise in a moment.
pub(super) fn may_pass(error: &async_nats::Error) -> bool {
    let text = error.to_string();
    ["timed out", "no responders", "unavailable", "no suitable peers", "insufficient", "10008", "10005"]
        .iter()
        .any(|part| text.contains(part))
}

/// Why a stream that is there will not do, and what to do about it.
fn difference(found: &Config, wanted: &Config) -> Option<String> {
    let another = |what: String| format!("{what}: name another --nats-prefix");
    kind(found, wanted).map(another).or_else(|| bounds(found, wanted))
}

/// What makes it no log of a hub.
fn kind(found: &Config, wanted: &Config) -> Option<String> {
    let epoch = found.metadata.get(EPOCH).and_then(|text| text.parse::<Epoch>().ok());
    let is_filled = found.sources.as_ref().is_some_and(|sources| !sources.is_empty());
    let what = if !epoch.is_some_and(Epoch::has_holes) {
        "no hub has made it"
    } else if found.subjects != wanted.subjects {
        return Some(format!("its subjects are {:?}, and a log has {:?}", found.subjects, wanted.subjects));
    } else if found.sealed || found.no_ack || found.mirror.is_some() || is_filled {
        "it is sealed, does not acknowledge, or is filled from another one"
    } else if found.storage != wanted.storage
        || found.retention != wanted.retention
        || found.discard != wanted.discard
    {
        "it must keep files, by limits, and discard what is old"
    } else if found.max_messages > 0 || found.max_messages_per_subject > 0 {
        "it counts its messages, and a log is bounded by time and bytes"
    } else if (1..MESSAGE_BYTES_MIN).contains(&found.max_message_size) {
        return Some(format!("it takes messages of {} bytes at most", found.max_message_size));
    } else {
        return None;
    };
    Some(what.to_owned())
}

/// What it keeps too little of.
fn bounds(found: &Config, wanted: &Config) -> Option<String> {
    let name = &found.name;
    let needs = |setting: String, what: String, flag: &str| {
        Some(format!("{what}: `nats stream edit {name} {setting}`, or lower {flag}"))
    };
    if found.num_replicas < wanted.num_replicas {
        let (has, needed) = (found.num_replicas, wanted.num_replicas);
        let what = format!("it has {has} replicas, and --nats-replicas is {needed}");
        return needs(format!("--replicas {needed}"), what, "--nats-replicas");
    }
    if !found.max_age.is_zero() && found.max_age < wanted.max_age {
        let (has, needed) = (found.max_age.as_secs(), wanted.max_age.as_secs());
        let what = format!("it keeps messages for {has} s, and this --window-age needs {needed} s");
        return needs(format!("--max-age {needed}s"), what, "--window-age");
    }
    if (1..wanted.max_bytes).contains(&found.max_bytes) {
        let (has, needed) = (found.max_bytes, wanted.max_bytes);
        let what = format!("it keeps {has} bytes, and this --window-bytes needs {needed}");
        return needs(format!("--max-bytes {needed}"), what, "--window-bytes");
    }
    None
}

/// A stream that takes no message of so many bytes cannot hold a log: the largest event, and what lies around it.
const MESSAGE_BYTES_MIN: i32 = (1 << 20) + (64 << 10);

#[cfg(test)]
mod tests;
