//! The edge: the hub's events as this gateway holds them, under the hub's own cursors.
//!
//! [`Upstream`](crate::state::upstream::Upstream) alone appends; every connection reads. Whoever reads a window whose oldest entry
//! has become too old trims it first, under the write lock ([`Edge::read`]). The window is behind a lock of its own,
//! which is never acquired while one of the routes' is held, nor kept across an await.
//!
//! One batch from upstream takes three steps, in this order. (One with a record that takes a topic away is cut in front of it, and
//! each part takes them: [`Edge::apply`].) No step holds the window's lock and the table's at once:
//!
//! | step | lock | what holds afterwards |
//! |---|---|---|
//! | [`Edge::apply_access`] | the window (read) for a moment, for its two ends; then the routes' table | a standing record is known before the entries behind it |
//! | [`Edge::append`] | the window | the entries can be read |
//! | [`Routes::dispatch`] | the routes' table | their slots are in the mailboxes, and connections are woken |
//!
//! A connection that reads between the second and the third step sees entries that are not dispatched yet, and leaves them:
//! it reads as far as [`Routes::dispatched`] says.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use bytes::Bytes;
use galaxy_push_core::Now;
use galaxy_push_core::cursor::{Cursor, Epoch};
use galaxy_push_core::frame::EventView;
use galaxy_push_core::log_clock::Offset;
use galaxy_push_core::window::{Bounds, Slot, Traits, Window};
use galaxy_push_listener::Clock;

use crate::state::counters::Counters;
use crate::state::routes::{AccessChange, Dispatch, DispatchedUpTo, Routes};
use crate::state::sync::{AtomicBool, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// The window, and the routes from it to the connections.
#[derive(Debug)]
pub(crate) struct Edge {
    window: RwLock<Window>,
    caught_up: AtomicBool,
    /// A random number that tells the connections of this process from those of an earlier one.
    run: u32,
    pub(crate) routes: Arc<Routes>,
    pub(crate) clock: Clock,
    pub(crate) counters: Arc<Counters>,
}

/// One change that upstream brings, in its order.
#[derive(Debug)]
pub(crate) enum Change<'a> {
    /// The window begins here: nothing before is held, and nobody reads yet.
    Begin(Cursor),
    /// One more entry.
    Append {
        cursor: Cursor,
        traits: Traits,
        frame: Bytes,
        /// The event that names its recipients; `None`: everybody, as with gaps.
        event: Option<EventView<'a>>,
    },
    /// The log is known up to here.
    Advance(Cursor),
    /// When the present stream began, the hub's log ended here. The window keeps it ([`Window::log_reached`]): if the log is left
    /// and comes back, no position up to here is resumed without a gap.
    Reached(Cursor),
    /// Who may receive what from here on.
    Access(AccessChange),
}

impl Edge {
    pub(crate) fn new(
        bounds: Bounds,
        mailbox_slots: usize,
        clock: Clock,
        counters: Arc<Counters>,
    ) -> Arc<Self> {
        let nowhere = Cursor::start(Epoch(0));
        Arc::new(Self {
            window: RwLock::new(Window::new(nowhere, bounds)),
            caught_up: AtomicBool::new(false),
            run: clock.ambient().random() as u32,
            routes: Routes::new(nowhere, bounds, mailbox_slots, counters.clone()),
            clock,
            counters,
        })
    }

    /// What a connection is called, to its user and in the log.
    pub(crate) fn name_of(&self, connection: u64) -> String {
        format!("{:08x}-{connection}", self.run)
    }

    /// Whether the hub's log was read to its end once. Nobody is admitted before.
    pub(crate) fn is_caught_up(&self) -> bool {
        self.caught_up.load(Ordering::Acquire)
    }

    pub(crate) fn set_caught_up(&self) {
        self.caught_up.store(true, Ordering::Release);
    }

    /// Reads the window as it is at `now`: what is too old is gone, also when nothing is appended any more.
    ///
    /// `look` runs under the window's lock; it may lock the routes' table, and must be short.
    pub(crate) fn read<R>(&self, now: Now, look: impl FnOnce(&Window) -> R) -> R {
        let window = self.reading();
        let too_old = |window: &Window| {
            let oldest = window.appended_at(window.oldest());
            oldest.is_some_and(|at| now.mono.saturating_sub(at) > window.bounds().age)
        };
        // Most reads find nothing too old and share the lock. A read lock cannot become a write lock, so it is dropped in between;
        // whatever others do then, `look` sees a window that is whole.
        if too_old(&window) {
            drop(window);
            self.writing().trim(now.mono);
            return look(&self.reading());
        }
        look(&window)
    }

    /// Applies what upstream brought, then dispatches it. One caller at a time.
    ///
    /// A record that takes a topic away waits until what lies before it is dispatched, since its members still receive that:
    /// the changes are cut in front of it, and each part is applied and dispatched for itself.
    ///
    /// ```text
    /// changes    event 4 for t    event 5 for t    "ann leaves t"    event 6 for t
    /// part 1     event 4, event 5: both go into ann's mailbox
    /// part 2     "ann leaves t", event 6: no longer
    /// ```
    pub(crate) fn apply(&self, changes: &[Change<'_>]) {
        let mut appended = false;
        // `chunk_by` asks about each pair of neighbours once, in order: so one flag tells what the present part has.
        let stays = |before: &Change<'_>, next: &Change<'_>| {
            appended |= matches!(before, Change::Append { .. });
            let parts = appended
                && matches!(next, Change::Access(AccessChange::Membership(record)) if !record.member);
            appended &= !parts;
            !parts
        };
        for part in changes.chunk_by(stays) {
            self.apply_access(part);
            let (dispatches, upto) = self.append(part);
            self.routes.dispatch(dispatches, upto);
        }
    }

    /// Applies the changes of access, each with the slot that the next entry will have: the entries from that slot on came
    /// after the record, those before it came before.
    pub(crate) fn apply_access(&self, changes: &[Change<'_>]) {
        let now_ms = self.clock.now().unix_ms;
        // Released before the table is locked. Nobody appends meanwhile, because the caller alone does; to be trimmed meanwhile only
        // makes `oldest` older than need be.
        let (end, mut oldest) = {
            let window = self.reading();
            (window.end(), window.oldest())
        };
        if changes.iter().any(|change| matches!(change, Change::Begin(_))) {
            oldest = Slot::default(); // slots count anew
        }
        let mut next = end;
        let access = changes.iter().filter_map(|change| match change {
            Change::Access(change) => Some((change, next)),
            Change::Append { .. } => {
                next = next.next();
                None
            }
            Change::Begin(_) => {
                next = Slot::default();
                Some((&AccessChange::Reset, next))
            }
            Change::Advance(_) | Change::Reached(_) => None,
        });
        self.routes.apply_access(access, end, oldest, now_ms);
    }

    /// Appends the entries to the window. Returns what is to be dispatched, and up to where.
    pub(crate) fn append<'a>(&self, changes: &[Change<'a>]) -> (Vec<Dispatch<'a>>, DispatchedUpTo) {
        let now = self.clock.now().mono;
        let mut dispatches = Vec::new();
        let mut window = self.writing();
        for change in changes {
            match change {
                Change::Begin(base) => {
                    let clock = window.clock();
                    *window = Window::new(*base, window.bounds());
                    window.set_clock(clock);
                    // Their slots are of the window that is gone.
                    dispatches.clear();
                }
                Change::Append { cursor, traits, frame, event } => {
                    let slot = window.end();
                    window.append(*cursor, *traits, frame, now);
                    dispatches.push(Dispatch { slot, cursor: *cursor, bytes: frame.len(), event: *event });
                }
                Change::Advance(cursor) => {
                    window.advance(*cursor);
                    window.trim(now);
                }
                Change::Reached(to) => window.log_reached(*to),
                Change::Access(_) => {}
            }
        }
        (dispatches, DispatchedUpTo { slot: window.end(), cursor: window.head() })
    }

    /// The log was read up to this time of the hub, in milliseconds since the Unix epoch.
    pub(crate) fn log_reached(&self, log_ms: u64) {
        self.routes.log_reached(log_ms, self.end());
    }

    /// Another stream from the hub begins, perhaps from another life of it.
    pub(crate) fn begin_log_clock(&self) {
        self.writing().begin_clock();
    }

    /// What time it is at the hub, as far as that is known.
    pub(crate) fn set_log_clock(&self, clock: Option<Offset>) {
        // It seldom changes, and the write lock would keep every reader out. The caller alone sets it.
        if self.reading().clock() != clock {
            self.writing().set_clock(clock);
        }
    }

    /// Where the window ends.
    pub(crate) fn end(&self) -> Slot {
        self.reading().end()
    }

    /// The last position known.
    pub(crate) fn head(&self) -> Cursor {
        self.reading().head()
    }

    fn reading(&self) -> RwLockReadGuard<'_, Window> {
        self.window.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn writing(&self) -> RwLockWriteGuard<'_, Window> {
        self.window.write().unwrap_or_else(PoisonError::into_inner)
    }
}
