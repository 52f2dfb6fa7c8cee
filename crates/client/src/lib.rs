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
//!     Ok(()) // from here on this process does not see this item again
//! };
//! let client = PushClient::builder("gateway-1").hub("http://127.0.0.1:7400").start(handler)?;
//! tokio::signal::ctrl_c().await?;
//! println!("stopped at {}", client.shutdown().await.cursor);
//! # Ok(())
//! # }
//! ```
//!
//! A closure that keeps something takes it by `move` and clones what its future needs:
//!
//! ```no_run
//! use std::sync::Arc;
//! use std::sync::atomic::{AtomicU64, Ordering};
//!
//! use galaxy_push_client::{HandlerError, Item, PushClient};
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let seen = Arc::new(AtomicU64::new(0));
//! let counter = seen.clone();
//! let client = PushClient::builder("gateway-1").hub("http://127.0.0.1:7400").start(move |item: Item| {
//!     let counter = counter.clone();
//!     async move {
//!         if let Item::Event(_) = item {
//!             counter.fetch_add(1, Ordering::Relaxed);
//!         }
//!         Ok::<_, HandlerError>(())
//!     }
//! })?;
//! # client.shutdown().await;
//! # Ok(())
//! # }
//! ```
//!
//! What has state and a name of its own is a struct, and its handler may change it:
//!
//! ```no_run
//! use galaxy_push_client::{EventView, Handler, HandlerError, Item, PushClient};
//!
//! struct Orders {
//!     shipped: Vec<String>,
//! }
//!
//! impl Orders {
//!     async fn ship(&mut self, event: EventView<'_>) -> anyhow::Result<()> {
//!         anyhow::ensure!(event.content_type() == "application/json", "an order is JSON");
//!         self.shipped.push(event.subject().to_owned());
//!         Ok(())
//!     }
//! }
//!
//! impl Handler for Orders {
//!     async fn handle(&mut self, item: Item) -> Result<(), HandlerError> {
//!         match &item {
//!             Item::Event(frame) => {
//!                 let Some(event) = frame.event() else { return Ok(()) };
//!                 if event.event_type() == "order.shipped" {
//!                     self.ship(event).await?; // the same event comes again after a while
//!                 }
//!             }
//!             Item::Gap(gap) => eprintln!("missed up to {}: read the orders anew", gap.to),
//!             _ => {}
//!         }
//!         Ok(())
//!     }
//! }
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let client = PushClient::builder("orders-1").hub("http://127.0.0.1:7400").start(Orders { shipped: vec![] })?;
//! # client.shutdown().await;
//! # Ok(())
//! # }
//! ```
//!
//! # Delivery
//!
//! The handler is called with one item, or one batch, at a time, in stream order. An item is *committed* when the
//! handler returned `Ok` for it; until then the same item comes back after a growing wait, for as long as the handler
//! fails, and [`Status::handler`] says so. With [`Builder::retry`] limited, an item that keeps failing goes to the
//! [`dead letter`](Builder::dead_letter) instead, which is an outcome that commits too. Nothing is skipped silently.
//!
//! Within one process, for events that stay inside the window of one epoch, each position has exactly one committed
//! outcome, success or dead letter, over any number of reconnects: a position received before is dropped and counted.
//!
//! Across a crash of the process delivery is at least once, from the cursor that was stored last. With a
//! [`Builder::cursor_store`] the cursor is stored *after* the handler has returned, so a crash costs this:
//!
//! | the process dies | by default | [`at_most_once`](Builder::at_most_once) | without a store |
//! |---|---|---|---|
//! | before the handler | handled once, after the restart | lost | lost from the head; from `oldest`, once |
//! | inside the handler | its effect is unknown; handled again | its effect is unknown; never again | from the head never again |
//! | after it, the cursor not stored | **handled twice** | once | once from the head, and what came meanwhile is missed; up to a whole window twice from `oldest` |
//! | after the cursor is stored | once | once | as above |
//!
//! At most one handler call is repeated, or as many as [`Builder::save_every`] says. Exactly-once *effects* need a handler
//! that is idempotent, by the event's id and source, or one that stores its effect and [`Item::cursor`] in one
//! transaction: implement [`CursorStore`] to load from there.
//!
//! A [`Gap`] stands for what was missed, an item like any other: its cursor commits when the handler has dealt with it.
//!
//! [`Builder::stream`] is the form for whoever deals with many items at once: each [`Delivery`] is acked by itself, in any
//! order, and the cursor moves past an item once everything before it has its outcome, too. A delivery that is dropped
//! without an ack comes back in this process, as one that failed.
//!
//! # Resuming
//!
//! A stream that ends is begun anew after the last committed cursor: soon at first, then ever later with full jitter,
//! at another hub if there are several, as long as it holds the same log: see [`Builder::hub`]. Only a stream that proved healthy starts that over, so a hub that accepts and
//! closes at once is not stormed. Refusals and conflicts wait longer and show as [`State::Refused`] and
//! [`State::Conflicted`]; nothing but [`PushClient::shutdown`] ends the client for good. In the stream form it is begun
//! anew after the last item that went out: what is in flight is neither lost nor delivered twice.
//!
//! A cursor that the hub cannot read, for example from a damaged store, becomes a [`Gap`] of reason
//! `CursorUnreadable`, and the stream starts from the oldest event held. So does a store that cannot be read,
//! but with [`at_most_once`](Builder::at_most_once), which waits for it. A store
//! that cannot be written holds nobody up: [`Status::store`] says so, and until it works a crash repeats more.
//!
//! # Slow readers
//!
//! While the handler works nothing is read, and the hub holds back: a slow handler costs the hub no memory, and this
//! process at most the receive window of 4 MiB. The stream form hands out at most [`Builder::in_flight_bytes`] and then
//! reads nothing either. Pings are answered meanwhile, and the deadline for silence does not run, so slowness is never
//! mistaken for death on either side. Nor is a slow line: while a large frame comes in, be it for minutes, its bytes are
//! sign enough. A handler that stays too slow for too long gets a `FellBehind`, and a
//! [`Gap`] once its position has left the hub's window; [`Status::handling_since`] shows one that is stuck, and
//! [`Builder::handler_deadline`] ends its call.
//!
//! # Publishing
//!
//! [`Publisher`] sends one request at a time and waits; [`Publisher::stream`] makes it a [`PublishStream`], which has many
//! under way. Both send again, with the same event ids, until the hub answers, and wait as long as it asks for.
//!
//! # What this crate does not do
//!
//! It does not batch publishes, and it holds no window: a gateway, which does, keeps the framed bytes of [`Item::frame`]
//! as they are.
//!
//! Feature `tls`, on by default: [`Tls`] for `https://` hubs. Without it, a [`Connector`] may bring its own. Feature
//! `metrics`: `PushClient::register` for a Prometheus registry. Feature `opentelemetry`: a [`Tracing`] for an OpenTelemetry tracer.
//!
//! # Watching it
//!
//! [`PushClient::status`] shows the state, the last error and what is waited for; the log has one line for each change that
//! asks for attention. [`Builder::report_every`] tells the hub how far the handler is, so that its operator sees it. With [`Builder::tracing`] the handling of an event continues the trace that the event carries, and with
//! [`PublisherBuilder::tracing`] publishing begins one.
//!
//! | module | what it is |
//! |---|---|
//! | `client`, `builder`, `start` | the handle, the settings, and how one comes of the other |
//! | `driver` | the loop, and the one file that reckons how long to wait before another try |
//! | `handler`, `stream` | the two forms in which the application takes items |
//! | `store`, `file_store` | where a cursor outlives the process |
//! | `doors` | which log each of several hubs holds |
//! | `transport`, `rpc`, `connector`, `tls`, `counted_io` | gRPC over one HTTP/2 connection; where its bytes come from, and whether any do |
//! | `dial_config`, `hub_url`, `token` | where the hubs are, and what proves who this is |
//! | `publisher`, `publish_stream`, `published` | the other direction, and what a hub answers to it |
//! | `error`, `fault` | settings that cannot work; what goes wrong in the application's code |
//! | `report`, `reporter` | what is said of the client: in the log, and to the hub |

mod builder;
mod client;
mod connector;
mod counted_io;
mod dial_config;
mod doors;
mod driver;
mod error;
mod fault;
mod file_store;
mod handler;
mod hub_url;
#[cfg(feature = "metrics")]
mod metrics;
#[cfg(feature = "opentelemetry")]
pub mod opentelemetry;
mod publish_stream;
mod published;
mod publisher;
mod random;
mod report;
mod reporter;
mod rpc;
mod spans;
mod start;
mod store;
mod stream;
#[cfg(feature = "tls")]
mod tls;
mod token;
mod transport;

pub use builder::Builder;
pub use client::PushClient;
pub use connector::{Connecting, Connector, Io, TcpConnector};
pub use error::{BuildError, HandlerError};
pub use file_store::FileCursorStore;
pub use galaxy_push_core::backoff;
pub use galaxy_push_core::frame::{EventView, FrameView, Kind};
pub use galaxy_push_core::link::{
    Batch, Counters, Door, Failure, FellBehind, Frame, Gap, Goodbye, GoodbyeReason, HandlerTrouble, Item,
    RetryPolicy, ServerStatus, State, Status, StoreTrouble, StreamEnd, StreamEndCounts, Waited, Welcome,
    code_name,
};
pub use galaxy_push_core::trace::{self, Tracing};
pub use galaxy_push_core::window::{GapReason, Outcome};
pub use galaxy_push_proto::{feature, v1};
pub use handler::{BatchHandler, DeadLetterHandler, Handler};
pub use publish_stream::{PublishAck, PublishStream};
pub use published::{Head, Invalidated, Published, Refusal};
pub use publisher::{Publisher, PublisherBuilder};
pub use store::{CursorStore, MemoryCursorStore, StoreError};
pub use stream::{Ack, Delivery, PushStream};
#[cfg(feature = "tls")]
pub use tls::{Tls, TlsError};

use galaxy_push_core::link::Order;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
