//! Which of many log lines of one kind are written: about each key the first, second, fourth, eighth and so on, each with
//! how many were left out before it, and anew after a quiet time.
//!
//! What somebody else causes, somebody else can cause a thousand times a second. Pure: the caller passes the time, and
//! writes the line.

use std::collections::BTreeMap;
use std::time::Duration;

/// After this long without one, the next is a first again.
const QUIET: Duration = Duration::from_secs(300);

/// So many keys are counted apart. Those that come beyond share one count, until some have been quiet.
const KEYS_MAX: usize = 1_024;

/// With all keys in use, those that have been quiet are removed this often.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Lines of one kind. Holds at most 1,024 keys.
///
/// ```
/// use std::time::Duration;
/// use galaxy_push_core::log_sampler::LogSampler;
///
/// let mut sampler = LogSampler::default();
/// let written: Vec<_> = (1_000..1_008).filter_map(|second| sampler.count("peer 1", Duration::from_secs(second))).collect();
/// assert_eq!(written, [0, 0, 1, 3], "lines 1, 2, 4 and 8 are written, each with how many were left out before it");
/// ```
#[derive(Debug, Default)]
pub struct LogSampler {
    keys: BTreeMap<String, Counted>,
    others: Counted,
    looked: Duration,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counted {
    lines: u64,
    left_out: u64,
    last: Duration,
}

impl LogSampler {
    /// Counts one occurrence about `key` at this moment. `Some(left_out)`: write the line, and say that `left_out` lines about the same key
    /// were not written since the last one. `None`: write nothing.
    ///
    /// Costs one look-up in a map of at most 1,024 keys.
    pub fn count(&mut self, key: &str, now: Duration) -> Option<u64> {
        if self.keys.len() >= KEYS_MAX && now.saturating_sub(self.looked) >= LOOK_EVERY {
            self.looked = now;
            self.keys.retain(|_, counted| now.saturating_sub(counted.last) < QUIET);
        }
        if let Some(counted) = self.keys.get_mut(key) {
            return counted.count(now);
        }
        if self.keys.len() >= KEYS_MAX {
            return self.others.count(now);
        }
        self.keys.entry(key.to_owned()).or_default().count(now)
    }
}

impl Counted {
    fn count(&mut self, now: Duration) -> Option<u64> {
        if now.saturating_sub(self.last) >= QUIET {
            self.lines = 0;
        }
        self.last = now;
        self.lines += 1;
        if self.lines.is_power_of_two() {
            return Some(std::mem::take(&mut self.left_out));
        }
        self.left_out += 1;
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_is_written_half_as_often_as_the_one_before() {
        let mut sampler = LogSampler::default();
        let at = Duration::from_secs;
        let written: Vec<_> = (0..20).filter_map(|second| sampler.count("a", at(1_000 + second))).collect();
        assert_eq!(written, [0, 0, 1, 3, 7]);
        assert_eq!(sampler.count("b", at(1_019)), Some(0), "another key");
        assert_eq!(sampler.count("a", at(1_019) + QUIET), Some(4), "what was left out is told after all");
        assert_eq!(sampler.count("a", at(1_020) + QUIET), Some(0));
    }

    #[test]
    fn keys_without_end_cost_neither_memory_nor_lines() {
        let mut sampler = LogSampler::default();
        let written = (0..100_000).filter(|key| sampler.count(&key.to_string(), QUIET).is_some()).count();
        assert!(sampler.keys.len() == KEYS_MAX && written < KEYS_MAX + 20, "{written}");
        assert_eq!(sampler.count("fresh", QUIET * 3), Some(0));
        assert_eq!(sampler.keys.len(), 1);
    }
}
