//! The wire contract of Galaxy Push: the generated messages and services of package `push.v1`, and the forms they take
//! on each surface.
//!
//! Whoever speaks the contract uses this crate: hub, gateway, client and command line. It holds no connection, no log
//! and no policy: it translates and checks, and every function is pure.
//!
//! In reading order:
//!
//! | module | what it is |
//! |---|---|
//! | [`v1`] | the generated messages and services |
//! | [`frame`] | control frames from the pure core's words, and their encoding |
//! | [`json`] | the JSON form of a frame, and of what a user sends |
//! | [`cloudevents`] | events as CloudEvents 1.0, in JSON and in HTTP headers |
//! | [`validate`] | the rules an event must keep to be published |
//! | `codec` | how the stubs read messages: counted, and refused clearly |
//! | [`error`] | one failure, as a gRPC status or as an HTTP problem |
//!
//! Features, none on by default: `client` and `server` add the stubs of the services.

pub mod v1;

pub mod cloudevents;
#[cfg(any(feature = "client", feature = "server"))]
pub mod codec;
pub mod error;
pub mod frame;
pub mod json;
pub mod validate;

mod media_type;
mod time;

pub use error::{Failure, Reason};
pub use media_type::accepted;
pub use tonic::Code;
pub use validate::Invalid;

/// The contract as an encoded `google.protobuf.FileDescriptorSet` with its imports, for server reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!("generated/push_descriptor.bin");

/// The response metadata of `Invalidate` that says which tokens are void: those issued before this moment, as RFC 3339. The
/// record itself may have left that to the hub.
pub const ISSUED_BEFORE: &str = "push-issued-before";

/// Names that a peer lists as its `features`: what it understands besides events.
pub mod feature {
    /// `Standing` frames.
    pub const STANDING: &str = "standing";
    /// `SessionInvalidation` frames.
    pub const SESSION_INVALIDATION: &str = "session_invalidation";
    /// `Membership` frames.
    pub const MEMBERSHIP: &str = "membership";
    /// Only the newest event per collapse key while lagging.
    pub const COLLAPSE: &str = "collapse";
}
