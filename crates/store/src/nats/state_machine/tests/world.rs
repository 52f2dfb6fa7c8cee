//! Hubs, a broker and what lies between: everything lags, is lost, comes twice or in another order.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use galaxy_push_core::Now;
use galaxy_push_core::cursor::Epoch;
use galaxy_push_proto::v1;

use super::super::{Message, Output};
use super::reader::Reader;
use crate::nats::pack::{self, Head, HubId};
use crate::nats::{ClaimBounds, Door, Limits, Sealed, Settings};
use crate::{Appended, Batch, DedupBounds, Error};

/// Numbers that look random (splitmix64).
pub(super) struct Rng(pub(super) u64);

impl Rng {
    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }

    pub(super) fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

pub(super) const EPOCH: Epoch = Epoch::with_holes(7);

/// How long a hub knows what was published.
pub(super) const DEDUP_AGE_MS: u64 = 30_000;

/// By how much brokers' clocks differ at most.
pub(super) const SKEW_MS: u64 = 9_000;

const START_MS: u64 = 1_700_000_000_000;

const HUBS: usize = 3;

/// What a seed decides once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Weather {
    pub(super) bounds: ClaimBounds,
    /// Messages go before their time, and hubs are too slow for them.
    pub(super) loses: bool,
    /// How many keys are used over and over.
    keys: u64,
}

/// What was offered to a hub, and what came of it.
pub(super) struct Ticket {
    pub(super) batch: Batch,
    pub(super) answer: Option<Result<Vec<Appended>, Error>>,
}

/// A pack on its way.
struct Packet {
    sealed: Sealed,
    due_ms: u64,
}

struct Hub {
    door: Door<usize>,
    id: HubId,
    reader: Reader,
    told: Vec<Output>,
    /// The end of the stream when it began.
    begun_at: u64,
    paused_until: u64,
    /// On its connection, in order.
    connection: VecDeque<Packet>,
}

pub(super) struct World {
    pub(super) rng: Rng,
    pub(super) weather: Weather,
    now_ms: u64,
    /// Of the broker that leads.
    skew_ms: u64,
    /// Everything that was ever stored.
    pub(super) stream: Vec<Message>,
    /// The first message that is still there.
    first: u64,
    hubs: Vec<Hub>,
    /// On connections that broke.
    stray: Vec<Packet>,
    pub(super) tickets: Vec<Ticket>,
    /// What every life of every hub told its readers.
    pub(super) readers: Vec<Reader>,
    next_hub: u128,
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let mut rng = Rng(seed);
        let mut bounds = ClaimBounds::default();
        if rng.percent(30) {
            bounds.items = 20 + rng.below(60);
        }
        let weather = Weather { bounds, loses: rng.percent(40), keys: 2 + rng.below(12) };
        let mut world = Self {
            rng,
            weather,
            now_ms: START_MS,
            skew_ms: 0,
            stream: Vec::new(),
            first: 1,
            hubs: Vec::new(),
            stray: Vec::new(),
            tickets: Vec::new(),
            readers: Vec::new(),
            next_hub: 1,
        };
        for _ in 0..HUBS {
            let hub = world.hub();
            world.hubs.push(hub);
        }
        world
    }

    /// So many things happen, and then everything heals.
    pub(super) fn run(&mut self, steps: usize) {
        for _ in 0..steps {
            let elapsed = if self.rng.percent(2) { self.rng.below(12_000) } else { self.rng.below(250) };
            self.now_ms += elapsed;
            let hub = self.rng.below(HUBS as u64) as usize;
            match self.rng.below(100) {
                0..30 => self.publish(hub),
                30..55 => self.deliver(hub),
                55..75 => self.read(hub),
                75..80 => self.deliver_stray(),
                80..83 => self.reconnect(hub),
                83..86 => self.skew_ms = self.rng.below(SKEW_MS),
                86..89 => self.hubs[hub].paused_until = self.now_ms + self.rng.below(14_000),
                89..91 => self.strange(),
                91..93 => self.expire(),
                93..94 => self.refuse(hub),
                94..95 => self.restart(hub),
                _ => {
                    let now = self.mono();
                    self.hubs[hub].door.expire(now);
                }
            }
            self.seal(hub);
            self.answer(hub);
        }
        self.heal();
    }

    fn mono(&self) -> Duration {
        Duration::from_millis(self.now_ms - START_MS)
    }

    fn hub(&mut self) -> Hub {
        let id = HubId(self.next_hub);
        self.next_hub += 1;
        let limits = Limits { pack_bytes: 600, packs: 3, ..Limits::default() };
        let age = Duration::from_millis(DEDUP_AGE_MS);
        let settings = Settings {
            epoch: EPOCH,
            hub: id,
            first: self.first,
            dedup: DedupBounds { age, ..DedupBounds::default() },
            claims: self.weather.bounds,
            limits,
        };
        let begun_at = self.stream.len() as u64;
        Hub {
            door: Door::new(settings),
            id,
            reader: Reader::new(self.first),
            told: Vec::new(),
            begun_at,
            paused_until: 0,
            connection: VecDeque::new(),
        }
    }

    fn restart(&mut self, hub: usize) {
        let fresh = self.hub();
        let old = std::mem::replace(&mut self.hubs[hub], fresh);
        // What it had sent is on its way all the same; who waits for it is told nothing.
        self.stray.extend(old.connection);
        self.readers.push(old.reader);
    }

    fn publish(&mut self, hub: usize) {
        let ticket = self.tickets.len();
        let publisher: Arc<str> = if self.rng.percent(80) { "a".into() } else { "b".into() };
        let count = 1 + self.rng.below(3);
        let events: Vec<_> = (0..count).map(|_| self.event(ticket)).collect();
        let now = Now { mono: self.mono(), unix_ms: self.now_ms };
        let batch = Batch::encode(&events, &publisher, now);
        self.tickets.push(Ticket { batch: batch.clone(), answer: None });
        self.hubs[hub].door.offer(batch, ticket, now.mono);
    }

    fn event(&mut self, ticket: usize) -> v1::Event {
        let key = self.rng.below(self.weather.keys);
        let other_content = self.rng.percent(6);
        v1::Event {
            to: vec!["all".to_owned()],
            id: format!("k{key}"),
            source: "/s".to_owned(),
            r#type: "t".to_owned(),
            data: if other_content { "2" } else { "1" }.into(),
            ephemeral: self.rng.percent(8),
            attributes: [("ticket".to_owned(), ticket.to_string())].into(),
            ..v1::Event::default()
        }
    }

    fn seal(&mut self, hub: usize) {
        let now = self.mono();
        while let Some(sealed) = self.hubs[hub].door.seal(now) {
            let lag = if self.rng.percent(10) { self.rng.below(6_000) } else { self.rng.below(200) };
            let before = self.hubs[hub].connection.back().map_or(0, |packet| packet.due_ms);
            let due_ms = before.max(self.now_ms + lag);
            self.hubs[hub].connection.push_back(Packet { sealed, due_ms });
        }
    }

    fn deliver(&mut self, hub: usize) {
        while self.hubs[hub].connection.front().is_some_and(|packet| packet.due_ms <= self.now_ms) {
            let Some(packet) = self.hubs[hub].connection.pop_front() else { break };
            let number = packet.sealed.number;
            self.store(packet.sealed.payload);
            if self.rng.percent(60) {
                self.hubs[hub].door.stored(number);
            }
        }
    }

    fn store(&mut self, payload: Bytes) {
        let (number, stamp_unix_ms) = (self.stream.len() as u64 + 1, self.now_ms + self.skew_ms);
        self.stream.push(Message { number, stamp_unix_ms, payload });
    }

    /// What was on the connection is lost, or comes later, some of it twice.
    fn reconnect(&mut self, hub: usize) {
        for packet in std::mem::take(&mut self.hubs[hub].connection) {
            for _ in 0..[1, 1, 1, 2, 0][self.rng.below(5) as usize] {
                let late = if self.rng.percent(20) { 15_000 } else { 2_000 };
                let due_ms = self.now_ms + self.rng.below(late);
                self.stray.push(Packet { sealed: packet.sealed.clone(), due_ms });
            }
        }
    }

    fn deliver_stray(&mut self) {
        let now_ms = self.now_ms;
        let all = std::mem::take(&mut self.stray).into_iter();
        let (mut due, later): (Vec<_>, Vec<_>) = all.partition(|packet| packet.due_ms <= now_ms);
        self.stray = later;
        while !due.is_empty() {
            let packet = due.swap_remove(self.rng.below(due.len() as u64) as usize);
            self.store(packet.sealed.payload);
        }
    }

    /// A pack that never left: its hub knows.
    fn refuse(&mut self, hub: usize) {
        if let Some(packet) = self.hubs[hub].connection.pop_back() {
            self.hubs[hub].door.refused(packet.sealed.number, "the connection is gone");
        }
    }

    /// A message that no hub of this log has written.
    fn strange(&mut self) {
        let mut payload = Vec::new();
        if self.rng.percent(50) {
            payload.extend_from_slice(b"no pack");
        } else {
            let epoch = if self.rng.percent(50) { Epoch::with_holes(8) } else { EPOCH };
            let read = self.stream.len() as u64 + 2;
            pack::put_head(&mut payload, &Head { epoch, hub: HubId(1), number: 1 << 40, read });
            let now = Now { mono: Duration::ZERO, unix_ms: 1 };
            pack::put_request(&mut payload, &Batch::encode(&[self.event(usize::MAX)], &"a".into(), now));
        }
        self.store(payload.into());
    }

    /// The stream lets go of what is older than it keeps.
    fn expire(&mut self) {
        let keeps_ms =
            if self.weather.loses { 4_000 + self.rng.below(40_000) } else { DEDUP_AGE_MS + 80_000 };
        let is_old = |message: &Message| message.stamp_unix_ms + keeps_ms < self.now_ms;
        let first = self.stream.iter().position(|message| !is_old(message)).unwrap_or(self.stream.len());
        self.first = self.first.max(first as u64 + 1);
    }

    fn read(&mut self, hub: usize) {
        if self.hubs[hub].paused_until > self.now_ms {
            return;
        }
        let count = 1 + self.rng.below(20);
        self.read_some(hub, count);
    }

    fn read_some(&mut self, hub: usize, count: u64) {
        let (now, first, end) = (self.mono(), self.first, self.stream.len() as u64);
        let hub = &mut self.hubs[hub];
        for _ in 0..count {
            let next = (hub.door.last_read() + 1).max(first);
            hub.reader.misses(next > hub.door.last_read() + 1);
            let Some(message) = self.stream.get(next as usize - 1) else { break };
            hub.door.read(message, now, &mut hub.told).expect("hubs of this version only");
        }
        if hub.door.last_read() + 1 < first && self.rng.percent(50) {
            hub.door.lost(first - 1, &mut hub.told);
        }
        if hub.door.last_read() >= hub.begun_at.min(end) || first > hub.begun_at {
            hub.reader.goes_live();
            hub.door.caught_up(&mut hub.told);
        }
        hub.reader.take(&mut hub.told);
    }

    fn answer(&mut self, hub: usize) {
        for (ticket, answer) in self.hubs[hub].door.take_answers() {
            let before = self.tickets[ticket].answer.replace(answer);
            assert_eq!(before, None, "a batch is answered once");
        }
    }

    /// All that is on its way comes, all read it, and each hub can publish.
    fn heal(&mut self) {
        for _ in 0..3 {
            self.now_ms += 20_000;
            self.deliver_stray();
            for hub in 0..HUBS {
                self.deliver(hub);
            }
            for hub in 0..HUBS {
                let now = self.mono();
                self.hubs[hub].paused_until = 0;
                self.read_some(hub, u64::MAX);
                self.hubs[hub].door.expire(now);
                self.seal(hub);
                self.answer(hub);
            }
        }
        for hub in 0..HUBS {
            assert_eq!(self.hubs[hub].door.unanswered(), 0, "everybody is answered");
            let ticket = self.tickets.len();
            let event = v1::Event { id: format!("fresh {hub}"), ..self.event(ticket) };
            let now = Now { mono: self.mono(), unix_ms: self.now_ms };
            let batch = Batch::encode(&[event], &"a".into(), now);
            self.tickets.push(Ticket { batch: batch.clone(), answer: None });
            self.hubs[hub].door.offer(batch, ticket, now.mono);
            self.seal(hub);
            self.now_ms += 10_000;
            self.deliver(hub);
            (0..HUBS).for_each(|reader| self.read_some(reader, u64::MAX));
            self.answer(hub);
            let answer = self.tickets[ticket].answer.as_ref();
            assert!(matches!(answer, Some(Ok(_))), "a healed hub publishes: {answer:?}");
        }
        let ends: BTreeMap<_, _> = self.hubs.iter().map(|hub| (hub.reader.end(), hub.id)).collect();
        assert_eq!(ends.len(), 1, "all have come to the end: {ends:?}");
        self.readers.extend(std::mem::take(&mut self.hubs).into_iter().map(|hub| hub.reader));
    }
}
