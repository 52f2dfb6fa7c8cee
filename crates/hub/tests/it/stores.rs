//! Stores that misbehave as real ones may: one that takes nothing, one that takes its time, and one that cannot be reached for a
//! while.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt as _};
use galaxy_push_core::cursor::{Cursor, Epoch};
use galaxy_push_core::frame::LogKind;
use galaxy_push_hub::{Config, Hub};
use galaxy_push_store::standing::{Count, Fill, Key, Page};
use galaxy_push_store::{Appended, Batch, DedupBounds, Error, Maker, MemoryStore, Refused, Store};
use tokio::sync::Semaphore;

use crate::world::{World, ambient};

/// What comes before the append.
enum Before {
    Fail,
    /// Each append waits for a permit, and takes it with it. Appends wait in the order in which they came.
    Wait(Arc<Semaphore>),
    /// While this holds, the store cannot be reached.
    Cut(Arc<AtomicBool>),
    Refuse(Refused),
}

struct Moody {
    inner: MemoryStore,
    before: Before,
}

fn world(config: Config, before: Before) -> World {
    let maker: Maker = Box::new(move |sink| {
        Ok(Arc::new(Moody { inner: MemoryStore::new(Epoch(7), DedupBounds::default(), sink), before }))
    });
    World::over(Hub::new(config, maker, ambient()).unwrap())
}

/// A world whose store takes nothing.
pub(crate) fn full() -> World {
    world(Config::default(), Before::Fail)
}

/// A world whose store appends as many batches as are let go.
pub(crate) fn slow(config: Config) -> (World, Arc<Semaphore>) {
    let go = Arc::new(Semaphore::new(0));
    (world(config, Before::Wait(go.clone())), go)
}

/// A world whose store cannot be reached while this holds.
pub(crate) fn cut_off() -> (World, Arc<AtomicBool>) {
    let cut = Arc::<AtomicBool>::default();
    (world(Config::default(), Before::Cut(cut.clone())), cut)
}

/// A world whose store refuses everything so.
pub(crate) fn refusing(refused: Refused) -> World {
    world(Config::default(), Before::Refuse(refused))
}

impl Moody {
    fn check_reached(&self) -> Result<(), Error> {
        if self.is_stale() { Err(Refused::Unavailable("nobody answers".into()).into()) } else { Ok(()) }
    }
}

impl Store for Moody {
    fn append(&self, batch: Batch) -> BoxFuture<'_, Result<Vec<Appended>, Error>> {
        async move {
            match &self.before {
                Before::Fail => return Err(Refused::Unavailable("the disk is full".into()).into()),
                Before::Wait(go) => go.acquire().await.unwrap().forget(),
                Before::Cut(_) => self.check_reached()?,
                Before::Refuse(refused) => return Err(refused.clone().into()),
            }
            self.inner.append(batch).await
        }
        .boxed()
    }

    fn head(&self) -> BoxFuture<'_, Result<Cursor, Error>> {
        async move {
            self.check_reached()?;
            self.inner.head().await
        }
        .boxed()
    }

    fn is_stale(&self) -> bool {
        matches!(&self.before, Before::Cut(cut) if cut.load(Ordering::Relaxed))
    }

    fn dedup_horizon(&self, now: Duration) -> Duration {
        self.inner.dedup_horizon(now)
    }

    fn standing(&self, after: Option<&Key>, bytes_max: usize, bytes_each: usize, now_unix_ms: u64) -> Page {
        self.inner.standing(after, bytes_max, bytes_each, now_unix_ms)
    }

    fn standing_count(&self, now_unix_ms: u64) -> Count {
        self.inner.standing_count(now_unix_ms)
    }

    fn standing_fill(&self, kind: LogKind, publisher: Option<&str>, now_unix_ms: u64) -> Fill {
        self.inner.standing_fill(kind, publisher, now_unix_ms)
    }
}
