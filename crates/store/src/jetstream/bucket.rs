//! The bucket that the fence lies in: how it is made, whether one that is there will do, and a compare-and-set on its keys.
//!
//! It is a key-value bucket as NATS lays them out, so that its tools show it: a stream `KV_BUCKET` with a subject for each key, of
//! which it keeps the last message. Unlike most it discards the oldest key when it is full, for a fence that takes nothing more
//! would let nobody in.

use std::error::Error as _;
use std::time::Duration;

use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream::{
    Config, DiscardPolicy, LastRawMessageErrorKind, RetentionPolicy, StorageType,
};
use async_nats::jetstream::{self, ErrorCode};
use bytes::Bytes;
use tokio::time::{Instant, sleep};

use super::connect::{Link, START_AGAIN, START_WITHIN};
use super::stream::{Log, NAMESPACE, may_pass};
use super::{Notice, OpenError, Options};

/// Marks a bucket that a hub has made.
const MADE_BY: &str = "galaxy-push-fence";

/// How long a register is kept that nobody writes. Whoever has the id keeps it all the same: it is its hub that knows so. What is
/// forgotten is which attempts were late, and those come within seconds.
const KEPT: Duration = Duration::from_secs(24 * 3_600);

/// How large it may become: some hundred thousand ids. Each hub reads all of it whenever it has lost its connection.
const BYTES_MAX: i64 = 64 << 20;

/// What a compare-and-set is answered that came too late.
const CHANGED: [ErrorCode; 2] =
    [ErrorCode::STREAM_WRONG_LAST_SEQUENCE, ErrorCode::STREAM_WRONG_LAST_SEQUENCE_CONSTANT];

/// A bucket. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Bucket {
    context: jetstream::Context,
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

impl Bucket {
    /// Finds the bucket, or makes it.
    pub(super) async fn open(link: &Link, options: &Options) -> Result<Self, OpenError> {
        let name = format!("{}-{NAMESPACE}-fence", options.prefix);
        let wanted = wanted(&name, options.replicas);
        let bucket = Self { context: link.context.clone(), wanted, prefix: format!("$KV.{name}.") };
        let give_up = Instant::now() + START_WITHIN;
        loop {
            match bucket.find_or_make().await {
                Err(OpenError::Stream { source, .. }) if Instant::now() < give_up && may_pass(&source) => {
                    options
                        .notice(&Notice::Trouble(format!("the fence's bucket cannot be used yet: {source}")));
                }
                done => return done.map(|()| bucket),
            }
            sleep(START_AGAIN).await;
        }
    }

    /// As at a start: somebody may have removed it.
    pub(super) async fn find_or_make(&self) -> Result<(), OpenError> {
        let failed = |source| OpenError::Stream { name: self.wanted.name.clone(), source };
        let found = match self.context.get_stream(&self.wanted.name).await {
            Ok(stream) => stream.cached_info().config.clone(),
            Err(error) => {
                let error: async_nats::Error = error.into();
                if !Log::is_gone(&error) {
                    return Err(failed(error));
                }
                let made = self.context.create_stream(self.wanted.clone()).await;
                made.map_err(|error| failed(error.into()))?.cached_info().config.clone()
            }
        };
        match difference(&found, &self.wanted) {
            Some(difference) => Err(OpenError::Setting(format!(
                "the fence's bucket (stream {}) will not do: {difference}",
                found.name
            ))),
            None => Ok(()),
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

    /// A consumer of every key's last value and then of what is written.
    pub(super) async fn consume(
        &self,
        config: jetstream::consumer::push::Config,
    ) -> Result<jetstream::consumer::PushConsumer, async_nats::Error> {
        Ok(self.context.create_consumer_on_stream(config, &*self.wanted.name).await?)
    }
}

fn wanted(name: &str, replicas: usize) -> Config {
    Config {
        name: format!("KV_{name}"),
        description: Some(
            "Who holds which gateway id of a log of Galaxy Push. Only its hubs write to it.".into(),
        ),
        subjects: vec![format!("$KV.{name}.>")],
        retention: RetentionPolicy::Limits,
        storage: StorageType::File,
        discard: DiscardPolicy::Old,
        max_messages_per_subject: 1,
        max_age: KEPT,
        max_bytes: BYTES_MAX,
        num_replicas: replicas,
        allow_rollup: true,
        allow_direct: true,
        metadata: [(MADE_BY.to_owned(), "1".to_owned())].into(),
        ..Config::default()
    }
}

/// Why a bucket that is there will not do, and what to do about it.
fn difference(found: &Config, wanted: &Config) -> Option<String> {
    let is_filled = found.sources.as_ref().is_some_and(|sources| !sources.is_empty());
    let what = if found.metadata.get(MADE_BY) != wanted.metadata.get(MADE_BY) {
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
        "it must keep files, by limits, the last value of each key, and discard what is old"
    } else {
        return bounds(found, wanted);
    };
    Some(format!(
        "{what}: name another --nats-prefix, or remove it while no hub runs, and the next one makes it anew"
    ))
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
mod tests {
    use async_nats::jetstream::stream::Source;

    use super::*;

    fn found(change: impl FnOnce(&mut Config)) -> String {
        let mut found = wanted("p-default-fence", 3);
        change(&mut found);
        difference(&found, &wanted("p-default-fence", 3)).unwrap_or_default()
    }

    #[test]
    fn a_bucket_that_keeps_as_much_or_more_will_do() {
        assert_eq!(found(|_| {}), "");
        assert_eq!(
            found(|found| (found.max_age, found.max_bytes, found.num_replicas) = (Duration::ZERO, -1, 5)),
            ""
        );
    }

    #[test]
    fn what_will_not_do_is_told_with_what_to_do() {
        for (said, parts) in [
            (found(|found| found.metadata.clear()), ["no hub of this version", "--nats-prefix"]),
            (found(|found| found.subjects.push("more".into())), ["other subjects", "--nats-prefix"]),
            (found(|found| found.sealed = true), ["is sealed", "--nats-prefix"]),
            (found(|found| found.no_ack = true), ["does not acknowledge", "--nats-prefix"]),
            (found(|found| found.mirror = Some(Source::default())), ["filled from another", "--nats-prefix"]),
            (
                found(|found| found.sources = Some(vec![Source::default()])),
                ["filled from another", "--nats-prefix"],
            ),
            (found(|found| found.storage = StorageType::Memory), ["must keep files", "remove it"]),
            (found(|found| found.retention = RetentionPolicy::WorkQueue), ["by limits", "remove it"]),
            (found(|found| found.discard = DiscardPolicy::New), ["discard what is old", "remove it"]),
            (found(|found| found.max_messages = 10), ["the last value", "remove it"]),
            (found(|found| found.max_messages_per_subject = 5), ["the last value", "remove it"]),
            (found(|found| found.num_replicas = 1), ["KV_p-default-fence --replicas 3", "--nats-replicas"]),
            (found(|found| found.max_age = Duration::from_secs(1)), ["for 1 s", "--max-age 86400s"]),
            (found(|found| found.max_bytes = 1), ["1 bytes", "--max-bytes 67108864"]),
        ] {
            assert!(parts.iter().all(|part| said.contains(part)), "{parts:?} in {said:?}");
        }
    }
}
