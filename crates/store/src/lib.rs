//! Where events and standing records become durable, and where they get their positions.
//!
//! The hub hands a [`Store`] batches of validated events; the store orders them, keeps them as durably as it promises,
//! and gives them to its [`Sink`], the hub's window, before it acknowledges them. So no reader ever sees an event that
//! is less durable than its acknowledgement says, and one position names one payload for ever.
//!
//! | module | what it is |
//! |---|---|
//! | [`batch`] | events on their way in, encoded once |
//! | [`dedup`] | which events were published before |
//! | [`standing`] | the standing records that hold now |
//! | [`fence`] | who holds a gateway id, where several hubs serve one log |
//! | [`memory`] | the store that keeps nothing but the order |
//! | [`disk`] | the store that keeps everything in a directory |
//! | [`nats`] | the log that several hubs share, in a JetStream stream: what its messages mean |
//! | `jetstream` | the same on real brokers; with the feature `nats` |
//! | [`conformance`] | what every store must do, as a test |
//!
//! # What an acknowledgement means
//!
//! | store | acknowledged means |
//! |---|---|
//! | `memory` | held in this hub's window. Lost when the process ends; the next life of the log has a new epoch |
//! | `disk` | written and synced (`fdatasync`). The log goes on when the process starts again, in the same epoch |
//! | `nats` | stored by a majority of the stream's replicas, and read back. Whether they have synced it is a setting of theirs |
//!
//! # The three answers to an append
//!
//! | answer | what it says | what a publisher does |
//! |---|---|---|
//! | `Ok` | every event of the batch is in the log, appended now or before (`duplicate`) | goes on |
//! | [`Error::Refused`] | nothing of the batch was appended, and nothing of it ever reaches a reader | mends it, or sends it again later |
//! | [`Error::Unknown`] | it was appended as a whole or not at all, and may still show up in the log | sends it again with the same ids |
//!
//! With the `disk` store, for instance:
//!
//! ```text
//! t0  append(A), then append(B)    A is polled first, so A comes before B in the log
//! t1  A is synced                  Sink::committed(A); A's future yields Ok with its positions
//! t2  the sync of B fails          B's future yields Unknown; the sink is never handed B in this life
//! t3  the process starts again     Sink::restored(A), and B too if the disk has it
//! t4  append(B) with the same ids  Ok: a duplicate if it was there, appended now if not
//! ```
//!
//! # Several doors to one log
//!
//! A store may be shared: each hub opens it with a sink of its own, a *door*, and every door is handed the same batches
//! in the same order, some later than others. Then [`Store::head`] knows more than a door's sink, and [`Store::fence`]
//! says who holds which gateway id, whichever door it was taken at.
//!
//! What it does not do: validate events (the `proto` crate), hold them for readers (the window), retry, or know who
//! publishes and who reads.

pub mod batch;
pub mod conformance;
pub mod dedup;
pub mod disk;
pub mod fence;
mod fields;
#[cfg(feature = "nats")]
pub mod jetstream;
pub mod memory;
pub mod nats;
pub mod standing;

use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{BoxFuture, FutureExt as _};
use galaxy_push_core::cursor::Cursor;
use galaxy_push_core::frame::{FrameView, LogKind, message};
use galaxy_push_core::window::Traits;

pub use batch::Batch;
pub use dedup::{Bounds as DedupBounds, Content, Dedup, Key};
pub use disk::DiskStore;
pub use fence::{Fence, Holder};
#[cfg(feature = "nats")]
pub use jetstream::NatsStore;
pub use memory::MemoryStore;
pub use standing::Standing;

/// One event or standing record that has its place in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// What it is.
    pub kind: LogKind,
    /// Its position; for an ephemeral event, which has none, the position before it.
    pub cursor: Cursor,
    /// [`Traits::EPHEMERAL`], [`Traits::EXPIRES`], [`Traits::STANDING`] and [`Traits::CONTINUES`] as they apply.
    pub traits: Traits,
    /// The framed `PushEvent`, encoded once: what a store that keeps anything has kept, and what every reader is sent.
    pub frame: Bytes,
    /// When the hub took it, in milliseconds since the Unix epoch: as the frame says.
    pub appended_unix_ms: u64,
}

impl Committed {
    /// The encoded message of its kind, as it lies in the frame; an `Event` has `to` first.
    #[must_use]
    pub fn message(&self) -> &[u8] {
        // A store frames what it was given, so this is never empty.
        FrameView::read(message(&self.frame)).map(|view| view.body()).unwrap_or_default()
    }
}

/// Takes what a store has committed: the hub's window.
pub trait Sink: Send + Sync + 'static {
    /// The log continues after `base`. Called once, before anything is committed.
    fn begin(&self, base: Cursor);

    /// These events follow what was committed before: one or several batches, each of them whole. Called in the order of
    /// the log, and never twice at a time; before any of them is acknowledged, unless the log has several doors. Must be
    /// quick and must not wait: the store may hold its lock.
    fn committed(&self, batches: &[Committed]);

    /// These entries were committed in an earlier life of the log, which goes on. Called between `begin` and the first
    /// `committed`, in the order of the log; they are as old as [`Committed::appended_unix_ms`] says.
    fn restored(&self, batches: &[Committed]) {
        self.committed(batches);
    }

    /// The entries behind `from`, where the log has come to, up to `to` are lost: what kept them is damaged, or they were gone
    /// before this hub came to them. Called in the order of the log, behind `begin`; the next entry follows `to`. Readers must be
    /// told.
    fn damaged(&self, from: Cursor, to: Cursor);

    /// Nothing lies between what was handed on before and this position. Called in the order of the log where positions have
    /// holes ([`Epoch::has_holes`](galaxy_push_core::cursor::Epoch::has_holes)), so that the hub's window ends where the log does.
    fn advanced(&self, _to: Cursor) {}

    /// An earlier life of the log stamped it up to here, in milliseconds since the Unix epoch: what is stamped from now on
    /// is stamped no earlier. Called before `begin`.
    fn stamped_until(&self, _unix_ms: u64) {}

    /// Somebody has taken this gateway id at another door, or perhaps at this one. Called within 1 s where the store has a
    /// [`Fence`], never by others; before anything is handed on that this door missed while it could not be told. Also
    /// before `begin`. As quick as `committed`.
    fn taken(&self, _gateway: &str, _by: &Holder) {}

    /// Another door asks for a stream that may be at this one: [`Fence::ask`]. The call is as quick as `committed`; what it returns may
    /// take 2 s, where the stream must answer a ping.
    fn asked(&self, _question: &fence::Question) -> BoxFuture<'static, Option<fence::Stream>> {
        ready(None).boxed()
    }
}

/// What became of one event of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Its position; `None` for an ephemeral event.
    pub cursor: Option<Cursor>,
    /// It was published before, inside the dedup window: nothing was appended, and `cursor` is the original one.
    pub duplicate: bool,
}

/// Why a batch was not acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Nothing of it was appended, and nothing of it ever reaches a reader.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// Nobody knows: it was appended as a whole or not at all, and may be found in the log later.
    #[error("the store did not answer ({0}): publish it again with the same ids to find out")]
    Unknown(String),
}

/// Why a store surely did not append a batch.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// The store takes nothing at present.
    #[error("the store is unavailable ({0}): try again later")]
    Unavailable(String),
    /// The store was not opened, and why.
    #[error("{0}")]
    NotOpened(String),
    /// There is no room for more standing records.
    #[error(transparent)]
    StandingFull(#[from] standing::Full),
    /// It is larger than what the store appends at once.
    #[error(
        "the batch takes {bytes} bytes, and the store appends at most {bytes_max} at once: send it in smaller parts"
    )]
    TooLarge {
        /// What it takes, in bytes.
        bytes: usize,
        /// The most that it may take, in bytes.
        bytes_max: usize,
    },
    /// This store does not do such things at all.
    #[error("{0}")]
    Unsupported(String),
    /// Another content was published with this source and id, by the same publisher: to acknowledge this one as a
    /// duplicate would lose it.
    #[error(
        "another content was published with this id and source of late: give it an id of its own, or send what was sent \
         before"
    )]
    IdReused {
        /// Which item of the batch; `None`: the records of the request together.
        item: Option<usize>,
    },
}

/// An ordered, deduplicated log of events and standing records, and the records that hold.
pub trait Store: Send + Sync + 'static {
    /// Appends a batch. When the future yields `Ok`, every event that is not a duplicate is as durable as this store
    /// promises and was handed to the sink, or will be in its place if the log has several doors; the results are in the
    /// order of the batch.
    ///
    /// An event is a duplicate if one with the same id and source was appended by its publisher inside the dedup window,
    /// the same batch included; with another content it refuses the batch. So are the records of a batch together, if
    /// they have a key. The `memory` store appends what is left contiguously: no other event gets a position between.
    ///
    /// Batches whose futures are first polled one after another are appended in that order. A caller may have several
    /// under way at a time.
    ///
    /// Cancel safe in that a dropped future leaves the batch appended as a whole or not at all; which of the two, the
    /// caller cannot know, and finds out by publishing it again.
    ///
    /// # Errors
    ///
    /// [`Error`]: refused, or nobody knows.
    fn append(&self, batch: Batch) -> BoxFuture<'_, Result<Vec<Appended>, Error>>;

    /// The last position given out at any door: no lower than that of any append acknowledged before the call.
    ///
    /// # Errors
    ///
    /// It cannot be known at present.
    fn head(&self) -> BoxFuture<'_, Result<Cursor, Error>>;

    /// The store cannot be reached, as far as is known: nothing is appended here at present, and the log may have gone on elsewhere.
    fn is_stale(&self) -> bool {
        false
    }

    /// What an acknowledgement means at present, for whoever operates it, where that depends on how others are set.
    fn ack_meaning(&self) -> Option<String> {
        None
    }

    /// Who holds which gateway id, if the log may have several doors. `None`: the hub that opened it is the only one.
    fn fence(&self) -> Option<&dyn Fence> {
        None
    }

    /// How far back a duplicate is recognised at present. `now` is on the clock of [`Batch`]'s time.
    fn dedup_horizon(&self, now: Duration) -> Duration;

    /// Lets go of what is too old to matter. `now` is on the clock of [`Batch`]'s time. A hub calls it every few seconds, so
    /// that an idle one gives memory and disk back; what a store forgets by itself it need not forget here. Must be quick: what
    /// takes time is done after it has returned.
    fn trim(&self, _now: Duration) {}

    /// The standing records that hold, page by page: those after `after`, of at most `bytes_max` bytes together, each
    /// counted with `bytes_each` bytes besides its message, but one at least.
    ///
    /// A record is in here no later than it is handed to the sink. So whoever first takes its place in the log and then
    /// reads all pages misses none: what is appended meanwhile lies behind its place.
    fn standing(
        &self,
        after: Option<&standing::Key>,
        bytes_max: usize,
        bytes_each: usize,
        now_unix_ms: u64,
    ) -> standing::Page;

    /// How many standing records hold.
    fn standing_count(&self, now_unix_ms: u64) -> standing::Count;

    /// What a store that keeps files has done and takes up. `None`: it keeps none.
    fn disk_figures(&self) -> Option<disk::Figures> {
        None
    }

    /// Looks how much room there is, which [`Store::disk_figures`] then tells, and whether the files are still where they were: if
    /// not, nothing is taken any more. It asks the system, which may take its time. Returns the files that were taken away, each
    /// once, without which the store goes on: what lies in them is lost at the next start, if that comes before their time is over.
    fn check_disk(&self) -> Vec<String> {
        Vec::new()
    }

    /// How many records of one kind hold, and how many may: all of them, or those of one publisher.
    fn standing_fill(&self, kind: LogKind, publisher: Option<&str>, now_unix_ms: u64) -> standing::Fill;
}

/// Opens a store that hands what it commits to this sink. [`Sink::begin`] has been called when it returns.
pub type Maker = Box<dyn FnOnce(Arc<dyn Sink>) -> Result<Arc<dyn Store>, Error> + Send>;
