//! Reads all of the bucket, up to a moment that lies behind the call.

use std::collections::BTreeSet;
use std::time::Duration;

use async_nats::jetstream::consumer::DeliverPolicy;
use futures_util::StreamExt as _;
use tokio::time::{Instant, sleep, timeout};

use super::super::bucket::{Bucket, Contents};
use super::super::connect::{Link, START_AGAIN, START_WITHIN};
use super::super::reader::{Place, answer_status, consumer};
use super::super::{Notice, OpenError, Options};
use crate::nats::standing::Value;

/// The key that is written to see that the bucket was read up to then: by a majority, whatever the hub's broker believes.
const MARK: &str = "mark";

/// A consumer from which nothing comes for so long is given up.
const SILENT_FOR: Duration = Duration::from_secs(3);

/// What was read of the bucket.
pub(in super::super) struct ReadValues {
    /// Its values, with their revisions.
    pub(in super::super) values: Vec<(u64, Value)>,
    /// The keys under which lies what this hub cannot read.
    pub(super) unreadable: BTreeSet<String>,
}

/// What there is in the bucket, and its values with their revisions.
///
/// # Errors
///
/// It cannot be read within 30 s.
pub(in super::super) async fn read_at_start(
    link: &Link,
    bucket: &Bucket,
    options: &Options,
) -> Result<(Contents, Vec<(u64, Value)>), OpenError> {
    let give_up = Instant::now() + START_WITHIN;
    loop {
        let contents = bucket.find_or_make().await;
        let why = match (contents, read_all(link, bucket, options).await) {
            (Ok(contents), Ok(read)) => return Ok((contents, read.values)),
            (Err(error @ OpenError::Setting(_)), _) => return Err(error),
            (Err(error), _) => error.to_string(),
            (_, Err(why)) => why,
        };
        if Instant::now() >= give_up {
            return Err(OpenError::Ended(format!(
                "the standing records were not read within {START_WITHIN:?}: {why}"
            )));
        }
        options.notice(&Notice::Trouble(format!("the standing records cannot be read yet: {why}")));
        sleep(START_AGAIN).await;
    }
}

/// All values with their revisions, as they were at some moment behind the call or were written since.
///
/// # Errors
///
/// Why it must be read anew.
pub(super) async fn read_all(link: &Link, bucket: &Bucket, options: &Options) -> Result<ReadValues, String> {
    let inbox = link.client.new_inbox();
    let mut messages = link.client.subscribe(inbox.clone()).await.map_err(|error| error.to_string())?;
    let upto = bucket.put(MARK, vec![1]).await.map_err(|error| error.to_string())?;
    bucket.consume(consumer(inbox, DeliverPolicy::All)).await.map_err(|error| error.to_string())?;
    let mut read = ReadValues { values: Vec::new(), unreadable: BTreeSet::new() };
    let (mut delivered, mut last) = (0, 0);
    loop {
        let message = timeout(SILENT_FOR, messages.next()).await;
        let message = message.map_err(|_| format!("its consumer was silent for {SILENT_FOR:?}"))?;
        let Some(message) = message else { return Err("its subscription has ended".to_owned()) };
        let is_end = if let Some(status) = message.status {
            answer_status(link, status, &message, delivered).await?
        } else {
            let place = Place::of(&message, &mut delivered)?;
            last = place.number;
            let key = bucket.key(&message.subject).unwrap_or_default();
            // Nothing is left of what somebody has deleted.
            if key != MARK && !message.payload.is_empty() {
                match Value::read(key, &message.payload) {
                    Ok(value) => read.values.push((place.number, value)),
                    Err(error) => {
                        read.unreadable.insert(key.to_owned());
                        let what = format!("change {last} of the standing records is skipped: {error}");
                        options.notice(&Notice::Trouble(what));
                    }
                }
            }
            place.pending == 0
        };
        // What was written over while it was read comes further on, so it is read to its end.
        if is_end && last >= upto {
            return Ok(read);
        }
    }
}
