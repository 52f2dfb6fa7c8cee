//! How the generated stubs read and write messages: as tonic's own codec does, with a bound and a clear refusal.
//!
//! Named by the generated code, used by nobody else. A message of two-byte elements decodes to a hundred times its size,
//! so its fields are counted while they are still bytes; and what is no message at all is the peer's mistake
//! (INVALID_ARGUMENT), not this side's (INTERNAL).

use std::marker::PhantomData;

use galaxy_push_core::wire::Fields;
use prost::Message;
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder};
use tonic_prost::ProstEncoder;

use crate::{Failure, Reason};

/// The most fields at the top level of a message, each element of a list counted. Twice what the contract allows
/// anywhere (1,000 events, 1,024 recipients), so that whoever is a little above a limit is told which one.
pub const FIELDS_MAX: usize = 2_048;

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
    U: Message + Default + Send + 'static,
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

impl<U: Message + Default> Decoder for BoundedDecoder<U> {
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
pub fn decode<U: Message + Default>(message: bytes::Bytes) -> Result<U, Failure> {
    if Fields::of(&message).take(FIELDS_MAX + 1).count() > FIELDS_MAX {
        let text = format!("the message has more than {FIELDS_MAX} elements: split it");
        return Err(Failure::new(Reason::RequestInvalid, text));
    }
    U::decode(message).map_err(|error| {
        Failure::new(Reason::RequestInvalid, format!("this is not a message of the contract: {error}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v1::{Event, PublishRequest};

    #[test]
    fn elements_are_counted_before_they_are_decoded() {
        let request =
            |events| PublishRequest { events: vec![Event::default(); events], ..Default::default() };
        let decoded = |events| decode::<PublishRequest>(request(events).encode_to_vec().into());
        assert_eq!(decoded(FIELDS_MAX).unwrap().events.len(), FIELDS_MAX);
        assert!(decoded(FIELDS_MAX + 1).unwrap_err().message.contains("split"));
    }

    #[test]
    fn what_is_no_message_is_the_peers_mistake() {
        for bytes in [&b"\x0a\xff"[..], b"\x0a\x04\x12\x02\xff\xfe"] {
            let failure = decode::<PublishRequest>(bytes::Bytes::copy_from_slice(bytes)).unwrap_err();
            assert_eq!(failure.code, tonic::Code::InvalidArgument);
        }
    }
}
