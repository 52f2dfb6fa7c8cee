//! The highest floor: everything that speaks a protocol to users.

pub(crate) mod encode;
pub(crate) mod origin;
pub(crate) mod page;
pub(crate) mod problem;
pub(crate) mod proxy;
pub(crate) mod query;
pub(crate) mod render;
pub(crate) mod sse;
pub(crate) mod ws;
