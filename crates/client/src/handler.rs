//! What an application puts at the end of a stream.
//!
//! Called by the driver only, one call at a time, in stream order. Adapters here turn a [`Handler`] of single items into a [`BatchHandler`],
//! add the deadline of a call and begin its trace. Whether a failed call comes again is the link's decision.

use std::future::Future;
use std::time::Duration;

use galaxy_push_core::FOR_EVER;
use tokio::time::timeout;

use crate::spans::{processed, processing};
use crate::store::Boxed;
use crate::{Batch, HandlerError, Item, Tracing};

/// Deals with one item at a time. Implemented by every closure that takes an [`Item`] and returns a fitting future.
///
/// Returning `Ok` says that the item need never be seen again: from then on the client resumes after it. Returning an
/// error, or panicking, brings the same item back after a growing wait: for ever, or until the
/// [`RetryPolicy`](crate::RetryPolicy) makes it a dead letter. Nothing is skipped.
///
/// A call is dropped at its next `.await` when the client is shut down, and its item then counts as not handled.
///
/// # Cancel safety
///
/// Keep what must not be half done out of a single `.await`, or make it idempotent: the call may be dropped between any two of them, by a
/// shutdown or by [`Builder::handler_deadline`](crate::Builder::handler_deadline).
///
/// # Examples
///
/// ```
/// use galaxy_push_client::{Handler, HandlerError, Item};
///
/// struct Count {
///     events: u64,
/// }
///
/// impl Handler for Count {
///     async fn handle(&mut self, item: Item) -> Result<(), HandlerError> {
///         if matches!(item, Item::Event(_)) {
///             self.events += 1;
///         }
///         Ok(())
///     }
/// }
/// ```
pub trait Handler: Send + 'static {
    /// Deals with one item.
    ///
    /// # Errors
    ///
    /// Whatever keeps the item from being dealt with now.
    fn handle(&mut self, item: Item) -> impl Future<Output = Result<(), HandlerError>> + Send;
}

impl<F, Fut> Handler for F
where
    F: FnMut(Item) -> Fut + Send + 'static,
    Fut: Future<Output = Result<(), HandlerError>> + Send,
{
    fn handle(&mut self, item: Item) -> impl Future<Output = Result<(), HandlerError>> + Send {
        self(item)
    }
}

/// Deals with everything that one read brought, at once: up to thousands of items while catching up.
///
/// Returning `Ok` finishes all of them. A handler that can fail in the middle calls [`Batch::finish_one`] as it goes:
/// what it has finished commits also when it then fails or is dropped, and is not handed over again.
///
/// With limited retries, a batch that failed is handed over again item by item, and only failures of an item alone count
/// against it. So with `RetryPolicy::times(0)` an item may be seen twice: in a batch that failed, and once by itself.
///
/// # Examples
///
/// ```
/// use galaxy_push_client::{Batch, BatchHandler, HandlerError};
///
/// struct Ledger {
///     lines: Vec<String>,
/// }
///
/// impl BatchHandler for Ledger {
///     async fn handle(&mut self, batch: &mut Batch) -> Result<(), HandlerError> {
///         while let Some(item) = batch.items().first() {
///             self.lines.push(item.cursor().to_owned());
///             batch.finish_one(); // not handed over again, whatever becomes of the next one
///         }
///         Ok(())
///     }
/// }
/// ```
pub trait BatchHandler: Send + 'static {
    /// Deals with [`Batch::items`], in order.
    ///
    /// # Errors
    ///
    /// Whatever keeps the first unfinished item from being dealt with now.
    fn handle(&mut self, batch: &mut Batch) -> impl Future<Output = Result<(), HandlerError>> + Send;
}

/// Takes the items that the handler failed on too often. Implemented by every closure that takes an [`Item`] and the
/// handler's last error, and returns a fitting future.
///
/// Returning `Ok` is the item's outcome: the cursor moves past it. Returning an error, or panicking, brings it back
/// after a growing wait. Put it where somebody looks: nothing else remembers it.
///
/// # Examples
///
/// ```
/// use galaxy_push_client::{DeadLetterHandler, HandlerError, Item};
///
/// struct Letters(Vec<(String, String)>);
///
/// impl DeadLetterHandler for Letters {
///     async fn accept(&mut self, item: Item, error: HandlerError) -> Result<(), HandlerError> {
///         self.0.push((item.cursor().to_owned(), error.to_string()));
///         Ok(())
///     }
/// }
/// ```
pub trait DeadLetterHandler: Send + 'static {
    /// Accepts one item, with what the handler said last.
    ///
    /// # Errors
    ///
    /// Whatever keeps it from being accepted now: it comes again after a growing wait.
    fn accept(
        &mut self,
        item: Item,
        error: HandlerError,
    ) -> impl Future<Output = Result<(), HandlerError>> + Send;
}

impl<F, Fut> DeadLetterHandler for F
where
    F: FnMut(Item, HandlerError) -> Fut + Send + 'static,
    Fut: Future<Output = Result<(), HandlerError>> + Send,
{
    fn accept(
        &mut self,
        item: Item,
        error: HandlerError,
    ) -> impl Future<Output = Result<(), HandlerError>> + Send {
        self(item, error)
    }
}

/// A [`DeadLetterHandler`] of any type, so that the driver need not be made for each.
pub(crate) trait AnyDeadLetterHandler: Send {
    fn accept(&mut self, item: Item, error: HandlerError) -> Boxed<'_, Result<(), HandlerError>>;
}

impl<H: DeadLetterHandler> AnyDeadLetterHandler for H {
    fn accept(&mut self, item: Item, error: HandlerError) -> Boxed<'_, Result<(), HandlerError>> {
        Box::pin(DeadLetterHandler::accept(self, item, error))
    }
}

/// Makes a [`BatchHandler`] of a [`Handler`], finishing each item by itself.
#[derive(Debug)]
pub(crate) struct OneByOne<H> {
    pub(crate) handler: H,
    pub(crate) deadline: Option<Duration>,
    pub(crate) tracing: Tracing,
}

impl<H: Handler> BatchHandler for OneByOne<H> {
    async fn handle(&mut self, batch: &mut Batch) -> Result<(), HandlerError> {
        while let Some(item) = batch.items().first().cloned() {
            let traced = processing(&self.tracing, &item).map(|span| (span, item.cursor().to_owned()));
            let outcome = within(self.deadline, self.handler.handle(item)).await;
            if let Some((span, cursor)) = traced {
                processed(span, &cursor, &outcome);
            }
            outcome?;
            batch.finish_one();
        }
        Ok(())
    }
}

/// A batch handler whose every call has a deadline.
#[derive(Debug)]
pub(crate) struct WithDeadline<H> {
    pub(crate) handler: H,
    pub(crate) deadline: Option<Duration>,
    pub(crate) tracing: Tracing,
}

impl<H: BatchHandler> BatchHandler for WithDeadline<H> {
    async fn handle(&mut self, batch: &mut Batch) -> Result<(), HandlerError> {
        if !self.tracing.is_on() {
            return within(self.deadline, self.handler.handle(batch)).await;
        }
        let begin =
            |item: &Item| processing(&self.tracing, item).map(|span| (span, item.cursor().to_owned()));
        let mut traced: Vec<_> = batch.items().iter().map(begin).collect();
        let outcome = within(self.deadline, self.handler.handle(batch)).await;
        // What the handler finished went well, whatever came after it.
        let done = if outcome.is_ok() { traced.len() } else { traced.len() - batch.items().len() };
        for (span, cursor) in traced.drain(..done).flatten() {
            processed(span, &cursor, &Ok(()));
        }
        for (span, cursor) in traced.into_iter().flatten() {
            processed(span, &cursor, &outcome);
        }
        outcome
    }
}

/// The handler of a client whose items go out as a stream. Never called.
#[derive(Debug)]
pub(crate) struct NoHandler;

impl BatchHandler for NoHandler {
    async fn handle(&mut self, _: &mut Batch) -> Result<(), HandlerError> {
        Err(HandlerError::msg("a stream has no handler"))
    }
}

async fn within(
    deadline: Option<Duration>,
    call: impl Future<Output = Result<(), HandlerError>>,
) -> Result<(), HandlerError> {
    match deadline {
        None => call.await,
        Some(deadline) => match timeout(deadline.min(FOR_EVER), call).await {
            Ok(result) => result,
            Err(_) => Err(HandlerError::msg(format!("the handler was not done after {deadline:?}"))),
        },
    }
}
