//! The bytes of a matter's records in their bucket: its key, and its value.
//!
//! Pure. What is read may come from anybody who may write to the bucket: it is believed only if its records are about what its
//! key says. All numbers are little-endian.

use std::sync::Arc;

use bytes::Bytes;
use galaxy_push_core::cursor::{Cursor, Epoch, Seq};
use galaxy_push_proto::v1;
use galaxy_push_proto::validate::INVALIDATIONS_PER_HOLDER_MAX;
use prost::Message as _;

use crate::fields::{Fields, kind_byte, put_bytes};
use crate::nats::bucket::{InKey, Unreadable, VERSION, versioned};
use crate::standing::{Change, Matter};

/// What holds of a matter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    /// What it is about.
    pub matter: Matter,
    /// Up to where in the log it says what holds.
    pub at: Cursor,
    /// When nobody needs it any more, in milliseconds since the Unix epoch.
    pub until_ms: i64,
    /// The records that hold. None: the membership has ended.
    pub records: Vec<Kept>,
}

/// A record that holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The encoded message, as it is in the log.
    pub message: Bytes,
    /// In whose share of the room it lies, where publishers are told apart.
    pub share: Option<Arc<str>>,
}

/// The key of a matter, whose names may have characters that a key may not.
#[must_use]
pub fn key(matter: &Matter) -> String {
    match matter {
        Matter::Tokens(recipient) => format!("tokens.{}", part(recipient)),
        Matter::Membership(recipient, topic) => format!("member.{}.{}", part(recipient), part(topic)),
    }
}

fn part(name: &str) -> String {
    match InKey::of(name) {
        InKey::Whole(name) => name,
        InKey::Hash(hash) => format!("hash-{hash}"),
    }
}

impl Value {
    /// Its bytes.
    #[must_use]
    pub fn write(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        out.extend_from_slice(&self.at.epoch.0.to_le_bytes());
        out.extend_from_slice(&self.at.seq.0.to_le_bytes());
        out.extend_from_slice(&self.until_ms.to_le_bytes());
        out.push(kind_byte(self.matter.kind()));
        let (recipient, topic) = match &self.matter {
            Matter::Tokens(recipient) => (recipient, ""),
            Matter::Membership(recipient, topic) => (recipient, &**topic),
        };
        put_bytes(&mut out, recipient.as_bytes());
        put_bytes(&mut out, topic.as_bytes());
        for Kept { message, share } in &self.records {
            out.push(share.is_some().into());
            put_bytes(&mut out, share.as_deref().unwrap_or_default().as_bytes());
            put_bytes(&mut out, message);
        }
        out
    }

    /// Reads the bytes that lie under a key.
    ///
    /// # Errors
    ///
    /// [`Unreadable`]: they are none.
    pub fn read(under: &str, bytes: &Bytes) -> Result<Self, Unreadable> {
        let fields = versioned(bytes)?;
        let value = Self::read_fields(fields, bytes).filter(|value| key(&value.matter) == under);
        value.ok_or(Unreadable::Foreign)
    }

    fn read_fields(mut fields: Fields<'_>, bytes: &Bytes) -> Option<Self> {
        let at = Cursor { epoch: Epoch(fields.u128()?), seq: Seq(fields.u64()?) };
        let until_ms = fields.u64()?.cast_signed();
        let kind = fields.kind()?;
        let (recipient, topic) = (fields.text()?, fields.text()?);
        let tokens = Matter::Tokens(recipient.into());
        let membership = Matter::Membership(recipient.into(), topic.into());
        let matter = [tokens, membership].into_iter().find(|matter| matter.kind() == kind)?;
        let records_max = if matches!(matter, Matter::Tokens(_)) { INVALIDATIONS_PER_HOLDER_MAX } else { 1 };
        let mut records = Vec::new();
        while !fields.0.is_empty() {
            let (has_share, share) = (fields.flag()?, fields.text()?);
            let message = bytes.slice_ref(fields.bytes()?);
            let kept = Kept { message, share: has_share.then(|| share.into()) };
            if kept.change(&matter)?.matter() != matter || records.len() >= records_max {
                return None;
            }
            records.push(kept);
        }
        // Of invalidations there is no end but their own.
        let is_whole = !records.is_empty() || matches!(matter, Matter::Membership(..));
        is_whole.then_some(Self { matter, at, until_ms, records })
    }
}

impl Kept {
    /// What it changes. `None`: it is no such record.
    pub(super) fn change(&self, matter: &Matter) -> Option<Change> {
        let change = match matter {
            Matter::Tokens(_) => {
                Change::invalidation(&v1::SessionInvalidation::decode(&*self.message).ok()?).0
            }
            Matter::Membership(..) => Change::membership(&v1::Membership::decode(&*self.message).ok()?).0,
        };
        Some(change)
    }
}
