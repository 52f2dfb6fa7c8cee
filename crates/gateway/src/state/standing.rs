//! Standing records as this gateway knows them: whose sessions have ended, and who belongs to which topic since when.
//!
//! Pure; the table of [`Routes`](crate::state::routes::Routes) owns it, so that a record and the connections it concerns are
//! found under one lock. [`Upstream`](crate::state::upstream::Upstream) brings the records in the order of the log.
//!
//! # What an event is granted by
//!
//! A member is sent an event if a membership held at the event's slot **and** one holds now, the same one or another.
//!
//! ```text
//! seq      3          4           5          6           7
//! log      "ann       event e1    "ann       event e2    "ann
//!          joins t"               leaves t"              joins t"
//! ann, later, replays all of it: e1 is sent (she belonged then, and does now); e2 is not (she did not belong then)
//! ```
//!
//! # Resync
//!
//! A gateway that has just begun, or has missed a part of the log, is sent the records that hold (`Standing`), and then
//! the log again from some position *before* the moment they were collected. What it replays is older than what it knows: a
//! replayed "joins" may have been followed by a "leaves" in the part that was missed or is still to come. So between
//! `Standing` and `CaughtUp`
//!
//! - users receive nothing of what is replayed; the routes pause delivery, and resume it at `CaughtUp`, when the last record
//!   of each membership is known and what was granted at each event is settled;
//! - what they still may read, from before the hole, is granted only if `Standing` grants it too, and no replayed record
//!   has taken it back since. A replayed "joins" that `Standing` does not confirm opens nothing before `CaughtUp`;
//! - a session invalidation counts at once, replayed or not: it takes away and never gives.
//!
//! `Standing` does not say since when a membership holds. It counts from the hole on, unless its record is replayed: then
//! from that record. The record may have begun the membership, or only renewed one that held already; nobody can tell which:
//!
//! ```text
//! seq      10        11          12             13          14
//! log      Gap       event e1    "ann joins t"  event e2    CaughtUp        Standing at the gap: ann is a member of t
//! began    ann did not belong at 11: e1 must not be sent
//! renewed  ann did belong at 11:     e1 must not be missed
//! ```
//!
//! So e2 is sent, and e1 is [unknown](unknown): it is not sent, lest somebody is shown what was said before they joined, and
//! whoever belongs to the topic now is told by a gap. That gap may be needless; silence never is an answer.

mod invalidations;
mod memberships;
#[cfg(test)]
mod tests;
mod topics;
mod unknown;

pub(crate) use invalidations::{Invalidation, Invalidations};
pub(crate) use memberships::{Granted, MembershipChange, Memberships};

/// The prefix of a recipient that is a topic.
const TOPIC: &str = "topic:";

/// The topic that a recipient names, if it is one.
pub(crate) fn topic_of(recipient: &str) -> Option<&str> {
    recipient.strip_prefix(TOPIC)
}

/// A time of the wire in milliseconds since the Unix epoch, rounded up; before the epoch it is 0.
fn unix_ms(time: &prost_types::Timestamp) -> u64 {
    let seconds = u64::try_from(time.seconds).unwrap_or(0);
    let nanos = u64::try_from(time.nanos).unwrap_or(0);
    seconds.saturating_mul(1_000).saturating_add(nanos.div_ceil(1_000_000))
}
