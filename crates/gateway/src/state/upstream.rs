//! What the hub sends, turned into changes of the edge: the handler at the end of the gateway's one upstream stream.
//!
//! Called by `PushClient`, one batch at a time and in order. It forwards frames untouched and reads only what a window
//! needs: position, kind, whether an event is ephemeral or expires. It never drops a hole silently: whatever cannot be
//! placed in the window becomes a gap there, or an error that keeps the stream where it is.
//!
//! | frame | change |
//! |---|---|
//! | `Welcome` | before users are admitted the window begins at its cursor; later, a cursor beyond the head is a gap |
//! | event | an entry; one that the window has already is counted and left out |
//! | `Gap` | an entry that every reader meets, and a resync ([`records`]) |
//! | `Progress`, `CaughtUp`, standing records | the window's head moves on, without an entry |
//!
//! It asks for nothing, sends nothing and tries nothing again: the client does.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use galaxy_push_client::{Batch, BatchHandler, Frame, HandlerError, Item, Outcome};
use galaxy_push_core::cursor::{Cursor, Epochs};
use galaxy_push_core::log_clock::{APART_MAX, HubClocks, LogClock};
use galaxy_push_core::window::{GapReason, MissingRange, Traits};
use galaxy_push_proto::frame::{encode_framed, gap_frame};

use crate::state::edge::{Change, Edge};

mod records;

use records::Records;

/// The writer of the edge. There is one.
pub(crate) struct Upstream {
    edge: Arc<Edge>,
    /// Where the window ends once the changes so far are applied; `None` before the first `Welcome`.
    head: Option<Cursor>,
    /// How far the window came in each of the logs it followed before. The client remembers too, but not across a cursor that
    /// could not be read, and no position may be in the window twice.
    left_logs: Epochs,
    records: Records,
    clock: LogClock,
    /// The clocks of the hubs that the stream was at.
    clocks: HubClocks,
    skew_reported: bool,
    /// Which of the hubs the stream is at; `None`: there is one, or it is not known.
    door: Box<dyn Fn() -> Option<usize> + Send>,
    /// What comes now was just published: its stamp says the hub's time.
    is_live: bool,
}

/// A frame that this build cannot place in its window. The stream stays before it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the hub's cursor {cursor:?} is of a form this gateway does not know: upgrade the gateway")]
pub(crate) struct UnknownPosition {
    cursor: String,
}

impl Upstream {
    pub(crate) fn new(edge: Arc<Edge>) -> Self {
        let (records, clock) = (Records::default(), LogClock::default());
        Self {
            edge,
            head: None,
            left_logs: Epochs::default(),
            records,
            clock,
            clocks: HubClocks::default(),
            skew_reported: false,
            door: Box::new(|| None),
            is_live: false,
        }
    }

    /// Says at which of several hubs the stream is, so that their clocks can be compared.
    pub(crate) fn at_door(&mut self, door: impl Fn() -> Option<usize> + Send + 'static) {
        self.door = Box::new(door);
    }

    /// Applies the items in order. Returns how many were applied: all of them, unless there is an error.
    pub(crate) fn apply(&mut self, items: &[Item]) -> (usize, Result<(), UnknownPosition>) {
        let mut changes = Vec::with_capacity(items.len());
        let mut result = Ok(());
        let mut applied = 0;
        let was_live = self.is_live;
        for item in items {
            self.read_hub_clock(item);
            if let Err(error) = self.plan(item, &mut changes) {
                result = Err(error);
                break;
            }
            applied += 1;
        }
        // Before the entries: by it their age is reckoned as soon as they can be read.
        self.edge.set_log_clock(self.clock.offset());
        if was_live && self.is_live {
            self.compare_clocks();
        }
        // What lies before an error is applied all the same and done with: the client hands over only the rest again.
        self.edge.apply(&changes);
        if let Some(log_ms) = self.log_time(&items[..applied]) {
            self.edge.log_reached(log_ms);
        }
        if self.records.just_resynced() {
            // Once the changes are applied: whoever is admitted from here on reads a window that has them.
            self.edge.set_caught_up();
            tracing::info!(head = %self.edge.head(), "caught up with the hub; ready for users");
        }
        (applied, result)
    }

    /// Learns what time it is at the hub, if this frame says so.
    fn read_hub_clock(&mut self, item: &Item) {
        match item {
            Item::Welcome(_) => {
                self.clock.begin();
                self.edge.begin_log_clock();
                self.is_live = false;
            }
            Item::CaughtUp(_) => self.is_live = true,
            Item::FellBehind(_) => self.is_live = false,
            Item::Progress(_) => {}
            // What is replayed was stamped long ago.
            Item::Event(_) | Item::SessionInvalidation(_) | Item::Membership(_) if self.is_live => {}
            _ => return,
        }
        self.clock.observe(item.frame().view().appended_unix_ms(), self.edge.clock.now().mono);
    }

    /// Up to which time of the hub the log was read with these items, in milliseconds since the Unix epoch, if they say so.
    fn log_time(&self, items: &[Item]) -> Option<u64> {
        let says = |item: &&Item| match item {
            Item::Event(_) | Item::SessionInvalidation(_) | Item::Membership(_) => true,
            // These are stamped with the hub's present: the log was read up to that by whoever keeps up.
            Item::Progress(_) | Item::CaughtUp(_) => self.is_live,
            _ => false,
        };
        let last = items.iter().rfind(says)?;
        Some(last.frame().view().appended_unix_ms()).filter(|log_ms| *log_ms > 0)
    }

    /// Hubs on one log whose clocks differ give an event another age at each of them.
    fn compare_clocks(&mut self) {
        let (Some(door), Some(offset)) = ((self.door)(), self.clock.offset()) else { return };
        self.clocks.note(door, offset, self.edge.clock.now().mono);
        let apart = self.clocks.apart();
        self.edge.counters.clocks_apart.set(apart.as_secs_f64());
        let too_far = apart > APART_MAX;
        if too_far && !self.skew_reported {
            tracing::warn!(
                ?apart,
                "the clocks of the hubs differ: an event with a ttl expires at another time behind each of them; set their clocks \
                 by one source (NTP), and restart the hub that is wrong"
            );
        }
        self.skew_reported = too_far;
    }

    fn plan<'a>(&mut self, item: &'a Item, changes: &mut Vec<Change<'a>>) -> Result<(), UnknownPosition> {
        match item {
            Item::Welcome(welcome) => {
                let cursor = read(welcome.frame.cursor())?;
                let outcome = welcome.outcome;
                // Users from other gateways may be as far, whatever of it this one will take.
                changes.extend(Cursor::parse(&welcome.head).ok().map(Change::Reached));
                self.welcome(outcome, cursor, changes);
                self.records.welcome(outcome, changes);
            }
            Item::Event(frame) => self.event(frame, changes)?,
            Item::Gap(gap) if gap.is_local() => {
                // The next Welcome says where the hub's log begins; what is missing is told then.
                tracing::warn!(cursor = gap.from, "the hub could not read this gateway's own cursor");
            }
            Item::Gap(gap) => {
                let to = self.left_logs.goes_on(read(gap.frame.cursor())?);
                self.records.gap(gap, changes);
                self.gap(to, gap.clone().leading_to(to).frame.framed().clone(), changes);
            }
            Item::Progress(frame) => {
                self.advance(frame, changes)?;
                self.records.at_end(changes);
            }
            Item::CaughtUp(frame) => {
                self.advance(frame, changes)?;
                self.records.caught_up(changes);
            }
            Item::SessionInvalidation(frame) | Item::Membership(frame) => {
                self.advance(frame, changes)?;
                self.records.record(frame, changes);
            }
            Item::Standing(frame) => self.records.standing(frame, changes),
            Item::FellBehind(_) => {
                tracing::warn!("this gateway lags behind the hub, and may soon miss events")
            }
            // Kinds of a newer contract are counted by the client.
            _ => {}
        }
        Ok(())
    }

    fn welcome<'a>(&mut self, outcome: Option<Outcome>, cursor: Cursor, changes: &mut Vec<Change<'a>>) {
        let echoed = !matches!(outcome, Some(Outcome::Resumed | Outcome::Fresh));
        match self.head {
            // Nobody reads yet, so there is nothing to be told: the window simply begins here.
            None => self.begin(cursor, changes),
            // But never before what the window holds: the client does not hand that over again.
            Some(head) if !self.edge.is_caught_up() && head != cursor && !head.follows(cursor) => {
                self.begin(self.left_logs.goes_on(cursor), changes);
            }
            // Only what was presented, and a gap follows: it says where the stream goes on.
            Some(_) if echoed => {}
            // On resuming, the hub echoes this very head. Anything beyond it would be a hole.
            Some(head) => {
                let to = self.left_logs.goes_on(cursor);
                if let Some(gap) = MissingRange::between(GapReason::Upstream, head, to) {
                    self.gap(to, encode_framed(&gap_frame(&gap)), changes);
                }
            }
        }
    }

    fn begin(&mut self, cursor: Cursor, changes: &mut Vec<Change<'_>>) {
        let head = self.head.replace(cursor).filter(|head| head.epoch != cursor.epoch);
        head.into_iter().for_each(|head| self.left_logs.leave(head));
        changes.push(Change::Begin(cursor));
    }

    fn event<'a>(&mut self, frame: &'a Frame, changes: &mut Vec<Change<'a>>) -> Result<(), UnknownPosition> {
        let view = frame.view();
        let Some(event) = view.event() else { return Ok(()) };
        let Some(head) = self.head else { return Ok(()) }; // the client hands over nothing before a Welcome
        let mut traits = Traits::PLAIN;
        if event.ttl_ms().is_some() {
            traits = traits.with(Traits::EXPIRES);
        }
        let cursor = if view.cursor().is_empty() {
            traits = traits.with(Traits::EPHEMERAL);
            head
        } else {
            if event.ephemeral() {
                traits = traits.with(Traits::EPHEMERAL);
            }
            read(view.cursor())?
        };
        if cursor.follows(head) || (view.cursor().is_empty() && cursor == head) {
            self.head = Some(cursor);
            self.edge.counters.upstream_entries.inc();
            changes.push(Change::Append {
                cursor,
                traits,
                frame: frame.framed().clone(),
                event: Some(event),
            });
        } else if cursor.epoch == head.epoch {
            self.edge.counters.upstream_repeats.inc();
        } else {
            // The contract changes the epoch across a gap only. Readers are told of this one, the event included.
            tracing::error!(%cursor, %head, "the hub changed the epoch without a gap");
            let to = self.left_logs.goes_on(cursor);
            self.gap(to, encode_framed(&gap_frame(&MissingRange::into_another_log(head, to))), changes);
        }
        Ok(())
    }

    fn gap(&mut self, to: Cursor, frame: Bytes, changes: &mut Vec<Change<'_>>) {
        let Some(head) = self.head else { return };
        if to.epoch == head.epoch && !to.follows(head) {
            // The hub is behind this window, which misses nothing; positions are never applied back.
            tracing::warn!(%to, %head, "the hub's log ends before this gateway's");
            return;
        }
        if to.epoch == head.epoch {
            tracing::warn!(%to, %head, "this gateway missed events of the hub");
        } else {
            tracing::warn!(%to, %head, "this gateway goes on in another log; its users are told of a gap");
            self.left_logs.leave(head);
        }
        self.head = Some(to);
        self.edge.counters.upstream_gaps.inc();
        changes.push(Change::Append { cursor: to, traits: Traits::GAP, frame, event: None });
    }

    fn advance(&mut self, frame: &Frame, changes: &mut Vec<Change<'_>>) -> Result<(), UnknownPosition> {
        let cursor = read(frame.cursor())?;
        if self.head.is_some_and(|head| cursor.follows(head)) {
            self.head = Some(cursor);
        }
        changes.push(Change::Advance(cursor));
        Ok(())
    }
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream")
            .field("head", &self.head)
            .field("is_live", &self.is_live)
            .finish_non_exhaustive()
    }
}

impl BatchHandler for Upstream {
    async fn handle(&mut self, batch: &mut Batch) -> Result<(), HandlerError> {
        let (applied, result) = self.apply(batch.items());
        (0..applied).for_each(|_| batch.finish_one());
        Ok(result?)
    }
}

fn read(cursor: &str) -> Result<Cursor, UnknownPosition> {
    Cursor::parse(cursor).map_err(|_| UnknownPosition { cursor: cursor.to_owned() })
}
