//! What the keys and values of the two buckets have in common. Pure.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

use crate::fields::Fields;

/// The version of every form. A value of another one is not touched.
pub(super) const VERSION: u8 = 1;

/// A name of more bytes than these has its hash in a key.
const KEYED_BYTES_MAX: usize = 64;

/// What is not a value of this version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// A later hub wrote it.
    #[error("it has version {0}, and this hub knows {VERSION}: all hubs must be of one age")]
    Version(u8),
    /// No hub wrote it.
    #[error("no hub wrote it")]
    Foreign,
}

/// A name, which may have characters that a key may not, in hexadecimal.
pub(super) enum InKey {
    Whole(String),
    Hash(String),
}

impl InKey {
    pub(super) fn of(name: &str) -> Self {
        if name.len() <= KEYED_BYTES_MAX {
            Self::Whole(hex(name.as_bytes()))
        } else {
            Self::Hash(hex(&Sha256::digest(name.as_bytes())))
        }
    }
}

/// The fields of a value behind its version.
pub(super) fn versioned(bytes: &[u8]) -> Result<Fields<'_>, Unreadable> {
    let mut fields = Fields(bytes);
    match fields.u8() {
        Some(VERSION) => Ok(fields),
        Some(other) => Err(Unreadable::Version(other)),
        None => Err(Unreadable::Foreign),
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}"); // a String takes everything
        text
    })
}
