//! The stream form: deliveries come out, and each is acked by itself.
//!
//! Made by [`Builder::stream`](crate::Builder::stream). Two queues join it to the driver, which owns everything else:
//! deliveries one way, acks the other. Neither can fill up: what is out is bounded by the link, and each delivery
//! has exactly one ack.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::Stream;
use galaxy_push_core::link::{self, AckResult, IN_FLIGHT_OVERHEAD};
use galaxy_push_core::trace::Span;
use tokio::sync::mpsc;

use crate::spans::processing;
use crate::{HandlerError, Item, PushClient, Status, Tracing};

/// How many acks the driver applies at once.
const ACKS_MAX: usize = 1024;

/// Everything the hub sends, as a stream of deliveries that are acked one by one.
///
/// Ends when the client has stopped. Dropping it stops the client. It is also a [`Stream`](futures_util::Stream), for the combinators.
///
/// At most [`Builder::in_flight_bytes`](crate::Builder::in_flight_bytes) are out and not acked; beyond that nothing more is delivered, and
/// nothing is read from the hub.
///
/// ```no_run
/// use galaxy_push_client::{PushClient, PushStream};
///
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// let mut stream: PushStream = PushClient::builder("gateway-1").hub("http://127.0.0.1:7400").stream()?;
/// println!("hubs: {:?}", stream.client().hubs());
/// if let Some(delivery) = stream.next().await {
///     println!("{} came, after {} failures", delivery.item().cursor(), delivery.failures());
///     delivery.ack();
/// }
/// println!("stopped at {}", stream.shutdown().await.cursor);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "a client whose stream is dropped stops"]
pub struct PushStream {
    deliveries: mpsc::Receiver<Delivery>,
    client: PushClient,
}

impl PushStream {
    /// The next delivery; `None` once the client has stopped.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn next(&mut self) -> Option<Delivery> {
        self.deliveries.recv().await
    }

    /// The handle to the client behind it, with its status.
    pub fn client(&self) -> &PushClient {
        &self.client
    }

    /// Stops the client, as [`PushClient::shutdown`] does. Acks given before this call count.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the client stopping. What is in flight and not acked comes again in the next process.
    #[must_use = "the client stops by itself, but has not stopped before this is awaited"]
    pub fn shutdown(self) -> impl Future<Output = Status> + Send + 'static {
        self.client.clone().shutdown()
    }
}

impl Stream for PushStream {
    type Item = Delivery;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Delivery>> {
        self.deliveries.poll_recv(cx)
    }
}

impl Drop for PushStream {
    fn drop(&mut self) {
        self.client.stop.cancel();
    }
}

/// An item, and the duty to say what became of it.
///
/// Dropping it is an answer too: see [`Ack`].
///
/// ```no_run
/// use galaxy_push_client::{Delivery, Item};
///
/// fn dispatch(delivery: Delivery) {
///     if delivery.failures() > 3 {
///         return delivery.fail("it never worked so far"); // comes back later, or becomes a dead letter
///     }
///     match delivery.item() {
///         Item::Event(_) => {
///             let (item, ack) = delivery.into_parts(); // the item to one place, the ack to another
///             drop(item);
///             ack.ack();
///         }
///         _ => delivery.ack(),
///     }
/// }
/// ```
#[derive(Debug)]
#[must_use = "a delivery that is dropped comes back: ack it when it is dealt with"]
pub struct Delivery {
    item: Item,
    failures: u32,
    ack: Ack,
}

impl Delivery {
    /// The item.
    #[must_use]
    pub fn item(&self) -> &Item {
        &self.item
    }

    /// How often it was delivered before, each time in vain.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// The item is dealt with, as by [`Ack::ack`].
    pub fn ack(self) {
        self.ack.ack();
    }

    /// The item is not dealt with, as by [`Ack::fail`].
    pub fn fail(self, error: impl Into<HandlerError>) {
        self.ack.fail(error);
    }

    /// The item and its ack apart.
    pub fn into_parts(self) -> (Item, Ack) {
        (self.item, self.ack)
    }
}

/// Says what became of one delivery, once.
///
/// Dropped without a word, an event, a standing record or a gap counts as failed: it is delivered again, in this process
/// and without the hub, after a growing wait, or becomes a dead letter once the
/// [`RetryPolicy`](crate::RetryPolicy) gives it up. Any other item only says where the stream stands, and dropping
/// it acks it.
///
/// ```no_run
/// use galaxy_push_client::{Ack, HandlerError};
///
/// fn settle(ack: Ack, outcome: Result<(), HandlerError>) {
///     match outcome {
///         Ok(()) => ack.ack(),
///         Err(error) => ack.fail(error),
///     }
/// }
/// ```
#[must_use = "a delivery whose ack is dropped comes back"]
pub struct Ack {
    id: u64,
    matters: bool,
    span: Option<Box<dyn Span>>,
    acks: Option<mpsc::Sender<AckResult>>,
}

impl Ack {
    /// The item is dealt with. The cursor moves past it once everything before it is, too.
    ///
    /// Without effect once the client has stopped: what was acked too late is delivered again by the next process.
    pub fn ack(mut self) {
        self.send(Ok(()));
    }

    /// The item is not dealt with: it comes back after a growing wait, or is given up.
    pub fn fail(mut self, error: impl Into<HandlerError>) {
        self.send(Err(error.into().to_string().into()));
    }

    fn send(&mut self, result: Result<(), Arc<str>>) {
        if let Some(acks) = self.acks.take() {
            if let Some(span) = self.span.take() {
                span.end(result.as_ref().map(|()| "").map_err(|error| &**error));
            }
            // There is room for every delivery that is out; only a driver that has ended does not listen.
            let _ = acks.try_send(AckResult { id: self.id, result });
        }
    }
}

impl Drop for Ack {
    fn drop(&mut self) {
        let result =
            if self.matters { Err("the delivery was dropped without an ack".into()) } else { Ok(()) };
        self.send(result);
    }
}

impl fmt::Debug for Ack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ack").field("id", &self.id).finish_non_exhaustive()
    }
}

/// The driver's ends of the two queues.
#[derive(Debug)]
pub(crate) struct DeliveryChannels {
    deliveries: mpsc::Sender<Delivery>,
    acks: mpsc::Receiver<AckResult>,
    sender: mpsc::Sender<AckResult>,
    tracing: Tracing,
}

impl DeliveryChannels {
    /// The driver's ends, and the application's.
    pub(crate) fn new(in_flight_bytes: usize, tracing: Tracing) -> (Self, mpsc::Receiver<Delivery>) {
        // An item in flight costs more than the overhead, and one may always be out.
        let out_max = (in_flight_bytes / IN_FLIGHT_OVERHEAD).max(1);
        let (deliveries, stream) = mpsc::channel(out_max);
        let (sender, acks) = mpsc::channel(out_max);
        (Self { deliveries, acks, sender, tracing }, stream)
    }

    pub(crate) fn deliver(&self, delivery: link::Delivery) {
        let link::Delivery { id, item, failures, .. } = delivery;
        let span = processing(&self.tracing, &item);
        let ack = Ack { id, matters: item.matters(), span, acks: Some(self.sender.clone()) };
        // Room as for acks. A stream that is gone has stopped the client.
        let _ = self.deliveries.try_send(Delivery { item, failures, ack });
    }

    /// The next acks, at least one. Cancel safe.
    pub(crate) async fn acks(&mut self) -> Vec<AckResult> {
        let mut acks = Vec::new();
        self.acks.recv_many(&mut acks, ACKS_MAX).await;
        acks
    }

    /// The acks that are there already.
    pub(crate) fn acks_now(&mut self) -> Vec<AckResult> {
        std::iter::from_fn(|| self.acks.try_recv().ok()).collect()
    }
}

impl PushStream {
    pub(crate) fn new(deliveries: mpsc::Receiver<Delivery>, client: PushClient) -> Self {
        Self { deliveries, client }
    }
}
