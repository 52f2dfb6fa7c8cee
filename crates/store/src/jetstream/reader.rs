//! Reads the stream, message by message, for as long as the store lives: a consumer that pushes them, and another one in its place
//! whenever that one falls silent, has let one of its messages be lost, or may be gone with the connection.
//!
//! The broker counts what a consumer has delivered, so that a message which was lost on the way is told from one that the stream
//! does not have any more; and before that is believed, the leader is asked, for a consumer's broker may lack what others have.
//! What a message that is gone means is for [`Door`](crate::nats::Door) to say.

use std::time::Duration;

use async_nats::jetstream::consumer::push::Config;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy};
use async_nats::{Message as Delivered, StatusCode, Subscriber};
use futures_util::StreamExt as _;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::connect::Link;
use super::stream::Log;
use crate::nats::{Message, Next};

/// Messages that were read and not looked at yet, at most. A pack has 128 KiB mostly.
pub(super) const EVENTS_MAX: usize = 64;

/// How often a consumer that has nothing to deliver says so.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// One from which nothing has come for so long is given up.
const SILENT_FOR: Duration = Duration::from_secs(3);

/// How long it waits before it begins anew.
const PAUSE: Duration = Duration::from_millis(100);

/// How long a consumer of which nobody hears is kept by the broker.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(10);

/// Why a consumer is given up that a connection before this one has asked for: it may be gone, or have let something be lost.
pub(super) const OTHER_CONNECTION: &str = "the connection is a new one";

/// What the reader has to tell.
#[derive(Debug)]
pub(super) enum Event {
    /// What comes next of the stream. That it is at its end is told once.
    Next(Next),
    /// Reading begins anew, and why.
    Anew(String),
}

/// Reads from message `next` on until nobody takes it.
pub(super) async fn run(log: Log, mut link: Link, next: u64, to: mpsc::Sender<Event>) {
    let mut reader = Reader { log, next, stamp_unix_ms: None, to, was_at_end: false };
    loop {
        let why = match reader.read(&mut link).await {
            End::Closed => return,
            End::Anew(why) => why,
        };
        if reader.to.send(Event::Anew(why)).await.is_err() {
            return;
        }
        sleep(PAUSE).await;
    }
}

/// Why a consumer is read no more.
enum End {
    /// Nobody takes what is read.
    Closed,
    Anew(String),
}

/// What a delivery has brought.
struct Taken {
    message: Option<Message>,
    /// The consumer has nothing to deliver behind it.
    is_last: bool,
    /// The consumer is further on in the stream than what it has delivered.
    has_skipped: bool,
}

struct Reader {
    log: Log,
    /// The message to be read next.
    next: u64,
    /// When a broker took the message before that, if it was read.
    stamp_unix_ms: Option<u64>,
    to: mpsc::Sender<Event>,
    /// It was told once that there is nothing more.
    was_at_end: bool,
}

impl Reader {
    /// Reads one consumer to its end.
    async fn read(&mut self, link: &mut Link) -> End {
        link.bell.borrow_and_update();
        let made = link.made();
        let (mut messages, is_empty) = match self.begin(link).await {
            Ok(begun) => begun,
            Err(error) => return End::Anew(format!("no consumer can be made: {error}")),
        };
        let last_read = self.next.saturating_sub(1);
        if self.stamp_unix_ms.is_some()
            && let Some(stamp) = self.log.stamp_of(last_read).await
            && !self.was_read(last_read, stamp)
        {
            return End::Anew(another(last_read));
        }
        let (mut delivered, mut may_be_at_end, mut may_lack) = (0, is_empty, is_empty);
        let mut bell = link.bell.clone();
        loop {
            if may_be_at_end
                && !self.was_at_end
                && let Ok(None) = self.log.next_from(self.next).await
            {
                self.was_at_end = true;
                if !self.tell(Next::AtEnd).await {
                    return End::Closed;
                }
            }
            if may_lack && !self.look_for_a_hole().await {
                return End::Closed;
            }
            let message = tokio::select! {
                biased;
                message = timeout(SILENT_FOR, messages.next()) => message,
                _ = bell.changed() => return End::Anew(OTHER_CONNECTION.to_owned()),
            };
            if link.made() != made {
                return End::Anew(OTHER_CONNECTION.to_owned());
            }
            let message = match message {
                Ok(Some(message)) => message,
                Ok(None) => return End::Anew("its subscription has ended".to_owned()),
                Err(_) => return End::Anew(format!("it was silent for {SILENT_FOR:?}")),
            };
            match self.take(link, message, &mut delivered).await {
                Ok(Taken { message, is_last, has_skipped }) => {
                    (may_be_at_end, may_lack) = (is_last, has_skipped);
                    if let Some(message) = message
                        && !self.tell(Next::Message(message)).await
                    {
                        return End::Closed;
                    }
                }
                Err(why) => return End::Anew(why),
            }
        }
    }

    /// Whether anybody takes it.
    async fn tell(&self, next: Next) -> bool {
        self.to.send(Event::Next(next)).await.is_ok()
    }

    /// Where messages are gone and nothing has come behind them, no delivery can tell: the leader says what it still has. One that
    /// was cut off has more, if anything. Whether anybody takes what is told.
    async fn look_for_a_hole(&mut self) -> bool {
        match self.log.look().await {
            Ok(look) if look.first > self.next => {
                (self.next, self.stamp_unix_ms) = (look.first, None);
                self.tell(Next::Gone(look.first - 1)).await
            }
            Ok(_) | Err(_) => true, // the consumer says it again, or its successor
        }
    }

    /// A consumer, and whether the stream has nothing for it.
    async fn begin(&self, link: &Link) -> Result<(Subscriber, bool), async_nats::Error> {
        let inbox = link.client.new_inbox();
        let messages = link.client.subscribe(inbox.clone()).await?;
        let from = DeliverPolicy::ByStartSequence { start_sequence: self.next };
        let consumer = self.log.consume(consumer(inbox, from)).await?;
        Ok((
            messages,
            consumer.cached_info().num_pending == 0
                && consumer.cached_info().delivered.consumer_sequence == 0,
        ))
    }

    /// Whether this is the message that was read last, if it has its number. A stream that was put back may have grown since, and what
    /// follows must not be read: the watch finds out by the last message that was.
    fn was_read(&self, number: u64, stamp_unix_ms: u64) -> bool {
        number.checked_add(1) != Some(self.next)
            || self.stamp_unix_ms.is_none_or(|read| read == stamp_unix_ms)
    }

    /// What one delivery has to tell.
    ///
    /// # Errors
    ///
    /// Why this consumer must be read no more.
    async fn take(&mut self, link: &Link, message: Delivered, delivered: &mut u64) -> Result<Taken, String> {
        if let Some(status) = message.status {
            let is_last = answer_status(link, status, &message, *delivered).await?;
            let has_skipped = is_last && skipped_to(&message).is_some_and(|last| last >= self.next);
            return Ok(Taken { message: None, is_last, has_skipped });
        }
        let place = Place::of(&message, delivered)?;
        let is_last = place.pending == 0;
        let (number, stamp_unix_ms) = (place.number, place.stamp_ns / 1_000_000);
        if !self.was_read(number, stamp_unix_ms) {
            return Err(another(number));
        }
        if place.number < self.next {
            return Ok(Taken { message: None, is_last, has_skipped: false });
        }
        if place.number > self.next {
            let next = self.log.next_from(self.next).await.map_err(|error| error.to_string())?;
            if next.is_some_and(|next| next < place.number) {
                return Err(format!("its broker lacks message {}, which the leader has", self.next));
            }
        }
        (self.next, self.stamp_unix_ms) = (number + 1, Some(stamp_unix_ms));
        let message = Some(Message { number, stamp_unix_ms, payload: message.payload });
        Ok(Taken { message, is_last, has_skipped: false })
    }
}

/// Takes what a consumer says beside messages, and answers it. Whether it says that it has nothing to deliver.
///
/// # Errors
///
/// Why it must be read no more.
pub(super) async fn answer_status(
    link: &Link,
    status: StatusCode,
    message: &Delivered,
    delivered: u64,
) -> Result<bool, String> {
    match said(status, message, delivered)? {
        Said::Asks(whom) => {
            let answer = link.client.publish(whom, bytes::Bytes::new()).await;
            answer.map(|()| false).map_err(|error| error.to_string())
        }
        Said::HasNothing => Ok(true),
    }
}

fn another(message: u64) -> String {
    format!("message {message} is another one than was read")
}

/// What a consumer says beside messages.
#[derive(Debug, PartialEq, Eq)]
enum Said {
    /// Whether what it has sent was taken: it waits for an answer there.
    Asks(String),
    /// It has nothing to deliver.
    HasNothing,
}

/// # Errors
///
/// Why it must be read no more.
fn said(status: StatusCode, message: &Delivered, delivered: u64) -> Result<Said, String> {
    if status != StatusCode::IDLE_HEARTBEAT {
        let why = message.description.as_deref().unwrap_or_default();
        return Err(format!("the broker ended it: {status} {why}"));
    }
    let stalled = || header(message, "Nats-Consumer-Stalled").map(ToOwned::to_owned);
    let asked = message.reply.as_ref().map(ToString::to_string).or_else(stalled);
    if let Some(whom) = asked {
        return Ok(Said::Asks(whom));
    }
    match header(message, "Nats-Last-Consumer").and_then(|number| number.parse::<u64>().ok()) {
        Some(last) if last != delivered => {
            Err(format!("it has delivered {last} messages, and {delivered} came"))
        }
        _ => Ok(Said::HasNothing),
    }
}

/// Up to which message of the stream a consumer has come, delivered or not.
fn skipped_to(message: &Delivered) -> Option<u64> {
    header(message, "Nats-Last-Stream")?.parse().ok()
}

fn header<'a>(message: &'a Delivered, name: &str) -> Option<&'a str> {
    message.headers.as_ref()?.get(name).map(|value| value.as_str())
}

/// A consumer that pushes what there is and what comes, once and unacknowledged: whoever misses something makes another one.
pub(super) fn consumer(inbox: String, from: DeliverPolicy) -> Config {
    Config {
        deliver_subject: inbox,
        deliver_policy: from,
        ack_policy: AckPolicy::None,
        flow_control: true,
        idle_heartbeat: HEARTBEAT,
        inactive_threshold: FORGOTTEN_AFTER,
        memory_storage: true,
        num_replicas: 1,
        ..Config::default()
    }
}

/// What the reply subject of a delivered message says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The message's number in the stream.
    pub(super) number: u64,
    /// How many messages this consumer has delivered with it.
    pub(super) delivered: u64,
    /// When the broker took it, in nanoseconds since the Unix epoch.
    stamp_ns: u64,
    /// How many messages are to follow.
    pub(super) pending: u64,
}

impl Place {
    /// The place of the next delivery.
    ///
    /// # Errors
    ///
    /// It is none, or another one was to come before it.
    pub(super) fn of(message: &Delivered, delivered: &mut u64) -> Result<Self, String> {
        let place = message.reply.as_deref().and_then(Self::parse);
        let place = place.ok_or_else(|| "a message came from somewhere else".to_owned())?;
        *delivered += 1;
        if place.delivered != *delivered {
            return Err(format!("delivery {} came after {}", place.delivered, *delivered - 1));
        }
        Ok(place)
    }

    /// `$JS.ACK.<stream>.<consumer>.<times>.<number>.<delivered>.<stamp>.<pending>`, or with a domain and an account before the
    /// stream, and more behind it.
    fn parse(reply: &str) -> Option<Self> {
        let parts: Vec<_> = reply.split('.').collect();
        let from = match (parts.first(), parts.get(1), parts.len()) {
            (Some(&"$JS"), Some(&"ACK"), 9) => 5,
            (Some(&"$JS"), Some(&"ACK"), 11..) => 7,
            _ => return None,
        };
        let number = |index: usize| parts.get(from + index)?.parse().ok();
        Some(Self { number: number(0)?, delivered: number(1)?, stamp_ns: number(2)?, pending: number(3)? })
    }
}

#[cfg(test)]
mod tests;
