//! The lowest floor: what a gateway knows, under locks. It speaks no protocol and renders nothing.
//!
//! `app` assembles it, `surface` serves users from it; it imports neither.

pub(crate) mod clock;
pub(crate) mod close;
pub(crate) mod connection;
pub(crate) mod counters;
pub(crate) mod edge;
pub(crate) mod grants;
pub(crate) mod latency;
pub(crate) mod quotas;
pub(crate) mod refusal;
pub(crate) mod routes;
pub(crate) mod standing;
pub(crate) mod sync;
pub(crate) mod too_large;
pub(crate) mod upstream;
