//! Publishing without waiting for the answers: many requests under way on one stream, an answer for each by its id.
//!
//! Made by [`Publisher::stream`]. A handle queues requests; one task owns the stream, keeps every request until it is
//! answered, and sends what is not answered again on the next stream. The bound is in bytes, and a permit of it goes
//! with each request from [`PublishStream::send`] to its answer. How long to wait is not decided here.

mod pipe;

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use galaxy_push_proto::v1::{Event, PublishRequest};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::Instant;

use crate::publisher::{Unanswered, halves, key};
use crate::spans::Sending;
use crate::transport::framed;
use crate::{Failure, Published, Publisher, Tracing};
use pipe::Pipe;

/// What a request costs beside its bytes.
const REQUEST_OVERHEAD: usize = 1024;

/// Publishes events without waiting for the answers.
///
/// Requests are sent in the order of the calls, and each is sent again, with the same event ids, until it is answered or given up. Where one is
/// refused for the moment, or has to be sent in parts because the hub's store takes less at once, those behind it may be appended before it:
/// await the ack of what must come first.
///
/// A cheap clone. When the last one is dropped, what was sent is still brought to its answer.
///
/// ```no_run
/// use galaxy_push_client::{PublishAck, Publisher, v1::Event};
///
/// # async fn run(events: Vec<Event>) -> Result<(), Box<dyn std::error::Error>> {
/// let stream = Publisher::builder().hub("http://127.0.0.1:7400").build()?.stream();
/// let mut acks: Vec<PublishAck> = Vec::new();
/// for event in events {
///     acks.push(stream.send(vec![event]).await?); // waits for room only
/// }
/// for ack in acks {
///     let published = ack.await?; // now the event is as durable as the hub's store promises
///     println!("{}", published[0].cursor);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct PublishStream {
    requests: mpsc::Sender<Request>,
    room: Arc<Semaphore>,
    room_bytes: u32,
    ids: Arc<AtomicU64>,
    give_up_after: Duration,
    namespace: Arc<str>,
    tracing: Tracing,
}

/// What will become of one request. Dropping it does not take the request back.
///
/// A future: awaiting it takes no part in sending, so acks may be awaited in any order, or collected. See [`PublishStream`] for an example.
#[derive(Debug)]
#[must_use = "a request that is sent is not published before this says so"]
pub struct PublishAck(oneshot::Receiver<Result<Vec<Published>, Failure>>);

/// A request until its answer.
#[derive(Debug)]
struct Request {
    id: u64,
    /// What of it is not answered, the last part first: the last of these is sent. One, unless the hub's store takes less at once.
    parts: Vec<Part>,
    /// What became of the parts that were answered.
    published: Vec<Published>,
    /// Names each of its events.
    events: Vec<u64>,
    give_up: Instant,
    /// The how-manieth that was sent, if it is on the present stream and not answered there yet.
    sent: Option<u64>,
    /// Where it was sent before and not answered.
    unanswered: Unanswered,
    answer: Answer,
    _room: OwnedSemaphorePermit,
}

/// What of a request is sent at once.
#[derive(Debug)]
struct Part {
    framed: Bytes,
    events: usize,
}

/// Where a request's outcome goes: to whoever sent it, and into its traces.
#[derive(Debug)]
struct Answer {
    ack: oneshot::Sender<Result<Vec<Published>, Failure>>,
    sending: Sending,
}

impl Request {
    /// What is sent of it now.
    fn framed(&self) -> Option<&Bytes> {
        self.parts.last().map(|part| &part.framed)
    }

    /// Has it sent in smaller parts. `false`: it is one event.
    fn split(&mut self) -> bool {
        let Some(Part { framed, events }) = self.parts.pop() else { return false };
        let Some((first, count, second)) = halves(&framed) else {
            self.parts.push(Part { framed, events });
            return false;
        };
        let second = Part { framed: second, events: events - count };
        self.parts.extend([second, Part { framed: first, events: count }]);
        true
    }
}

impl Answer {
    fn send(self, outcome: Result<Vec<Published>, Failure>) {
        self.sending.end(&outcome);
        let _ = self.ack.send(outcome); // whoever sent it may have lost interest
    }
}

impl Publisher {
    /// Makes it a publisher that sends without waiting for the answers, over one stream to the hub.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime with time enabled.
    #[must_use]
    pub fn stream(self) -> PublishStream {
        PublishStream::start(self)
    }
}

impl PublishStream {
    pub(crate) fn start(mut publisher: Publisher) -> Self {
        publisher.note_dropped_call();
        let Publisher { hub_connection, backoff, random, uncertain, .. } = publisher;
        let Publisher { give_up_after, in_flight_bytes, namespace, tracing, .. } = publisher;
        // Whoever sends has a permit, so neither this queue nor a stream's can be full.
        let requests_max = (in_flight_bytes as usize / REQUEST_OVERHEAD).max(1);
        let (requests, queued) = mpsc::channel(requests_max);
        tokio::spawn(Pipe::new(hub_connection, backoff, random, uncertain, queued, requests_max).run());
        Self {
            requests,
            room: Arc::new(Semaphore::new(in_flight_bytes as usize)),
            room_bytes: in_flight_bytes,
            ids: Arc::default(),
            give_up_after,
            namespace: namespace.into(),
            tracing,
        }
    }

    /// Sends events, at most 1,000 and 4 MiB at once, as soon as there is room, and returns the ack to come. Each event
    /// needs an id: that is what makes sending it again harmless.
    ///
    /// # Errors
    ///
    /// [`Failure`] when the stream's task is gone, which is when its runtime is.
    ///
    /// # Cancel safety
    ///
    /// Nothing is sent when the future is dropped; the place in the order is lost.
    pub async fn send(&self, mut events: Vec<Event>) -> Result<PublishAck, Failure> {
        let sending = Sending::begin(&self.tracing, &mut events);
        let (to, ack) = oneshot::channel();
        let (id, keys) =
            (self.ids.fetch_add(1, Ordering::Relaxed) + 1, events.iter().map(key).collect::<Vec<_>>());
        let namespace = self.namespace.to_string();
        let framed = framed(&PublishRequest { events, request_id: id, namespace });
        let cost = u32::try_from(framed.len() + REQUEST_OVERHEAD).unwrap_or(u32::MAX).min(self.room_bytes);
        let room = self.room.clone().acquire_many_owned(cost).await.map_err(|_| gone())?;
        let give_up = Instant::now() + self.give_up_after;
        let request = Request {
            id,
            parts: vec![Part { framed, events: keys.len() }],
            published: Vec::new(),
            events: keys,
            give_up,
            sent: None,
            unanswered: Unanswered::default(),
            answer: Answer { ack: to, sending },
            _room: room,
        };
        self.requests.try_send(request).map_err(|_| gone())?;
        Ok(PublishAck(ack))
    }
}

impl Future for PublishAck {
    /// What became of each event, in order. An error as for [`Publisher::publish`].
    type Output = Result<Vec<Published>, Failure>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = ready!(Pin::new(&mut self.0).poll(cx));
        Poll::Ready(answer.unwrap_or_else(|_| Err(gone())))
    }
}

fn gone() -> Failure {
    Failure::Lost("the publisher's task is gone".to_owned())
}
