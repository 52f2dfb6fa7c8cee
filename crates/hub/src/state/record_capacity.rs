//! Warns in the log when the room for standing records runs out, before anything is refused.
//!
//! `app/publish.rs` calls it after each append of records. At 80 percent of a bound there is one line, and another only
//! after it was below 70 percent, so that a count at the border does not fill the log. It refuses nothing: the store does.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use galaxy_push_core::frame::LogKind;
use galaxy_push_store::Store;
use galaxy_push_store::standing::Fill;

/// At so many percent of a bound there is a warning; and the next one after it was below the second figure.
const TOLD_AT: usize = 80;
const FORGOTTEN_BELOW: usize = 70;

/// Which bounds are nearly reached and were warned about: of each kind, in all and for each publisher. So it is bounded by
/// how many publishers the hub knows.
#[derive(Debug, Default)]
pub(crate) struct RecordCapacity(Mutex<BTreeSet<(&'static str, Option<String>)>>);

impl RecordCapacity {
    /// Looks after records of this kind were appended, for this publisher where each has a share.
    pub(crate) fn warn_if_nearly_full(
        &self,
        store: &dyn Store,
        kind: LogKind,
        publisher: Option<&str>,
        now_unix_ms: u64,
    ) {
        let records = match kind {
            LogKind::SessionInvalidation => "session invalidations",
            LogKind::Membership | LogKind::Event => "memberships",
        };
        let fill = store.standing_fill(kind, None, now_unix_ms);
        if self.is_news(records, None, fill) {
            tracing::warn!(
                records,
                held = fill.held,
                most = fill.max,
                "the room for standing records runs out: at the bound more are refused (RECORDS_FULL); give them an earlier \
                 end, or raise --max-standing-records"
            );
        }
        let Some(publisher) = publisher else { return };
        let fill = store.standing_fill(kind, Some(publisher), now_unix_ms);
        if self.is_news(records, Some(publisher), fill) {
            tracing::warn!(
                publisher,
                records,
                held = fill.held,
                most = fill.max,
                "a publisher's share of the room for standing records runs out: it may hold no more than it leaves to \
                 others; give its records an earlier end, or raise --max-standing-records"
            );
        }
    }

    /// Whether to warn about this bound now. Forgets a warning once the bound is well below the mark again.
    fn is_news(&self, records: &'static str, publisher: Option<&str>, fill: Fill) -> bool {
        let percent = fill.held.saturating_mul(100) / fill.max.max(1);
        let bound = (records, publisher.map(str::to_owned));
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if percent >= TOLD_AT {
            return told.insert(bound);
        }
        if percent < FORGOTTEN_BELOW {
            told.remove(&bound);
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_said_at_80_percent_and_once() {
        let room = RecordCapacity::default();
        let news = |held| room.is_news("memberships", None, Fill { held, max: 10 });
        let said: Vec<_> = [7, 8, 9, 10, 7, 8, 6, 8].into_iter().map(news).collect();
        assert_eq!(said, [false, true, false, false, false, false, false, true]);
        assert!(room.is_news("memberships", Some("a"), Fill { held: 4, max: 5 }));
    }
}
