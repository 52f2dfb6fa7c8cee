//! Where a stream stands in the window, for a scrape to look at.
//!
//! A stream writes it after each turn and takes no lock for it; a scrape reads it beside the window.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use galaxy_push_core::reader::Reader;
use galaxy_push_core::window::Slot;
use galaxy_push_listener::WriteTracker;

use crate::state::sync::AtomicU64;

/// What a stream is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StreamPhase {
    /// It has not caught up yet.
    CatchingUp = 0,
    /// It has been handed everything, or is about to be.
    Live = 1,
    /// It fell behind and has not caught up since.
    Behind = 2,
}

impl StreamPhase {
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
pub(crate) struct StreamGauge {
    next: AtomicU64,
    phase: AtomicU8,
    /// By the slot before which they hand over everything. Not there before the stream is open.
    pieces: OnceLock<WriteTracker>,
    /// It was said that the peer is cut off.
    cut_off: AtomicBool,
}

impl StreamGauge {
    pub(crate) fn update(&self, reader: &Reader) {
        let phase = match (reader.is_live(), reader.is_behind()) {
            (true, _) => StreamPhase::Live,
            (_, true) => StreamPhase::Behind,
            _ => StreamPhase::CatchingUp,
        };
        // The two are read apart: a scrape may see one a turn older than the other.
        self.next.store(reader.next().since(Slot::default()), Ordering::Relaxed);
        self.phase.store(phase as u8, Ordering::Relaxed);
    }

    /// The stream is open, and hands over these.
    pub(crate) fn attach(&self, pieces: WriteTracker) {
        let _ = self.pieces.set(pieces); // it opens once
    }

    /// Cuts the stream off: where it stands in the window, as far as its connection surely took what it was handed.
    /// `None`: that was done before.
    pub(crate) fn mark_cut_off(&self) -> Option<Slot> {
        let before = self.cut_off.swap(true, Ordering::Relaxed);
        let taken = || {
            self.pieces.get().map_or_else(|| self.position().0, |pieces| Slot::default().plus(pieces.taken()))
        };
        (!before).then(taken)
    }

    /// The slot it reads next, and what it is doing.
    pub(crate) fn position(&self) -> (Slot, StreamPhase) {
        let phase = StreamPhase::ALL.get(usize::from(self.phase.load(Ordering::Relaxed)));
        let next = Slot::default().plus(self.next.load(Ordering::Relaxed));
        (next, phase.copied().unwrap_or(StreamPhase::CatchingUp))
    }
}
