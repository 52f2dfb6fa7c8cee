//! Sequences of what publishers, readers and time do, against a model: the memory store, the window and its readers, without I/O.
//!
//! The model is a list of what was appended and a few numbers for each reader. It says what each step may hand out: nothing twice,
//! nothing out of order, no hole without a gap, and no gap without a reason.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arbitrary::{Arbitrary, Unstructured};
use futures_util::FutureExt as _;
use galaxy_push_core::Now;
use galaxy_push_core::cursor::{Cursor, Epoch, Seq, StartFrom};
use galaxy_push_core::frame::{FrameView, message};
use galaxy_push_core::reader::{Control, Reader, Settings, Step};
use galaxy_push_core::window::{Bounds, GapReason, MissingRange, Outcome, Window};
use galaxy_push_proto::v1;
use galaxy_push_store::{Batch, Committed, DedupBounds, MemoryStore, Sink, Store as _};

/// So small that everything happens within a few operations.
const BOUNDS: Bounds = Bounds { age: Duration::from_secs(10), events: 12, bytes: 2_000 };

/// The epoch of the log, and one that was before it.
const EPOCH: Epoch = Epoch(5);
const OTHER: Epoch = Epoch(6);

/// Operations of one sequence, at most.
const OPERATIONS_MAX: usize = 200;

#[derive(Arbitrary, Debug)]
enum Operation {
    /// Events of these ids; the ids are few, so that some come again. Whether they are for live readers only, and whether they expire.
    Publish { ids: Vec<u8>, ephemeral: bool, expires: bool, size: u8 },
    /// A stream begins; one whose peer takes but little is told of what is larger.
    Subscribe { place: u8, at: Place, small: bool },
    /// A reader is asked for so many steps.
    Turn { place: u8, steps: u8 },
    /// The stream ends, and begins again where it may be resumed: nothing is lost by that, and nothing comes twice.
    Takeover { place: u8 },
    /// Time passes, in tenths of a second.
    Tick { tenths: u8 },
    /// The window is looked at.
    Trim,
    /// Every reader takes all there is.
    Drain,
}

#[derive(Arbitrary, Debug)]
enum Place {
    Head,
    Oldest,
    Seq(u8),
    OtherLog(u8),
    Foreign,
    Unreadable,
}

/// A sequence of operations.
pub fn sequences(data: &[u8]) {
    let mut from = Unstructured::new(data);
    let mut world = World::new();
    for _ in 0..OPERATIONS_MAX {
        if from.is_empty() {
            break;
        }
        let Ok(operation) = Operation::arbitrary(&mut from) else { break };
        world.operate(operation);
    }
    world.drain();
}

/// The hub's part: what is committed goes into the window.
#[derive(Debug)]
struct Log {
    window: Mutex<Window>,
    now: Mutex<Duration>,
}

impl Sink for Log {
    fn begin(&self, base: Cursor) {
        *self.window() = Window::with_chunk_bytes(base, BOUNDS, 300);
    }

    fn committed(&self, batches: &[Committed]) {
        let now = *self.now.lock().unwrap_or_else(PoisonError::into_inner);
        for each in batches {
            self.window().append(each.cursor, each.traits, &each.frame, now);
        }
    }

    fn damaged(&self, _: Cursor, _: Cursor) {}
}

impl Log {
    fn window(&self) -> MutexGuard<'_, Window> {
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the model knows of an entry.
#[derive(Debug)]
struct Entry {
    seq: u64,
    id: u8,
    ephemeral: bool,
    expires: bool,
    length: u64,
    content: (bool, bool, u8),
    at: Duration,
}

struct Held {
    reader: Reader,
    message_max: usize,
    /// Everything up to here was handed out, or told to be missed.
    passed: u64,
    /// It has been told that it is live, and not since that it is behind.
    live: bool,
    /// The entries up to this index are passed, ephemeral ones too.
    index: usize,
}

struct World {
    log: Arc<Log>,
    store: MemoryStore,
    entries: Vec<Entry>,
    readers: [Option<Held>; 3],
    now: Duration,
}

impl World {
    fn new() -> Self {
        let window = Mutex::new(Window::new(Cursor::start(OTHER), BOUNDS));
        let log = Arc::new(Log { window, now: Mutex::default() });
        let store = MemoryStore::new(EPOCH, DedupBounds::default(), log.clone());
        Self { log, store, entries: Vec::new(), readers: [None, None, None], now: Duration::from_secs(1) }
    }

    fn now(&self) -> Now {
        Now { mono: self.now, unix_ms: 1_700_000_000_000 + self.now.as_millis() as u64 }
    }

    fn head(&self) -> u64 {
        self.entries.iter().map(|entry| entry.seq).max().unwrap_or(0)
    }

    /// The index of the oldest entry that every bound holds, as the bounds say it.
    fn oldest(&self) -> usize {
        let (mut count, mut bytes) = (0, 0);
        let holds = |entry: &&Entry| {
            count += 1;
            bytes += entry.length;
            count <= BOUNDS.events && bytes <= BOUNDS.bytes && self.now - entry.at <= BOUNDS.age
        };
        self.entries.len() - self.entries.iter().rev().take_while(holds).count()
    }

    /// The position before the oldest entry held.
    fn floor(&self) -> u64 {
        self.oldest().checked_sub(1).map_or(0, |before| self.entries[before].seq)
    }

    fn operate(&mut self, operation: Operation) {
        *self.log.now.lock().unwrap_or_else(PoisonError::into_inner) = self.now;
        match operation {
            Operation::Publish { ids, ephemeral, expires, size } => {
                self.publish(&ids[..ids.len().min(5)], (ephemeral, expires, size % 200));
            }
            Operation::Subscribe { place, at, small } => self.subscribe(usize::from(place % 3), &at, small),
            Operation::Turn { place, steps } => (0..steps % 16).for_each(|_| {
                self.step(usize::from(place % 3));
            }),
            Operation::Takeover { place } => self.take_over(usize::from(place % 3)),
            Operation::Tick { tenths } => self.now += Duration::from_millis(100) * u32::from(tenths % 64),
            Operation::Trim => self.look(),
            Operation::Drain => self.drain(),
        }
    }

    /// The window holds exactly what the bounds hold.
    fn look(&self) {
        let mut window = self.log.window();
        window.trim(self.now);
        assert_eq!(window.len() as usize, self.entries.len() - self.oldest(), "entries held");
        assert_eq!((window.head().seq.0, window.floor().seq.0), (self.head(), self.floor()));
    }

    fn publish(&mut self, ids: &[u8], content: (bool, bool, u8)) {
        let (ephemeral, expires, size) = content;
        let event = |id: &u8| v1::Event {
            to: vec!["all".to_owned()],
            id: id.to_string(),
            source: "/fuzz".to_owned(),
            r#type: format!("a.{ephemeral}.{expires}"),
            data: vec![b'x'; usize::from(size)].into(),
            ephemeral,
            ttl: expires.then_some(prost_types::Duration { seconds: 2, nanos: 0 }),
            ..v1::Event::default()
        };
        let events: Vec<_> = ids.iter().map(event).collect();
        let known = |id: u8| {
            self.entries
                .iter()
                .rev()
                .find(|entry| entry.id == id && self.now - entry.at <= DedupBounds::default().age)
        };
        let is_reused = ids.iter().any(|id| known(*id).is_some_and(|entry| entry.content != content));
        let before = self.entries.len();
        let appended = self.store.append(Batch::encode(&events, &"".into(), self.now())).now_or_never();
        let Some(Ok(appended)) = appended else {
            assert!(is_reused, "refused without a reason: {ids:?}");
            return assert_eq!(self.log.window().head().seq.0, self.head(), "refused, and yet in the log");
        };
        assert!(!is_reused, "an id with other content was taken: {ids:?}");
        assert_eq!(appended.len(), ids.len());
        for (id, result) in ids.iter().zip(appended) {
            let known = self
                .entries
                .iter()
                .rev()
                .find(|entry| entry.id == *id && self.now - entry.at <= DedupBounds::default().age);
            assert_eq!(result.duplicate, known.is_some(), "id {id}");
            let position = result.cursor.map(|cursor| cursor.seq.0);
            if let Some(known) = known {
                assert_eq!(position, (!known.ephemeral).then_some(known.seq), "the position of a duplicate");
                continue;
            }
            let seq = self.head() + u64::from(!ephemeral);
            assert_eq!(position, (!ephemeral).then_some(seq), "the position of {id}");
            self.entries.push(Entry { seq, id: *id, ephemeral, expires, length: 0, content, at: self.now });
        }
        // How long each frame is, the window alone knows; of those it does not hold any more it need not be known.
        let window = self.log.window();
        let new = self.entries.len() - before;
        let held = new.min(window.len() as usize);
        let lengths = window.entries(window.oldest()..window.end()).map(|entry| entry.frame.len() as u64);
        let lengths: Vec<u64> = lengths.collect();
        for (entry, length) in self.entries.iter_mut().rev().take(held).zip(lengths.iter().rev()) {
            entry.length = *length;
        }
        for entry in self.entries.iter_mut().skip(before).take(new - held) {
            entry.length = BOUNDS.bytes;
        }
    }

    fn subscribe(&mut self, place: usize, at: &Place, small: bool) {
        self.look();
        let position = |epoch, seq: &u8| Cursor { epoch, seq: Seq(u64::from(*seq % 64)) };
        let (ask, text) = match at {
            Place::Head => (StartFrom::Head, String::new()),
            Place::Oldest => (StartFrom::Oldest, "oldest".to_owned()),
            Place::Seq(seq) => (StartFrom::At(position(EPOCH, seq)), position(EPOCH, seq).to_string()),
            Place::OtherLog(seq) => (StartFrom::At(position(OTHER, seq)), position(OTHER, seq).to_string()),
            Place::Foreign => (StartFrom::Foreign, "1.x.7".to_owned()),
            Place::Unreadable => (StartFrom::Unreadable, "?".to_owned()),
        };
        self.open(place, ask, &text, small);
    }

    fn open(&mut self, place: usize, ask: StartFrom, text: &str, small: bool) {
        let (head, floor) = (self.head(), self.floor());
        let (outcome, passed, missed) = match ask {
            StartFrom::Head => (Outcome::Fresh, head, false),
            StartFrom::Oldest => (Outcome::Fresh, floor, false),
            StartFrom::At(at) if at.epoch != EPOCH => (Outcome::EpochChanged, floor, true),
            StartFrom::At(at) if at.seq.0 > head => (Outcome::Ahead, head, true),
            StartFrom::At(at) if at.seq.0 < floor => (Outcome::Trimmed, floor, true),
            StartFrom::At(at) => (Outcome::Resumed, at.seq.0, false),
            StartFrom::Foreign | StartFrom::Unreadable => (Outcome::EpochChanged, floor, true),
        };
        let message_max = if small { 130 } else { 4 << 20 };
        let settings = Settings { message_max, turn_bytes: 500, ..Settings::default() };
        let window = self.log.window();
        let mut reader = Reader::open(&window, ask, text, settings);
        let Step::Control(Control::Welcome { outcome: told, head: told_head, oldest, .. }) =
            reader.step(&window, None, self.now())
        else {
            panic!("no welcome first")
        };
        assert_eq!((told, told_head.seq.0, oldest.seq.0), (outcome, head, floor), "{ask:?}");
        if missed {
            let Step::Control(Control::Gap(gap)) = reader.step(&window, None, self.now()) else {
                panic!("no gap: {outcome:?}")
            };
            let from = if ask == StartFrom::Unreadable { "" } else { text };
            assert_eq!((&*gap.from, gap.to.seq.0), (from, passed), "{gap:?}");
        }
        drop(window);
        let index = match ask {
            StartFrom::Head => self.entries.len(),
            _ => self.behind(passed),
        };
        self.readers[place] = Some(Held { reader, message_max, passed, live: false, index });
    }

    fn take_over(&mut self, place: usize) {
        let Some(mut held) = self.readers[place].take() else { return };
        let Some(text) = held.reader.resumes_from() else { panic!("it was welcomed") };
        let Ok(ask @ StartFrom::At(at)) = StartFrom::parse(&text) else { panic!("{text} is no position") };
        self.progress(&mut held, at);
        self.look();
        self.open(place, ask, &text, held.message_max < 4 << 20);
    }

    /// One step of a reader; whether there may be more.
    fn step(&mut self, place: usize) -> bool {
        let Some(mut held) = self.readers[place].take() else { return false };
        let log = self.log.clone();
        let mut window = log.window();
        window.trim(self.now);
        let more = match held.reader.step(&window, None, self.now()) {
            Step::Send(slots) => {
                let frames =
                    window.entries(slots.clone()).map(|entry| entry.frame.to_vec()).collect::<Vec<_>>();
                assert!(!frames.is_empty(), "nothing is sent");
                assert_eq!(window.bytes(slots), frames.concat(), "the frames in one piece");
                frames.iter().for_each(|frame| self.sent(&mut held, frame));
                true
            }
            Step::Control(Control::Gap(gap)) => {
                self.gap(&mut held, &gap);
                true
            }
            Step::Control(Control::CaughtUp { cursor }) => {
                self.caught_up(&mut held, cursor);
                held.live = true;
                true
            }
            Step::Control(Control::Progress { cursor }) => {
                self.progress(&mut held, cursor);
                true
            }
            Step::Control(Control::FellBehind { cursor, .. }) => {
                assert!(held.live, "told twice that it is behind");
                self.progress(&mut held, cursor);
                held.live = false;
                true
            }
            Step::Control(Control::Welcome { .. }) => panic!("welcome twice"),
            Step::Again => true,
            Step::WaitUntil(_) => {
                assert!(held.live, "it waits, and was not told that it has caught up");
                let passed = held.reader.position();
                self.caught_up(&mut held, passed);
                false
            }
        };
        assert!(held.passed <= held.reader.position().seq.0, "it stands before what it was handed");
        drop(window);
        self.readers[place] = Some(held);
        more
    }

    fn sent(&self, held: &mut Held, frame: &[u8]) {
        let Ok(view) = FrameView::read(message(frame)) else { panic!("a frame that is none") };
        let Some(event) = view.event() else { panic!("no event: {:?}", view.kind()) };
        assert!(message(frame).len() <= held.message_max, "larger than its peer takes");
        let cursor = |entry: &Entry| match entry.ephemeral {
            true => String::new(),
            false => Cursor { epoch: EPOCH, seq: Seq(entry.seq) }.to_string(),
        };
        let is_it = |entry: &Entry| {
            entry.id.to_string() == event.id()
                && cursor(entry) == view.cursor()
                && self.now - entry.at <= BOUNDS.age
        };
        let next = self.entries.iter().enumerate().skip(held.index).find(|(_, entry)| is_it(entry));
        let Some((index, entry)) = next else {
            panic!("twice, out of order, or never published: {}", event.id())
        };
        self.skipped(held, index);
        assert!(!entry.ephemeral || held.live, "an ephemeral event to somebody who is not live");
        assert!(!entry.expires || self.now - entry.at <= Duration::from_secs(2), "an event that has expired");
        (held.passed, held.index) = (entry.seq, index + 1);
    }

    /// What lies before this index and was not handed out may be left out in silence.
    fn skipped(&self, held: &Held, index: usize) {
        for entry in self.entries.get(held.index..index).unwrap_or_default() {
            let has_expired = entry.expires && self.now - entry.at > Duration::from_secs(2);
            assert!(entry.ephemeral || has_expired, "a hole without a gap: {entry:?}");
        }
    }

    fn gap(&self, held: &mut Held, gap: &MissingRange) {
        // What has expired is passed without a word, and the gap may begin behind it.
        let Ok(StartFrom::At(from)) = StartFrom::parse(&gap.from) else {
            panic!("a gap from {:?}", gap.from)
        };
        assert!(
            from.seq.0 >= held.passed && gap.to.seq > from.seq,
            "{gap:?}, and it stands at {}",
            held.passed
        );
        self.progress(held, from);
        let missed = gap.to.seq.0 - from.seq.0;
        assert_eq!(gap.count, Some(missed), "{gap:?}");
        let end = self.behind(gap.to.seq.0);
        match gap.reason {
            GapReason::Lapped => {
                assert_eq!(gap.to.seq.0, self.floor(), "lapped up to the floor");
                held.live = false;
            }
            GapReason::TooLarge => {
                let entry = self.entries.iter().find(|entry| entry.seq == gap.to.seq.0 && !entry.ephemeral);
                assert!(
                    missed == 1 && entry.is_some_and(|entry| entry.length > held.message_max as u64 + 5),
                    "{gap:?}"
                );
            }
            reason => panic!("{reason:?} cannot be here"),
        }
        (held.passed, held.index) = (gap.to.seq.0, end.max(held.index));
    }

    /// The index behind the entry of this position. Ephemeral ones behind it may be handed out yet.
    fn behind(&self, seq: u64) -> usize {
        self.entries.partition_point(|entry| entry.seq < seq || entry.seq == seq && !entry.ephemeral)
    }

    /// It is told that it has everything up to here.
    fn progress(&self, held: &mut Held, at: Cursor) {
        assert!(at.epoch == EPOCH && at.seq.0 >= held.passed && at.seq.0 <= self.head(), "told of {at}");
        let index = self.behind(at.seq.0).max(held.index);
        self.skipped(held, index);
        (held.passed, held.index) = (at.seq.0, index);
    }

    fn caught_up(&self, held: &mut Held, at: Cursor) {
        self.skipped(held, self.entries.len());
        assert_eq!(at.seq.0, self.head(), "told of everything, and not at the head");
        (held.passed, held.index) = (self.head(), self.entries.len());
    }

    fn drain(&mut self) {
        self.look();
        for place in 0..self.readers.len() {
            let steps = (0..1_000).take_while(|_| self.step(place)).count();
            assert!(steps < 1_000, "a reader without end");
            if let Some(held) = &self.readers[place] {
                assert_eq!(held.passed, self.head(), "live: every reader reaches the head");
            }
        }
    }
}
