//! Events on their way in: encoded once, with what a store must know of each.
//!
//! The hub builds a [`Batch`] from validated messages; from here on an event is bytes.

use bytes::Bytes;
use galaxy_push_core::Now;
use galaxy_push_core::window::Traits;
use galaxy_push_proto::v1;
use prost::Message as _;

use crate::dedup::Key;

/// Events that are appended together, in this order.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The events.
    pub items: Vec<Item>,
    /// When the hub took them.
    pub now: Now,
}

/// One event of a batch.
#[derive(Clone, Debug)]
pub struct Item {
    /// Its identity.
    pub key: Key,
    /// [`Traits::EPHEMERAL`] and [`Traits::EXPIRES`] as they apply.
    pub traits: Traits,
    /// The encoded `Event`.
    pub event: Bytes,
}

impl Batch {
    /// Encodes validated events. Fields lie in the order of their numbers, so `to` is first.
    #[must_use]
    pub fn encode(events: &[v1::Event], now: Now) -> Self {
        Self { items: events.iter().map(Item::encode).collect(), now }
    }
}

impl Item {
    fn encode(event: &v1::Event) -> Self {
        let mut traits = Traits::PLAIN;
        if event.ephemeral {
            traits = traits.with(Traits::EPHEMERAL);
        }
        if event.ttl.is_some() {
            traits = traits.with(Traits::EXPIRES);
        }
        Self { key: Key::new(&event.source, &event.id), traits, event: event.encode_to_vec().into() }
    }
}
