//! Sends events to a hub and asks where its log stands.
//!
//! Called by backends and the command line. It neither batches nor queues: each call sends what it is given, again and
//! again with the same ids until the hub answers, which appends each event at most once. For many requests at once see
//! [`PublishStream`](crate::PublishStream).

mod builder;
mod hub_connection;
mod split;
mod uncertain;

use std::marker::PhantomData;
use std::time::Duration;

use galaxy_push_core::backoff::Backoff;
use galaxy_push_proto::v1::{
    Event, HeadRequest, HeadResponse, InvalidateRequest, Membership, PublishRequest, PublishResponse,
    RecordResponse, SessionInvalidation, SetMembershipRequest,
};
use tokio::sync::watch;
use tokio::time::Instant;

pub use builder::PublisherBuilder;
pub(crate) use hub_connection::HubConnection;
pub(crate) use split::halves;
pub(crate) use uncertain::{Unanswered, UncertainEvents, is_unknown, key};

use crate::driver::{Round, retry};
use crate::published::results_of;
use crate::random::Random;
use crate::rpc::{HEAD, INVALIDATE, PUBLISH, SET_MEMBERSHIP};
use crate::spans::Sending;
use crate::transport::Answer;
use crate::{Failure, Head, Invalidated, Published, Tracing};
use hub_connection::Call;

/// The source of the standing records of every publisher; their ids are random.
const RECORD_SOURCE: &str = "galaxy-push/publisher";

/// Publishes events to a hub, one request at a time. [`stream`](Self::stream) makes it one that does not wait for the answers.
///
/// Holds one connection, to the hub that answered last. Each call tries for at most
/// [`give_up_after`](PublisherBuilder::give_up_after); one try takes at most 10 s.
///
/// ```no_run
/// use galaxy_push_client::Publisher;
/// use galaxy_push_client::v1::{Event, Membership, SessionInvalidation};
///
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// let mut publisher = Publisher::builder().hub("http://127.0.0.1:7400").build()?;
/// let trouble = publisher.trouble(); // for whoever waits beside it
///
/// let order = Event {
///     to: vec!["user:42".into()],
///     id: "order-7".into(), // the same event sent again has the same id
///     source: "/orders".into(),
///     r#type: "order.shipped".into(),
///     ..Event::default()
/// };
/// for event in publisher.publish(vec![order]).await? {
///     match event.refusal {
///         None => println!("{} is at {}, duplicate: {}", event.id, event.cursor, event.duplicate),
///         Some(refusal) => println!("{} was refused: {}", event.id, refusal.reason),
///     }
/// }
/// publisher.set_memberships(vec![Membership::default()]).await?;
/// let invalidated = publisher.invalidate(SessionInvalidation::default()).await?;
/// println!("tokens from before {} are void", invalidated.issued_before);
/// println!("the log ends at {}; the last try failed: {:?}", publisher.head().await?.cursor, *trouble.borrow());
///
/// let stream = publisher.stream(); // from here on many requests at once
/// # drop(stream);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Publisher {
    pub(crate) hub_connection: HubConnection,
    pub(crate) backoff: Backoff,
    pub(crate) random: Random,
    pub(crate) give_up_after: Duration,
    pub(crate) in_flight_bytes: u32,
    pub(crate) namespace: String,
    pub(crate) tracing: Tracing,
    /// Events that earlier calls gave up on.
    pub(crate) uncertain: UncertainEvents,
    /// The events of the call that is under way, or whose future was dropped.
    in_call: Vec<u64>,
}

impl Publisher {
    /// Begins a publisher.
    ///
    /// Name at least one [`hub`](PublisherBuilder::hub), then [`build`](PublisherBuilder::build).
    pub fn builder() -> PublisherBuilder {
        PublisherBuilder::new()
    }

    /// Publishes events, at most 1,000 and 4 MiB at once, and returns what became of each, in order. Each event needs
    /// an id: that is what makes sending it again harmless.
    ///
    /// They lie in the log one behind another, unless the hub's store takes less at once (`BATCH_TOO_LARGE`): then they are sent
    /// in smaller parts, one after the other, and others may come between.
    ///
    /// # Errors
    ///
    /// [`Failure`] when the hub refused the request as a whole, or did not answer until the time to give up. After the
    /// latter the events may have been appended or not; publishing them again with the same ids tells. If that goes to
    /// another log, it is appended there and [`Published::other_log`] says so. Where the events had to be sent in parts, those
    /// before the part that failed are appended: to publish all of them again does no harm.
    ///
    /// # Cancel safety
    ///
    /// As for not being answered.
    pub async fn publish(&mut self, mut events: Vec<Event>) -> Result<Vec<Published>, Failure> {
        let sending = Sending::begin(&self.tracing, &mut events);
        let outcome = self.send(events).await;
        sending.end(&outcome);
        outcome
    }

    async fn send(&mut self, events: Vec<Event>) -> Result<Vec<Published>, Failure> {
        let mut sent = Vec::with_capacity(events.len());
        // The parts that are not sent yet, the last one first: one part, for as long as no hub finds it too large.
        let mut parts = vec![events];
        let give_up = Instant::now() + self.give_up_after;
        while let Some(events) = parts.pop() {
            let mut request = PublishRequest { events, request_id: 0, namespace: self.namespace.clone() };
            match self.send_part(&request, give_up).await {
                Ok(published) => sent.extend(published),
                Err(failure) if failure.is_batch_too_large() && request.events.len() > 1 => {
                    let behind = request.events.split_off(request.events.len() / 2);
                    parts.extend([behind, request.events]);
                }
                Err(failure) => return Err(split::of_the_whole(failure, sent.len())),
            }
        }
        Ok(sent)
    }

    async fn send_part(
        &mut self,
        request: &PublishRequest,
        give_up: Instant,
    ) -> Result<Vec<Published>, Failure> {
        self.note_dropped_call();
        self.in_call.extend(request.events.iter().map(uncertain::key));
        let answer: Result<PublishResponse, _> = self.call_until(PUBLISH, request, give_up).await;
        let (keys, unanswered) = (std::mem::take(&mut self.in_call), self.hub_connection.take_unanswered());
        let answer = answer.inspect_err(|_| self.uncertain.record(&keys, &unanswered))?;
        let mut published = results_of(answer.results, keys.len())?;
        unanswered.mark(&mut published);
        self.uncertain.settle(&keys, &mut published);
        self.hub_connection.note_log(&published);
        Ok(published)
    }

    /// Records that a session, or every session of a user, has ended. A record that does not say which tokens are void
    /// voids those issued before the second in which the hub takes it, by the hub's clock; the answer names it.
    ///
    /// # Errors
    ///
    /// As for [`publish`](Self::publish), but that a call has an id of its own: sent again within the call the record is
    /// appended once, and another call says the same once more.
    ///
    /// # Cancel safety
    ///
    /// As for not being answered.
    pub async fn invalidate(&mut self, invalidation: SessionInvalidation) -> Result<Invalidated, Failure> {
        let (namespace, id, source) = (self.namespace.clone(), self.record_id(), RECORD_SOURCE.to_owned());
        let request = InvalidateRequest { invalidation: Some(invalidation), namespace, id, source };
        self.call(INVALIDATE, &request).await
    }

    /// Records who belongs to a topic, or no longer does; returns the position of the last record.
    ///
    /// # Errors
    ///
    /// As for [`invalidate`](Self::invalidate).
    ///
    /// # Cancel safety
    ///
    /// As for not being answered.
    pub async fn set_memberships(&mut self, memberships: Vec<Membership>) -> Result<String, Failure> {
        let (namespace, id, source) = (self.namespace.clone(), self.record_id(), RECORD_SOURCE.to_owned());
        let request = SetMembershipRequest { memberships, namespace, id, source };
        let answer: RecordResponse = self.call(SET_MEMBERSHIP, &request).await?;
        Ok(answer.cursor)
    }

    /// Asks where the log stands: pair it with a snapshot of your own state.
    ///
    /// # Errors
    ///
    /// As for [`publish`](Self::publish).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn head(&mut self) -> Result<Head, Failure> {
        let request = HeadRequest { namespace: self.namespace.clone() };
        let answer: HeadResponse = self.call(HEAD, &request).await?;
        Ok(Head::of(answer))
    }

    /// Why the last try failed, and `None` once one has succeeded: for whoever waits for a call and wants to know why it takes
    /// long. Of this publisher's own calls, not of its [`stream`](Self::stream).
    #[must_use]
    pub fn trouble(&self) -> watch::Receiver<Option<Failure>> {
        self.hub_connection.trouble.subscribe()
    }

    /// 128 random bits: nobody else's, whoever else uses this source.
    fn record_id(&mut self) -> String {
        format!("{:016x}{:016x}", self.random.next(), self.random.next())
    }

    async fn call<T: Answer>(
        &mut self,
        path: &'static str,
        request: &impl prost::Message,
    ) -> Result<T, Failure> {
        self.note_dropped_call();
        let give_up = Instant::now() + self.give_up_after;
        let answer = self.call_until(path, request, give_up).await;
        self.hub_connection.take_unanswered(); // of events alone it is remembered
        answer
    }

    async fn call_until<T: Answer>(
        &mut self,
        path: &'static str,
        request: &impl prost::Message,
        give_up: Instant,
    ) -> Result<T, Failure> {
        let call = Call { hub_connection: &mut self.hub_connection, path, request, answer: PhantomData };
        let round = Round::of(call.hub_connection.dialer.hubs().len());
        retry(call, &mut self.backoff, &mut self.random, round, give_up).await
    }

    /// A call whose future was dropped got no answer: what it was sending may have been appended.
    pub(crate) fn note_dropped_call(&mut self) {
        let (keys, unanswered) = (std::mem::take(&mut self.in_call), self.hub_connection.take_unanswered());
        self.uncertain.record(&keys, &unanswered);
    }
}
