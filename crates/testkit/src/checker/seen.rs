//! What happened at all in a history ("sometimes" counters): a run that never resumed did not test resuming.

use std::collections::BTreeMap;
use std::fmt;

use super::handling::{Noted, walk};
use super::index::Index;
use super::publishes::Answer;
use super::sight::Sight;
use super::stream::Step;
use crate::history::{Cursor, GapReason, Goodbye, GoodbyeReason, Hop, Outcome, What};

/// How often each was seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    counts: BTreeMap<Sight, u64>,
}

/// Some of what had to be seen was not.
#[derive(Clone, Debug, thiserror::Error)]
#[error("never seen: {}", names(.0))]
pub struct Unseen(pub Vec<Sight>);

impl Seen {
    pub(super) const fn new() -> Self {
        Self { counts: BTreeMap::new() }
    }

    /// How often this was seen.
    #[must_use]
    pub fn of(&self, sight: Sight) -> u64 {
        self.counts.get(&sight).copied().unwrap_or_default()
    }

    /// Everything that was seen, and how often.
    pub fn iter(&self) -> impl Iterator<Item = (Sight, u64)> + '_ {
        self.counts.iter().map(|(sight, count)| (*sight, *count))
    }

    /// Adds what another history saw.
    pub fn merge(&mut self, other: &Self) {
        for (sight, count) in &other.counts {
            *self.counts.entry(*sight).or_default() += count;
        }
    }

    /// Demands that each of these was seen at least once.
    ///
    /// # Errors
    ///
    /// When some were not; the error names them.
    pub fn require(&self, sights: &[Sight]) -> Result<(), Unseen> {
        let unseen: Vec<_> = sights.iter().copied().filter(|sight| self.of(*sight) == 0).collect();
        if unseen.is_empty() { Ok(()) } else { Err(Unseen(unseen)) }
    }

    pub(super) fn count(&mut self, sight: Sight) {
        *self.counts.entry(sight).or_default() += 1;
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, (sight, count)) in self.counts.iter().enumerate() {
            write!(f, "{}{sight} {count}", if number == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

fn names(sights: &[Sight]) -> String {
    sights.iter().map(Sight::to_string).collect::<Vec<_>>().join(", ")
}

/// What a step shows only together with the state of its stream.
pub(super) fn in_step(step: &Step<'_, '_>, seen: &mut Seen) {
    let state = step.state;
    let resumed =
        state.welcome.is_some_and(|welcome| welcome.outcome == Outcome::Resumed) && !state.caught_up;
    let untouched = state.stretch.as_ref().is_some_and(super::stream::Stretch::is_untouched);
    match step.what {
        What::Event(event) if event.position.is_some() => {
            let standing =
                step.event().and_then(|pos| step.index.entry(pos)).is_some_and(|entry| entry.line.standing);
            seen.count(if standing { Sight::StandingInPlace } else { Sight::Event });
            if step.stream.open.hop == Hop::User {
                seen.count(Sight::UserEvent);
            }
            if resumed && untouched {
                seen.count(Sight::ResumedWithReplay);
            }
        }
        What::CaughtUp(_) if resumed && untouched => seen.count(Sight::ResumedAtHead),
        What::Welcome(_) if step.stream.open.presented == Cursor::Unreadable => {
            seen.count(Sight::GarbageTold)
        }
        What::Welcome(welcome) if welcome.outcome == Outcome::Resumed => {
            if welcome.cursor == Cursor::At(welcome.oldest.clone()) {
                seen.count(Sight::ResumedAtOldest);
            }
            let (held, head) = (step.index.at(&welcome.cursor), step.index.pos(&welcome.head));
            if held.is_some_and(|held| held.epoch != head.epoch || held.seq > head.seq) {
                seen.count(Sight::ResumedBeyondHead);
            }
        }
        What::Goodbye(_) => seen.count(Sight::Goodbye),
        What::Standing(_) if state.stretch.as_ref().is_some_and(|stretch| stretch.gap.is_some()) => {
            seen.count(Sight::StandingAfterGap);
        }
        What::Gap(_) if state.stretch.is_some() => {
            if let What::Gap(gap) = step.what
                && gap.reason == GapReason::EpochChanged
            {
                seen.count(Sight::EpochChangedInStream);
            }
        }
        What::Close(close) => {
            if state.welcome.is_none() && step.stream.open.presented == Cursor::Garbage {
                seen.count(Sight::GarbageRefused);
            }
            if close.code.contains("STALE_ATTEMPT") {
                seen.count(Sight::StaleAttempt);
            }
            if close.code.contains("HELD_OFF") {
                seen.count(Sight::HeldOff);
            }
            if close.code.contains("REPLACED") && !state.said_goodbye {
                seen.count(Sight::Replaced);
            }
        }
        _ => {}
    }
}

/// What single records show.
pub(super) fn in_records(index: &Index<'_>) -> Seen {
    let mut seen = Seen::default();
    for record in index.records {
        if let Some(sight) = of_record(&record.what) {
            seen.count(sight);
        }
    }
    for call in &index.publishes.calls {
        match call.answer {
            Answer::Acked(ack) if ack.duplicate => seen.count(Sight::DedupHit),
            Answer::Acked(_) | Answer::Nacked => {}
            Answer::Unknown => {
                let attempts = index.publishes.of(&call.call.source, &call.call.id);
                let landed = attempts.is_some_and(|attempts| !attempts.landed.is_empty());
                seen.count(if landed { Sight::UnknownLanded } else { Sight::UnknownLost });
            }
        }
    }
    handled_again(index, &mut seen);
    walk(index, &mut |noted| {
        if let Noted::Seen(sight) = noted {
            seen.count(sight);
        }
    });
    seen
}

fn handled_again(index: &Index<'_>, seen: &mut Seen) {
    let mut handled = std::collections::HashSet::new();
    for record in index.records {
        if let What::Handled(item) = &record.what
            && !handled.insert((&item.reader, index.pos(&item.position)))
        {
            seen.count(Sight::HandledAgainAfterCrash);
        }
    }
}

fn of_record(what: &What) -> Option<Sight> {
    Some(match what {
        What::Welcome(welcome) => match welcome.outcome {
            Outcome::Resumed => Sight::Resumed,
            Outcome::Fresh => Sight::Fresh,
            Outcome::Trimmed => Sight::Trimmed,
            Outcome::EpochChanged => Sight::EpochChanged,
            Outcome::Ahead => Sight::Ahead,
        },
        What::Open(open) if open.presented == Cursor::Foreign => Sight::ForeignPresented,
        What::Gap(gap) => match gap.reason {
            GapReason::Trimmed => Sight::GapTrimmed,
            GapReason::EpochChanged => Sight::GapEpochChanged,
            GapReason::Ahead => Sight::GapAhead,
            GapReason::Lapped => Sight::GapLapped,
            GapReason::Upstream => Sight::GapUpstream,
            GapReason::TooLarge => Sight::GapTooLarge,
            GapReason::Collapsed => Sight::GapCollapsed,
            GapReason::Damaged => Sight::GapDamaged,
            GapReason::CursorUnreadable => Sight::GapCursorUnreadable,
        },
        What::Goodbye(Goodbye { reason, .. }) => match reason {
            GoodbyeReason::Draining => Sight::Drained,
            GoodbyeReason::Replaced => Sight::Replaced,
            GoodbyeReason::SessionEnded => Sight::SessionEnded,
            GoodbyeReason::Slow => Sight::SlowClosed,
        },
        What::Event(event) if event.position.is_none() => Sight::Ephemeral,
        What::Standing(_) => Sight::Standing,
        What::Progress(_) => Sight::Progress,
        What::CaughtUp(_) => Sight::CaughtUp,
        What::FellBehind(_) => Sight::FellBehind,
        What::Subscribed(_) => Sight::Subscribed,
        What::PubAck(_) => Sight::Acked,
        What::PubNack(_) => Sight::Nacked,
        What::Grant(_) => Sight::Granted,
        What::Ungrant(_) => Sight::Ungranted,
        What::Crash => Sight::Crash,
        What::FaultStart(_) => Sight::Fault,
        What::Follows(follows) if follows.left.is_some() => Sight::AnotherLog,
        What::Handled(_) => Sight::Handled,
        What::UnknownFrame(_) => Sight::UnknownFrameMet,
        _ => return None,
    })
}
