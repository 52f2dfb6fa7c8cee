//! Tests of the bytes of a pack: what was written is read, and nothing that anybody writes does harm.

use galaxy_push_core::frame::LogKind;
use proptest::prelude::*;

use super::*;
use crate::dedup::Content;

fn head() -> Head {
    Head { epoch: Epoch::with_holes(1), hub: HubId(2), number: 3, read: 4 }
}

fn packed(requests: &[Batch]) -> Vec<u8> {
    let mut payload = Vec::new();
    put_head(&mut payload, &head());
    assert_eq!(payload.len(), HEAD_BYTES);
    for request in requests {
        let before = payload.len();
        put_request(&mut payload, request);
        assert_eq!(payload.len() - before, request_bytes(request), "its size is known before");
    }
    payload
}

fn read_bytes(bytes: &[u8]) -> Result<Pack, NoPack> {
    read(&Bytes::copy_from_slice(bytes))
}

/// What a request says, without what a store adds.
fn said(batch: &Batch) -> impl PartialEq + std::fmt::Debug + use<> {
    let items = batch.items.iter().map(|item| {
        let is_change = item.change.is_some();
        (item.kind, item.key.clone(), item.traits, item.event.clone(), is_change)
    });
    let times = (batch.now.unix_ms, batch.stamp_unix_ms);
    (items.collect::<Vec<_>>(), batch.key.clone(), times, batch.publisher.clone())
}

fn records() -> Vec<Batch> {
    let now = Now { mono: Duration::ZERO, unix_ms: 9 };
    let member = v1::Membership {
        recipient: "user:1".to_owned(),
        topic: "t".to_owned(),
        member: true,
        expires_at: None,
    };
    let void =
        v1::SessionInvalidation { recipient: "session:s".to_owned(), ..v1::SessionInvalidation::default() };
    let key = (Key::new(&"p".into(), "/s", "r"), Content::of([&b"c"[..]]));
    let members = Batch::memberships(&[member.clone(), member], now).sharing_room(Some("p"));
    vec![members.clone(), members.with_key(Some(key)), Batch::invalidation(&void, now).sharing_room(Some(""))]
}

fn any_event() -> impl Strategy<Value = v1::Event> {
    let texts = ("[a-z]{0,8}", "[a-z/]{0,8}", "[a-z.]{1,8}", "\\PC{0,40}");
    (texts, any::<bool>(), any::<bool>()).prop_map(|((id, source, kind, data), ephemeral, expires)| {
        v1::Event {
            to: vec!["all".to_owned(), "topic:x".to_owned()],
            id,
            source,
            r#type: kind,
            data: data.into(),
            ephemeral,
            ttl: expires.then(prost_types::Duration::default),
            ..v1::Event::default()
        }
    })
}

fn any_requests() -> impl Strategy<Value = Vec<Batch>> {
    let request = (prop::collection::vec(any_event(), 1..5), "[a-z]{0,6}", any::<u64>(), any::<u64>());
    let requests = request.prop_map(|(events, publisher, unix_ms, stamp_unix_ms)| {
        let batch = Batch::encode(&events, &publisher.as_str().into(), Now { mono: Duration::ZERO, unix_ms });
        Batch { stamp_unix_ms, ..batch }
    });
    prop::collection::vec(requests, 1..5)
}

proptest! {
    #[test]
    fn what_was_packed_is_read(requests in any_requests()) {
        let pack = read_bytes(&packed(&requests)).map_err(|error| TestCaseError::fail(error.to_string()))?;
        prop_assert_eq!(pack.head, head());
        prop_assert_eq!(pack.items(), requests.iter().map(|request| request.items.len()).sum::<usize>());
        let read: Vec<_> = pack.requests.iter().map(said).collect();
        prop_assert!(read == requests.iter().map(said).collect::<Vec<_>>(), "{:?}", read);
    }

    #[test]
    fn bytes_that_were_changed_are_a_pack_or_none_and_do_no_harm(
        requests in any_requests(), changes in prop::collection::vec((any::<u16>(), any::<u8>()), 1..4),
    ) {
        let mut payload = packed(&requests);
        for (at, byte) in changes {
            let at = usize::from(at) % payload.len();
            payload[at] = byte;
        }
        if let Ok(pack) = read_bytes(&payload) {
            prop_assert!(pack.items() <= payload.len() / ITEM_BYTES);
        }
    }

    #[test]
    fn any_bytes_have_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = read_bytes(&bytes);
        let _ = read_bytes(&[&MAGIC[..], &VERSION.to_le_bytes(), &bytes].concat());
    }
}

#[test]
fn records_are_read_with_what_they_change() {
    let requests = records();
    let pack = read_bytes(&packed(&requests)).unwrap();
    let read: Vec<_> = pack.requests.iter().map(said).collect();
    assert!(read == requests.iter().map(said).collect::<Vec<_>>(), "{read:?}");
    assert_eq!(pack.requests[2].items[0].kind, LogKind::SessionInvalidation);
}

#[test]
fn a_pack_that_was_cut_off_is_none() {
    let events = [v1::Event { id: "a".to_owned(), ..v1::Event::default() }, v1::Event::default()];
    let event = Batch::encode(&events, &"p".into(), Now { mono: Duration::ZERO, unix_ms: 1 });
    // One request: where two lie in a pack, it may end behind the first.
    for request in records().into_iter().chain([event]) {
        let payload = packed(&[request]);
        for length in 0..payload.len() {
            assert_eq!(read_bytes(&payload[..length]).err(), Some(NoPack::Foreign), "{length} bytes");
        }
        let longer = [&payload[..], &[0]].concat();
        assert_eq!(read_bytes(&longer).err(), Some(NoPack::Foreign), "something follows");
    }
}

#[test]
fn another_version_is_told_by_its_number() {
    let mut payload = packed(&records());
    payload[MAGIC.len()..MAGIC.len() + 2].copy_from_slice(&7_u16.to_le_bytes());
    assert_eq!(read_bytes(&payload).err(), Some(NoPack::Version(7)));
    assert_eq!(read_bytes(&payload[..MAGIC.len() + 2]).err(), Some(NoPack::Version(7)), "whatever follows");
}

#[test]
fn no_count_is_believed_before_as_much_is_there() {
    let event = Batch::encode(&[v1::Event::default()], &"p".into(), Now { mono: Duration::ZERO, unix_ms: 1 });
    let payload = packed(&[event]);
    let count_at = HEAD_BYTES + REQUEST_BYTES + 1 - 4;
    assert_eq!(payload[count_at..count_at + 4], 1_u32.to_le_bytes());
    for count in [0, 2, u32::MAX] {
        let mut payload = payload.clone();
        payload[count_at..count_at + 4].copy_from_slice(&count.to_le_bytes());
        assert_eq!(read_bytes(&payload).err(), Some(NoPack::Foreign), "{count} items");
    }
}

#[test]
fn a_pack_has_no_more_items_than_there_are_positions_in_a_message() {
    let item =
        Item { kind: LogKind::Event, key: None, traits: Traits::PLAIN, event: Bytes::new(), change: None };
    let of = |items| Batch { items: vec![item.clone(); items], ..records().remove(0) };
    assert_eq!(read_bytes(&packed(&[of(MESSAGE_ITEMS_MAX - 1), of(1)])).unwrap().items(), MESSAGE_ITEMS_MAX);
    let too_many = packed(&[of(MESSAGE_ITEMS_MAX), of(1)]);
    assert_eq!(read_bytes(&too_many).err(), Some(NoPack::Foreign));
}

#[test]
fn traits_that_only_a_store_gives_are_not_taken_from_a_message() {
    let event = Batch::encode(&[v1::Event::default()], &"p".into(), Now { mono: Duration::ZERO, unix_ms: 1 });
    for traits in [Traits::GAP, Traits::CONTINUES, Traits::STANDING, Traits::from_bits(64)] {
        let mut request = event.clone();
        request.items[0].traits = traits;
        assert_eq!(read_bytes(&packed(&[request])).err(), Some(NoPack::Foreign), "{traits:?}");
    }
    for traits in [Traits::PLAIN, Traits::STANDING.with(Traits::EPHEMERAL)] {
        let mut request = records().remove(0);
        request.items[0].traits = traits;
        assert_eq!(read_bytes(&packed(&[request])).err(), Some(NoPack::Foreign), "{traits:?}");
    }
}
