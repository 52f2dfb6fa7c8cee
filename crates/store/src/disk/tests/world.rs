//! A store without threads on the simulated disk, and everything that anybody was ever told by it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use galaxy_push_core::Now;
use galaxy_push_core::cursor::{Cursor, Epoch};
use galaxy_push_core::frame::LogKind;
use galaxy_push_core::window::{Bounds, Traits};
use galaxy_push_proto::v1;
use tokio::time::{sleep, timeout};

use super::super::engine::Engine;
use super::super::group::Reply;
use super::super::lock::lock;
use super::super::segments::{Outcome, Segments, remove};
use super::super::simulated::{Disk, Rng};
use super::super::{DiskStore, OpenError, Options, Recovered, assemble};
use crate::{Appended, Batch, Committed, Error, Sink, Store as _, standing};

/// Far longer than anything takes, by a clock that stands still while there is something to do.
pub(super) const LONG: Duration = Duration::from_secs(60);

/// What one life of the store has told readers.
#[derive(Debug, Default)]
pub(super) struct Told {
    pub(super) base: Option<Cursor>,
    pub(super) held: BTreeMap<u64, (LogKind, Bytes)>,
    /// Positions that were told as lost: behind the first, up to the second.
    pub(super) gaps: Vec<(u64, u64)>,
    /// The last stamp of the lives before.
    pub(super) stamped_until_ms: u64,
}

/// So many seconds after the beginning.
pub(super) fn at(seconds: u64) -> Now {
    Now { mono: Duration::from_secs(seconds), unix_ms: START_MS + 1_000 * seconds }
}

/// An event with this id, and so many bytes of data.
pub(super) fn event_of(id: &str, bytes: usize) -> v1::Event {
    v1::Event {
        to: vec!["all".to_owned()],
        id: id.to_owned(),
        source: "/s".to_owned(),
        r#type: "t".to_owned(),
        data: vec![b'x'; bytes].into(),
        ..v1::Event::default()
    }
}

/// Appends a batch to a store that runs.
pub(super) async fn publish(store: &DiskStore, batch: Batch) -> Result<Vec<Appended>, Error> {
    timeout(LONG, store.append(batch)).await.expect("everybody gets an answer")
}

/// Appends one batch by itself.
pub(super) fn append(life: &mut Life, batch: Batch) -> Result<Vec<Appended>, Error> {
    let reply = Asked::default();
    life.engine.stage(batch, reply.clone());
    assert!(life.sync());
    Asked::answer(&reply).unwrap()
}

#[derive(Debug, Default)]
pub(super) struct Reader(pub(super) Mutex<Told>);

impl Sink for Reader {
    fn begin(&self, base: Cursor) {
        assert_eq!(lock(&self.0).base.replace(base), None);
    }

    fn committed(&self, batch: &[Committed]) {
        let mut told = lock(&self.0);
        for each in batch.iter().filter(|each| !each.traits.has(Traits::EPHEMERAL)) {
            let held = told.held.last_key_value().map(|(seq, _)| *seq);
            let gap = told.gaps.last().map(|(_, to)| *to);
            let passed = held.max(gap).or(told.base.map(|base| base.seq.0)).unwrap_or_default();
            assert_eq!(each.cursor.seq.0, passed + 1, "nothing is left out in silence");
            told.held.insert(each.cursor.seq.0, (each.kind, Bytes::copy_from_slice(each.message())));
        }
    }

    fn stamped_until(&self, unix_ms: u64) {
        lock(&self.0).stamped_until_ms = unix_ms;
    }

    fn damaged(&self, from: Cursor, to: Cursor) {
        lock(&self.0).gaps.push((from.seq.0, to.seq.0));
    }
}

/// Takes an answer.
#[derive(Clone, Debug, Default)]
pub(super) struct Asked(Arc<Mutex<Option<Answer>>>);

type Answer = Result<Vec<Appended>, Error>;

impl Asked {
    pub(super) fn answer(&self) -> Option<Answer> {
        lock(&self.0).clone()
    }
}

impl Reply for Asked {
    fn answer(self, answer: Result<Vec<Appended>, Error>) {
        assert_eq!(lock(&self.0).replace(answer), None, "one answer each");
    }
}

/// One life of the store.
pub(super) struct Life {
    pub(super) engine: Engine<Asked>,
    pub(super) segments: Segments,
    pub(super) reader: Arc<Reader>,
    pub(super) recovered: Recovered,
}

/// Small, so that segments come and go all the time.
pub(super) fn options() -> Options {
    let mut options = Options::of(Bounds { age: Duration::from_secs(3_600), events: 40, bytes: 24 << 10 });
    options.segment_bytes = 6 << 10;
    options.dedup.age = Duration::from_secs(60);
    options
}

pub(super) const START_MS: u64 = 1_700_000_000_000;

impl Life {
    pub(super) fn open(disk: &Disk) -> Result<Self, OpenError> {
        Self::open_with(disk, &options())
    }

    pub(super) fn open_with(disk: &Disk, options: &Options) -> Result<Self, OpenError> {
        let reader = Arc::new(Reader::default());
        let (engine, segments, recovered) =
            assemble(Arc::new(disk.clone()), options, Epoch(77), 99, reader.clone())?;
        Ok(Self { engine, segments, reader, recovered })
    }

    /// Appends what gathers, and lets go of what is needed no more. False: the disk has failed.
    pub(super) fn sync(&mut self) -> bool {
        let mut lives = true;
        while let Some(job) = self.engine.seal() {
            let outcome = self.segments.run(&job);
            lives &= !matches!(outcome, Outcome::Failed(_));
            self.engine.done(outcome);
        }
        for number in self.engine.settle() {
            remove(&*self.segments.files(), number);
        }
        lives
    }

    /// It is so late, as the hub says now and then.
    pub(super) fn age(&mut self, now_unix_ms: u64) {
        let now = Duration::from_millis(now_unix_ms);
        {
            let visible = self.engine.visible();
            let mut visible = lock(&visible);
            visible.now = visible.now.max(now);
            visible.published.trim(now);
        }
        self.engine.age(now);
    }

    pub(super) fn standing(&self) -> Vec<(LogKind, Bytes)> {
        let visible = self.engine.visible();
        let mut visible = lock(&visible);
        let mut page: standing::Page = visible.standing.page(None, usize::MAX, 0, START_MS);
        std::mem::take(&mut page.records)
    }
}

/// Batches of all kinds, each recognisable.
pub(super) struct Publisher {
    rng: Rng,
    next: u64,
    pub(super) now_ms: u64,
}

impl Publisher {
    pub(super) const fn new(seed: u64) -> Self {
        Self { rng: Rng(seed), next: 0, now_ms: START_MS }
    }

    pub(super) const fn skip_ids(&mut self, count: u64) {
        self.next += count;
    }

    pub(super) fn batch(&mut self) -> Batch {
        self.now_ms += self.rng.below(400);
        let now = Now { mono: Duration::from_millis(self.now_ms - START_MS), unix_ms: self.now_ms };
        if self.rng.percent(12) {
            let records: Vec<_> = (0..=self.rng.below(3)).map(|_| self.membership()).collect();
            return Batch::memberships(&records, now);
        }
        let events: Vec<_> = (0..=self.rng.below(4)).map(|_| self.event()).collect();
        let name = ["", "p", "q"][self.rng.below(3) as usize];
        Batch::encode(&events, &name.into(), now)
    }

    fn membership(&mut self) -> v1::Membership {
        v1::Membership {
            recipient: format!("user:{}", self.rng.below(6)),
            topic: format!("t{}", self.rng.below(3)),
            member: self.rng.percent(60),
            expires_at: None,
        }
    }

    fn event(&mut self) -> v1::Event {
        self.next += 1;
        let length = [5, 40, 700, 1_500][self.rng.below(4) as usize];
        let fill = if self.rng.percent(10) { 0 } else { b'x' };
        v1::Event {
            to: vec!["all".to_owned()],
            id: self.next.to_string(),
            source: "/s".to_owned(),
            r#type: "t".to_owned(),
            data: vec![fill; length].into(),
            ephemeral: self.rng.percent(8),
            ..v1::Event::default()
        }
    }
}

/// Waits until no store has the disk any more.
pub(super) async fn released(disk: &Disk) {
    let released = async {
        while disk.is_taken() {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(LONG, released).await.expect("a store that is dropped lets its disk go");
}
