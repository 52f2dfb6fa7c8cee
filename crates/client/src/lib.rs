//! `PushClient`: one stream of events from a hub, kept alive and resumed where the handler stopped.
//!
//! ```no_run
//! use galaxy_push_client::{Item, PushClient};
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let handler = async |item: Item| {
//!     match item {
//!         Item::Event(frame) => println!("{} {:?}", frame.cursor(), frame.view().event().map(|event| event.id())),
//!         Item::Gap(gap) => println!("missed ({}, {}]: {:?}; fetch the state anew", gap.from, gap.to, gap.reason),
//!         _ => {} // where the stream stands; of interest to whoever keeps a copy of the log
//!     }
//!     Ok(()) // from here on this item is never seen again
//! };
//! let client = PushClient::builder("gateway-1").hub("http://127.0.0.1:7400").start(handler)?;
//! tokio::signal::ctrl_c().await?;
//! println!("stopped at {}", client.shutdown().await.cursor);
//! # Ok(())
//! # }
//! ```
//!
//! # Delivery
//!
//! The handler is called with one item, or one batch, at a time, in stream order. An item is *committed* when the
//! handler returned `Ok` for it; until then the same item comes back after a growing wait, for as long as the handler
//! fails, and [`Status::handler`] says so. Nothing is skipped silently.
//!
//! Within one process, for events that stay inside the window of one epoch, each position is committed exactly once
//! over any number of reconnects: a position received before is dropped and counted. Across a crash of the process
//! delivery is at least once, from the cursor that was stored last; store [`Item::cursor`] after the effect, or with it
//! in one transaction, which makes the *effect* happen exactly once. An idempotent handler achieves the same.
//!
//! What was missed is told by a [`Gap`], an item like any other: its cursor commits when the handler has dealt with it.
//!
//! # Resuming
//!
//! A stream that ends is begun anew after the last committed cursor: soon at first, then ever later with full jitter,
//! at another hub if there are several. Only a stream that proved healthy starts that over, so a hub that accepts and
//! closes at once is not stormed. Refusals and conflicts wait longer and show as [`State::Refused`] and
//! [`State::Conflicted`]; nothing but [`PushClient::shutdown`] ends the client for good.
//!
//! A cursor that the hub cannot read, for example from a damaged store, becomes a [`Gap`] of reason
//! `CursorUnreadable`, and the stream starts from the oldest event held.
//!
//! # Slow readers
//!
//! While the handler works nothing is read, and the hub holds back: a slow handler costs the hub no memory, and this
//! process at most the receive window of 4 MiB. Pings are answered meanwhile, and the deadline for silence does not
//! run, so slowness is never mistaken for death on either side. A handler that stays too slow for too long is told by
//! `FellBehind`, and by a [`Gap`] once its position has left the hub's window.
//!
//! # What this crate does not do
//!
//! No storing of cursors, no dead letters, no TLS (bring a [`Connector`]), no batching of publishes. It holds no window:
//! a gateway, which does, keeps the framed bytes of [`Item::frame`] as they are.
//!
//! | module | what it is |
//! |---|---|
//! | `client`, `builder` | the handle and the settings |
//! | `driver` | the loop, and the one place that retries |
//! | `handler` | what the application provides |
//! | `transport`, `connector` | gRPC over one HTTP/2 connection; where its bytes come from |
//! | `publisher` | the other direction |

mod builder;
mod client;
mod connector;
mod driver;
mod handler;
mod hub;
mod publisher;
mod random;
mod transport;

pub use builder::{BuildError, Builder};
pub use client::PushClient;
pub use connector::{Connecting, Connector, Io, TcpConnector};
pub use galaxy_push_core::backoff;
pub use galaxy_push_core::link::{
    Batch, Counters, Failure, Frame, Gap, HandlerTrouble, Item, ServerStatus, State, Status, Waited,
    code_name,
};
pub use galaxy_push_core::window::GapReason;
pub use handler::{BatchHandler, Handler, HandlerError};
pub use publisher::{Head, Published, Publisher, PublisherBuilder, Refusal};
