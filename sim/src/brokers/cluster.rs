//! Brokers, their leader, the connections of hubs, and what befalls them.
//!
//! A message travels to the leader that its hub reaches; that one hands it on, and it is stored once a majority has it. A leader that
//! steps down or is cut off takes with it what no majority had; of the rest nobody is told. One that was cut off goes on for a while:
//! it answers with what it had, and stores nothing. Another one is elected 4 s later at the soonest, as on real brokers.

mod faults;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use galaxy_push_core::cursor::Epoch;
use galaxy_push_store::nats::stream_view::StreamView;
use galaxy_push_testkit::Recorder;
use tokio::sync::oneshot;

use super::Plan;
use super::stream::{Entry, STREAMS, Stream, Which};
use super::truth::Truth;
use crate::rng::{Rng, UNIX_MS_START};

/// A leader that was cut off goes on for so long.
const GOES_ON_US: u64 = 10_000_000;

/// A message that wants to be stored.
pub(super) struct Request {
    pub(super) which: Which,
    pub(super) key: Arc<str>,
    /// Stored only if the last value of the key has this revision.
    pub(super) expected: Option<u64>,
    pub(super) payload: Bytes,
    pub(super) hub: &'static str,
    pub(super) to: To,
}

/// To whom the answer goes.
pub(super) enum To {
    Nobody,
    /// Which of the hub's packs it is.
    Pack(u64),
    Asker(oneshot::Sender<Said>),
}

/// What is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// Stored, under this number.
    Stored(u64),
    /// The key has another revision.
    Changed,
    /// Nobody leads.
    NoLeader,
}

/// What is said of a pack: stored, or surely not.
pub(super) type Ack = (u64, bool);

/// Who leads.
#[derive(Clone, Copy, Debug)]
pub(super) enum Lead {
    One,
    /// Nobody, until then.
    Nobody {
        until: u64,
    },
    /// The leader is cut off from the others since then; these have another one from some moment on.
    Cut {
        since: u64,
        elected: u64,
        until: u64,
        ends: [u64; 3],
    },
}

/// Whom a hub reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reached {
    Leader,
    /// One that was cut off since then.
    Old {
        since: u64,
        ends: [u64; 3],
    },
    /// Brokers that know of no leader.
    Nobody,
    /// Brokers that do not know yet that they have none.
    Silence,
}

/// A hub's connection.
#[derive(Default)]
pub(super) struct Link {
    /// Which life of the hub it is of.
    life: u64,
    is_connected: bool,
    back_at: u64,
    /// Nothing comes through until then, when it breaks, and is made again at the second moment.
    breaks: Option<(u64, u64)>,
    pub(super) made: u64,
    /// It is connected to the broker that leads, and is cut off with it.
    is_minority: bool,
    out: VecDeque<(u64, Request)>,
    acks: VecDeque<(u64, Ack)>,
    /// Up to where its broker has come with each stream, and until when it lags.
    has: [u64; 3],
    lags_until: [u64; 3],
    stopped_until: [u64; 3],
}

impl Link {
    /// Whether this life of the hub is connected.
    pub(super) const fn is_connected(&self, life: u64) -> bool {
        self.is_connected && self.life == life
    }
}

pub(super) struct Cluster {
    pub(super) rng: Rng,
    plan: Plan,
    streams: [Stream; 3],
    pub(super) lead: Lead,
    /// By how much the clock of the leader's machine is wrong.
    skew_ms: i64,
    /// On their way to a majority, with when they are there; in order.
    proposed: VecDeque<(u64, Request)>,
    /// On connections that broke.
    strays: Vec<(u64, Request)>,
    links: BTreeMap<&'static str, Link>,
    answers: Vec<(u64, oneshot::Sender<Said>, Said)>,
    pub(super) acks_lost_until: u64,
    truth: Truth,
    pub(super) met: BTreeMap<&'static str, u64>,
}

impl Cluster {
    pub(super) fn new(rng: Rng, plan: Plan, epoch: Epoch, recorder: Recorder) -> Self {
        Self {
            rng,
            plan,
            streams: Default::default(),
            lead: Lead::One,
            skew_ms: 0,
            proposed: VecDeque::new(),
            strays: Vec::new(),
            links: BTreeMap::new(),
            answers: Vec::new(),
            acks_lost_until: 0,
            truth: Truth::new(epoch, plan.hubs_ahead_ms, recorder),
            met: BTreeMap::new(),
        }
    }

    pub(super) fn meets(&mut self, what: &'static str) {
        *self.met.entry(what).or_default() += 1;
    }

    pub(super) const fn stream(&self, which: Which) -> &Stream {
        &self.streams[which as usize]
    }

    pub(super) const fn stream_mut(&mut self, which: Which) -> &mut Stream {
        &mut self.streams[which as usize]
    }

    pub(super) fn link(&mut self, hub: &'static str) -> &mut Link {
        self.links.entry(hub).or_default()
    }

    pub(super) fn advance(&mut self, now: u64) {
        self.elect(now);
        self.reconnect(now);
        self.arrive(now);
        self.store(now);
        self.answer(now);
        self.prune(now);
        self.replicate(now);
    }

    /// A hub's process begins. What another one before it sent may still arrive, and nobody is told.
    pub(super) fn attach(&mut self, hub: &'static str) -> u64 {
        let of_others = self.proposed.iter_mut().filter(|(_, request)| request.hub == hub);
        of_others.for_each(|(_, request)| request.to = To::Nobody);
        let ends = STREAMS.map(|which| self.stream(which).last());
        let link = self.link(hub);
        link.life += 1;
        link.breaks = None;
        (link.is_connected, link.made, link.has, link.lags_until) = (true, link.made + 1, ends, [0; 3]);
        link.acks.clear();
        link.out.iter_mut().for_each(|(_, request)| request.to = To::Nobody);
        link.life
    }

    pub(super) fn send(&mut self, request: Request, now: u64) {
        let takes = self.rng.between(Duration::from_millis(1), Duration::from_millis(12)).as_micros() as u64;
        let link = self.link(request.hub);
        if !link.is_connected {
            return;
        }
        let due = link.out.back().map_or(0, |(due, _)| *due).max(now + takes);
        link.out.push_back((due, request));
    }

    pub(super) fn take_acks(&mut self, hub: &'static str, now: u64) -> Vec<Ack> {
        let link = self.link(hub);
        if link.breaks.is_some() {
            return Vec::new();
        }
        let acks = &mut link.acks;
        let due = acks.iter().take_while(|(due, _)| *due <= now).count();
        acks.drain(..due).map(|(_, ack)| ack).collect()
    }

    pub(super) fn is_led(&mut self, hub: &'static str, now: u64) -> bool {
        self.reached(hub, now) == Reached::Leader
    }

    pub(super) fn look(&mut self, hub: &'static str, epoch: Epoch, now: u64) -> Option<StreamView> {
        let log = self.stream(Which::Log);
        let (first, bytes) = (log.first(), log.bytes());
        let look = |last, heard_us| StreamView {
            epoch: Some(epoch),
            made: 1,
            first: first.min(last + 1),
            last,
            stamp_unix_ms: None,
            bytes,
            replicas: 3,
            heard: Some(Duration::from_micros(heard_us)),
        };
        let last = log.last();
        match self.reached(hub, now) {
            Reached::Leader => Some(look(last, 0)),
            Reached::Old { since, ends } => {
                if ends[0] < last {
                    self.meets("StaleEnd");
                }
                Some(look(ends[0], now - since))
            }
            Reached::Nobody | Reached::Silence => None,
        }
    }

    pub(super) fn read(
        &mut self,
        hub: &'static str,
        which: Which,
        key: &str,
        now: u64,
    ) -> Result<Option<(u64, Bytes)>, ()> {
        let upto = self.upto(hub, which, now).ok_or(())?;
        let value = self.stream(which).value(key, upto);
        let found = value.map(|entry| (entry.number, entry.payload.clone()));
        if upto < self.stream(which).last() {
            self.meets("StaleRead");
        }
        Ok(found)
    }

    pub(super) fn next_from(&mut self, hub: &'static str, number: u64, now: u64) -> Result<Option<u64>, ()> {
        let upto = self.upto(hub, Which::Log, now).ok_or(())?;
        Ok(self.stream(Which::Log).read(number, upto).next().map(|entry| entry.number))
    }

    pub(super) fn deliver(
        &mut self,
        hub: &'static str,
        which: Which,
        next: u64,
        most: usize,
    ) -> (Vec<Entry>, u64) {
        let link = self.link(hub);
        if link.breaks.is_some() {
            return (Vec::new(), 0);
        }
        let has = link.has[which as usize];
        let mut entries = self.stream(which).read(next, has);
        let delivered: Vec<_> = entries.by_ref().take(most).cloned().collect();
        let left = entries.count() as u64;
        (delivered, left)
    }

    /// Up to where the leader has a stream that a hub reaches.
    fn upto(&mut self, hub: &'static str, which: Which, now: u64) -> Option<u64> {
        match self.reached(hub, now) {
            Reached::Leader => Some(self.stream(which).last()),
            Reached::Old { ends, .. } => Some(ends[which as usize]),
            Reached::Nobody | Reached::Silence => None,
        }
    }

    fn reached(&mut self, hub: &'static str, now: u64) -> Reached {
        let lead = self.lead;
        let link = self.link(hub);
        match lead {
            _ if !link.is_connected || link.breaks.is_some() => Reached::Silence,
            Lead::One => Reached::Leader,
            Lead::Nobody { .. } => Reached::Nobody,
            Lead::Cut { since, ends, .. } if link.is_minority => {
                if now < since + GOES_ON_US {
                    Reached::Old { since, ends }
                } else {
                    Reached::Nobody
                }
            }
            Lead::Cut { elected, .. } if now >= elected => Reached::Leader,
            Lead::Cut { .. } => Reached::Silence,
        }
    }

    fn arrive(&mut self, now: u64) {
        let mut arrived: Vec<_> = self.strays.extract_if(.., |(due, _)| *due <= now).collect();
        for link in self.links.values_mut().filter(|link| link.breaks.is_none()) {
            let due = link.out.iter().take_while(|(due, _)| *due <= now).count();
            arrived.extend(link.out.drain(..due));
        }
        arrived.sort_by_key(|(due, _)| *due);
        for (_, request) in arrived {
            self.propose(request, now);
        }
    }

    fn propose(&mut self, request: Request, now: u64) {
        let is_stray = matches!((&request.to, request.which), (To::Nobody, Which::Log));
        let reached = match self.reached(request.hub, now) {
            // It came by another way.
            Reached::Silence if is_stray && matches!(self.lead, Lead::One) => Reached::Leader,
            reached => reached,
        };
        match reached {
            Reached::Leader => {
                let most = if self.rng.percent(3) { 600 } else { 20 };
                let takes = 1_000 * (1 + self.rng.below(most));
                let due = self.proposed.back().map_or(0, |(due, _)| *due).max(now + takes);
                self.proposed.push_back((due, request));
            }
            // It may be back in time.
            Reached::Old { .. } if matches!(self.lead, Lead::Cut { elected: u64::MAX, .. }) => {
                let due = self.proposed.back().map_or(0, |(due, _)| *due).max(now);
                self.proposed.push_back((due, request));
            }
            Reached::Old { .. } => self.meets("LostWithOldLeader"),
            Reached::Silence => {}
            Reached::Nobody => {
                if matches!(request.to, To::Pack(_)) {
                    self.meets("NoResponders");
                }
                self.say(request.hub, request.to, Said::NoLeader, now);
            }
        }
    }

    fn store(&mut self, now: u64) {
        let is_led = match self.lead {
            Lead::One => true,
            Lead::Nobody { .. } => false,
            Lead::Cut { elected, .. } => elected <= now,
        };
        while is_led && self.proposed.front().is_some_and(|(due, _)| *due <= now) {
            let Some((_, request)) = self.proposed.pop_front() else { return };
            let Request { which, key, expected, payload, hub, to } = request;
            let last = self.stream(which).last();
            let revision = self.stream(which).value(&key, last).map_or(0, |value| value.number);
            if expected.is_some_and(|expected| expected != revision) {
                self.say(hub, to, Said::Changed, now);
                continue;
            }
            let stamp = (UNIX_MS_START + now / 1_000).saturating_add_signed(self.skew_ms);
            let stored = self.streams[which as usize].push(key, payload, stamp, now);
            let number = stored.number;
            if which == Which::Log {
                self.truth.read(number, stamp, &stored.payload, now, &mut self.met);
            }
            if now < self.acks_lost_until && self.rng.percent(30) {
                self.meets("AckLost");
            } else {
                self.say(hub, to, Said::Stored(number), now);
            }
        }
    }

    fn say(&mut self, hub: &'static str, to: To, said: Said, now: u64) {
        let due = now + 1_000 * (1 + self.rng.below(10));
        match to {
            To::Nobody => {}
            To::Pack(number) => {
                let acks = &mut self.link(hub).acks;
                let due = acks.back().map_or(0, |(due, _)| *due).max(due);
                acks.push_back((due, (number, matches!(said, Said::Stored(_)))));
            }
            To::Asker(asker) => self.answers.push((due, asker, said)),
        }
    }

    fn answer(&mut self, now: u64) {
        for (_, asker, said) in self.answers.extract_if(.., |(due, ..)| *due <= now) {
            let _ = asker.send(said); // whoever asked may be gone
        }
    }

    fn prune(&mut self, now: u64) {
        let before = self.plan.age.map_or(0, |age| now.saturating_sub(age.as_micros() as u64));
        let messages = self.plan.messages.unwrap_or(usize::MAX);
        let gone = self.stream_mut(Which::Log).prune(before, messages);
        *self.met.entry("Expired").or_default() += gone;
    }

    /// What is stored comes to the brokers that hubs read from, mostly at once.
    fn replicate(&mut self, now: u64) {
        let lasts = STREAMS.map(|which| self.stream(which).last());
        let lead = self.lead;
        let lag_max = self.plan.lag_max;
        for link in self.links.values_mut() {
            for (stream, last) in lasts.into_iter().enumerate() {
                let end = match lead {
                    Lead::Cut { ends, .. } if link.is_minority => ends[stream],
                    _ => last,
                };
                let waits = now < link.lags_until[stream] || now < link.stopped_until[stream];
                if waits || end <= link.has[stream] {
                    continue;
                }
                if self.rng.percent(2) {
                    // A bucket mostly lags less: while the fence is not known, nothing is handed on.
                    let is_slow = stream == 0 || self.rng.percent(10);
                    let most = if is_slow { lag_max } else { lag_max / 3 };
                    link.lags_until[stream] = now + self.rng.between(Duration::ZERO, most).as_micros() as u64;
                } else {
                    link.has[stream] = end;
                }
            }
        }
    }
}
