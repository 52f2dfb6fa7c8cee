//! A tiny log with readers that keep every promise by construction, driven at random: histories that must be clean.
//!
//! It shares nothing with the product and little with the checker: it is what DESIGN.md §2 says, written down as the
//! shortest program that does it.

use galaxy_push_testkit::history::{
    Close, Cursor, Event, Gap, GapReason, Goodbye, GoodbyeReason, Hash, Hop, LogLine, Mark, Name, Open,
    Outcome, Position, PubAck, PubCall, Subscribed, Welcome, What,
};
use galaxy_push_testkit::{Record, Recorder, history::DEFAULT_CAP};

const USERS: [&str; 3] = ["user:ann", "user:bob", "user:cy"];
const TO: [&str; 6] = ["user:ann", "user:bob", "user:cy", "topic:x", "topic:y", "all"];

/// Numbers that look random (splitmix64).
#[derive(Clone, Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, which is not zero.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.roll() % bound as u64).unwrap()
    }

    fn one_in(&mut self, odds: usize) -> bool {
        self.below(odds) == 0
    }
}

struct Entry {
    id: Name,
    to: Name,
}

struct Reader {
    recorder: Recorder,
    name: Name,
    hop: Hop,
    recipients: Vec<Name>,
    stream: Option<Stream>,
    /// The last cursor it was given.
    cursor: Cursor,
}

struct Stream {
    id: u64,
    passed: Position,
    topics: Vec<Name>,
    live: bool,
    behind: bool,
}

/// The log, its readers, and the history they leave.
pub(crate) struct Model {
    dice: Dice,
    recorder: Recorder,
    now_us: u64,
    epoch: u64,
    entries: Vec<Entry>,
    floor: u64,
    readers: Vec<Reader>,
    generation: u64,
    published: u64,
}

/// A random run of so many steps, which then heals.
pub(crate) fn run(seed: u64, steps: usize) -> Vec<Record> {
    let mut model = Model::new(seed);
    for _ in 0..steps {
        model.step();
    }
    model.finish()
}

impl Model {
    fn new(seed: u64) -> Self {
        let recorder = Recorder::new(DEFAULT_CAP);
        let reader = |name: &str, hop, recipients: &[&str]| Reader {
            recorder: recorder.process(name),
            name: name.into(),
            hop,
            recipients: recipients.iter().map(|&to| to.into()).collect(),
            stream: None,
            cursor: Cursor::Oldest,
        };
        let mut readers = vec![
            reader("gateway-1", Hop::Gateway, &[]),
            reader("gateway-2", Hop::Gateway, &["user:a*", "topic:*", "all"]),
        ];
        readers.extend(USERS.map(|user| reader(user, Hop::User, &[user, "all"])));
        Self {
            dice: Dice::new(seed),
            now_us: 0,
            epoch: 1,
            entries: Vec::new(),
            floor: 0,
            readers,
            generation: 0,
            published: 0,
            recorder: recorder.process("hub"),
        }
    }

    fn step(&mut self) {
        self.now_us += 1_000;
        let reader = self.dice.below(self.readers.len());
        match self.dice.below(40) {
            0..12 => self.publish(),
            12 => self.publish_ephemeral(),
            13 => {
                self.floor +=
                    self.dice.below(self.entries.len() - usize::try_from(self.floor).unwrap() + 1) as u64
            }
            14 if self.dice.one_in(4) => self.new_epoch(),
            15 => self.cut(reader, "reset"),
            16 => self.crash(reader),
            17 => self.farewell(reader),
            18 => self.subscribe(reader),
            19..22 => self.mark(reader),
            _ => self.read(reader),
        }
    }

    /// Everything heals, everybody comes back and reads to the head.
    fn finish(mut self) -> Vec<Record> {
        self.hub(What::Healed);
        for reader in 0..self.readers.len() {
            while !self.readers[reader]
                .stream
                .as_ref()
                .is_some_and(|stream| stream.live && stream.passed == self.head())
            {
                self.read(reader);
            }
        }
        self.dump();
        self.now_us += 20_000_000;
        self.hub(What::End);
        self.recorder.finish().unwrap()
    }

    fn publish(&mut self) {
        self.published += 1;
        let call = self.recorder.next_call();
        let entry = Entry { id: self.published.to_string().into(), to: TO[self.dice.below(TO.len())].into() };
        let publish = |call| What::PubCall(published(call, &entry, false));
        self.hub(publish(call));
        match self.dice.below(12) {
            0 => return self.hub(What::PubNack(call)),
            1 => return self.hub(What::PubUnknown(call)),
            2 => {
                self.hub(What::PubUnknown(call));
                let again = self.recorder.next_call();
                self.hub(publish(again));
                let position = Some(self.position(self.head().seq + 1));
                self.hub(What::PubAck(PubAck { call: again, position, duplicate: true }));
            }
            _ => {
                let position = Some(self.position(self.head().seq + 1));
                self.hub(What::PubAck(PubAck { call, position, duplicate: false }));
            }
        }
        self.entries.push(entry);
    }

    fn publish_ephemeral(&mut self) {
        self.published += 1;
        let call = self.recorder.next_call();
        let entry = Entry { id: self.published.to_string().into(), to: TO[self.dice.below(TO.len())].into() };
        self.hub(What::PubCall(published(call, &entry, true)));
        self.hub(What::PubAck(PubAck { call, position: None, duplicate: false }));
        for reader in 0..self.readers.len() {
            let live = self.readers[reader].stream.as_ref().is_some_and(|stream| stream.live);
            if live && self.readers[reader].wants(&entry.to) && !self.dice.one_in(4) {
                self.tell(reader, |stream| What::Event(event(stream, None, &entry)));
            }
        }
    }

    /// The hub lost its log. Streams may survive that: a gateway's do.
    fn new_epoch(&mut self) {
        self.dump();
        self.epoch += 1;
        (self.entries, self.floor) = (Vec::new(), 0);
        for reader in 0..self.readers.len() {
            if self.dice.one_in(2) {
                self.cut(reader, "reset");
            }
        }
    }

    fn cut(&mut self, reader: usize, code: &str) {
        if self.readers[reader].stream.is_some() {
            self.tell(reader, |stream| What::Close(Close { stream, code: code.into() }));
            self.readers[reader].stream = None;
        }
    }

    /// The reader's process dies; the cursor it finds again may be an older one.
    fn crash(&mut self, reader: usize) {
        let recorder = &self.readers[reader].recorder;
        recorder.record(self.now_us, What::Crash);
        recorder.record(self.now_us, What::Start);
        self.readers[reader].stream = None;
        if let Cursor::At(position) = &mut self.readers[reader].cursor {
            position.seq = position.seq.saturating_sub(self.dice.below(3) as u64);
        }
    }

    fn farewell(&mut self, reader: usize) {
        let Some(stream) = &self.readers[reader].stream else { return };
        let cursor = Cursor::At(stream.passed.clone());
        let reason = GoodbyeReason::Draining;
        self.tell(reader, |stream| {
            What::Goodbye(Goodbye { stream, reason, retry_after_us: None, cursor: cursor.clone() })
        });
        self.cut(reader, "1012");
    }

    fn subscribe(&mut self, reader: usize) {
        let topic: Name = if self.dice.one_in(2) { "topic:x" } else { "topic:y" }.into();
        let Reader { hop: Hop::User, stream: Some(stream), .. } = &mut self.readers[reader] else { return };
        if stream.topics.contains(&topic) {
            return;
        }
        stream.topics.push(topic.clone());
        let cursor = Cursor::At(stream.passed.clone());
        self.tell(reader, |stream| {
            What::Subscribed(Subscribed { stream, cursor: cursor.clone(), recipients: vec![topic.clone()] })
        });
    }

    /// `Progress`, or `FellBehind` if there is reason to.
    fn mark(&mut self, reader: usize) {
        let head = self.head();
        let Some(stream) = &mut self.readers[reader].stream else { return };
        let lags = stream.passed.epoch == head.epoch && stream.passed.seq + 3 < head.seq;
        let cursor = Cursor::At(stream.passed.clone());
        let falls = stream.live && lags && !stream.behind;
        stream.behind |= falls;
        stream.live &= !falls;
        self.tell(reader, |stream| {
            let mark = Mark { stream, cursor: cursor.clone() };
            if falls { What::FellBehind(mark) } else { What::Progress(mark) }
        });
    }

    /// Connects, or reads on by a few entries.
    fn read(&mut self, reader: usize) {
        let Some(stream) = &self.readers[reader].stream else { return self.connect(reader) };
        let (passed, head) = (stream.passed.clone(), self.head());
        if passed.epoch != head.epoch {
            let floor = self.position(self.floor);
            return self.miss(reader, GapReason::EpochChanged, &Cursor::At(passed), &floor, None);
        }
        if passed.seq < self.floor {
            let (floor, count) = (self.position(self.floor), self.floor - passed.seq);
            return self.miss(reader, GapReason::Lapped, &Cursor::At(passed), &floor, Some(count));
        }
        let upto = head.seq.min(passed.seq + self.dice.below(6) as u64);
        for seq in passed.seq + 1..=upto {
            let entry = &self.entries[usize::try_from(seq - 1).unwrap()];
            let position = self.position(seq);
            if self.readers[reader].wants(&entry.to) {
                let what = What::Event(event(0, Some(position.clone()), entry));
                self.readers[reader].cursor = Cursor::At(position.clone());
                self.tell(reader, |stream| with_stream(&what, stream));
            }
            self.pass(reader, position);
        }
        if upto == head.seq && !self.readers[reader].stream.as_ref().is_some_and(|stream| stream.live) {
            self.tell(reader, |stream| What::CaughtUp(Mark { stream, cursor: Cursor::At(head.clone()) }));
            if let Some(stream) = &mut self.readers[reader].stream {
                (stream.live, stream.behind) = (true, false);
            }
        }
    }

    fn connect(&mut self, reader: usize) {
        let head = self.head();
        let presented = match self.dice.below(20) {
            0 => Cursor::Empty,
            1 => Cursor::Oldest,
            2 => Cursor::Foreign,
            3 => Cursor::At(self.position(head.seq + 5)),
            4 => return self.refused(reader),
            _ => self.readers[reader].cursor.clone(),
        };
        let id = self.recorder.next_stream();
        let oldest = self.position(self.floor);
        let (outcome, passed) = match &presented {
            Cursor::Empty => (Outcome::Fresh, head.clone()),
            Cursor::Oldest => (Outcome::Fresh, oldest.clone()),
            Cursor::At(held) if held.epoch == head.epoch && held.seq > head.seq => {
                (Outcome::Ahead, head.clone())
            }
            Cursor::At(held) if held.epoch == head.epoch && held.seq < self.floor => {
                (Outcome::Trimmed, oldest.clone())
            }
            Cursor::At(held) if held.epoch == head.epoch => (Outcome::Resumed, held.clone()),
            _ => (Outcome::EpochChanged, oldest.clone()),
        };
        self.open(reader, id, &presented);
        let cursor = match presented {
            Cursor::Empty | Cursor::Oldest => Cursor::At(passed.clone()),
            _ => presented.clone(),
        };
        let user = self.readers[reader].hop == Hop::User;
        self.generation += 1;
        let generation = if user { 0 } else { self.generation };
        let stream = Stream { id, passed: passed.clone(), topics: Vec::new(), live: false, behind: false };
        self.readers[reader].stream = Some(stream);
        let epoch = head.epoch.clone();
        let welcome = Welcome { stream: id, outcome, cursor, head, oldest, epoch, generation };
        self.tell(reader, |_| What::Welcome(welcome.clone()));
        let reason = match outcome {
            Outcome::Resumed | Outcome::Fresh => return,
            Outcome::Trimmed => GapReason::Trimmed,
            Outcome::EpochChanged => GapReason::EpochChanged,
            Outcome::Ahead => GapReason::Ahead,
        };
        self.miss(reader, reason, &presented, &passed, None);
    }

    fn refused(&mut self, reader: usize) {
        let id = self.recorder.next_stream();
        self.open(reader, id, &Cursor::Garbage);
        let close = What::Close(Close { stream: id, code: "4400".into() });
        self.readers[reader].recorder.record(self.now_us, close);
    }

    fn open(&self, reader: usize, stream: u64, presented: &Cursor) {
        let Reader { recorder, name, hop, recipients, .. } = &self.readers[reader];
        let open = Open {
            stream,
            hop: *hop,
            reader: name.clone(),
            recipients: recipients.clone(),
            presented: presented.clone(),
            standing: false,
            collapses: false,
            at: None,
            continues: false,
            steady: false,
        };
        recorder.record(self.now_us, What::Open(open));
    }

    fn miss(&mut self, reader: usize, reason: GapReason, from: &Cursor, to: &Position, count: Option<u64>) {
        let (from, to_cursor) = (from.clone(), Cursor::At(to.clone()));
        self.readers[reader].cursor = to_cursor.clone();
        self.tell(reader, |stream| {
            let (from, to, cursor) = (from.clone(), to_cursor.clone(), to_cursor.clone());
            What::Gap(Gap { stream, reason, from, to, count, repair_after_us: None, cursor })
        });
        self.pass(reader, to.clone());
    }

    fn pass(&mut self, reader: usize, position: Position) {
        if let Some(stream) = &mut self.readers[reader].stream {
            stream.passed = position;
        }
    }

    /// Records a frame on a reader's stream, if it has one.
    fn tell(&self, reader: usize, frame: impl Fn(u64) -> What) {
        let reader = &self.readers[reader];
        if let Some(stream) = &reader.stream {
            reader.recorder.record(self.now_us, frame(stream.id));
        }
    }

    fn dump(&self) {
        for (entry, seq) in self.entries.iter().zip(1..) {
            self.hub(What::Log(LogLine {
                position: self.position(seq),
                source: "model".into(),
                id: entry.id.clone(),
                to: vec![entry.to.clone()],
                hash: payload(&entry.id),
                standing: false,
                collapse_key: None,
                expires_at_us: None,
                appended_us: None,
                bytes: 0,
            }));
        }
        self.hub(What::Head(self.head()));
    }

    fn hub(&self, what: What) {
        self.recorder.record(self.now_us, what);
    }

    fn position(&self, seq: u64) -> Position {
        Position::new(format!("e{}", self.epoch), seq)
    }

    fn head(&self) -> Position {
        self.position(self.entries.len() as u64)
    }
}

impl Reader {
    fn wants(&self, to: &str) -> bool {
        let topics = self.stream.iter().flat_map(|stream| &stream.topics);
        self.recipients.is_empty()
            || self.recipients.iter().chain(topics).any(|pattern| concerns(pattern, to))
    }
}

/// Whether a recipient or pattern stands for this recipient.
pub(crate) fn concerns(pattern: &str, to: &str) -> bool {
    pattern.strip_suffix('*').map_or(pattern == to, |prefix| to.starts_with(prefix))
}

fn payload(id: &str) -> Hash {
    Hash::of(&[id.as_bytes()])
}

fn published(call: u64, entry: &Entry, ephemeral: bool) -> PubCall {
    let (id, to) = (entry.id.clone(), vec![entry.to.clone()]);
    let hash = payload(&id);
    PubCall { call, source: "model".into(), id, to, hash, batch: None, ephemeral }
}

fn event(stream: u64, position: Option<Position>, entry: &Entry) -> Event {
    let ephemeral = position.is_none();
    Event {
        stream,
        position,
        id: entry.id.clone(),
        hash: payload(&entry.id),
        ephemeral,
        shown_to: Vec::new(),
    }
}

fn with_stream(what: &What, stream: u64) -> What {
    match what {
        What::Event(event) => What::Event(Event { stream, ..event.clone() }),
        other => other.clone(),
    }
}
