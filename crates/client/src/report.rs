//! What an operator reads in the log: one line for each change that asks for attention, with what comes next. Never a
//! payload.

use galaxy_push_core::link::Action;

use crate::{State, Status};

/// Tells what has changed since the status shown before.
///
/// The end of a stream is not told here, because only the driver knows how long it waits.
pub(crate) fn report(status: &Status, before: &Status, next: &Action, hub: &str) {
    match (&status.store, &before.store) {
        (Some(trouble), before) if before.as_ref() != Some(trouble) => {
            tracing::warn!(error = %trouble.error, failures = trouble.failures, "the cursor store fails and is tried again");
        }
        (None, Some(trouble)) => tracing::info!(failures = trouble.failures, "the cursor store works again"),
        _ => {}
    }
    match (status.state, next, &status.handler) {
        (_, Action::Pause { .. }, Some(trouble)) => match &trouble.dead_letter_error {
            Some(error) => tracing::error!(%error, "the dead letter failed and is called again"),
            None => {
                tracing::warn!(error = %trouble.error, failures = trouble.failures, "the handler failed and is called again");
            }
        },
        (State::Live, ..) if before.state != State::Live => {
            tracing::info!(hub, cursor = status.cursor, attempt = status.attempt, "live");
        }
        _ => {}
    }
}
