//! The ground floor: what locks guard.
//!
//! | file | what it holds | its lock |
//! |---|---|---|
//! | `log.rs` | the window, and beside it who owns which gateway id | one mutex for both, taken by [`with_state`](log::Log::with_state) |
//! | `ownership.rs` | which stream has which gateway id | the log's |
//! | `report.rs` | what a gateway last said of itself | the log's |
//! | `stream_gauge.rs` | how far one stream has read | none: atomics that the stream writes |
//! | `access.rs` | identities, scopes, rates | a watch channel for the access in force, a mutex for each identity's rate |
//! | `in_flight.rs` | how much is being received and answered | one mutex for each kind of request |
//! | `record_capacity.rs` | which warnings about full standing records were written | one mutex |
//! | `patterns.rs`, `sync.rs` | filters, and which locks a model of threads replaces | none |
//!
//! Called by `app` and `surface`. It knows no HTTP, no gRPC and no response. What it refuses it answers with a
//! [`Failure`], which is a value; the surface renders it.
//!
//! No lock here is held across an await.
//!
//! [`Failure`]: galaxy_push_proto::Failure

pub(crate) mod sync;

pub(crate) mod log;

pub(crate) mod ownership;

pub(crate) mod report;
pub(crate) mod stream_gauge;

pub(crate) mod patterns;

pub(crate) mod access;
pub(crate) mod in_flight;
pub(crate) mod record_capacity;
