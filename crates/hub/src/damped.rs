//! How often something happened that anybody can make happen as often as they like, and which times are worth a log line:
//! the first, second, fourth, eighth, …
//!
//! Pure but for its lock. Asked before a line is written about a peer that is refused.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// So many names are counted apart. Whoever comes while all of them are in use is counted with the rest.
const NAMES_MAX: usize = 256;

/// What did not happen for so long begins anew.
const QUIET: Duration = Duration::from_secs(300);

/// Counts by name.
#[derive(Debug, Default)]
pub(crate) struct Damped(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    /// Those that happened latest last.
    names: VecDeque<Count>,
    rest: Count,
}

#[derive(Debug, Default)]
struct Count {
    name: String,
    times: u64,
    latest: Duration,
}

impl Damped {
    /// It happened to this name now; `Some`: how often so far, and that this time is worth a line.
    pub(crate) fn happened(&self, name: &str, now: Duration) -> Option<u64> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let times = counts.count(name, now);
        times.is_power_of_two().then_some(times)
    }
}

impl Counts {
    fn count(&mut self, name: &str, now: Duration) -> u64 {
        let is_quiet = |count: &Count| now.saturating_sub(count.latest) > QUIET;
        while self.names.front().is_some_and(is_quiet) {
            self.names.pop_front();
        }
        if is_quiet(&self.rest) {
            self.rest = Count::default();
        }
        let known =
            self.names.iter().position(|count| count.name == name).and_then(|at| self.names.remove(at));
        let mut count = match known {
            Some(count) => count,
            None if self.names.len() < NAMES_MAX => Count { name: name.to_owned(), ..Count::default() },
            None => {
                (self.rest.times, self.rest.latest) = (self.rest.times + 1, now);
                return self.rest.times;
            }
        };
        (count.times, count.latest) = (count.times + 1, now);
        let times = count.times;
        self.names.push_back(count);
        times
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn tells_the_first_the_second_the_fourth_and_begins_anew_after_quiet() {
        let damped = Damped::default();
        let told: Vec<_> = (0..20).filter_map(|_| damped.happened("a", s(1))).collect();
        assert_eq!(told, [1, 2, 4, 8, 16]);
        assert_eq!(damped.happened("b", s(1)), Some(1));
        assert_eq!(damped.happened("a", s(301)), None);
        assert_eq!(damped.happened("a", s(602)), Some(1));
    }

    #[test]
    fn inventing_names_writes_few_lines_and_holds_no_more() {
        let damped = Damped::default();
        let told = (0..100_000).filter_map(|n| damped.happened(&n.to_string(), s(1))).count();
        assert!(told < NAMES_MAX + 20, "{told}");
        assert_eq!(damped.0.lock().unwrap().names.len(), NAMES_MAX);
    }
}
