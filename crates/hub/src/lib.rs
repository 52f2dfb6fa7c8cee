//! The hub: the backend side of Galaxy Push. It gives published events their positions, holds the recent ones in a
//! window, and serves them to gateways.
//!
//! ```
//! # use galaxy_push_core::ambient::Ambient;
//! # use galaxy_push_hub::{Config, Hub};
//! # use galaxy_push_proto::v1::Event;
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let ambient = Ambient::new(|| 1_700_000_000_000, || 4); // in production: galaxy_push_listener::ambient()
//! let hub = Hub::in_memory(Config::default(), ambient)?;
//! let app: axum::Router = hub.router(); // gRPC and HTTP: hand it to a listener
//!
//! let event = Event {
//!     to: vec!["user:42".into()],
//!     id: "order-7".into(),
//!     source: "/orders".into(),
//!     r#type: "order.shipped".into(),
//!     ..Event::default()
//! };
//! let before = hub.head().cursor;
//! let published = hub.publish(vec![event.clone()]).await?;
//! assert!(published[0].cursor.is_some_and(|cursor| cursor != before)); // it has its position
//! let again = hub.publish(vec![event]).await?; // the same id and source
//! assert!(again[0].duplicate && again[0].cursor == published[0].cursor); // nothing was appended
//! # Ok(()) }
//! ```
//!
//! # How the code is laid out
//!
//! Three floors. A file uses its own floor and those below it, never those above.
//!
//! | floor | what it holds | what it must not know |
//! |---|---|---|
//! | `surface` | gRPC, HTTP, health: reads requests, renders answers and streams | |
//! | `app` | what a hub is made of: settings, the shared parts, publish, start, drain, metrics | requests and responses |
//! | `state` | what locks guard: the log, ownership of ids, access, how much is in flight | HTTP, gRPC, the two above |
//!
//! The way of an event, from the request to the gateways:
//!
//! ```text
//! surface/publisher.rs, surface/http.rs   read the request within its bounds
//! app/publish.rs                          check it, make a batch of it, wait for the store
//! (galaxy_push_store)                     give positions, make it durable
//! state/log.rs                            append it to the window, wake the streams
//! surface/subscription.rs                 one per gateway: read the window, send frames
//! ```
//!
//! To mount the hub in a server of your own, take [`push_service`](Hub::push_service) and
//! [`publisher_service`](Hub::publisher_service); `examples/embed.rs` does. [`Hub::on_disk`] keeps the log in a folder;
//! `examples/on_disk.rs` does.
//!
//! # Delivery
//!
//! On one stream positions rise, none comes twice, and a hole is preceded by a `Gap` that covers it. An acknowledged event
//! is as durable as the store says; a refused request left nothing behind. More publishes than
//! [`Config::publishes_in_flight`] are refused before they are looked at, and told when to come back.
//!
//! One stream holds a gateway id. The newest claim takes it, and nothing appended after that reaches the older stream:
//!
//! ```text
//! append 1 · gateway a subscribes as "gw" · append 2 · gateway b subscribes as "gw" · append 3
//! a is sent:  1 2 Goodbye(REPLACED)          b is sent: 3
//! ```
//!
//! Two instances that keep taking the id from each other are told apart from a restart (`state/ownership.rs`): then the one
//! that has the stream and answers a ping keeps it, and the other is refused with `HELD_OFF` and a time to wait.
//!
//! # Resuming
//!
//! The cursor of every frame is safe to resume from. A reader that resumes is sent what follows. One that begins without
//! a position, or has lost it, is first sent the standing records that hold: session invalidations and memberships, which
//! outlive the window until they expire. They are sent to peers that list the features, and no filter hides them.
//!
//! # Slow readers
//!
//! A stream is a position in the window. One that does not read costs what HTTP/2 buffers for it (400 KiB unless the
//! listener says otherwise), one turn of frames (480 KiB, unless one is larger), and a chunk of the window it may pin
//! (256 KiB); publishers never wait for it. Once its position has left the window it is sent a `Gap`.
//!
//! # Who may do what
//!
//! Everybody may do everything, unless [`Config::access`] names identities: publishers, gateways and operators, each
//! recognised by a name in its certificate or by a token, each with a scope of recipients (`state/access.rs`). Calls in
//! this process, such as [`Hub::publish`], are the process's own and are not checked against identities.
//!
//! # What it does not do
//!
//! It does not listen (the `listener` crate does), keep events across restarts unless its store does, or know users: those
//! are the gateway's.
// From the ground floor up. Each floor uses itself and those above it in this list, never those below.
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
