//! The methods of a hub that this crate calls, and what one call may cost.
//!
//! Constants only; `transport` makes the calls.

use std::time::Duration;

/// Opens the stream of a client.
pub(crate) const SUBSCRIBE: &str = "/push.v1.Push/SubscribePush";

/// Tells the hub how far a client's handler is.
pub(crate) const REPORT: &str = "/push.v1.Push/Report";

/// Asks where the log of a hub stands.
pub(crate) const HEAD: &str = "/push.v1.Publisher/Head";

/// Publishes events, one request and one answer.
pub(crate) const PUBLISH: &str = "/push.v1.Publisher/Publish";

/// Publishes events, many requests and answers on one stream.
pub(crate) const PUBLISH_STREAM: &str = "/push.v1.Publisher/PublishStream";

/// Appends a session invalidation.
pub(crate) const INVALIDATE: &str = "/push.v1.Publisher/Invalidate";

/// Appends memberships.
pub(crate) const SET_MEMBERSHIP: &str = "/push.v1.Publisher/SetMembership";

/// The largest answer accepted, in bytes: a thousand results of the longest ids and cursors are well below it.
pub(crate) const ANSWER_MAX_BYTES: usize = 4 << 20;

/// How long one try of a publisher may take, connection included.
pub(crate) const TRY_DEADLINE: Duration = Duration::from_secs(10);
