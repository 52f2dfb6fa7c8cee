//! What a process takes from its surroundings besides time: the wall clock and randomness, as values passed in.
//!
//! Hub, gateway and client hold an [`Ambient`] and ask it instead of the operating system, so that a simulation, which
//! passes its own, replays exactly.

use std::fmt;
use std::sync::Arc;

type Source = Arc<dyn Fn() -> u64 + Send + Sync>;

/// The wall clock and a source of random numbers. Cheap to clone.
///
/// ```
/// use galaxy_push_core::ambient::Ambient;
///
/// let fixed = Ambient::new(|| 1_700_000_000_000, || 4); // what a test passes
/// assert_eq!(fixed.unix_ms(), 1_700_000_000_000);
/// assert_eq!(fixed.random_128(), (4 << 64) | 4);
/// ```
#[derive(Clone)]
pub struct Ambient {
    unix_ms: Source,
    random: Source,
}

impl Ambient {
    /// `unix_ms` reads the wall clock in milliseconds since the Unix epoch; `random` draws 64 uniform bits.
    pub fn new(
        unix_ms: impl Fn() -> u64 + Send + Sync + 'static,
        random: impl Fn() -> u64 + Send + Sync + 'static,
    ) -> Self {
        Self { unix_ms: Arc::new(unix_ms), random: Arc::new(random) }
    }

    /// The wall clock, in milliseconds since the Unix epoch.
    #[must_use]
    pub fn unix_ms(&self) -> u64 {
        (self.unix_ms)()
    }

    /// 64 uniform random bits.
    #[must_use]
    pub fn random(&self) -> u64 {
        (self.random)()
    }

    /// 128 uniform random bits, enough to never repeat.
    #[must_use]
    pub fn random_128(&self) -> u128 {
        u128::from(self.random()) << 64 | u128::from(self.random())
    }
}

impl fmt::Debug for Ambient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ambient").finish_non_exhaustive()
    }
}
