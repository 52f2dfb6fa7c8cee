//! How far one stream has read, for others to look at.
//!
//! The stream writes it after each turn and takes no lock for it. A scrape and [`Hub::status`](crate::Hub::status) read it
//! beside the window; a drain asks it where to say that the stream was cut off. It decides nothing.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use galaxy_push_core::reader::Reader;
use galaxy_push_core::window::Slot;
use galaxy_push_listener::WriteTracker;

use crate::state::sync::AtomicU64;

/// Whether a stream has caught up with the log.
///
/// ```text
/// CatchingUp ── reaches the head ──► Live ── lags a quarter of a bound ──► Behind
///                                     ▲                                      │
///                                     └──────────── reaches the head ────────┘
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StreamPhase {
    /// It replays what is held, and has not reached the head yet.
    CatchingUp = 0,
    /// It has been handed everything, or is about to be.
    Live = 1,
    /// It fell behind and has not caught up since.
    Behind = 2,
}

impl StreamPhase {
    /// Every phase, for metrics that show each of them.
    pub(crate) const ALL: [Self; 3] = [Self::CatchingUp, Self::Live, Self::Behind];

    /// The label value in metrics.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::CatchingUp => "catching_up",
            Self::Live => "live",
            Self::Behind => "behind",
        }
    }
}

/// The gauge of one stream: three atomics, and what its connection has written.
#[derive(Debug, Default)]
pub(crate) struct StreamGauge {
    /// The slot that the stream reads next, as a number.
    next: AtomicU64,
    /// Its [`StreamPhase`], as a number.
    phase: AtomicU8,
    /// Which slot its connection has written everything before. Not there until the stream is open.
    pieces: OnceLock<WriteTracker>,
    /// That the stream was cut off has been logged: once is enough.
    cut_off: AtomicBool,
}

impl StreamGauge {
    /// Takes over where this reader stands.
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

    /// The stream is open, and its pieces are tracked by this.
    pub(crate) fn attach(&self, pieces: WriteTracker) {
        let _ = self.pieces.set(pieces); // it opens once
    }

    /// Marks the stream as cut off. Returns the slot before which its connection surely has written everything; `None`: it
    /// was marked before.
    pub(crate) fn mark_cut_off(&self) -> Option<Slot> {
        let before = self.cut_off.swap(true, Ordering::Relaxed);
        let taken = || {
            self.pieces
                .get()
                .map_or_else(|| self.position().0, |pieces| Slot::default().plus(pieces.written()))
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
