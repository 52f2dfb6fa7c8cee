//! The items of one read, in order: which are dealt with, and how many of the rest are offered at once.
//!
//! Filled by [`Link`](super::Link), offered to a handler by its driver.

use super::Item;

/// The items of one read, in order, and how many of them are dealt with.
///
/// ```text
/// items      i1  i2  i3  i4  i5        as one read brought them
/// committed   2 ──┘                    their cursor is committed; they are kept until all are
/// done        3 ──────┘                the handler is through with them
/// offered     5 ──────────────┘        the handler may see i4 and i5
/// ```
///
/// ```
/// use galaxy_push_core::link::{Batch, Item};
///
/// /// A batch handler's loop: what it has finished is not handed over again when a later item fails.
/// fn store_events(batch: &mut Batch, mut store: impl FnMut(&Item) -> Result<(), String>) -> Result<(), String> {
///     while let Some(item) = batch.items().first() {
///         store(item)?;
///         batch.finish_one();
///     }
///     Ok(())
/// }
/// ```
///
/// A handler has it on loan. It cannot take the items out and leave an empty batch, of which nothing would be left to hand over again:
///
/// ```compile_fail
/// # use galaxy_push_core::link::Batch;
/// fn handle(batch: &mut Batch) {
///     let mine = std::mem::take(batch);
/// }
/// ```
#[derive(Debug)]
pub struct Batch {
    items: Vec<Item>,
    /// Of `items`, so many are committed. They are kept until all are, because moving the rest up costs more.
    committed: usize,
    /// Of `items`, so many are dealt with.
    done: usize,
    /// Of `items`, so many may be seen by the handler.
    offered: usize,
    /// The cursor of frames after the last item that no handler is given: committed with the whole batch.
    tail: Option<String>,
}

/// What [`Batch::commit`] found.
#[derive(Debug, Default)]
pub(super) struct Committed {
    pub(super) items: usize,
    /// Where to resume from now, if that moved.
    pub(super) cursor: Option<String>,
}

impl Batch {
    /// Without an item.
    pub(super) const fn empty() -> Self {
        Self { items: Vec::new(), committed: 0, done: 0, offered: 0, tail: None }
    }

    /// The items offered and not yet marked as done.
    #[must_use]
    pub fn items(&self) -> &[Item] {
        &self.items[self.done..self.offered.max(self.done)]
    }

    /// Marks the first item that is not done as done. It commits when the handler returns or is cancelled, and is
    /// not handed over again when the handler fails on a later one.
    pub fn finish_one(&mut self) {
        self.done = (self.done + 1).min(self.offered.max(self.done));
    }

    /// Marks everything offered as done.
    pub(super) fn finish_all(&mut self) {
        self.done = self.offered.max(self.done);
    }

    /// Offers at most so many of the items that are not done.
    pub(super) fn offer(&mut self, at_most: usize) {
        self.offered = self.done.saturating_add(at_most).min(self.items.len());
    }

    /// How many items the handler was offered at once, those it has finished since included.
    pub(super) fn offered_together(&self) -> usize {
        self.offered.saturating_sub(self.committed)
    }

    pub(super) fn push(&mut self, item: Item) {
        self.tail = None;
        self.items.push(item);
        self.offered = self.items.len();
    }

    /// Notes the cursor of a frame that no handler is given.
    pub(super) fn note_tail(&mut self, cursor: &str) {
        self.tail = Some(cursor.to_owned());
    }

    /// Whether every item is committed.
    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Where the first `count` of the items that are not done lead, and past how many that is: fewer than `count` only
    /// if the batch ends before.
    pub(super) fn leads_to(&self, count: usize) -> Option<&str> {
        let end = self.done.saturating_add(count).min(self.items.len());
        self.items[self.done..end].iter().rev().find_map(Item::commits)
    }

    /// The first item that is not done.
    pub(super) fn first(&self) -> Option<&Item> {
        self.items.get(self.done)
    }

    /// Passes the first item on, which thereby leaves the batch without a commit.
    pub(super) fn pop_first(&mut self) -> Option<Item> {
        let item = self.first()?.clone();
        self.done += 1;
        self.committed = self.done;
        if self.committed == self.items.len() {
            self.clear();
        }
        Some(item)
    }

    /// The cursor of frames that no handler is given, once nothing is left before them.
    pub(super) fn pop_tail(&mut self) -> Option<String> {
        if self.is_empty() { self.tail.take() } else { None }
    }

    /// Commits what is done.
    pub(super) fn commit(&mut self) -> Committed {
        let done = &self.items[self.committed..self.done];
        let mut committed = Committed {
            items: done.len(),
            cursor: done.iter().rev().find_map(Item::commits).map(str::to_owned),
        };
        self.committed = self.done;
        if self.committed == self.items.len() {
            self.clear();
            committed.cursor = self.tail.take().or(committed.cursor);
        }
        committed
    }

    fn clear(&mut self) {
        self.items.clear();
        (self.committed, self.done, self.offered) = (0, 0, 0);
    }
}
