//! Where a cursor outlives the process.
//!
//! Called by the driver only, one call at a time, when the link says so. What is stored and when is not decided here.

use std::error::Error;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

/// Why a cursor could not be loaded or saved.
pub type StoreError = Box<dyn Error + Send + Sync>;

/// Keeps one cursor. Implement it to keep the cursor beside your own data.
///
/// A call takes at most 5 s; it is then dropped at its `.await` and counts as failed, and so it is when the client shuts
/// down. A save that was dropped may or may not happen; the next one carries a newer cursor.
///
/// # Examples
///
/// The cursor in the same table as what the events change, so that one transaction moves both:
///
/// ```
/// use galaxy_push_client::{CursorStore, StoreError};
///
/// #[derive(Default)]
/// struct Table {
///     cursor: Option<String>, // stands for a row of a database
/// }
///
/// impl CursorStore for Table {
///     async fn load(&mut self) -> Result<Option<String>, StoreError> {
///         Ok(self.cursor.clone())
///     }
///
///     async fn save(&mut self, _cursor: &str) -> Result<(), StoreError> {
///         Ok(()) // the handler has written it, with the effect of the event
///     }
/// }
/// ```
pub trait CursorStore: Send + 'static {
    /// What was saved last, as it was saved; `None` if nothing ever was.
    ///
    /// Text that is no cursor may be returned as it is: the hub refuses it, and the handler gets a
    /// [`Gap`](crate::Gap).
    ///
    /// # Errors
    ///
    /// Whatever keeps it from being read now. It is tried again a few times.
    fn load(&mut self) -> impl Future<Output = Result<Option<String>, StoreError>> + Send;

    /// Replaces what was saved before, so that a crash leaves the old or the new one and never something else.
    ///
    /// # Errors
    ///
    /// Whatever keeps it from being written now. It is tried again, with a newer cursor if there is one by then.
    fn save(&mut self, cursor: &str) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// Keeps a cursor in memory: it outlives the client and not the process. Clones share it.
///
/// ```
/// use galaxy_push_client::MemoryCursorStore;
///
/// let store = MemoryCursorStore::holding("oldest");
/// let shared = store.clone(); // give one to the client, and look at the other
/// assert_eq!(shared.cursor().as_deref(), Some("oldest"));
/// assert_eq!(MemoryCursorStore::default().cursor(), None, "an empty store leaves the start as configured");
/// ```
#[derive(Clone, Debug, Default)]
pub struct MemoryCursorStore(Arc<Mutex<Option<String>>>);

impl MemoryCursorStore {
    /// Holds this cursor from the start.
    pub fn holding(cursor: impl Into<String>) -> Self {
        Self(Arc::new(Mutex::new(Some(cursor.into()))))
    }

    /// What it holds.
    #[must_use]
    pub fn cursor(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl CursorStore for MemoryCursorStore {
    async fn load(&mut self) -> Result<Option<String>, StoreError> {
        Ok(self.cursor())
    }

    async fn save(&mut self, cursor: &str) -> Result<(), StoreError> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(cursor.to_owned());
        Ok(())
    }
}

pub(crate) type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A [`CursorStore`] of any type, so that the driver need not be made for each.
pub(crate) trait AnyStore: Send {
    fn load(&mut self) -> Boxed<'_, Result<Option<String>, StoreError>>;
    fn save<'a>(&'a mut self, cursor: &'a str) -> Boxed<'a, Result<(), StoreError>>;
}

impl<S: CursorStore> AnyStore for S {
    fn load(&mut self) -> Boxed<'_, Result<Option<String>, StoreError>> {
        Box::pin(CursorStore::load(self))
    }

    fn save<'a>(&'a mut self, cursor: &'a str) -> Boxed<'a, Result<(), StoreError>> {
        Box::pin(CursorStore::save(self, cursor))
    }
}
