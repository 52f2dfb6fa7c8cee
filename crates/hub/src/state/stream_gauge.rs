//! Where a stream stands in the window, for a scrape to look at.
//!
//! A stream writes it after each turn and takes no lock for it; a scrape reads it beside the window.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use galaxy_push_core::reader::Reader;
use galaxy_push_core::window::Slot;
use galaxy_push_listener::Pieces;

use crate::state::sync::AtomicU64;

/// What a stream is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Class {
    /// It has not caught up yet.
    CatchingUp = 0,
    Live = 1,
    /// It fell behind and has not caught up since.
    Behind = 2,
}

impl Class {
    pub(crate) const ALL: [Self; 3] = [Self::CatchingUp, Self::Live, Self::Behind];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::CatchingUp => "catching_up",
            Self::Live => "live",
            Self::Behind => "behind",
        }
    }
}

/// The place of one stream.
#[derive(Debug, Default)]
pub(crate) struct Place {
    next: AtomicU64,
    class: AtomicU8,
    /// By the slot before which they hand over everything. Not there before the stream is open.
    pieces: OnceLock<Pieces>,
    /// It was said that the peer is cut off.
    cut_off: AtomicBool,
}

impl Place {
    pub(crate) fn set(&self, reader: &Reader) {
        let class = match (reader.is_live(), reader.is_behind()) {
            (true, _) => Class::Live,
            (_, true) => Class::Behind,
            _ => Class::CatchingUp,
        };
        // The two are read apart: a scrape may see one a turn older than the other.
        self.next.store(reader.next().since(Slot::default()), Ordering::Relaxed);
        self.class.store(class as u8, Ordering::Relaxed);
    }

    /// The stream is open, and hands over these.
    pub(crate) fn takes(&self, pieces: Pieces) {
        let _ = self.pieces.set(pieces); // it opens once
    }

    /// Cuts the stream off: where it stands in the window, as far as its connection surely took what it was handed.
    /// `None`: that was done before.
    pub(crate) fn cut_off(&self) -> Option<Slot> {
        let before = self.cut_off.swap(true, Ordering::Relaxed);
        let taken =
            || self.pieces.get().map_or_else(|| self.get().0, |pieces| Slot::default().plus(pieces.taken()));
        (!before).then(taken)
    }

    /// The slot it reads next, and what it is doing.
    pub(crate) fn get(&self) -> (Slot, Class) {
        let class = Class::ALL.get(usize::from(self.class.load(Ordering::Relaxed)));
        let next = Slot::default().plus(self.next.load(Ordering::Relaxed));
        (next, class.copied().unwrap_or(Class::CatchingUp))
    }
}
