//! Requests that a store does not take at once: what is split off them, and what of their parts is said of the whole.

use bytes::Bytes;
use galaxy_push_core::frame::message;
use galaxy_push_proto::v1::PublishRequest;
use prost::Message as _;

use crate::Failure;
use crate::transport::framed;

/// What is said of an event of a part (`events[3].data: …`), said of the whole, of which so many events came before the part.
pub(crate) fn of_the_whole(failure: Failure, before: usize) -> Failure {
    let Failure::Status(mut status) = failure else { return failure };
    if let Some((index, rest)) = status.message.strip_prefix("events[").and_then(|text| text.split_once(']'))
        && let Ok(index) = index.parse::<usize>()
    {
        status.message = format!("events[{}]{rest}", before.saturating_add(index));
    }
    Failure::Status(status)
}

/// Both halves of a framed request, and how many events the first has. `None`: it cannot be split.
pub(crate) fn halves(request: &Bytes) -> Option<(Bytes, usize, Bytes)> {
    let mut first = PublishRequest::decode(message(request)).ok()?;
    let count = first.events.len() / 2;
    let mut second = PublishRequest { events: Vec::new(), namespace: first.namespace.clone(), ..first };
    second.events = first.events.split_off(count);
    (count > 0).then(|| (framed(&first), count, framed(&second)))
}

#[cfg(test)]
mod tests {
    use galaxy_push_proto::v1::Event;

    use super::*;
    use crate::ServerStatus;

    #[test]
    fn an_event_of_a_part_has_its_number_in_the_whole() {
        let whole = |message: &str, before| match of_the_whole(
            Failure::Status(ServerStatus::new(3, message)),
            before,
        ) {
            Failure::Status(status) => status.message,
            other => panic!("{other:?}"),
        };
        assert_eq!(whole("events[3].data: too large", 500), "events[503].data: too large");
        assert_eq!(whole("events[3]: no", 0), "events[3]: no");
        for other in ["events: too many", "events[x]: no", "draining"] {
            assert_eq!(whole(other, 500), other);
        }
    }

    #[test]
    fn a_request_is_halved_in_its_order_down_to_one_event() {
        let event = |id: &str| Event { id: id.into(), ..Event::default() };
        let request = |ids: &str| PublishRequest {
            events: ids.split(' ').map(event).collect(),
            request_id: 7,
            namespace: "n".into(),
        };
        let (first, count, second) = halves(&framed(&request("a b c"))).unwrap();
        let read = |part: &Bytes| PublishRequest::decode(message(part)).unwrap();
        assert_eq!((read(&first), count, read(&second)), (request("a"), 1, request("b c")));
        assert_eq!(halves(&first), None);
    }
}
