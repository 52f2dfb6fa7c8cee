//! The hub: the backend side of Galaxy Push. It gives published events their positions, holds the recent ones in a
//! window, and serves them to gateways.
//!
//! ```
//! # use galaxy_push_core::ambient::Ambient;
//! # use galaxy_push_hub::{Config, Hub};
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let ambient = Ambient::new(|| 1_700_000_000_000, || 4);
//! let hub = Hub::in_memory(Config::default(), ambient)?;
//! let app: axum::Router = hub.router(); // gRPC and HTTP; hand it to a listener
//! # Ok(()) }
//! ```
//!
//! The way of an event: [`publish`](Hub::publish) validates it (`publish.rs`), the store orders it
//! (`galaxy_push_store`), the window holds it (`log.rs`), each stream reads it from there (`subscription.rs`). gRPC
//! (`push.rs`, `publisher.rs`) and HTTP (`http.rs`) are thin surfaces on these. To mount the hub in a server of your own,
//! take [`push_service`](Hub::push_service) and [`publisher_service`](Hub::publisher_service); `examples/embed.rs` does.
//! [`Hub::on_disk`] keeps the log in a folder; `examples/on_disk.rs` does.
//!
//! # Delivery
//!
//! On one stream positions rise, none comes twice, and a hole is preceded by a `Gap` that covers it. An acknowledged event
//! is as durable as the store says; a refused request left nothing behind. More publishes than
//! [`Config::publishes_in_flight`] are refused before they are looked at, and told when to come back.
//!
//! One stream holds a gateway id: whoever comes last takes it, and nothing appended after that reaches the older. Two
//! instances that keep taking it from each other are told apart from a restart (`fence.rs`): then the one that has the
//! stream and is alive keeps it, and the other is held off.
//!
//! # Resuming
//!
//! The cursor of every frame is safe to resume from. A reader that resumes is sent what follows. One that begins without
//! a place, or has lost it, is first sent the standing records that hold: session invalidations and memberships, which
//! outlive the window until they expire. They are sent to peers that list the features, and no filter hides them.
//!
//! # Slow readers
//!
//! A stream is a position in the window. One that does not read costs what HTTP/2 buffers for it (400 KiB unless the
//! listener says otherwise), one turn of frames (256 KiB), and a chunk of the window it may pin (256 KiB); publishers
//! never wait for it. Once its position has left the window it is told by a `Gap`.
//!
//! # Who may do what
//!
//! Everybody may do everything, unless [`Config::access`] names identities: publishers, gateways and operators, each
//! recognised by a name in its certificate or by a token, each with a scope of recipients (`access.rs`). Calls in this
//! process, such as [`Hub::publish`], are its own and are not asked.
//!
//! # What it does not do
//!
//! It does not listen (the `listener` crate), keep events across restarts (the `disk` store does), or know users: those are the
//! gateway's.

// Read in this order: what the locks guard, what a hub is made of, what speaks a protocol.
mod state;

mod app;

mod surface;

#[cfg(all(test, shuttle))]
#[path = "../../testkit/src/schedules.rs"]
mod schedules;

pub use app::config::{Config, InvalidConfig};
pub use app::publish::Published;
pub use app::recovery::Recovery;
pub use app::status::{FlappingId, Status, StreamStatus, WindowStatus};
pub use app::{Error, Hub};
pub use state::access::{Access, Fingerprint, Identity, InvalidIdentity, PUBLISHER_ATTRIBUTE, Role};
pub use state::log::{Head, LogEntry};
pub use state::report::{Lag, Report};
pub use state::stream_gauge::StreamPhase;
pub use surface::publisher::PublisherService;
pub use surface::push::PushService;
