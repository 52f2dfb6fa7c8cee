//! The bytes of the fence in its bucket: who took a gateway id, at which hub; and the beats by which a hub sees how far it has read.
//!
//! Pure. What a register says is decided in [`fence`](crate::fence); here it only becomes a key and a value. What is read may come
//! from anybody who may write to the bucket. All numbers are little-endian.

mod flap;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use super::HubId;
use super::bucket::{InKey, Unreadable, VERSION, versioned};
use crate::Holder;
use crate::fence::{INSTANCES_MAX, OwnershipFlap};
use crate::fields::{Fields, put_bytes};

/// So many generations are kept free behind each that a register gives out. A hub that cannot reach the bucket numbers the streams
/// that come back to it from these, and another hub, which cannot know how many there were, goes on behind them.
const APART: u64 = 1 << 16;

/// No hub counts so far: what says that it did, none has written.
const GENERATION_MAX: u64 = 1 << 62;

/// The most ids of which a hub remembers that it holds them: some 300 bytes each, and 4 KiB
/// more at most of one that is fought over. Of more, those that were taken longest ago are
/// forgotten, and their gateways wait like all others while the bucket cannot be reached.
const HELD_MAX: usize = 65_536;

/// What a hub has written of an id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Register {
    /// Where the id was taken.
    pub door: HubId,
    /// The id.
    pub gateway: String,
    /// Who took it.
    pub holder: Holder,
}

/// A sign of life, written by a hub to see it come back: everything that was written before has been read then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Beat {
    /// Which of this hub's beats it is.
    pub number: u64,
    /// The highest generation it knows of: whoever reads this gives out none below, even if its register is gone.
    pub highest: u64,
}

/// The key of an id, which may have characters that a key may not.
#[must_use]
pub fn key(gateway: &str) -> String {
    match InKey::of(gateway) {
        InKey::Whole(name) => format!("id.{name}"),
        InKey::Hash(hash) => format!("hash.{hash}"),
    }
}

/// The key of a hub's beats.
#[must_use]
pub fn beat_key(hub: HubId) -> String {
    format!("hub.{:032x}", hub.0)
}

/// The generation behind which the next one lies, where this is the highest that anybody has given out.
#[must_use]
pub const fn used_up(highest: u64) -> u64 {
    highest | (APART - 1)
}

impl Register {
    /// Its bytes.
    #[must_use]
    pub fn write(&self) -> Vec<u8> {
        let Holder { generation, instance, peer, attempts, flap } = &self.holder;
        let mut out = vec![VERSION];
        out.extend_from_slice(&self.door.0.to_le_bytes());
        out.extend_from_slice(&generation.to_le_bytes());
        for text in [&self.gateway, instance, peer] {
            put_bytes(&mut out, text.as_bytes());
        }
        let mut put = |text: &str, number: u64| {
            put_bytes(&mut out, text.as_bytes());
            out.extend_from_slice(&number.to_le_bytes());
        };
        let mut passed_over = 0;
        if let Some((text, version)) = flap::write(flap) {
            put(&text, version);
            // It is one of as many as may be.
            passed_over = attempts.len().saturating_sub(INSTANCES_MAX - 1);
        }
        for (instance, attempt) in &attempts[passed_over..] {
            put(instance, *attempt);
        }
        out
    }

    /// Reads its bytes.
    ///
    /// # Errors
    ///
    /// [`Unreadable`]: they are none.
    pub fn read(bytes: &[u8]) -> Result<Self, Unreadable> {
        let fields = versioned(bytes)?;
        Self::read_fields(fields).ok_or(Unreadable::Foreign)
    }

    fn read_fields(mut fields: Fields<'_>) -> Option<Self> {
        let (door, generation) = (HubId(fields.u128()?), generation(fields.u64()?)?);
        let mut text = || fields.text().map(str::to_owned);
        let (gateway, instance, peer) = (text()?, text()?, text()?);
        let (mut attempts, mut flap, mut read) = (Vec::new(), OwnershipFlap::default(), 0);
        while !fields.0.is_empty() {
            read += 1;
            if read > INSTANCES_MAX {
                return None;
            }
            let (text, number) = (fields.text()?, fields.u64()?);
            match flap::read(text, number) {
                Some(read) => flap = read,
                None => attempts.push((text.to_owned(), number)),
            }
        }
        Some(Self { door, gateway, holder: Holder { generation, instance, peer, attempts, flap } })
    }
}

impl Beat {
    /// Its bytes.
    #[must_use]
    pub fn write(self) -> Vec<u8> {
        [&[VERSION][..], &self.number.to_le_bytes(), &self.highest.to_le_bytes()].concat()
    }

    /// Reads its bytes.
    ///
    /// # Errors
    ///
    /// [`Unreadable`]: they are none.
    pub fn read(bytes: &[u8]) -> Result<Self, Unreadable> {
        let mut fields = versioned(bytes)?;
        let mut read = || Some(Self { number: fields.u64()?, highest: generation(fields.u64()?)? });
        read().ok_or(Unreadable::Foreign)
    }
}

fn generation(number: u64) -> Option<u64> {
    (number < GENERATION_MAX).then_some(number)
}

/// The ids that this hub has taken, and nobody at another since as far as it has read.
#[derive(Debug, Default)]
pub struct Held {
    by_id: BTreeMap<String, (u64, Holder)>,
    /// The same, by when they were taken.
    by_revision: BTreeMap<u64, String>,
}

impl Held {
    /// This hub has taken the id, at this revision of the bucket.
    pub fn took(&mut self, gateway: &str, revision: u64, holder: Holder) {
        self.lost(gateway);
        self.by_id.insert(gateway.to_owned(), (revision, holder));
        self.by_revision.insert(revision, gateway.to_owned());
        if self.by_id.len() > HELD_MAX
            && let Some((_, oldest)) = self.by_revision.pop_first()
        {
            self.by_id.remove(&oldest);
        }
    }

    /// Another hub has taken it.
    pub fn lost(&mut self, gateway: &str) {
        if let Some((revision, _)) = self.by_id.remove(gateway) {
            self.by_revision.remove(&revision);
        }
    }

    /// Who took the id here.
    #[must_use]
    pub fn holder(&self, gateway: &str) -> Option<&Holder> {
        self.by_id.get(gateway).map(|(_, holder)| holder)
    }
}
