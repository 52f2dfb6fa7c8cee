//! Control frames: from the pure core's words to the contract's messages, and their encoding.
//!
//! Hub and gateway call this for what a reader says about its stream. Events are never encoded here: they were, once,
//! when they were appended.

#[cfg(test)]
mod tests;

use std::time::Duration;

use bytes::Bytes;
use galaxy_push_core::{
    frame::{PREFIX_BYTES, put_prefix},
    reader::Control,
    window::{GapReason, MissingRange, Outcome},
};
use prost::Message as _;

use crate::{
    time,
    v1::{self, push_event::Kind},
};

/// What a `Welcome` says that a reader does not know.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WelcomeInfo {
    /// The generation of the accepted subscription; 0 where there is none, such as for users.
    pub generation: u64,
    /// A reader to which nothing else was sent for this long is sent Progress.
    pub heartbeat_interval: Duration,
    /// The bounds in force.
    pub limits: v1::Limits,
    /// Names the stream in logs and status.
    pub connection_id: String,
}

/// The frame that tells a reader's control.
#[must_use]
pub fn control_frame(control: &Control, welcome: &WelcomeInfo) -> v1::PushEvent {
    let (cursor, kind) = match control {
        Control::Welcome { cursor, outcome, epoch, head, oldest } => {
            let message = v1::Welcome {
                outcome: v1::Outcome::from(*outcome).into(),
                epoch: epoch.to_string(),
                head: head.to_string(),
                oldest: oldest.to_string(),
                generation: welcome.generation,
                heartbeat_interval: Some(time::proto_duration(welcome.heartbeat_interval)),
                limits: Some(welcome.limits),
                connection_id: welcome.connection_id.clone(),
            };
            (cursor.clone(), Kind::Welcome(message))
        }
        Control::Gap(gap) => return gap_frame(gap),
        Control::CaughtUp { cursor } => (cursor.to_string(), Kind::CaughtUp(v1::CaughtUp {})),
        Control::Progress { cursor } => return progress_frame(cursor.to_string()),
        Control::FellBehind { cursor, events, lag } => {
            let message = v1::FellBehind { events: *events, lag: Some(time::proto_duration(*lag)) };
            (cursor.to_string(), Kind::FellBehind(message))
        }
    };
    frame(cursor, kind)
}

/// The frame that tells what was missed. Its cursor is the gap's `to`.
#[must_use]
pub fn gap_frame(gap: &MissingRange) -> v1::PushEvent {
    let message = v1::Gap {
        reason: v1::GapReason::from(gap.reason).into(),
        from: gap.from.clone(),
        to: gap.to.to_string(),
        count: gap.count,
        repair_after: gap.repair_after.map(time::proto_duration),
    };
    frame(message.to.clone(), Kind::Gap(message))
}

/// The frame that says everything up to `cursor` was delivered.
#[must_use]
pub fn progress_frame(cursor: impl Into<String>) -> v1::PushEvent {
    frame(cursor.into(), Kind::Progress(v1::Progress::default()))
}

/// The frame that ends a stream, at the last position passed on it.
#[must_use]
pub fn goodbye_frame(
    cursor: impl Into<String>,
    reason: v1::GoodbyeReason,
    retry_after: Option<Duration>,
) -> v1::PushEvent {
    let message = v1::Goodbye {
        reason: reason.into(),
        retry_after: retry_after.map(time::proto_duration),
        // A replaced or ended peer would only be refused again.
        reconnect: matches!(reason, v1::GoodbyeReason::Draining | v1::GoodbyeReason::Slow),
    };
    frame(cursor.into(), Kind::Goodbye(message))
}

/// The frame that answers `subscribe` and `unsubscribe`. New topics count from `cursor`.
#[must_use]
pub fn subscribed_frame(cursor: impl Into<String>, topics: Vec<String>) -> v1::PushEvent {
    frame(cursor.into(), Kind::Subscribed(v1::Subscribed { topics }))
}

/// The frame as a framed gRPC message: a prefix of five bytes, then the protobuf encoding.
#[must_use]
pub fn encode_framed(frame: &v1::PushEvent) -> Bytes {
    let mut framed = Vec::with_capacity(PREFIX_BYTES + frame.encoded_len());
    framed.extend_from_slice(&[0; PREFIX_BYTES]);
    framed.extend_from_slice(&frame.encode_to_vec());
    put_prefix(&mut framed, 0);
    framed.into()
}

/// A wire duration as a time span; negative and malformed ones are none.
#[must_use]
pub fn duration(wire: &prost_types::Duration) -> Option<Duration> {
    time::duration(wire)
}

const fn frame(cursor: String, kind: Kind) -> v1::PushEvent {
    v1::PushEvent { cursor, kind: Some(kind), appended_unix_ms: 0 }
}

/// Conversions both ways between an enum of the core and one of the contract. A value that the core does not know has
/// no counterpart there.
macro_rules! same_names {
    ($core:ident: $($name:ident),+) => {
        impl From<$core> for v1::$core {
            fn from(value: $core) -> Self {
                match value {
                    $($core::$name => Self::$name,)+
                }
            }
        }

        impl TryFrom<v1::$core> for $core {
            type Error = v1::$core;

            fn try_from(wire: v1::$core) -> Result<Self, v1::$core> {
                match wire {
                    $(v1::$core::$name => Ok(Self::$name),)+
                    v1::$core::Unspecified => Err(wire),
                }
            }
        }
    };
}

same_names!(Outcome: Resumed, Fresh, Trimmed, EpochChanged, Ahead);
same_names!(GapReason: Trimmed, EpochChanged, Ahead, Lapped, Upstream, TooLarge, Collapsed, Damaged, CursorUnreadable);
