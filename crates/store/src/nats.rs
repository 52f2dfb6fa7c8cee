//! The log that several hubs share, in a JetStream stream: what its messages mean, and what becomes of a hub's own. The pure half: no
//! I/O, no clock, no tasks.
//!
//! JetStream orders messages and keeps them; nothing else is shared. Each hub reads all of them, and by a pure function of what
//! it reads comes to the same positions, duplicates and refusals as every other, also one that began to read later
//! (`docs/adr/0018`). What cannot be judged from where a hub began is told as a gap, never guessed.
//!
//! | module | what it is |
//! |---|---|
//! | [`pack`] | the bytes of a message |
//! | `claims` | what was appended of late: all that a pack is judged by |
//! | `state_machine` | messages in their order, and what readers are handed of them |
//! | `index` | which keys this hub knows, to save those the way through the log |
//! | `pending` | what of this hub waits or is in flight, and the answers |
//! | `door` | all of it together |
//! | `driver` | in which order a door is driven, by the I/O half or a simulation |
//! | [`stream_view`] | what the leader says of the stream, and what that means |
//! | `bucket` | what keys and values of the buckets have in common |
//! | [`register_view`] | the registers as one hub sees them, and until when that is all there is |
//! | [`register`] | its bytes in its bucket |
//! | [`question`] | the bytes of what one hub asks another |
//! | [`standing`] | the standing records, and what of them is in their bucket |
//!
//! # How it is driven
//!
//! One task owns a [`Door`] in its [`Driver`] and:
//!
//! - [`Door::offer`]s what is appended;
//! - has the driver [`hold`](Driver::hold) every message, in the order of the stream and from its first one on, one at a time;
//! - says what a broker answers: [`Door::stored`] or [`Door::refused`];
//! - takes a [`turn`](Driver::turn) after each of these, and when [`Door::next_expiry`] has come. It tells the sink what was read *before*
//!   it gives the answers, and publishes what the door seals in that order.

mod bucket;
mod claims;
mod door;
mod driver;
mod index;
pub mod pack;
mod pending;
pub mod question;
pub mod register;
pub mod register_view;
pub mod standing;
mod state_machine;
pub mod stream_view;

pub use bucket::Unreadable;
pub use claims::Bounds as ClaimBounds;
pub use door::{Door, Settings};
pub use driver::{Driver, DriverIo, Next, STALE_AFTER};
pub use pack::HubId;
pub use pending::{ANSWER_WITHIN, Limits, Sealed};
/// By which name the simulation knows it.
#[doc(hidden)]
pub use register_view as fence;
pub use state_machine::{Fatal, Judged, Message, Output, Read, Record, RequestOutcome, StateMachine};
