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
//! | the hub's frame arrives, and gets its place in the window | `state/upstream` |
//! | standing records say who may receive it | `state/standing`, `state/routes` |
//! | it is held, as it came, under the hub's cursor | `state/edge` |
//! | its recipients' connections are found, and woken once | `state/routes` |
//! | a connection reads in the window what is for it | `state/connection` |
//! | it is rendered once, for all connections of one form | `surface/render`, `surface/encode` |
//! | it is written | `surface/sse`, `surface/ws` |
//!
//! # Floors
//!
//! | floor | what it is | it must not |
//! |---|---|---|
//! | `state` | what the gateway knows, under locks | know HTTP, gRPC or a form of an answer |
//! | `app` | settings, tokens, admission, metrics, start and drain | know a transport of users |
//! | `surface` | SSE, WebSocket, the router, refusals as answers | be imported by the other two |
//!
//! # Slow readers
//!
//! A user's connection is a position in the window. Its mailbox names a bounded number of entries; when it overflows, the
//! connection reads the window from its position, and one that the window has left behind is told by a `Gap`. Nothing of
//! an event is held for a connection that does not read.
//!
//! # What this crate does not do
//!
//! It listens on no port (see `galaxy-push-listener`), reads no file, and knows no clock or randomness but what it is
//! given. `Edge/Connect`, tickets and cookies are answered with "not built yet".

mod app;
mod state;
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
