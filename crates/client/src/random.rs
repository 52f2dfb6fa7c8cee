//! The client's random numbers: jitter and the instance id. Nothing secret is made of them.

use std::fmt;

/// A source of numbers uniform over all of `u64`.
pub(crate) struct Random(Box<dyn FnMut() -> u64 + Send>);

impl Random {
    pub(crate) fn new(source: impl FnMut() -> u64 + Send + 'static) -> Self {
        Self(Box::new(source))
    }

    /// Seeded by the operating system.
    pub(crate) fn from_os() -> Result<Self, getrandom::Error> {
        Ok(Self::seeded(getrandom::u64()?))
    }

    /// The same numbers for the same seed.
    pub(crate) fn seeded(mut state: u64) -> Self {
        // SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014): passes BigCrush,
        // which is more than jitter asks for.
        Self::new(move || {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^ (mixed >> 31)
        })
    }

    pub(crate) fn next(&mut self) -> u64 {
        (self.0)()
    }
}

impl fmt::Debug for Random {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Random")
    }
}
