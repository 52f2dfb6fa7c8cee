//! The buckets that the fence and the standing records lie in: how they are made, whether one that is there will do, and a
//! compare-and-set on their keys.
//!
//! They are key-value buckets as NATS lays them out, so that its tools show them: a stream `KV_BUCKET` with a subject for each key,
//! of which it keeps the last message. Unlike most, that of the fence discards the oldest key when it is full, for a fence that takes
//! nothing more would let nobody in. That of the records discards nothing: a record holds until it expires.

use std::error::Error as _;
use std::time::Duration;

use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream::{
    Config, DeleteMessageErrorKind, DiscardPolicy, LastRawMessageErrorKind, RetentionPolicy, StorageType,
};
use async_nats::jetstream::{self, ErrorCode};
use bytes::Bytes;
use tokio::time::{Instant, sleep};

use super::connect::{Link, START_AGAIN, START_WITHIN};
use super::stream::{Log, NAMESPACE, may_pass};
use super::{Notice, OpenError, Options};

/// How long a register is kept that nobody writes. Whoever has the id keeps it all the same: it is its hub that knows so. What is
/// forgotten is which attempts were late, and those come within seconds.
const KEPT: Duration = Duration::from_secs(24 * 3_600);

/// How large the fence may become: some hundred thousand ids. Each hub reads all of it whenever it has lost its connection.
const BYTES_MAX: i64 = 64 << 20;

/// What a compare-and-set is answered that came too late.
const CHANGED: [ErrorCode; 2] =
    [ErrorCode::STREAM_WRONG_LAST_SEQUENCE, ErrorCode::STREAM_WRONG_LAST_SEQUENCE_CONSTANT];

/// The largest value of the records: some invalidations of one recipient.
const VALUE_BYTES_MIN: i32 = 64 << 10;

/// What a bucket holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holds {
    /// Who has which gateway id.
    Fence,
    /// The standing records.
    Records,
}

/// A bucket. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Bucket {
    context: jetstream::Context,
    holds: Holds,
    wanted: Config,
    /// What the subjects of its keys begin with.
    prefix: String,
}

/// The value of a key.
#[derive(Debug)]
pub(super) struct Value {
    /// Which change of the bucket wrote it.
    pub(super) revision: u64,
    /// Empty where somebody has deleted it.
    pub(super) bytes: Bytes,
}

/// What there is in a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Contents {
    /// When it was made, in nanoseconds since the Unix epoch.
    pub(super) made: i128,
    pub(super) values: u64,
}

impl Holds {
    const fn suffix(self) -> &'static str {
        match self {
            Self::Fence => "fence",
            Self::Records => "standing",
        }
    }

    /// What a bucket is marked with that a hub has made.
    const fn mark(self) -> &'static str {
        match self {
            Self::Fence => "galaxy-push-fence",
            Self::Records => "galaxy-push-standing",
        }
    }

    /// Whose bucket it is.
    const fn whose(self) -> &'static str {
        match self {
            Self::Fence => "the fence",
            Self::Records => "the standing records",
        }
    }
}

impl Bucket {
    /// Finds the bucket, or makes it.
    pub(super) async fn open(link: &Link, options: &Options, holds: Holds) -> Result<Self, OpenError> {
        let name = format!("{}-{NAMESPACE}-{}", options.prefix, holds.suffix());
        let wanted = wanted(&name, holds, options.replicas);
        let bucket = Self { context: link.context.clone(), holds, wanted, prefix: format!("$KV.{name}.") };
        let give_up = Instant::now() + START_WITHIN;
        loop {
            match bucket.find_or_make().await {
                Err(OpenError::Stream { source, .. }) if Instant::now() < give_up && may_pass(&source) => {
                    let whose = holds.whose();
                    options.notice(&Notice::Trouble(format!(
                        "the bucket of {whose} cannot be used yet: {source}"
                    )));
                }
                done => return done.map(|_| bucket),
            }
            sleep(START_AGAIN).await;
        }
    }

    /// As at a start: somebody may have removed it.
    pub(super) async fn find_or_make(&self) -> Result<Contents, OpenError> {
        let failed = |source| OpenError::Stream { name: self.wanted.name.clone(), source };
        let found = match self.context.get_stream(&self.wanted.name).await {
            Ok(stream) => stream.cached_info().clone(),
            Err(error) => {
                let error: async_nats::Error = error.into();
                if !Log::is_gone(&error) {
                    return Err(failed(error));
                }
                let made = self.context.create_stream(self.wanted.clone()).await;
                made.map_err(|error| failed(error.into()))?.cached_info().clone()
            }
        };
        match difference(&found.config, &self.wanted, self.holds) {
            Some(difference) => Err(OpenError::Setting(format!(
                "the bucket of {} (stream {}) will not do: {difference}",
                self.holds.whose(),
                found.config.name
            ))),
            None => Ok(Contents { made: found.created.unix_timestamp_nanos(), values: found.state.messages }),
        }
    }

    pub(super) fn subject(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    /// The key that this is the subject of.
    pub(super) fn key<'a>(&self, subject: &'a str) -> Option<&'a str> {
        subject.strip_prefix(&self.prefix)
    }

    /// The last value of a key, by the leader.
    pub(super) async fn read(&self, key: &str) -> Result<Option<Value>, async_nats::Error> {
        let stream = self.context.get_stream_no_info(&self.wanted.name).await?;
        match stream.get_last_raw_message_by_subject(&self.subject(key)).await {
            Ok(message) => Ok(Some(Value { revision: message.sequence, bytes: message.payload })),
            Err(error) if matches!(error.kind(), LastRawMessageErrorKind::NoMessageFound) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes a key whose last value has this revision; 0: it has none. Returns its new revision. `None`: it has another one, and
    /// nothing was written.
    ///
    /// # Errors
    ///
    /// Nobody knows whether it was written.
    pub(super) async fn swap(
        &self,
        key: &str,
        revision: u64,
        bytes: Vec<u8>,
    ) -> Result<Option<u64>, async_nats::Error> {
        let message = PublishMessage::build()
            .payload(bytes.into())
            .expected_stream(&self.wanted.name)
            .expected_last_subject_sequence(revision);
        let sent = self.context.send_publish(self.subject(key), message).await;
        let answer = match sent {
            Ok(answer) => answer.await,
            Err(error) => Err(error),
        };
        let error = match answer {
            Ok(written) => return Ok(Some(written.sequence)),
            Err(error) => error,
        };
        let said = error.source().and_then(|source| source.downcast_ref::<jetstream::Error>());
        if said.is_some_and(|said| CHANGED.contains(&said.error_code())) {
            return Ok(None);
        }
        Err(error.into())
    }

    /// Writes a key, whatever its last value is. Returns its new revision.
    pub(super) async fn put(&self, key: &str, bytes: Vec<u8>) -> Result<u64, async_nats::Error> {
        let message = PublishMessage::build().payload(bytes.into()).expected_stream(&self.wanted.name);
        Ok(self.context.send_publish(self.subject(key), message).await?.await?.sequence)
    }

    /// Deletes the value that has this revision, unless it is gone or was written over.
    pub(super) async fn delete(&self, revision: u64) -> Result<(), async_nats::Error> {
        let stream = self.context.get_stream_no_info(&self.wanted.name).await?;
        match stream.delete_message(revision).await {
            Err(error) if !matches!(error.kind(), DeleteMessageErrorKind::JetStream(_)) => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// A consumer of every key's last value and then of what is written.
    pub(super) async fn consume(
        &self,
        config: jetstream::consumer::push::Config,
    ) -> Result<jetstream::consumer::PushConsumer, async_nats::Error> {
        Ok(self.context.create_consumer_on_stream(config, &*self.wanted.name).await?)
    }
}

fn wanted(name: &str, holds: Holds, replicas: usize) -> Config {
    let (description, discard, max_age, max_bytes) = match holds {
        Holds::Fence => {
            ("Who holds which gateway id of a log of Galaxy Push", DiscardPolicy::Old, KEPT, BYTES_MAX)
        }
        Holds::Records => {
            ("The standing records of a log of Galaxy Push", DiscardPolicy::New, Duration::ZERO, -1)
        }
    };
    Config {
        name: format!("KV_{name}"),
        description: Some(format!("{description}. Only its hubs write to it.")),
        subjects: vec![format!("$KV.{name}.>")],
        retention: RetentionPolicy::Limits,
        storage: StorageType::File,
        discard,
        max_messages_per_subject: 1,
        max_age,
        max_bytes,
        num_replicas: replicas,
        allow_rollup: true,
        allow_direct: true,
        metadata: [(holds.mark().to_owned(), "1".to_owned())].into(),
        ..Config::default()
    }
}

/// Why a bucket that is there will not do, and what to do about it.
fn difference(found: &Config, wanted: &Config, holds: Holds) -> Option<String> {
    let is_filled = found.sources.as_ref().is_some_and(|sources| !sources.is_empty());
    let what = if found.metadata.get(holds.mark()) != wanted.metadata.get(holds.mark()) {
        "no hub of this version has made it"
    } else if found.subjects != wanted.subjects
        || found.sealed
        || found.no_ack
        || found.mirror.is_some()
        || is_filled
    {
        "it has other subjects, is sealed, does not acknowledge, or is filled from another one"
    } else if found.storage != wanted.storage
        || found.retention != wanted.retention
        || found.discard != wanted.discard
        || found.max_messages_per_subject != wanted.max_messages_per_subject
        || found.max_messages > 0
    {
        match holds {
            Holds::Fence => {
                "it must keep files, by limits, the last value of each key, and discard what is old"
            }
            Holds::Records => {
                "it must keep files, by limits, the last value of each key, and discard nothing"
            }
        }
    } else {
        return bounds(found, wanted).or_else(|| records_bounds(found, holds));
    };
    let lost = match holds {
        Holds::Fence => "",
        Holds::Records => ", without the revocations and memberships that hold",
    };
    Some(format!(
        "{what}: name another --nats-prefix, or remove it while no hub runs, and the next one makes it anew{lost}"
    ))
}

/// What would have records forgotten before they expire, or refused.
fn records_bounds(found: &Config, holds: Holds) -> Option<String> {
    let name = &found.name;
    if holds == Holds::Fence {
        None
    } else if !found.max_age.is_zero() {
        let has = found.max_age.as_secs();
        Some(format!(
            "it forgets values after {has} s, and records hold until they expire: `nats stream edit {name} --max-age 0`"
        ))
    } else if (1..VALUE_BYTES_MIN).contains(&found.max_message_size) {
        let (has, needed) = (found.max_message_size, VALUE_BYTES_MIN);
        Some(format!(
            "it takes values of {has} bytes at most, and records need {needed}: `nats stream edit {name} --max-msg-size {needed}`"
        ))
    } else {
        None
    }
}

/// What it keeps too little of.
fn bounds(found: &Config, wanted: &Config) -> Option<String> {
    let (name, replicas) = (&found.name, wanted.num_replicas);
    if found.num_replicas < replicas {
        let has = found.num_replicas;
        return Some(format!(
            "it has {has} replicas, and --nats-replicas is {replicas}: `nats stream edit {name} --replicas {replicas}`, or lower \
             --nats-replicas"
        ));
    }
    if !found.max_age.is_zero() && found.max_age < wanted.max_age {
        let (has, needed) = (found.max_age.as_secs(), wanted.max_age.as_secs());
        return Some(format!(
            "it keeps values for {has} s, and a fence {needed} s: `nats stream edit {name} --max-age {needed}s`"
        ));
    }
    if (1..wanted.max_bytes).contains(&found.max_bytes) {
        let (has, needed) = (found.max_bytes, wanted.max_bytes);
        return Some(format!(
            "it keeps {has} bytes, and a fence {needed}: `nats stream edit {name} --max-bytes {needed}`"
        ));
    }
    None
}

#[cfg(test)]
mod tests;
