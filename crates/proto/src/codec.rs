//! How the generated stubs read and write messages: as tonic's own codec does, with a bound and a clear refusal.
//!
//! Named by the generated code, and by whoever decodes a peer's message without a stub. A message of two-byte elements
//! decodes to a hundred times its size, so its fields are counted while they are still bytes, at every level
//! (`counted.rs`); and what is no message at all is the peer's mistake (INVALID_ARGUMENT), not this side's (INTERNAL).

mod counted;

use std::marker::PhantomData;

use prost::Message;
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder};
use tonic_prost::ProstEncoder;

pub use counted::{Counted, FIELDS_MAX};

use crate::{Failure, Reason};

/// The codec of the contract's services.
#[derive(Clone, Debug)]
pub struct BoundedCodec<T, U>(PhantomData<(T, U)>);

/// Its decoder.
#[derive(Clone, Debug)]
pub struct BoundedDecoder<U>(PhantomData<U>);

impl<T, U> Default for BoundedCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> Codec for BoundedCodec<T, U>
where
    T: Message + Send + 'static,
    U: Counted + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = BoundedDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstEncoder::default()
    }

    fn decoder(&mut self) -> Self::Decoder {
        BoundedDecoder(PhantomData)
    }
}

impl<U: Counted> Decoder for BoundedDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, source: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        use bytes::Buf as _;

        let message = source.copy_to_bytes(source.remaining());
        decode(message).map(Some).map_err(Status::from)
    }
}

/// Decodes a message, unless it has too many fields.
///
/// # Errors
///
/// [`Reason::RequestInvalid`] when it has, or is not a message of this type.
pub fn decode<U: Counted>(message: bytes::Bytes) -> Result<U, Failure> {
    counted::check(&message, U::SHAPE)?;
    U::decode(message).map_err(|error| no_message(&error.to_string()))
}

fn no_message(why: &str) -> Failure {
    Failure::new(Reason::RequestInvalid, format!("this is not a message of the contract: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v1::client_frame::Kind;
    use crate::v1::{ClientFrame, Event, Membership, PublishRequest, SetMembershipRequest, Topics};

    #[test]
    fn elements_are_counted_before_they_are_decoded() {
        let request =
            |events| PublishRequest { events: vec![Event::default(); events], ..Default::default() };
        let decoded = |events| decode::<PublishRequest>(request(events).encode_to_vec().into());
        assert_eq!(decoded(FIELDS_MAX).unwrap().events.len(), FIELDS_MAX);
        assert!(decoded(FIELDS_MAX + 1).unwrap_err().message.contains("split"));
    }

    /// One event whose fields are these bytes, so many times.
    fn event_of(field: &[u8], times: usize) -> bytes::Bytes {
        let mut message = Vec::new();
        galaxy_push_core::wire::put_bytes(&mut message, 1, &field.repeat(times));
        message.into()
    }

    /// The fault: only the top level was counted, and 4 MiB of empty recipients decoded to 75 MiB.
    #[test]
    fn elements_are_counted_at_every_level() {
        let recipient = b"\x0a\x00";
        let attribute = b"\x5a\x05\x0a\x01a\x12\x00";
        let decoded = |field: &[u8], times| decode::<PublishRequest>(event_of(field, times));
        assert_eq!(
            decoded(recipient, 257).unwrap().events[0].to.len(),
            257,
            "whoever reads it says how many"
        );
        assert_eq!(decoded(attribute, 65).unwrap().events[0].attributes.len(), 1);
        for (what, field) in [
            ("recipients", &recipient[..]),
            ("attributes", attribute),
            ("an unknown field", b"\xf8\x01\x00"),
            ("the id again and again", b"\x12\x00"),
            ("an attribute's name again and again", b"\x5a\x00"),
        ] {
            let failure = decoded(field, 330_000).unwrap_err();
            assert_eq!(failure.code, tonic::Code::InvalidArgument, "{what}");
            assert!(failure.message.contains("split"), "{what}: {}", failure.message);
        }
        let mut entry = vec![];
        galaxy_push_core::wire::put_bytes(&mut entry, 11, &b"\x0a\x00".repeat(500_000));
        assert!(decoded(&entry, 1).is_err());
        let events: Vec<u8> = (0..2_000).flat_map(|_| event_of(recipient, 500)).collect();
        let failure = decode::<PublishRequest>(events.into()).unwrap_err();
        assert!(failure.message.contains("256000"), "in all: {}", failure.message);
        let names =
            SetMembershipRequest { memberships: vec![Membership::default(); 3_000], ..Default::default() };
        assert!(decode::<SetMembershipRequest>(names.encode_to_vec().into()).is_err());
        let topics = Topics { topics: vec![String::new(); 30_000] };
        let frame = ClientFrame { kind: Some(Kind::Subscribe(topics)) };
        assert!(decode::<ClientFrame>(frame.encode_to_vec().into()).is_err());
    }

    /// What the counting cannot read, the decoder might, and it would decode what stands behind it.
    #[test]
    fn nothing_hides_behind_what_cannot_be_counted() {
        let group = [&b"\x0b\x0c"[..], &b"\x0a\x00".repeat(5_000)].concat();
        assert!(decode::<PublishRequest>(group.clone().into()).is_err());
        assert!(decode::<PublishRequest>(event_of(&group, 1)).is_err());
    }

    #[test]
    fn what_is_no_message_is_the_peers_mistake() {
        for bytes in [&b"\x0a\xff"[..], b"\x0a\x04\x12\x02\xff\xfe"] {
            let failure = decode::<PublishRequest>(bytes::Bytes::copy_from_slice(bytes)).unwrap_err();
            assert_eq!(failure.code, tonic::Code::InvalidArgument);
        }
    }
}
