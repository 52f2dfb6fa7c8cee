//! What the locks guard: the log and its window, who holds which gateway id, who may do what, how much is in flight.
//!
//! Called by `app` and `surface`. It knows no HTTP, no gRPC and no response: it answers with values and with [`Failure`]s, which the
//! surface renders.
//!
//! [`Failure`]: galaxy_push_proto::Failure

pub(crate) mod sync;

pub(crate) mod clock;

pub(crate) mod log;

pub(crate) mod fence;

pub(crate) mod report;
pub(crate) mod stream_gauge;

pub(crate) mod patterns;

pub(crate) mod access;
pub(crate) mod in_flight;
pub(crate) mod record_capacity;
