//! How fast one user's frames are read. What comes faster waits in the socket, and nothing is closed for it.
//!
//! Whatever is read counts ([`paced`](super::paced)), also pings, pongs and a close frame, since these wait behind the others. A pause is shorter than a
//! second, so nobody is taken for dead in it: each frame that is read says that its user is there.

use std::time::Duration;

use galaxy_push_core::rate::Rate;
use tokio::time::Instant;

/// What is earned in this time may be read at once.
const AT_ONCE: Duration = Duration::from_secs(2);

/// One user's.
#[derive(Debug)]
pub(super) struct Pace {
    rate: Rate,
    began: Instant,
    resumes: Instant,
}

impl Pace {
    /// So many frames per second.
    pub(super) fn new(per_second: u32) -> Self {
        let now = Instant::now();
        Self { rate: Rate::new(per_second.into()).at_once(AT_ONCE), began: now, resumes: now }
    }

    /// A frame was read; whether the next one has to wait.
    pub(super) fn on_frame(&mut self) -> bool {
        let now = Instant::now();
        let since = now.duration_since(self.began);
        self.rate.acquire(1, since);
        let wait = self.rate.wait(1, since);
        self.resumes = now + wait.unwrap_or_default();
        wait.is_some()
    }

    /// Whether the next frame may be read now.
    pub(super) fn may_read(&self) -> bool {
        self.resumes <= Instant::now()
    }

    /// From when on it may.
    pub(super) const fn resumes(&self) -> Instant {
        self.resumes
    }
}
