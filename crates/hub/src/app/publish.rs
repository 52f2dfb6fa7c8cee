//! The one way in: every surface publishes events and standing records through here.
//!
//! ```text
//! admit       count it among the publishes; refuse it while the hub drains (DRAINING) or is full (OVERLOADED)
//! fill in     time, media type, and how long a record is kept, where the publisher has not said
//! validate    the rules of the contract; a field that breaks one is named
//! authorize   recipients within the publisher's scope, and its rate
//! encode      each event once, as readers will be sent it
//! append      the store gives positions, and makes the batch durable; at most 30 s
//! ```
//!
//! Whatever is refused before `append` left nothing behind. A batch is appended as a whole or not at all. Where the store
//! does not say what became of it (`UNAVAILABLE` without a reason), publishing again with the same ids finds out:
//!
//! ```text
//! publish id 7 · no answer within 30 s · publish id 7 again:  duplicate, with its position    it was appended
//!                                                             a new position                  it was not
//! ```
//!
//! Called by the gRPC and HTTP surfaces and by [`Hub::publish`](crate::Hub::publish). It reads no request and retries
//! nothing.

use galaxy_push_core::cursor::Cursor;
use galaxy_push_core::frame::{LOG_FRAME_OVERHEAD_BYTES, LogKind};
use galaxy_push_proto::{Failure, Reason, error, json, v1, validate};
use galaxy_push_store::batch::Item;
use galaxy_push_store::{Appended, Batch, Content, Error, Key, Refused};
use prost::Message as _;
use prost_types::Timestamp;
use std::iter;
use std::time::Duration;
use tokio::time::timeout;
use tokio_util::task::task_tracker::TaskTrackerToken;
use tonic::Code;

use crate::app::shared::Shared;
use crate::app::spans::Spans;
use crate::state::access::Caller;
use crate::state::in_flight::Permit;
use crate::state::ownership;

/// What a recipient and an attribute take in memory beside their texts, in bytes.
const RECIPIENT_BYTES: usize = 32;
const ATTRIBUTE_BYTES: usize = 96;

/// How long the store may take to acknowledge a batch, so that nobody waits for ever and holds its permit.
const APPEND_WITHIN: Duration = Duration::from_secs(30);

/// How long the store may take to say how far its log goes.
const HEAD_WITHIN: Duration = Duration::from_secs(1);

/// What became of one event.
///
/// ```
/// # use galaxy_push_core::ambient::Ambient;
/// # use galaxy_push_hub::{Config, Hub};
/// # use galaxy_push_proto::v1::Event;
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let hub = Hub::in_memory(Config::default(), Ambient::new(|| 1_700_000_000_000, || 4))?;
/// # let (to, source, kind) = (vec!["all".to_owned()], "/s".to_owned(), "t".to_owned());
/// # let event = Event { to, id: "7".into(), source, r#type: kind, ..Event::default() };
/// let published = hub.publish(vec![event]).await?;
/// assert_eq!((published[0].id.as_str(), published[0].duplicate), ("7", false));
/// assert_eq!(published[0].cursor, Some(hub.head().cursor));
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// Its id, as published.
    pub id: String,
    /// Its position; `None` for an ephemeral event.
    pub cursor: Option<Cursor>,
    /// It was published before: nothing was appended, and `cursor` is the original one.
    pub duplicate: bool,
}

/// Where the standing records of one request lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Recorded {
    /// The position of the last.
    pub(crate) cursor: Cursor,
    /// They were published before: nothing was appended.
    pub(crate) duplicate: bool,
    /// Of an invalidation that is no duplicate: tokens issued before this are void.
    pub(crate) issued_before: Option<Timestamp>,
}

impl Recorded {
    /// As every surface shows it.
    pub(crate) fn issued_before_text(&self) -> Option<String> {
        self.issued_before.as_ref().and_then(json::timestamp_text)
    }
}

/// What a publisher calls a request for standing records, so that it is recognised when it comes again. Empty: it has no
/// name, and each repeat is appended.
#[derive(Clone, Debug, Default)]
pub(crate) struct RecordId {
    pub(crate) id: String,
    pub(crate) source: String,
}

/// Held while a request is in flight: its part of the bound, and its place among those that a drain waits for.
struct InFlightGuard {
    _share: Permit,
    _token: TaskTrackerToken,
}

impl Published {
    /// The cursor as every surface shows it; empty for an ephemeral event.
    pub(crate) fn cursor_text(&self) -> String {
        self.cursor.map(|cursor| cursor.to_string()).unwrap_or_default()
    }
}

/// Publishes a batch, whose permit holds what was read of it. On an error the events are as they were but for what was
/// filled in.
pub(crate) async fn publish(
    shared: &Shared,
    caller: &Caller,
    permit: Permit,
    events: &mut [v1::Event],
) -> Result<Vec<Published>, Failure> {
    let spans = Spans::begin(&shared.config.tracing, events);
    let appended = append_events(shared, caller, permit, events).await;
    spans.end(&appended);
    let appended = appended.inspect_err(|failure| refused(shared, caller, failure))?;
    let duplicates = appended.iter().filter(|each| each.duplicate).count();
    shared.metrics.publish_duplicates.inc_by(duplicates as u64);
    let published = events.iter_mut().zip(appended).map(|(event, each)| Published {
        id: std::mem::take(&mut event.id),
        cursor: each.cursor,
        duplicate: each.duplicate,
    });
    Ok(published.collect())
}

/// Appends an invalidation, and keeps it until it expires.
pub(crate) async fn invalidate(
    shared: &Shared,
    caller: &Caller,
    permit: Permit,
    mut record: v1::SessionInvalidation,
    id: &RecordId,
) -> Result<Recorded, Failure> {
    let append = async {
        let _entered = admit(shared, permit, record.encoded_len())?;
        let now = shared.clock.now();
        // As it was sent: what is filled in differs from one try to the next.
        let key = id.key(caller, ["invalidation".into(), record.encode_to_vec()])?;
        validate::fill_in_invalidation(&mut record, now.unix_ms, shared.config.invalidation_life);
        validate::invalidation(&record, now.unix_ms)?;
        caller.may_invalidate(&record, now.mono)?;
        let batch = Batch::invalidation(&record, now).with_key(key);
        let recorded = append_records(shared, caller, LogKind::SessionInvalidation, batch).await?;
        // Of a duplicate the moment is the original's, which only the log has.
        let issued_before = record.issued_before.filter(|_| !recorded.duplicate);
        Ok(Recorded { issued_before, ..recorded })
    };
    append.await.inspect_err(|failure| refused(shared, caller, failure))
}

/// Appends memberships one behind another, and keeps each until it expires or ends. Returns the last one's position.
pub(crate) async fn set_memberships(
    shared: &Shared,
    caller: &Caller,
    permit: Permit,
    mut records: Vec<v1::Membership>,
    id: &RecordId,
) -> Result<Recorded, Failure> {
    let append = async {
        let _entered = admit(shared, permit, records.iter().map(v1::Membership::encoded_len).sum())?;
        let now = shared.clock.now();
        let parts = records.iter().map(v1::Membership::encode_to_vec);
        let key = id.key(caller, iter::once("memberships".into()).chain(parts))?;
        validate::fill_in_memberships(&mut records, now.unix_ms, shared.config.membership_life);
        validate::memberships(&records, now.unix_ms)?;
        caller.may_set(&records, now.mono)?;
        let batch = Batch::memberships(&records, now).with_key(key);
        append_records(shared, caller, LogKind::Membership, batch).await
    };
    append.await.inspect_err(|failure| refused(shared, caller, failure))
}

/// Counts a refusal, and logs of a publisher that goes beyond its scope who it was and in which field. Not for whom: a
/// recipient is nobody's business in a log.
fn refused(shared: &Shared, caller: &Caller, failure: &Failure) {
    shared.metrics.refused(failure);
    if failure.code != Code::PermissionDenied {
        return;
    }
    shared.metrics.peer_refused(failure);
    if let Some(left_out) = shared.refusals.count(caller.name()) {
        let field = failure.field.as_deref().unwrap_or_default();
        tracing::warn!(
            publisher = caller.name(),
            field,
            left_out,
            "refused what is outside a publisher's recipients"
        );
    }
}

/// Checks a batch step by step and appends it. The order is that of the file's head: what is cheap to refuse comes first.
async fn append_events(
    shared: &Shared,
    caller: &Caller,
    permit: Permit,
    events: &mut [v1::Event],
) -> Result<Vec<Appended>, Failure> {
    let _entered = admit(shared, permit, events.iter().map(held_bytes).sum())?;
    let now = shared.clock.now();
    events.iter_mut().for_each(|event| validate::fill_in(event, now.unix_ms));
    validate::batch(events, shared.config.event_bytes_max)?;
    caller.stamp(events, now.mono)?;
    let batch = Batch::encode(events, &caller.publisher(), now);
    check_frames(shared, &batch)?;
    append(shared, batch).await
}

/// What an event takes in memory until it is answered. More than its bytes on the wire: an empty recipient has two there,
/// and sixteen times as much here.
fn held_bytes(event: &v1::Event) -> usize {
    event.encoded_len() + RECIPIENT_BYTES * event.to.len() + ATTRIBUTE_BYTES * event.attributes.len()
}

impl RecordId {
    /// By what a request of these parts is recognised.
    fn key(
        &self,
        caller: &Caller,
        parts: impl IntoIterator<Item = Vec<u8>>,
    ) -> Result<Option<(Key, Content)>, Failure> {
        validate::record_id(&self.id, &self.source)?;
        let parts: Vec<_> = parts.into_iter().collect();
        let content = || Content::of(parts.iter().map(Vec::as_slice));
        let key = (!self.id.is_empty()).then(|| Key::new(&caller.publisher(), &self.source, &self.id));
        Ok(key.map(|key| (key, content())))
    }
}

/// Refuses an event that the window could not hold even alone: it would be acknowledged, and gone at once.
fn check_frames(shared: &Shared, batch: &Batch) -> Result<(), Failure> {
    let room = shared.config.window.bytes;
    let too_large = |item: &Item| (item.event.len() + LOG_FRAME_OVERHEAD_BYTES) as u64 > room;
    let Some(index) = batch.items.iter().position(too_large) else { return Ok(()) };
    let message = format!(
        "events[{index}]: the event and all it names are larger than the {room} bytes of the window: send less, or raise \
         the window"
    );
    Err(Failure::new(Reason::EventTooLarge, message).field(format!("events[{index}]")))
}

/// Appends standing records. Where there are several publishers, none may hold more than it leaves free: the store is told
/// whose they are.
async fn append_records(
    shared: &Shared,
    caller: &Caller,
    kind: LogKind,
    batch: Batch,
) -> Result<Recorded, Failure> {
    let publisher = Some(caller.name()).filter(|_| shared.access.get().has_several_publishers());
    let wall_ms = batch.now.unix_ms;
    let appended = append(shared, batch.sharing_room(publisher)).await?;
    shared.record_capacity.warn_if_nearly_full(&*shared.store, kind, publisher, wall_ms);
    // Records always have a position, and a batch of them is never empty.
    let last = appended.last().and_then(|last| {
        Some(Recorded { cursor: last.cursor?, duplicate: last.duplicate, issued_before: None })
    });
    let last = last.inspect(|last| _ = shared.metrics.publish_duplicates.inc_by(last.duplicate.into()));
    last.ok_or_else(|| {
        Failure::without_reason(Code::Internal, "the store gave a standing record no position")
    })
}

/// Waits for the store, at most 30 s, and says of each of its errors what the publisher can do about it.
///
/// | the store says | the publisher is told |
/// |---|---|
/// | appended | the positions |
/// | refused | why; nothing was appended |
/// | unknown, or nothing in time | UNAVAILABLE: publish again with the same ids |
async fn append(shared: &Shared, mut batch: Batch) -> Result<Vec<Appended>, Failure> {
    let length = batch.items.len();
    batch.stamp_unix_ms = shared.clock.log_unix_ms();
    let appended = timeout(APPEND_WITHIN, shared.store.append(batch)).await;
    let appended =
        appended.unwrap_or_else(|_| Err(Error::Unknown(format!("nothing within {APPEND_WITHIN:?}"))));
    appended.map_err(|error| {
        match error {
            Error::Refused(Refused::IdReused { item }) => id_reused(item, &error),
            // A publisher's doing, of which its metric tells, and a line before the room ran out.
            Error::Refused(Refused::StandingFull(full)) => {
                Failure::new(Reason::RecordsFull, full.to_string())
            }
            Error::Refused(Refused::TooLarge { bytes_max, .. }) => {
                Failure::new(Reason::BatchTooLarge, error.to_string())
                    .metadata(error::BYTES_ALLOWED, bytes_max.to_string())
            }
            Error::Refused(Refused::Unsupported(what)) => Failure::without_reason(Code::Unimplemented, what),
            error => {
                if let Some(left_out) = shared.refusals.count("the store") {
                    tracing::warn!(%error, length, left_out, "the store did not acknowledge a batch");
                }
                let failure = match &error {
                    Error::Unknown(_) => Failure::without_reason(Code::Unavailable, error.to_string()),
                    Error::Refused(_) => Failure::new(Reason::StoreUnavailable, error.to_string()),
                };
                failure.retry_after(Duration::from_secs(1))
            }
        }
    })
}

/// The id was published before with another content. Which of the two is right only the publisher knows.
fn id_reused(item: Option<usize>, error: &Error) -> Failure {
    let field = item.map_or_else(|| "id".to_owned(), |index| format!("events[{index}].id"));
    Failure::new(Reason::IdReused, format!("{field}: {error}")).field(field)
}

/// The last position given out at any hub of the log: this hub's window may not have come to it yet.
///
/// # Errors
///
/// The store did not say within 1 s, or this hub drains: readers ask it to find a hub, and this one admits nobody any more.
pub(crate) async fn head(shared: &Shared) -> Result<Cursor, Failure> {
    if shared.is_draining() {
        return Err(ownership::draining());
    }
    let answer = timeout(HEAD_WITHIN, shared.store.head()).await;
    let answer = answer.unwrap_or_else(|_| Err(Error::Unknown(format!("nothing within {HEAD_WITHIN:?}"))));
    answer.map_err(|error| {
        let message = format!("how far the log goes is not known at present ({error}): come back");
        Failure::new(Reason::StoreUnavailable, message).retry_after(Duration::from_secs(1))
    })
}

/// As [`head`], and whether the store cannot be reached. Then it is
/// the last position of this hub's window.
///
/// # Errors
///
/// The store did not say within 1 s, although it can be reached as far as is known.
pub(crate) async fn head_or_held(shared: &Shared) -> Result<(Cursor, bool), Failure> {
    match head(shared).await {
        Ok(head) => Ok((head, shared.store.is_stale())),
        Err(_) if shared.store.is_stale() => Ok((shared.log.head().cursor, true)),
        Err(failure) => Err(failure),
    }
}

/// Lets a request in among those in flight, with so many bytes, until what is returned is dropped.
///
/// # Errors
///
/// `DRAINING`, or `OVERLOADED`.
fn admit(shared: &Shared, mut permit: Permit, bytes: usize) -> Result<InFlightGuard, Failure> {
    // Taken before the look at the drain, which waits for those it has not turned away.
    let token = shared.publishes.token();
    if shared.is_draining() {
        return Err(ownership::draining());
    }
    // What an event takes in memory may be more than the whole bound. One request always fits, so it counts as the bound.
    permit.admit(bytes.min(shared.config.publish_bytes_max))?;
    Ok(InFlightGuard { _share: permit, _token: token })
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
    Err(failure.code(Code::NotFound).field("namespace"))
}
