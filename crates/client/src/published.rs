//! What a hub answers to a publisher: what became of an event or a record, and where the log stands.
//!
//! Read by the publisher, the publish stream and whoever asks hubs where their logs stand. Values only: what is sent, and how often,
//! is not decided here.

use galaxy_push_proto::ISSUED_BEFORE;
use galaxy_push_proto::v1::{HeadResponse, PublishResult, RecordResponse};
use http::HeaderMap;
use prost::Message as _;

use crate::Failure;
use crate::transport::Answer;

/// What became of one event.
///
/// ```
/// use galaxy_push_client::Published;
///
/// /// Whether a backend may forget the event.
/// fn is_safe(published: &Published) -> bool {
///     published.refusal.is_none()
/// }
///
/// /// What an operator should hear of.
/// fn remark(published: &Published) -> Option<&'static str> {
///     match published {
///         Published { other_log: true, .. } => Some("it may be in another log, too"),
///         Published { duplicate: true, .. } => Some("the log had it already"),
///         _ => None,
///     }
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Published {
    /// The event's id.
    pub id: String,
    /// Its position; that of the original for a duplicate. Empty when refused or ephemeral.
    pub cursor: String,
    /// The log had it already.
    pub duplicate: bool,
    /// Set when the hub did not take it.
    pub refusal: Option<Refusal>,
    /// The event may be in another log, too: an earlier try got no answer, and it went to a hub with another log than the
    /// one that has appended the event now, or nobody knows to which. Hubs on one log recognise an event by its id and
    /// answer a duplicate; different logs, among them those before and after a restart of a hub that keeps its log in
    /// memory, cannot. Readers that followed the one log and then the other got a gap between them, and may have
    /// received the event twice.
    pub other_log: bool,
}

/// Why the hub did not accept one event of a request.
///
/// ```
/// use galaxy_push_client::{Refusal, code_name};
///
/// fn explain(refusal: &Refusal) -> String {
///     format!("{} {}", code_name(refusal.code), refusal.reason) // such as INVALID_ARGUMENT EVENT_TOO_LARGE
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Refusal {
    /// The `google.rpc.Code`.
    pub code: i32,
    /// The reason, for example `EVENT_TOO_LARGE`; may be empty.
    pub reason: String,
}

/// What became of an invalidation.
///
/// ```
/// fn note(invalidated: &galaxy_push_client::Invalidated) -> String {
///     format!("at {}: tokens issued before {} are void", invalidated.cursor, invalidated.issued_before)
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Invalidated {
    /// The position of the record.
    pub cursor: String,
    /// Tokens issued before this moment are void, as RFC 3339. Empty: an older hub, which does not say.
    pub issued_before: String,
}

/// Where a log stands.
///
/// ```
/// use galaxy_push_client::Head;
///
/// /// Whether a snapshot taken now can be joined to a stream from this head.
/// fn is_current(head: &Head) -> bool {
///     !head.stale && !head.cursor.is_empty()
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Head {
    /// The last position.
    pub cursor: String,
    /// The position just before the oldest event held.
    pub oldest: String,
    /// The present life of the log.
    pub epoch: String,
    /// The hub cannot reach its store, and the log may have gone on elsewhere: the other members say what this hub has.
    pub stale: bool,
}

impl Head {
    pub(crate) fn of(answer: HeadResponse) -> Self {
        let HeadResponse { cursor, oldest, epoch, stale } = answer;
        Self { cursor, oldest, epoch, stale }
    }
}

impl Answer for Invalidated {
    fn read(message: &[u8], headers: &HeaderMap) -> Result<Self, prost::DecodeError> {
        let RecordResponse { cursor, .. } = RecordResponse::decode(message)?;
        let issued_before = headers.get(ISSUED_BEFORE).and_then(|value| value.to_str().ok());
        Ok(Self { cursor, issued_before: issued_before.unwrap_or_default().to_owned() })
    }
}

/// What became of each of the events sent.
pub(crate) fn results_of(results: Vec<PublishResult>, sent: usize) -> Result<Vec<Published>, Failure> {
    if results.len() != sent {
        return Err(Failure::Protocol("an answer that does not name each event of the request"));
    }
    let published = results.into_iter().map(|result| Published {
        refusal: (result.code != 0).then_some(Refusal { code: result.code, reason: result.reason }),
        id: result.id,
        cursor: result.cursor,
        duplicate: result.duplicate,
        other_log: false,
    });
    Ok(published.collect())
}
