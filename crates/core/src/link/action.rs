//! What passes between the link and its driver: what is to be done, and how it went.
//!
//! The driver performs one [`Action`], and answers it with one of the [`Input`]s that the action's row in the [`link`](super) table names.
//! Deadlines are absolute, on the clock that the driver passes to each step. Whoever writes another driver drops the connection where an
//! action says so, and never dials by itself.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::{AckResult, Door, Failure};

/// How an action went. An input that answers no outstanding action is ignored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// `AskHubs`, and at any time: what each hub said, in their order; `None`: nothing yet.
    Doors(Vec<Option<Door>>),
    /// `Dial`: the connection stands.
    Connected,
    /// `Subscribe`: the response began, and it is a stream.
    Subscribed,
    /// `Read`: the next bytes of the stream's body.
    Received(Bytes),
    /// `Dial`, `Subscribe` or `Read`: it failed, or the stream ended.
    Failed(Failure),
    /// `Load`: what the store holds, if it holds anything.
    Loaded(Option<String>),
    /// `Load`: the store cannot say.
    LoadFailed(Arc<str>),
    /// `Save`: it is stored.
    Saved,
    /// `Save`: it may be stored or not.
    SaveFailed(Arc<str>),
    /// `Deliver`: every item offered is finished.
    Handled,
    /// `Deliver`: the handler failed or panicked on the first item that is not marked as done.
    HandlerFailed(Arc<str>),
    /// `DeadLetter`: the callback took the item.
    DeadLettered,
    /// `DeadLetter`: the callback failed or panicked.
    DeadLetterFailed(Arc<str>),
    /// What became of items in flight; at any time.
    Acks(Vec<AckResult>),
    /// The action's `until` has come.
    TimerFired,
    /// `Read`: its `until` has come; meanwhile the connection took so many bytes that are not received yet. On a slow line
    /// a large frame is under way.
    ReadTimedOut {
        /// Since the last `Received`, or the last of these.
        arriving: u64,
    },
    /// The owner wants it to end: answered by `Finish`, or by one `Save` and then `Finish`. A second one always is.
    Stop,
}

/// What the driver does next; exactly one at a time. Times are on the clock the driver passes in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Drop any connection and ask every hub which log it holds. May end once one is found that needs no other answer.
    AskHubs {
        /// Index of the hub that is preferred.
        hub: usize,
        /// The epoch of the log that is looked for, if there is one: a hub that holds it needs no other answer.
        epoch: Option<Arc<str>>,
        /// The deadline.
        until: Duration,
    },
    /// Drop any connection and open a new one to this hub.
    Dial {
        /// Index into the configured hubs.
        hub: usize,
        /// The deadline.
        until: Duration,
    },
    /// Subscribe on the connection.
    Subscribe {
        /// Where to resume.
        cursor: String,
        /// Rises with every subscribe of this instance.
        attempt: u64,
        /// The deadline.
        until: Duration,
    },
    /// Wait for bytes, taking those that are there already before looking at the time.
    Read {
        /// The deadline.
        until: Duration,
    },
    /// Ask the cursor store where to start.
    Load {
        /// The deadline.
        until: Duration,
    },
    /// Store this cursor.
    Save {
        /// The cursor.
        cursor: String,
        /// The deadline.
        until: Duration,
    },
    /// Hand [`Link::batch_mut`](super::Link::batch_mut) to the handler.
    Deliver,
    /// Hand [`Link::dead_letter`](super::Link::dead_letter) to the dead-letter callback.
    DeadLetter,
    /// Keep the connection and wait for acks: as much is in flight as may be.
    Await {
        /// When to go on without.
        until: Duration,
    },
    /// Drop any connection and wait.
    Wait {
        /// When to go on.
        until: Duration,
    },
    /// Keep the connection and wait, before the handler is called again.
    Pause {
        /// When to go on.
        until: Duration,
    },
    /// Never step again.
    Finish,
}
