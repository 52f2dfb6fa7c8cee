//! What an application puts at the end of a stream.
//!
//! Called by the driver only, one call at a time, in stream order.

use std::error::Error;
use std::fmt;
use std::future::Future;

use crate::{Batch, Item};

/// Deals with one item at a time. Implemented by every closure that takes an [`Item`] and returns a fitting future.
///
/// Returning `Ok` says that the item need never be seen again: from then on the client resumes after it. Returning an
/// error, or panicking, brings the same item back after a growing wait, for ever; nothing is skipped. Decide in the
/// handler what is not worth trying again, and return `Ok` for it.
///
/// A call is dropped at its next `.await` when the client is shut down, and its item then counts as not handled.
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
pub trait BatchHandler: Send + 'static {
    /// Deals with [`Batch::items`], in order.
    ///
    /// # Errors
    ///
    /// Whatever keeps the first unfinished item from being dealt with now.
    fn handle(&mut self, batch: &mut Batch) -> impl Future<Output = Result<(), HandlerError>> + Send;
}

/// Makes a [`BatchHandler`] of a [`Handler`], finishing each item by itself.
#[derive(Debug)]
pub(crate) struct OneByOne<H>(pub(crate) H);

impl<H: Handler> BatchHandler for OneByOne<H> {
    async fn handle(&mut self, batch: &mut Batch) -> Result<(), HandlerError> {
        while let Some(item) = batch.items().first().cloned() {
            self.0.handle(item).await?;
            batch.finish_one();
        }
        Ok(())
    }
}

/// Why an item could not be dealt with. `?` makes one of any error.
///
/// Is not an [`Error`] itself, which is what makes that conversion possible.
pub struct HandlerError(Box<dyn Error + Send + Sync>);

impl HandlerError {
    /// An error that is only a text.
    pub fn msg(text: impl Into<String>) -> Self {
        Self(text.into().into())
    }
}

impl<E: Error + Send + Sync + 'static> From<E> for HandlerError {
    fn from(error: E) -> Self {
        Self(Box::new(error))
    }
}

impl fmt::Display for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&crate::transport::chain(&*self.0))
    }
}

impl fmt::Debug for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}
