//! What a reader knows of its peer: how large a message it accepts, which kinds it knows, and what it may see.
//!
//! Set by whoever opens a stream, asked by [`Reader`](super::Reader) at each step. Nothing here changes while it reads.

use std::time::Duration;

use crate::frame::{EventView, Kind};
use crate::window::Slot;

/// Which events a reader is entitled to.
///
/// The filter is asked once for each event in the reader's way, under the lock of the window: it must be quick and must not wait.
///
/// ```
/// use galaxy_push_core::frame::EventView;
/// use galaxy_push_core::reader::{Entitled, Filter};
/// use galaxy_push_core::window::Slot;
///
/// struct Only(&'static str);
///
/// impl Filter for Only {
///     fn entitles(&self, event: EventView<'_>, _slot: Slot) -> Entitled {
///         event.recipients().any(|to| to == self.0 || to == "all").into()
///     }
/// }
/// ```
pub trait Filter {
    /// Whether the reader is entitled to this event, which lies at `slot`.
    fn entitles(&self, event: EventView<'_>, slot: Slot) -> Entitled;
}

/// Whether a reader is entitled to an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entitled {
    /// It is sent the event.
    Yes,
    /// The event is not for it: it is skipped.
    No,
    /// Nobody can tell any more: the event is not sent, and a gap stands in its place.
    Unknown,
}

impl From<bool> for Entitled {
    fn from(entitled: bool) -> Self {
        if entitled { Self::Yes } else { Self::No }
    }
}

/// How a stream is read.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// A `Progress` follows when nothing was sent for this long.
    pub heartbeat: Duration,
    /// The largest message the peer accepts, in bytes without the prefix.
    pub message_max: usize,
    /// The most bytes one step sends, unless a single frame is larger.
    pub turn_bytes: usize,
}

impl Default for Settings {
    /// 5 s, 4 MiB, 256 KiB.
    fn default() -> Self {
        Self { heartbeat: Duration::from_secs(5), message_max: 4 << 20, turn_bytes: 256 << 10 }
    }
}

/// Which standing records a reader is sent in their place in the log. No filter hides them; a peer that does not know
/// their kind is not sent them, and its cursor passes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Records {
    /// Session invalidations.
    pub invalidations: bool,
    /// Memberships.
    pub memberships: bool,
}

impl Records {
    pub(super) const fn include(self, kind: Kind) -> bool {
        match kind {
            Kind::SessionInvalidation => self.invalidations,
            Kind::Membership => self.memberships,
            _ => false,
        }
    }
}
