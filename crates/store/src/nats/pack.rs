//! The bytes of a message in the stream: what one hub packed together.
//!
//! Pure. [`Door`](super::Door) writes with it, [`StateMachine`](super::StateMachine) reads. All numbers are little-endian. What is read may come
//! from anybody who may write to the stream: every length is checked against what is there, and nothing takes more memory than
//! a small multiple of the message.
//!
//! A pack is a head and requests up to its end. The head: magic, version, epoch, the hub, which of its packs this is, and the
//! last message that the hub had read when it wrote it. A request: its publisher, in whose share of the room its records lie, when it was taken, its key
//! if its records have one together, and its items. The key of an event is in the event.

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use galaxy_push_core::Now;
use galaxy_push_core::cursor::{Epoch, MESSAGE_ITEMS_MAX};
use galaxy_push_core::frame::{EventView, LogKind};
use galaxy_push_core::window::Traits;
use galaxy_push_proto::v1;
use prost::Message as _;

use crate::batch::{Batch, Item};
use crate::dedup::Key;
use crate::fields::{Fields, kind_byte, put_bytes};
use crate::standing::Change;

/// The version of the format. A hub that meets another one does not know what the log says, and ends.
pub const VERSION: u16 = 1;

/// What a pack takes besides its requests, in bytes.
pub const HEAD_BYTES: usize = MAGIC.len() + 2 + 16 + 16 + 8 + 8;

const MAGIC: [u8; 4] = *b"GPpk";

/// What a request takes besides its texts and items, in bytes: three lengths, three flags, two times.
const REQUEST_BYTES: usize = 4 + (1 + 4) + 8 + 8 + 1 + 4;

/// What the key of a request takes besides its text, in bytes.
const KEY_BYTES: usize = CONTENT_BYTES + 4;

/// What an item takes besides its message and its content's fingerprint, in bytes.
const ITEM_BYTES: usize = 1 + 1 + 1 + 4;

const CONTENT_BYTES: usize = 16;

/// Who wrote a pack: 128 random bits, drawn anew each time a hub opens the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HubId(pub u128);

/// What a pack says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The log it was written for.
    pub epoch: Epoch,
    /// The hub that wrote it.
    pub hub: HubId,
    /// Which of this hub's packs it is, from 1 on.
    pub number: u64,
    /// The last message that this hub had read: up to there it had looked for every key of the pack, and found none.
    pub read: u64,
}

/// What lies in a message: requests of one hub, each contiguous.
#[derive(Clone, Debug)]
pub struct Pack {
    /// What it says of itself.
    pub head: Head,
    /// In the order in which they were taken. None of them is empty, and they have at most [`MESSAGE_ITEMS_MAX`] items together. The
    /// monotonic time of each is zero.
    pub requests: Vec<Batch>,
}

impl Pack {
    /// How many items it has.
    #[must_use]
    pub fn items(&self) -> usize {
        self.requests.iter().map(|request| request.items.len()).sum()
    }
}

/// Why a message is no pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoPack {
    /// No hub wrote it.
    #[error("it was not written by a hub")]
    Foreign,
    /// A hub of another version wrote it.
    #[error("it is of version {0} of the format, and this build reads version {VERSION}")]
    Version(u16),
}

/// How many bytes a request takes in a pack.
#[must_use]
pub fn request_bytes(batch: &Batch) -> usize {
    let share = batch.publisher.as_ref().map_or(0, |share| share.len());
    let key = batch.key.as_ref().map_or(0, |(key, _)| KEY_BYTES + key.text().len());
    let items = batch.items.iter().map(|item| {
        let content = if item.key.is_some() { CONTENT_BYTES } else { 0 };
        ITEM_BYTES + content + item.event.len()
    });
    REQUEST_BYTES + publisher_of(batch).len() + share + key + items.sum::<usize>()
}

/// Begins a pack.
pub(crate) fn put_head(out: &mut Vec<u8>, head: &Head) {
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(&head.epoch.0.to_le_bytes());
    out.extend_from_slice(&head.hub.0.to_le_bytes());
    out.extend_from_slice(&head.number.to_le_bytes());
    out.extend_from_slice(&head.read.to_le_bytes());
}

/// Adds a request, which is not empty. Its keys are all of one publisher.
pub(crate) fn put_request(out: &mut Vec<u8>, batch: &Batch) {
    put_bytes(out, publisher_of(batch).as_bytes());
    out.push(batch.publisher.is_some().into());
    put_bytes(out, batch.publisher.as_deref().unwrap_or_default().as_bytes());
    out.extend_from_slice(&batch.now.unix_ms.to_le_bytes());
    out.extend_from_slice(&batch.stamp_unix_ms.to_le_bytes());
    out.push(batch.key.is_some().into());
    if let Some((key, content)) = &batch.key {
        out.extend_from_slice(&content.to_bytes());
        put_bytes(out, key.text().as_bytes());
    }
    out.extend_from_slice(&(batch.items.len() as u32).to_le_bytes());
    for item in &batch.items {
        out.extend_from_slice(&[kind_byte(item.kind), item.traits.bits(), item.key.is_some().into()]);
        if let Some((_, content)) = &item.key {
            out.extend_from_slice(&content.to_bytes());
        }
        put_bytes(out, &item.event);
    }
}

/// Reads a message. The items of the pack are slices of it.
///
/// # Errors
///
/// [`NoPack`]: no hub wrote it, or one of another version.
pub fn read(message: &Bytes) -> Result<Pack, NoPack> {
    let mut rest = Rest { message, left: Fields(message) };
    if rest.left.take(MAGIC.len()) != Some(&MAGIC[..]) {
        return Err(NoPack::Foreign);
    }
    match rest.left.u16() {
        Some(VERSION) => rest.pack().ok_or(NoPack::Foreign),
        Some(version) => Err(NoPack::Version(version)),
        None => Err(NoPack::Foreign),
    }
}

/// What is left of a message.
struct Rest<'a> {
    message: &'a Bytes,
    left: Fields<'a>,
}

impl Rest<'_> {
    fn pack(&mut self) -> Option<Pack> {
        let head = Head {
            epoch: Epoch(self.left.u128()?),
            hub: HubId(self.left.u128()?),
            number: self.left.u64()?,
            read: self.left.u64()?,
        };
        let (mut requests, mut room) = (Vec::new(), MESSAGE_ITEMS_MAX);
        while !self.left.0.is_empty() {
            let request = self.request(room)?;
            room -= request.items.len();
            requests.push(request);
        }
        (!requests.is_empty()).then_some(Pack { head, requests })
    }

    fn request(&mut self, items_max: usize) -> Option<Batch> {
        let publisher: Arc<str> = self.left.text()?.into();
        let has_share = self.left.flag()?;
        let share = self.left.text()?;
        let (unix_ms, stamp_unix_ms) = (self.left.u64()?, self.left.u64()?);
        let key = if self.left.flag()? {
            let content = self.left.content()?;
            Some((Key::of_text(&publisher, self.left.text()?), content))
        } else {
            None
        };
        let count = self.left.u32()? as usize;
        // No count is believed before as much is there.
        if count == 0 || count > items_max || count > self.left.0.len() / ITEM_BYTES {
            return None;
        }
        let mut items = Vec::with_capacity(count);
        for _ in 0..count {
            items.push(self.item(&publisher)?);
        }
        let now = Now { mono: Duration::ZERO, unix_ms };
        Some(Batch { items, key, now, stamp_unix_ms, publisher: has_share.then(|| share.into()) })
    }

    fn item(&mut self, publisher: &Arc<str>) -> Option<Item> {
        let (kind, bits, has_content) = (self.left.kind()?, self.left.u8()?, self.left.flag()?);
        let content = if has_content { Some(self.left.content()?) } else { None };
        let message = self.left.bytes()?;
        let (is_event, traits) = (kind == LogKind::Event, Traits::from_bits(bits));
        // What else there is, a store says itself.
        let may_have = if is_event { Traits::EPHEMERAL.with(Traits::EXPIRES) } else { Traits::STANDING };
        if !may_have.has(traits) || is_event == traits.has(Traits::STANDING) || content.is_some() && !is_event
        {
            return None;
        }
        let key = content.map(|content| {
            let event = EventView::of(message);
            (Key::new(publisher, event.source(), event.id()), content)
        });
        let change = match kind {
            LogKind::Event => None,
            LogKind::SessionInvalidation => {
                Some(Change::invalidation(&v1::SessionInvalidation::decode(message).ok()?).0)
            }
            LogKind::Membership => Some(Change::membership(&v1::Membership::decode(message).ok()?).0),
        };
        Some(Item { kind, key, traits, event: self.message.slice_ref(message), change })
    }
}

/// Whose keys a request has.
fn publisher_of(batch: &Batch) -> &str {
    let of_items = || batch.items.iter().find_map(|item| item.key.as_ref());
    batch.key.as_ref().or_else(of_items).map_or("", |(key, _)| key.publisher())
}
