//! Whatever the order of appends, dispatches, visits, overflows and changes of topics: each connection gets exactly its
//! events, in order, once, or is told of a gap.

use std::collections::{BTreeMap, BTreeSet};

use galaxy_push_core::ambient::Ambient;
use galaxy_push_core::cursor::{Cursor, Epoch, Seq, StartFrom};
use galaxy_push_core::frame::{EventView, FrameView, Kind as FrameKind, message};
use galaxy_push_core::reader::Settings;
use galaxy_push_core::window::{Bounds, GapReason, MissingRange, Traits};
use galaxy_push_listener::Clock;
use galaxy_push_proto::frame::{encode_framed, gap_frame};
use galaxy_push_proto::v1::{Event, PushEvent, push_event::Kind};
use proptest::prelude::*;

use super::*;
use crate::state::counters::Counters;
use crate::state::edge::Change;
use crate::state::grants::{Grants, Issued};
use crate::state::quotas::{Quotas, UserLimits};
use crate::state::routes::Dispatch;

mod quiet;

const RECIPIENTS: [&str; 6] = ["user:ann", "user:bob", "session:s", "topic:a", "topic:b", "all"];
const TOPICS: [&str; 3] = ["a", "b", "c"];

/// One position of the log, or an event without one.
#[derive(Clone, Debug)]
struct Logged {
    cursor: Cursor,
    kind: What,
}

#[derive(Clone, Debug, PartialEq)]
enum What {
    Event(BTreeSet<String>),
    Gap,
    /// The hub had nothing for this gateway there.
    Nothing,
}

#[derive(Clone, Debug)]
enum Op {
    Append(Vec<usize>),
    Ephemeral(Vec<usize>),
    UpstreamGap(u64),
    NewEpoch,
    Advance(u64),
    Dispatch,
    Visit(usize),
    Subscribe(usize, usize),
    Unsubscribe(usize, usize),
    /// A connection under this user that resumes at this position, counted back from the head.
    Open(usize, usize),
    Close(usize),
}

/// The system under test, and beside it the plain log.
struct World {
    edge: Arc<Edge>,
    head: Cursor,
    log: Vec<Logged>,
    /// Events by id: recipients, for those without a position too.
    events: BTreeMap<String, BTreeSet<String>>,
    undispatched: Vec<(Change<'static>, DispatchedUpTo)>,
    connections: Vec<Told>,
    limits: Limits,
}

/// One connection, and what it must have been told.
struct Told {
    connection: Connection,
    recipients: BTreeSet<String>,
    /// The index in the log up to which everything was told.
    at: usize,
    welcomed: bool,
    ephemeral: BTreeSet<String>,
}

impl World {
    fn new(bounds: Bounds, mailbox_slots: usize, turn_bytes: usize) -> Self {
        let clock = Clock::start(Ambient::new(|| 0, || 0), Duration::ZERO);
        let edge = Edge::new(bounds, mailbox_slots, clock, Arc::new(Counters::default()));
        let head = Cursor::start(Epoch(7));
        edge.apply(&[Change::Begin(head)]);
        let log = vec![Logged { cursor: head, kind: What::Nothing }];
        Self {
            edge,
            head,
            log,
            events: BTreeMap::new(),
            undispatched: Vec::new(),
            connections: Vec::new(),
            limits: Limits { topics: 128, turn_bytes },
        }
    }

    fn hold(&mut self, change: Change<'static>) {
        let (_, place) = self.edge.append(std::slice::from_ref(&change));
        self.undispatched.push((change, place));
    }

    fn dispatch(&mut self) {
        let held = std::mem::take(&mut self.undispatched);
        let Some((_, upto)) = held.last() else { return };
        let first = held.iter().filter(|(change, _)| matches!(change, Change::Append { .. })).count() as u64;
        let appended = held.iter().filter_map(|(change, place)| match change {
            Change::Append { cursor, frame, event, .. } => Some((*cursor, frame.len(), *event, place)),
            _ => None,
        });
        let dispatches: Vec<Dispatch<'_>> = appended
            .map(|(cursor, bytes, event, place)| {
                // The slot of an entry is the one before the window's end just after it.
                let slot =
                    (0..).map(|n| Slot::default().plus(n)).find(|slot| slot.next() == place.slot).unwrap();
                Dispatch { slot, cursor, bytes, event }
            })
            .collect();
        assert_eq!(dispatches.len() as u64, first);
        self.edge.routes.dispatch(dispatches, *upto);
    }

    fn append(&mut self, to: &[usize], ephemeral: bool) {
        let to: BTreeSet<String> =
            to.iter().map(|&one| RECIPIENTS[one % RECIPIENTS.len()].to_owned()).collect();
        let id = format!("e{}", self.events.len());
        let cursor = if ephemeral { self.head } else { self.head.next() };
        let event = Event {
            to: to.iter().cloned().collect(),
            id: id.clone(),
            r#type: "t".into(),
            source: "/s".into(),
            ephemeral,
            ..Event::default()
        };
        let text = if ephemeral { String::new() } else { cursor.to_string() };
        let frame =
            encode_framed(&PushEvent { cursor: text, kind: Some(Kind::Event(event)), appended_unix_ms: 1 });
        let view: EventView<'static> =
            FrameView::read(message(Box::leak(Box::<[u8]>::from(&*frame)))).unwrap().event().unwrap();
        let traits = if ephemeral { Traits::EPHEMERAL } else { Traits::PLAIN };
        if !ephemeral {
            self.log.push(Logged { cursor, kind: What::Event(to.clone()) });
        }
        self.events.insert(id, to);
        self.head = cursor;
        self.hold(Change::Append { cursor, traits, frame, event: Some(view) });
    }

    fn gap(&mut self, to: Cursor) {
        let gap = MissingRange {
            reason: GapReason::Lapped,
            from: self.head.to_string(),
            to,
            count: to.since(self.head),
            repair_after: None,
        };
        self.log.push(Logged { cursor: to, kind: What::Gap });
        self.head = to;
        let frame = encode_framed(&gap_frame(&gap));
        self.hold(Change::Append { cursor: to, traits: Traits::GAP, frame, event: None });
    }

    fn open(&mut self, user: usize, back: usize) {
        let at = self.log.len() - 1 - back % self.log.len();
        let text = self.log[at].cursor.to_string();
        let ask = StartFrom::parse(&text).unwrap();
        let settings = Settings { turn_bytes: self.limits.turn_bytes, ..Settings::default() };
        let reader =
            self.edge.read(self.edge.clock.now(), |window| Reader::open(window, ask, &text, settings));
        self.open_reader(user, at, reader);
    }

    /// With a position that lies so far beyond the head.
    fn open_awaiting(&mut self, user: usize, beyond: u64) {
        let cursor = Cursor { seq: Seq(self.head.seq.0 + beyond), ..self.head };
        let settings = Settings { turn_bytes: self.limits.turn_bytes, ..Settings::default() };
        let reader =
            self.edge.read(self.edge.clock.now(), |window| Reader::open_awaiting(window, cursor, settings));
        self.open_reader(user, self.log.len() - 1, reader);
    }

    fn open_reader(&mut self, user: usize, at: usize, reader: Reader) {
        let identity = Identity {
            user: Some(["ann", "bob"][user % 2].to_owned()),
            session: user.is_multiple_of(3).then(|| "s".to_owned()),
            grants: Grants::everything(),
            issued: Issued::default(),
            expires_unix_ms: None,
        };
        let recipients = identity.recipients().chain(["all".to_owned()]).collect();
        let connection =
            Connection::open(self.edge.clone(), reader, identity, BTreeSet::new(), self.limits).unwrap();
        let ephemeral = BTreeSet::new();
        self.connections.push(Told { connection, recipients, at, welcomed: false, ephemeral });
    }

    /// Whether there was nothing to send, and nothing more to look at.
    fn collect(&mut self, which: usize) -> Result<bool, TestCaseError> {
        let told = &mut self.connections[which];
        let mut out = Vec::new();
        let wait = told.connection.collect(self.edge.clock.now(), &mut out);
        let done = out.is_empty() && matches!(wait, Wait::Until(_));
        for outgoing in out {
            told.take(&self.log, &self.events, outgoing)?;
        }
        Ok(done)
    }

    fn run(&mut self, op: &Op) -> Result<(), TestCaseError> {
        let count = self.connections.len();
        match op {
            Op::Append(to) => self.append(to, false),
            Op::Ephemeral(to) => self.append(to, true),
            Op::UpstreamGap(by) => self.gap(Cursor { seq: Seq(self.head.seq.0 + by), ..self.head }),
            Op::NewEpoch => self.gap(Cursor::start(Epoch(self.head.epoch.0 + 1))),
            Op::Advance(by) => {
                let to = Cursor { seq: Seq(self.head.seq.0 + by), ..self.head };
                self.log.push(Logged { cursor: to, kind: What::Nothing });
                self.head = to;
                self.hold(Change::Advance(to));
            }
            Op::Dispatch => self.dispatch(),
            Op::Open(user, back) if count < 5 => self.open(*user, *back),
            Op::Visit(which) if count > 0 => {
                self.collect(which % count)?;
            }
            Op::Subscribe(which, topic) if count > 0 => {
                let topic = TOPICS[topic % TOPICS.len()].to_owned();
                self.connections[which % count].connection.subscribe(&[topic]).unwrap();
            }
            Op::Unsubscribe(which, topic) if count > 0 => {
                let topic = TOPICS[topic % TOPICS.len()].to_owned();
                self.connections[which % count].connection.unsubscribe(&[topic]);
            }
            Op::Close(which) if count > 0 => drop(self.connections.swap_remove(which % count)),
            _ => {}
        }
        Ok(())
    }

    /// After the last fault every connection reaches the head.
    fn confirm(&mut self) -> Result<(), TestCaseError> {
        self.dispatch();
        for which in 0..self.connections.len() {
            let mut visits = 0;
            while !self.collect(which)? {
                visits += 1;
                prop_assert!(visits < 10_000, "connection {which} never rests");
            }
            let told = &self.connections[which];
            prop_assert_eq!(told.connection.position(), self.head.to_string());
            told.nothing_missed(&self.log, self.log.len() - 1)?;
        }
        Ok(())
    }
}

impl Told {
    fn entitled(&self, to: &BTreeSet<String>) -> bool {
        to.iter().any(|one| self.recipients.contains(one))
    }

    /// No event that it is entitled to, and no gap, lies after what it was told, up to `index`.
    fn nothing_missed(&self, log: &[Logged], index: usize) -> Result<(), TestCaseError> {
        for logged in log.iter().take(index + 1).skip(self.at + 1) {
            let missed = match &logged.kind {
                What::Event(to) => self.entitled(to),
                What::Gap => true,
                What::Nothing => false,
            };
            prop_assert!(!missed, "{:?} was missed", logged);
        }
        Ok(())
    }

    fn index(log: &[Logged], cursor: &str) -> Result<usize, TestCaseError> {
        log.iter()
            .rposition(|logged| logged.cursor.to_string() == cursor)
            .ok_or_else(|| TestCaseError::fail(format!("{cursor} is no position of the log")))
    }

    fn take(
        &mut self,
        log: &[Logged],
        events: &BTreeMap<String, BTreeSet<String>>,
        outgoing: Outgoing,
    ) -> Result<(), TestCaseError> {
        match outgoing {
            Outgoing::Control(Control::Welcome { .. }) => {
                prop_assert!(!self.welcomed);
                self.welcomed = true;
            }
            Outgoing::Control(Control::Gap(gap)) => self.told_gap(log, &gap.to.to_string())?,
            Outgoing::Control(
                Control::CaughtUp { cursor }
                | Control::Progress { cursor }
                | Control::FellBehind { cursor, .. },
            ) => self.reach(log, &cursor.to_string())?,
            Outgoing::Subscribed { cursor, topics } => {
                self.reach(log, &cursor)?;
                self.recipients.retain(|recipient| !recipient.starts_with("topic:"));
                self.recipients.extend(topics.iter().map(recipient));
            }
            Outgoing::Entry { framed, .. } => {
                let view = FrameView::read(message(&framed)).unwrap();
                if view.kind() == FrameKind::Gap {
                    return self.told_gap(log, view.cursor());
                }
                let id = view.event().unwrap().id().to_owned();
                prop_assert!(self.entitled(&events[&id]), "{id} is not for {:?}", self.recipients);
                if view.cursor().is_empty() {
                    prop_assert!(self.ephemeral.insert(id));
                    return Ok(());
                }
                let index = Self::index(log, view.cursor())?;
                prop_assert!(index > self.at, "{id} came again");
                self.nothing_missed(log, index - 1)?;
                self.at = index;
            }
        }
        prop_assert!(self.welcomed);
        Ok(())
    }

    fn told_gap(&mut self, log: &[Logged], to: &str) -> Result<(), TestCaseError> {
        let index = Self::index(log, to)?;
        prop_assert!(index >= self.at, "a gap leads back");
        self.at = index;
        Ok(())
    }

    fn reach(&mut self, log: &[Logged], cursor: &str) -> Result<(), TestCaseError> {
        let index = Self::index(log, cursor)?;
        prop_assert!(index >= self.at, "told of {cursor}, which is before {:?}", log[self.at]);
        self.nothing_missed(log, index)?;
        self.at = index;
        Ok(())
    }
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let to = || prop::collection::vec(0..RECIPIENTS.len(), 1..4);
    let op = prop_oneof![
        8 => to().prop_map(Op::Append),
        1 => to().prop_map(Op::Ephemeral),
        1 => (1u64..4).prop_map(Op::UpstreamGap),
        1 => Just(Op::NewEpoch),
        1 => (1u64..4).prop_map(Op::Advance),
        6 => Just(Op::Dispatch),
        10 => any::<usize>().prop_map(Op::Visit),
        3 => (any::<usize>(), any::<usize>()).prop_map(|(which, topic)| Op::Subscribe(which, topic)),
        1 => (any::<usize>(), any::<usize>()).prop_map(|(which, topic)| Op::Unsubscribe(which, topic)),
        3 => (0usize..6, 0usize..20).prop_map(|(user, back)| Op::Open(user, back)),
        1 => any::<usize>().prop_map(Op::Close),
    ];
    prop::collection::vec(op, 1..120)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Each connection gets exactly its events: the window is large enough for all of them.
    #[test]
    fn exactly_its_events_in_order_once(ops in ops(), mailbox_slots in 1usize..5, turn_bytes in prop_oneof![Just(1), Just(200), Just(64 << 10)]) {
        let mut world = World::new(Bounds::default(), mailbox_slots, turn_bytes);
        for op in &ops {
            world.run(op)?;
        }
        world.confirm()?;
    }

    /// The same with a window that is too small: whatever is missed is told.
    #[test]
    fn gap_free_or_told(ops in ops(), mailbox_slots in 1usize..5, events in 1u64..12) {
        let mut world = World::new(Bounds { events, ..Bounds::default() }, mailbox_slots, 1);
        for op in &ops {
            world.run(op)?;
        }
        world.confirm()?;
    }
}

#[tokio::test(start_paused = true)]
async fn an_ending_waits_for_the_gap_that_is_decided() {
    let mut world = World::new(Bounds { events: 2, ..Bounds::default() }, 8, 1 << 16);
    (0..5).for_each(|_| world.append(&[5], false));
    world.dispatch();
    world.open(0, 5);
    let connection = &mut world.connections[0].connection;
    connection.registration.mailbox().close(CloseReason::Draining(Duration::ZERO));
    let mut out = Vec::new();
    assert_eq!(connection.next(&mut out).await, Ok(()));
    let gap = out.iter().any(|outgoing| matches!(outgoing, Outgoing::Control(Control::Gap(_))));
    assert!(gap, "a `Goodbye` would cross the hole: {out:?}");
    assert!(connection.next(&mut Vec::new()).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_asks_without_reading_is_owed_two_answers_at_most() {
    let mut world = World::new(Bounds::default(), 8, 1 << 16);
    world.open(0, 0);
    let connection = &mut world.connections[0].connection;
    let before = connection.ready.len();
    for _ in 0..1_000 {
        connection.subscribe(&["a".to_owned()]).unwrap();
        connection.unsubscribe(&["a".to_owned()]);
    }
    assert_eq!(connection.ready.len(), before + 1);
    connection.subscribe(&["a".to_owned()]).unwrap();
    assert_eq!(connection.ready.len(), before + 2);
    connection.unsubscribe(&["a".to_owned()]);
    assert!(
        matches!(connection.ready.last(), Some(Outgoing::Subscribed { topics, .. }) if topics.is_empty())
    );
}

/// The fault: the answer named a position that lay before where the scan began, and what lay between was never looked at.
#[tokio::test(start_paused = true)]
async fn a_topic_asked_for_while_a_full_mailbox_waits_its_turn_counts_from_the_cursor_that_was_told() {
    let (ann, a) = (0, 3);
    let mut world = World::new(Bounds::default(), 1, 1 << 16);
    world.open(ann, 0);
    world.confirm().unwrap();
    let quotas = Quotas::new(UserLimits::default());
    let now = world.edge.clock.now().mono;
    let mut shares = [(); 2].map(|()| {
        let identity = &world.connections[0].connection.identity;
        quotas.admit(identity, None, false, now).unwrap().0
    });
    // Another connection of hers uses up her part of the work.
    while shares[0].turn(now).is_none() {
        shares[0].spend(u64::MAX, 0);
    }
    let [_, share] = shares;
    world.connections[0].connection.share = share;
    [a, ann, ann].iter().for_each(|&to| world.append(&[to], false));
    world.dispatch();
    assert!(!world.collect(0).unwrap(), "it waits its turn");
    world.connections[0].connection.subscribe(&["a".to_owned()]).unwrap();
    world.collect(0).unwrap();
    tokio::time::advance(Duration::from_secs(60)).await;
    world.confirm().unwrap();
}
