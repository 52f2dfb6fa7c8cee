//! What a filtered stream is filtered by: recipients, of which an event must have at least one.
//!
//! `subscription/request.rs` makes it of a subscribe request, and the reader asks it about each event under the log's lock.
//! So a look must not cost more with more patterns: exact ones are looked up in a set, and of the prefixes only one can
//! match, because none that begins with another is kept.
//!
//! ```text
//! patterns  user:1  user:2  topic:*  topic:news*      kept: exact {user:1, user:2}, prefixes {topic:}
//! event to  topic:sports                              the nearest prefix that sorts before it is topic: — it matches
//! ```

use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::Arc;

use galaxy_push_core::frame::EventView;
use galaxy_push_core::reader::{Entitled, Filter};
use galaxy_push_core::recipient::Pattern;
use galaxy_push_core::window::Slot;

/// Recipients and beginnings of recipients. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Patterns(Arc<Sets>);

/// Two ways to match: the whole recipient, or its beginning.
#[derive(Debug, Default)]
struct Sets {
    exact: BTreeSet<String>,
    /// None of them begins with another.
    beginnings: BTreeSet<String>,
}

impl Patterns {
    /// The filter of these patterns. A prefix that another one covers is left out.
    pub(crate) fn new(patterns: &[Pattern]) -> Self {
        let mut sets = Sets::default();
        for pattern in patterns.iter().map(ToString::to_string) {
            // An id may hold stars, but a pattern that ends with one is always a beginning.
            match pattern.strip_suffix('*') {
                Some(beginning) if sets.begins(beginning) => {}
                Some(beginning) => {
                    sets.beginnings.retain(|longer| !longer.starts_with(beginning));
                    sets.beginnings.insert(beginning.to_owned());
                }
                None => _ = sets.exact.insert(pattern),
            }
        }
        Self(Arc::new(sets))
    }

    /// Whether one of the patterns admits this recipient.
    fn admit(&self, recipient: &str) -> bool {
        self.0.exact.contains(recipient) || self.0.begins(recipient)
    }
}

impl Sets {
    /// Whether one of the beginnings is one of this text. Only the last one that does not sort behind it can be: whatever
    /// sorts between a beginning and the text begins with that, too, and of two such only one is kept.
    fn begins(&self, text: &str) -> bool {
        let until = (Bound::Unbounded, Bound::Included(text));
        let nearest = self.beginnings.range::<str, _>(until).next_back();
        nearest.is_some_and(|beginning| text.starts_with(beginning))
    }
}

impl Filter for Patterns {
    fn entitles(&self, event: EventView<'_>, _slot: Slot) -> Entitled {
        event.recipients().any(|recipient| self.admit(recipient)).into()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn admit_what_any_single_pattern_admits(
            patterns in prop::collection::vec("(user|topic):[ab*]{0,3}\\*?|u\\*|\\*|all", 0..12),
            recipients in prop::collection::vec("(user|topic):[ab*c]{1,4}|all", 1..20),
        ) {
            let patterns: Vec<_> = patterns.iter().filter_map(|text| Pattern::parse(text).ok()).collect();
            let together = Patterns::new(&patterns);
            for recipient in &recipients {
                let expected = patterns.iter().any(|pattern| pattern.admits(recipient));
                prop_assert_eq!(together.admit(recipient), expected, "{} {:?}", recipient, patterns);
            }
        }
    }
}
