//! Standing records as this gateway knows them: whose sessions have ended, and who belongs to which topic since when.
//!
//! Pure; the table of [`Routes`](crate::state::routes::Routes) owns it, so that a record and the connections it concerns are
//! found under one lock. [`Upstream`](crate::state::upstream::Upstream) brings the records in the order of the log.
//!
//! # After a lost place
//!
//! A gateway that has just begun, or has missed a part of the log, is sent the records that hold (`Standing`), and then
//! the log again from some place *before* the moment they were taken. What it replays is older than what it knows: a
//! replayed "joins" may have been followed by a "leaves" in the part that was missed or is still to come. So between
//! `Standing` and `CaughtUp`
//!
//! - users are handed nothing of what is replayed; the routes hold it back, and let all of it go at once at `CaughtUp`,
//!   when the last record of each membership is known and what was granted at each event is settled;
//! - what they still may read, from before the hole, is granted only if `Standing` grants it too, and no replayed record
//!   has taken it back since. A replayed "joins" that `Standing` does not bear out opens nothing before `CaughtUp`;
//! - a session invalidation counts at once, replayed or not: it takes away and never gives.
//!
//! From when a membership counts that `Standing` names is not said. It counts from the hole on, unless its record is
//! replayed: then from there. That record may have begun it, and then nothing before is granted, or renewed it, and then
//! everything is. So what lies between is in [doubt](doubts): it is not sent, lest somebody is shown what was said before
//! they joined, and whoever belongs to the topic now is told by a gap.

mod doubts;
mod invalidations;
mod memberships;
#[cfg(test)]
mod tests;
mod topics;

pub(crate) use invalidations::{Invalidation, Invalidations};
pub(crate) use memberships::{Granted, Memberships, Moved};

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
