//! How what was asked for is recognised in what is read: by its id and all its bytes.

use galaxy_push_proto::v1;
use galaxy_push_testkit::history::Hash;

/// The id under which something was asked for, and its fingerprint. A standing record is its own id.
pub(super) fn seen(frame: &v1::PushEvent) -> Option<(String, Hash)> {
    use v1::push_event::Kind;
    match frame.kind.as_ref()? {
        Kind::Event(event) => Some((event.id.clone(), print(event))),
        Kind::SessionInvalidation(record) => Some((record_id(print(record)), print(record))),
        Kind::Membership(record) => Some((record_id(print(record)), print(record))),
        _ => None,
    }
}

/// All the bytes of a message count.
pub(super) fn print(message: &impl prost::Message) -> Hash {
    Hash::of(&[&message.encode_to_vec()])
}

pub(super) fn record_id(print: Hash) -> String {
    format!("record-{print}")
}
