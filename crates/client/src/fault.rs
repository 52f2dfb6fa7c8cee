//! What goes wrong in code that is not this crate's, as text: an error with its causes, and a panic.
//!
//! Used wherever application code is called (handler, dead letter, store, connector) and by the transport. Whether anything is tried
//! again is not decided here.

use std::any::Any;
use std::error::Error;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt as _;

/// An error and all its sources, in one line.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

/// Takes a panic of the application's code for a failure of that call.
pub(crate) async fn catch_panics<T, E: ToString>(
    whose: &str,
    call: impl Future<Output = Result<T, E>>,
) -> Result<T, Arc<str>> {
    match AssertUnwindSafe(call).catch_unwind().await {
        Ok(result) => result.map_err(|error| error.to_string().into()),
        Err(panic) => Err(panic_message(whose, &*panic)),
    }
}

fn panic_message(whose: &str, panic: &(dyn Any + Send)) -> Arc<str> {
    let text =
        panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("{whose} panicked: {}", text.unwrap_or("with something that is no text")).into()
}
