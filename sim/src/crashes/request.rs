//! What publishers ask for: events and standing records of all sizes, each recognisable, each with an id of its own.

use galaxy_push_proto::v1;
use galaxy_push_testkit::history::Hash;
use prost_types::Timestamp;

use super::prints::{print, record_id};
use crate::rng::Rng;

/// Of all that is published here.
const SOURCE: &str = "/crashes";

/// Records end long after every run, each in a nanosecond of its own: so no two are alike.
const RECORDS_END: i64 = 4_000_000_000;

/// When the tokens of all sessions were issued: on 1 January 2020. Those of an ended session are void that are a day old.
pub(super) const SESSIONS_BEGAN: i64 = 1_577_836_800;

/// How many users and topics there are memberships of.
const USERS: u64 = 40;
const TOPICS: u64 = 4;

/// One call.
#[derive(Clone, Debug)]
pub(super) enum Request {
    Events(v1::PublishRequest),
    Invalidation(v1::InvalidateRequest),
    Memberships(v1::SetMembershipRequest),
}

/// One thing that is asked for.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) id: String,
    pub(super) print: Hash,
    /// It gets no position.
    pub(super) ephemeral: bool,
    /// Of a standing record: what it is about, and what holds then.
    pub(super) standing: Option<(String, Option<Hash>)>,
}

impl Request {
    /// So many events of moderate size.
    pub(super) fn events(number: u64, count: u64, rng: &mut Rng) -> Self {
        let events = (0..count).map(|index| event(&format!("e{number}-{index}"), size(rng), rng)).collect();
        Self::of(number, events)
    }

    /// So many events with so many bytes of data each.
    pub(super) fn sized(number: u64, count: u64, bytes: u64, rng: &mut Rng) -> Self {
        let events = (0..count).map(|index| event(&format!("e{number}-{index}"), bytes, rng)).collect();
        Self::of(number, events)
    }

    /// One for live readers only.
    pub(super) fn ephemeral(number: u64, rng: &mut Rng) -> Self {
        let event = v1::Event { ephemeral: true, ..event(&format!("e{number}-0"), 30, rng) };
        Self::of(number, vec![event])
    }

    /// Memberships of different users, or a session that ends.
    pub(super) fn record(number: u64, rng: &mut Rng) -> Self {
        let (id, source) = (format!("r{number}"), SOURCE.to_owned());
        let ends = |index: u64| {
            let nanos = i32::try_from((number * 8 + index) % 1_000_000_000).unwrap_or_default();
            Some(Timestamp { seconds: RECORDS_END, nanos })
        };
        if rng.percent(40) {
            let invalidation = v1::SessionInvalidation {
                recipient: format!("session:{}", session(number)),
                reason: "signed out".to_owned(),
                issued_before: Some(Timestamp { seconds: SESSIONS_BEGAN + 86_400, nanos: 0 }),
                expires_at: ends(0),
            };
            let namespace = String::new();
            let request = v1::InvalidateRequest { invalidation: Some(invalidation), namespace, id, source };
            return Self::Invalidation(request);
        }
        let user = rng.below(USERS);
        let memberships = (0..1 + rng.below(3)).map(|index| v1::Membership {
            recipient: format!("user:{}", (user + index) % USERS),
            topic: format!("topic-{}", rng.below(TOPICS)),
            member: rng.percent(60),
            expires_at: ends(index),
        });
        let memberships = memberships.collect();
        Self::Memberships(v1::SetMembershipRequest { memberships, namespace: String::new(), id, source })
    }

    fn of(number: u64, events: Vec<v1::Event>) -> Self {
        Self::Events(v1::PublishRequest { events, request_id: number, ..v1::PublishRequest::default() })
    }

    /// Which it is, of all.
    pub(super) fn number(&self) -> u64 {
        let of = |id: &str| id[1..].parse().unwrap_or_default();
        match self {
            Self::Events(request) => request.request_id,
            Self::Invalidation(request) => of(&request.id),
            Self::Memberships(request) => of(&request.id),
        }
    }

    pub(super) fn items(&self) -> Vec<Item> {
        match self {
            Self::Events(request) => request.events.iter().map(Item::event).collect(),
            Self::Invalidation(request) => request.invalidation.iter().map(Item::invalidation).collect(),
            Self::Memberships(request) => request.memberships.iter().map(Item::membership).collect(),
        }
    }
}

impl Item {
    fn event(event: &v1::Event) -> Self {
        let ephemeral = event.ephemeral;
        Self { id: event.id.clone(), print: print(event), ephemeral, standing: None }
    }

    fn invalidation(record: &v1::SessionInvalidation) -> Self {
        Self::record(print(record), record.recipient.clone(), true)
    }

    fn membership(record: &v1::Membership) -> Self {
        Self::record(print(record), membership_key(record), record.member)
    }

    fn record(print: Hash, key: String, holds: bool) -> Self {
        let standing = Some((key, holds.then_some(print)));
        Self { id: record_id(print), print, ephemeral: false, standing }
    }
}

/// The name of the session that the request with this number ends.
pub(super) fn session(number: u64) -> String {
    format!("s{number}")
}

/// What a membership is about.
pub(super) fn membership_key(record: &v1::Membership) -> String {
    format!("{} in {}", record.recipient, record.topic)
}

fn event(id: &str, bytes: u64, rng: &mut Rng) -> v1::Event {
    // Zeros are what space looks like that was never written, and a byte that changes is what a checksum is for.
    let fill = *rng.pick(&[0, 0xFF, b'x', b'y', b'z']);
    let mut data = vec![fill; bytes as usize];
    for _ in 0..rng.below(8) {
        if let Some(byte) = data.get_mut(rng.below(bytes.max(1)) as usize) {
            *byte = rng.below(256) as u8;
        }
    }
    v1::Event {
        to: vec![format!("user:{}", rng.below(USERS))],
        id: id.to_owned(),
        source: SOURCE.to_owned(),
        r#type: "crash.event".to_owned(),
        data: data.into(),
        data_content_type: "application/octet-stream".to_owned(),
        time: Some(Timestamp { seconds: 1_767_225_600, nanos: 0 }),
        ..v1::Event::default()
    }
}

/// Mostly small, some of several sectors, and a few large ones.
fn size(rng: &mut Rng) -> u64 {
    match rng.below(100) {
        0 => 16_000 + rng.below(40_000),
        1..6 => 1_000 + rng.below(4_000),
        _ => rng.below(300),
    }
}
