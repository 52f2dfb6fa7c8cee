//! What an operator reads in the log: one line for each change that asks for attention, with what comes next. Never a
//! payload.
//!
//! The same trouble for hours is written at its 1st, 2nd, 4th, 8th … time at WARN and in between at DEBUG; a reason that changes is written at
//! once.

use std::time::Duration;

use galaxy_push_core::link::Action;

use crate::hub_url::HubUrl;
use crate::{Door, Failure, HandlerTrouble, State, Status, StreamEnd};

/// The end of a try or a stream, and what comes next.
pub(crate) struct Ends<'a> {
    /// The id of the client.
    pub(crate) gateway: &'a str,
    /// The hub it was at.
    pub(crate) hub: &'a str,
    pub(crate) next_hub: &'a str,
    pub(crate) wait: Duration,
    /// What the client was doing.
    pub(crate) was: State,
}

impl Ends<'_> {
    /// Writes it. A hub that is away for hours is named at the first try and then ever more rarely, not 360 times an hour; a reason
    /// that changes is named at once.
    pub(crate) fn report(&self, status: &Status, error: &Failure, last_announced: &mut String) {
        let Self { gateway, hub, next_hub, wait, .. } = *self;
        let (state, failures, error) = (status.state, status.failures, error.to_string());
        let cause = status.last_end.map_or("none", StreamEnd::name);
        let happened = match self.was {
            State::Live | State::CatchingUp => "the stream ended; a new one is opened after the wait",
            _ => "no stream came about; the next try follows the wait",
        };
        let wait = Duration::from_millis(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
        if error != *last_announced || failures.is_power_of_two() {
            tracing::warn!(gateway, %state, cause, error, hub, ?wait, next_hub, failures, "{happened}");
        } else {
            tracing::debug!(gateway, %state, cause, error, hub, ?wait, next_hub, failures, "{happened}");
        }
        *last_announced = error;
    }
}

/// Announces in the operator's log that hubs hold different logs.
#[derive(Debug, Default)]
pub(crate) struct SplitAnnouncer {
    /// The split as it was announced last.
    last_announced: Option<Split>,
}

/// Hubs that hold different logs.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Split {
    /// Which hub holds which log.
    held: String,
    followed: String,
}

/// What there is to tell.
#[derive(Debug, PartialEq, Eq)]
enum Change {
    /// There is a split, or another one.
    Split(Split),
    Ended,
    /// These hubs do not answer, and the others hold one log: nobody knows whether it has ended.
    Unseen(String),
}

impl SplitAnnouncer {
    /// Tells a split when it begins and whenever it changes, and its end.
    pub(crate) fn announce(&mut self, status: &Status, gateway: &str, hubs: &[HubUrl]) {
        match self.change(status, hubs) {
            Some(Change::Split(Split { held, followed })) => tracing::warn!(
                gateway,
                hubs = held,
                followed,
                "SPLIT: the hubs hold different logs; what another log than the followed one acknowledges is seen by nobody \
                 here. Let all publishers and gateways use one hub, or hubs on one log"
            ),
            Some(Change::Ended) => {
                tracing::info!(
                    gateway,
                    "the split has ended: the hubs hold one log again, as far as they say"
                );
            }
            Some(Change::Unseen(silent)) => {
                tracing::info!(
                    gateway,
                    silent,
                    "the split is no longer seen: these hubs do not answer, and the others hold one log"
                );
            }
            None => {}
        }
    }

    fn change(&mut self, status: &Status, hubs: &[HubUrl]) -> Option<Change> {
        // While a stream is tried nobody knows which log it will follow.
        if status.state == State::Connecting {
            return None;
        }
        let doors = || hubs.iter().zip(&status.doors);
        if !status.is_split() {
            self.last_announced.take()?;
            let is_silent = |door: &Door| !matches!(door, Door::Holds(_) | Door::Stale(_) | Door::Mute);
            let silent: Vec<_> =
                doors().filter(|(_, door)| is_silent(door)).map(|(hub, _)| hub.origin.as_str()).collect();
            return Some(if silent.is_empty() { Change::Ended } else { Change::Unseen(silent.join(", ")) });
        }
        let held = doors().filter_map(|(hub, door)| Some(format!("{} holds {}", hub.origin, door.epoch()?)));
        let followed = status.epoch.map_or("none yet".to_owned(), |epoch| epoch.to_string());
        let split = Split { held: held.collect::<Vec<_>>().join(", "), followed };
        if self.last_announced.as_ref() == Some(&split) {
            return None;
        }
        self.last_announced = Some(split.clone());
        Some(Change::Split(split))
    }
}

/// Tells what has changed since the status shown before.
///
/// The end of a stream is not written here, because only the driver knows how long it waits.
pub(crate) fn report(status: &Status, before: &Status, next: &Action, gateway: &str, hub: &str) {
    if status.counters.log_changes > before.counters.log_changes {
        let name = |epoch: Option<_>| epoch.map(|epoch: galaxy_push_core::cursor::Epoch| epoch.to_string());
        let (left, followed) =
            (name(before.epoch).unwrap_or_default(), name(status.epoch).unwrap_or_default());
        tracing::warn!(gateway, hub, left, followed, "the stream goes on in another log, across a gap");
    }
    match (&status.store, &before.store) {
        (Some(trouble), before) if before.as_ref() != Some(trouble) => {
            let (error, failures) = (&*trouble.error, trouble.failures);
            tracing::warn!(gateway, error, failures, "the cursor store fails and is tried again");
        }
        (None, Some(trouble)) => {
            tracing::info!(gateway, failures = trouble.failures, "the cursor store works again");
        }
        _ => {}
    }
    match (status.stale_since, before.stale_since) {
        (Some(_), None) => tracing::warn!(
            gateway,
            hub,
            "the hub cannot reach its store: the log may go on without it; another hub is looked for if that lasts"
        ),
        (None, Some(_)) if matches!(status.state, State::CatchingUp | State::Live) => {
            tracing::info!(gateway, hub, "the hub reaches its store again");
        }
        _ => {}
    }
    match (status.state, next, &status.handler) {
        (_, Action::Pause { .. }, Some(trouble)) => handler_fails(trouble, before, gateway),
        (State::Live, ..) if before.state != State::Live => {
            let (attempt, failures) = (status.attempt, status.failures);
            tracing::info!(
                gateway,
                hub,
                cursor = status.cursor,
                attempt,
                failures,
                "live: events come as they are published"
            );
        }
        _ => {}
    }
}

/// Tells the first, second, fourth, … failure of an item, and each new reason: an item may fail for days.
fn handler_fails(trouble: &HandlerTrouble, before: &Status, gateway: &str) {
    let HandlerTrouble { cursor, failures, error, dead_letter_error, .. } = trouble;
    if dead_letter_error.is_some() {
        return; // which the driver tells, in the stream form too
    }
    let announced =
        before.handler.as_ref().is_some_and(|before| before.error == *error && before.cursor == *cursor);
    if failures.is_power_of_two() || !announced {
        tracing::warn!(gateway, cursor, failures, %error, "the handler failed and is called again");
    } else {
        tracing::debug!(gateway, cursor, failures, %error, "the handler failed and is called again");
    }
}

#[cfg(test)]
mod tests {
    use galaxy_push_core::cursor::Epoch;

    use super::*;
    use crate::Waited;

    #[test]
    fn a_split_is_told_with_the_log_that_is_followed_and_so_is_its_end() {
        let hubs = ["http://a", "http://b"].map(|url| HubUrl::parse(url).unwrap());
        let holds = |epoch| Door::Holds(Epoch(epoch).to_string().into());
        let (mut split, mut status) = (SplitAnnouncer::default(), Status::default());
        status.doors = vec![holds(1), holds(2)];
        assert_eq!(split.change(&status, &hubs), None, "nothing is followed yet");
        (status.state, status.epoch) = (State::CatchingUp, Some(Epoch(1)));
        let held = format!("http://a holds {}, http://b holds {}", Epoch(1), Epoch(2));
        let expected = Split { held, followed: Epoch(1).to_string() };
        assert_eq!(split.change(&status, &hubs), Some(Change::Split(expected.clone())));
        status.state = State::Live;
        assert_eq!(split.change(&status, &hubs), None, "once");
        status.doors[1] = Door::Silent(Failure::TimedOut(Waited::Connect).into());
        assert_eq!(split.change(&status, &hubs), Some(Change::Unseen("http://b".to_owned())));
        assert_eq!(split.change(&status, &hubs), None);
        status.doors[1] = holds(2);
        assert_eq!(split.change(&status, &hubs), Some(Change::Split(expected)));
        status.doors[1] = holds(1);
        assert_eq!(split.change(&status, &hubs), Some(Change::Ended));
        assert_eq!(split.change(&status, &hubs), None);
    }
}
