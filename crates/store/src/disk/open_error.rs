//! Why a log does not open.

use std::io;

use super::files::DirectoryError;
use super::format;

/// Why a store does not open.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The directory cannot be had.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The system says no.
    #[error("{file} cannot be used")]
    Io {
        /// Which file.
        file: String,
        /// What it says.
        source: io::Error,
    },
    /// Another version of the format wrote it.
    #[error(
        "{file} has version {version} of the format and this build knows {}: use the build that wrote it",
        format::VERSION
    )]
    Version {
        /// Which file.
        file: String,
        /// The version.
        version: u32,
    },
    /// Neither the head of this file nor that of another can be read.
    #[error("{file}: its head is damaged and there is no other: move the directory away to begin a new log")]
    Unreadable {
        /// Which file.
        file: String,
    },
    /// It is of another log.
    #[error("{file} is of another log than the files beside it: one log has one directory")]
    Foreign {
        /// Which file.
        file: String,
    },
    /// It has another name than it was given.
    #[error("{file} was written as number {number}: give it back its name")]
    Misplaced {
        /// Which file.
        file: String,
        /// The number that it says.
        number: u64,
    },
    /// It begins before the end of what lies before it.
    #[error("{file} holds positions that lie in a file before it: one of them is from elsewhere")]
    Overlap {
        /// Which file.
        file: String,
    },
    /// Whoever was told of the progress wanted no more.
    #[error("reading was stopped")]
    Stopped,
    /// A group whose checksum is right makes no sense.
    #[error("{file}: what was written at {offset} is not understood: use the build that wrote it")]
    Nonsense {
        /// Which file.
        file: String,
        /// Where.
        offset: u64,
    },
}

impl OpenError {
    pub(super) fn io(file: &str, source: io::Error) -> Self {
        Self::Io { file: file.to_owned(), source }
    }
}
