//! The one way in: every surface publishes through here.

use galaxy_push_core::cursor::Cursor;
use galaxy_push_proto::{Failure, Reason, v1, validate};
use galaxy_push_store::Batch;

use crate::fence;
use crate::shared::Shared;

/// What became of one event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// Its id, as published.
    pub id: String,
    /// Its position; `None` for an ephemeral event.
    pub cursor: Option<Cursor>,
    /// It was published before: nothing was appended, and `cursor` is the original one.
    pub duplicate: bool,
}

impl Published {
    /// The cursor as every surface shows it; empty for an ephemeral event.
    pub(crate) fn cursor_text(&self) -> String {
        self.cursor.map(|cursor| cursor.to_string()).unwrap_or_default()
    }
}

pub(crate) async fn publish(shared: &Shared, events: Vec<v1::Event>) -> Result<Vec<Published>, Failure> {
    // Taken before the look at the drain, which waits for those it has not turned away.
    let _under_way = shared.publishes.token();
    let result = if shared.is_draining() { Err(fence::draining()) } else { append(shared, events).await };
    result.inspect_err(|failure| shared.metrics.refused(failure))
}

async fn append(shared: &Shared, mut events: Vec<v1::Event>) -> Result<Vec<Published>, Failure> {
    let now = shared.clock.now();
    events.iter_mut().for_each(|event| validate::fill_in(event, now.unix_ms));
    validate::batch(&events, shared.config.event_bytes_max)?;
    let appended = shared.store.append(Batch::encode(&events, now)).await.map_err(|error| {
        tracing::warn!(%error, events = events.len(), "a batch was refused by the store; the publisher may retry");
        Failure::new(Reason::StoreUnavailable, error.to_string()).retry_after(std::time::Duration::from_secs(1))
    })?;
    let duplicates = appended.iter().filter(|each| each.duplicate).count();
    shared.metrics.publish_duplicates.inc_by(duplicates as u64);
    let published = events.into_iter().zip(appended);
    Ok(published
        .map(|(event, each)| Published { id: event.id, cursor: each.cursor, duplicate: each.duplicate })
        .collect())
}

/// Whether this hub has the namespace.
///
/// # Errors
///
/// `NOT_FOUND` for any but the default one.
pub(crate) fn check_namespace(namespace: &str) -> Result<(), Failure> {
    if matches!(namespace, "" | "default") {
        return Ok(());
    }
    let failure = Failure::new(Reason::RequestInvalid, "no such namespace: leave it out, or name `default`");
    Err(failure.code(tonic::Code::NotFound).field("namespace"))
}
