//! The gateway of Galaxy Push: one stream from a hub, many users over server-sent events and WebSocket.
//!
//! ```no_run
//! use galaxy_push_client::TcpConnector;
//! use galaxy_push_gateway::{Access, Config, Gateway};
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let mut config = Config::new("http://127.0.0.1:7400", "gateway-1");
//! config.access = Access::development();
//! let gateway = Gateway::start(config, TcpConnector, galaxy_push_listener::ambient())?;
//! let app = gateway.router(); // serve it on the public listener
//! # drop(app);
//! gateway.drain().await; // on the way down
//! # Ok(())
//! # }
//! ```
//!
//! # The way of one event
//!
//! | step | module |
//! |---|---|
//! | the hub's frame arrives, and is placed | `upstream` |
//! | standing records say who may have it | `standing`, `routes` |
//! | it is held, as it came, under the hub's cursor | `edge` |
//! | its recipients' connections are found, and woken once | `routes` |
//! | a connection looks at the window and takes what is for it | `connection` |
//! | it is rendered once, for all connections of one form | `render`, `encode` |
//! | it is written | `sse`, `ws` |
//!
//! # Slow readers
//!
//! A user's connection is a place in the window. Its mailbox names a bounded number of entries; when it overflows, the
//! connection reads the window from its place, and one that the window has left behind is told by a `Gap`. Nothing of
//! an event is held for a connection that does not read.
//!
//! # What this crate does not do
//!
//! It listens on no port (see `galaxy-push-listener`), reads no file, and knows no clock or randomness but what it is
//! given. `Edge/Connect`, tickets and cookies are answered with "not built yet".

mod state;

mod app;

mod surface;

#[cfg(all(test, shuttle))]
#[path = "../../testkit/src/schedules.rs"]
mod schedules;
#[cfg(test)]
mod tests;

pub use app::StartError;
pub use app::auth::{Access, Development, Keys, KeysError, Skipped, TOKEN_BYTES_MAX};
pub use app::config::{Config, HubToken, HubTokenSource};
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub use app::fuzzing;
pub use state::quotas::UserLimits;
pub use surface::{Gateway, PROXIED_MAX, accepts_event_stream, guard_origins};
