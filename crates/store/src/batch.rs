//! Events and standing records on their way in: encoded once, with what a store must know of each.
//!
//! The hub builds a [`Batch`] from validated messages; from here on each is bytes.

use std::collections::BTreeSet;
use std::iter;
use std::sync::Arc;

use bytes::Bytes;
use galaxy_push_core::Now;
use galaxy_push_core::frame::LogKind;
use galaxy_push_core::window::Traits;
use galaxy_push_proto::v1;
use prost::Message as _;

use crate::dedup::{Content, Key};
use crate::standing::Change;

/// What is appended together, in this order.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The events or standing records.
    pub items: Vec<Item>,
    /// By what a repetition of the whole is recognised: standing records have one key together.
    pub key: Option<(Key, Content)>,
    /// When the hub took them.
    pub now: Now,
    /// The same moment by the clock of the hub's log, which never steps, in milliseconds since the Unix epoch: what the
    /// log is stamped with. The wall clock's, unless it is set.
    pub stamp_unix_ms: u64,
    /// Whose share of the room for standing records they take; `None` where publishers are not told apart.
    pub publisher: Option<Arc<str>>,
}

/// One event or standing record of a batch.
#[derive(Clone, Debug)]
pub struct Item {
    /// What it is.
    pub kind: LogKind,
    /// By what a repetition of an event is recognised. Standing records have theirs together, in the batch.
    pub key: Option<(Key, Content)>,
    /// [`Traits::EPHEMERAL`], [`Traits::EXPIRES`] and [`Traits::STANDING`] as they apply.
    pub traits: Traits,
    /// The encoded message of its kind.
    pub event: Bytes,
    /// What a standing record changes.
    pub change: Option<Change>,
}

impl Batch {
    /// Encodes validated events of this publisher. Fields lie in the order of their numbers, so `to` is first.
    #[must_use]
    pub fn encode(events: &[v1::Event], publisher: &Arc<str>, now: Now) -> Self {
        Self::of(events.iter().map(|event| Item::event(event, publisher)).collect(), now)
    }

    /// Encodes a validated invalidation.
    #[must_use]
    pub fn invalidation(record: &v1::SessionInvalidation, now: Now) -> Self {
        Self::of(vec![Item::record(LogKind::SessionInvalidation, Change::invalidation(record))], now)
    }

    /// Encodes validated memberships.
    #[must_use]
    pub fn memberships(records: &[v1::Membership], now: Now) -> Self {
        let items =
            records.iter().map(|record| Item::record(LogKind::Membership, Change::membership(record)));
        Self::of(items.collect(), now)
    }

    /// Has its standing records recognised when they come again.
    #[must_use]
    pub fn with_key(mut self, key: Option<(Key, Content)>) -> Self {
        self.key = key;
        self
    }

    /// About how many bytes it takes while it waits.
    pub(crate) fn bytes(&self) -> usize {
        self.items.iter().map(|item| item.event.len() + size_of::<Item>()).sum()
    }

    /// Takes the room for its records from this publisher's share.
    #[must_use]
    pub fn sharing_room(mut self, publisher: Option<&str>) -> Self {
        self.publisher = publisher.map(Arc::from);
        self
    }

    fn of(items: Vec<Item>, now: Now) -> Self {
        Self { items, key: None, now, stamp_unix_ms: now.unix_ms, publisher: None }
    }
}

impl Item {
    fn event(event: &v1::Event, publisher: &Arc<str>) -> Self {
        let mut traits = Traits::PLAIN;
        if event.ephemeral {
            traits = traits.with(Traits::EPHEMERAL);
        }
        if event.ttl.is_some() {
            traits = traits.with(Traits::EXPIRES);
        }
        let key = Key::new(publisher, &event.source, &event.id);
        Self {
            kind: LogKind::Event,
            key: Some((key, content_of(event))),
            traits,
            event: event.encode_to_vec().into(),
            change: None,
        }
    }

    fn record(kind: LogKind, (change, message): (Change, Bytes)) -> Self {
        Self { kind, key: None, traits: Traits::STANDING, event: message, change: Some(change) }
    }
}

/// What makes an event another one: its type, its data and the set of its recipients. Its time, its life and its attributes
/// may differ from one try to the next.
fn content_of(event: &v1::Event) -> Content {
    let recipients: BTreeSet<&str> = event.to.iter().map(String::as_str).collect();
    let parts = iter::once("event").chain(iter::once(&*event.r#type)).map(str::as_bytes);
    Content::of(parts.chain(iter::once(&*event.data)).chain(recipients.into_iter().map(str::as_bytes)))
}
