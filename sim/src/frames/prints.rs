//! Fingerprints of what must arrive unchanged, from the raw fields of the contract.
//!
//! Of an event: what every reader may see, users too. Extension attributes and recipients are not part of it.

use galaxy_push_proto::v1;
use galaxy_push_testkit::history::Hash;
use prost_types::Timestamp;

/// An event's.
#[must_use]
pub fn event(event: &v1::Event) -> Hash {
    let content_type = match &*event.data_content_type {
        "" => "application/json", // what the hub fills in
        named => named,
    };
    of_event([&event.source, &event.id, &event.r#type, &event.subject, content_type], &event.data)
}

/// An event's: source, id, type, subject, the media type of the data, and the data.
pub(super) fn of_event(texts: [&str; 5], data: &[u8]) -> Hash {
    let [source, id, r#type, subject, content_type] = texts.map(str::as_bytes);
    Hash::of(&[source, id, r#type, subject, content_type, data])
}

/// From when an invalidation says itself that it counts: what the hub fills in is the beginning of a second.
#[must_use]
pub fn explicit(record: &v1::SessionInvalidation) -> Option<&Timestamp> {
    record.issued_before.as_ref().filter(|at| at.nanos != 0)
}

/// A session invalidation's. The hub fills in from when it counts, so that is left aside, unless the record says it.
#[must_use]
pub fn invalidation(record: &v1::SessionInvalidation) -> Hash {
    let expires = moment(record.expires_at.as_ref());
    let begins = moment(explicit(record));
    Hash::of(&[b"invalidation", record.recipient.as_bytes(), record.reason.as_bytes(), &expires, &begins])
}

/// A membership's.
#[must_use]
pub fn membership(record: &v1::Membership) -> Hash {
    let expires = moment(record.expires_at.as_ref());
    let member = [u8::from(record.member)];
    Hash::of(&[b"membership", record.recipient.as_bytes(), record.topic.as_bytes(), &member, &expires])
}

fn moment(timestamp: Option<&Timestamp>) -> Vec<u8> {
    timestamp
        .map_or_else(Vec::new, |at| [&at.seconds.to_le_bytes()[..], &at.nanos.to_le_bytes()[..]].concat())
}
