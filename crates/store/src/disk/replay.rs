//! Takes up the records of an earlier life: entries go to the sink, keys and standing records to what is visible.
//!
//! Called by [`recover`](super::recover), group by group, in the order of the log.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use galaxy_push_core::cursor::{Cursor, Seq};
use galaxy_push_core::frame::{EventView, FrameView, LogKind, message};
use galaxy_push_core::window::Traits;
use galaxy_push_proto::v1;
use prost::Message as _;

use super::Options;
use super::record::{Context, Entry, Nonsense, Record, records};
use super::retention::{Keys, Retention};
use super::visible::Visible;
use crate::dedup::{Content, Key};
use crate::standing::Change;
use crate::{Committed, Sink};

/// So many entries are handed to the sink at once, unless a batch is larger.
const HANDED_AT_ONCE: usize = 1_024;

pub(crate) struct Replay {
    sink: Arc<dyn Sink>,
    visible: Visible,
    retention: Retention,
    /// By time, once all are there: those that were carried forward lie behind younger ones.
    keys: Vec<(Duration, Key, Content, Option<Seq>)>,
    key_age: Duration,
    /// Keys up to this time may be missing.
    cut_at: Option<Duration>,
    /// So may those of what is read next, or before it: something was damaged.
    keys_lost: bool,
    batch: Vec<Committed>,
    segment: u64,
    /// The latest stamp so far, and the latest time that is known of.
    last_unix_ms: u64,
    final_unix_ms: u64,
}

/// Whose the records are that come, as [`Context`] says.
struct Whose {
    publisher: Arc<str>,
    share: Option<Arc<str>>,
    wall_unix_ms: u64,
    stamp_unix_ms: u64,
}

impl Replay {
    pub(crate) fn new(options: &Options, sink: Arc<dyn Sink>, final_unix_ms: u64) -> Self {
        let nowhere = Cursor::start(galaxy_push_core::cursor::Epoch(0));
        Self {
            sink,
            visible: Visible::new(nowhere, options.dedup, options.records_max),
            retention: Retention::new(options.window),
            keys: Vec::new(),
            key_age: options.dedup.age,
            cut_at: None,
            keys_lost: false,
            batch: Vec::new(),
            segment: 0,
            last_unix_ms: 0,
            final_unix_ms,
        }
    }

    pub(crate) fn begin(&self, base: Cursor) {
        self.sink.begin(base);
    }

    /// What comes lies in this segment.
    pub(crate) fn segment(&mut self, number: u64, file_bytes: u64) {
        self.segment = number;
        self.retention.begin(number, file_bytes);
        self.visible.standing.keep_at(number);
    }

    /// Something was lost, and keys may have been in it. They came before whatever is read next.
    pub(crate) const fn keys_lost(&mut self) {
        self.keys_lost = true;
    }

    /// Positions are lost.
    pub(crate) fn lost(&mut self, from: Cursor, to: Cursor) {
        self.hand_on();
        self.sink.damaged(from, to);
    }

    /// One group. Returns how many entries it had.
    pub(crate) fn group(&mut self, head: &mut Cursor, body: &Bytes) -> Result<u64, Nonsense> {
        let mut whose = Whose { publisher: Arc::default(), share: None, wall_unix_ms: 0, stamp_unix_ms: 0 };
        let (mut entries, mut times) = (0, None::<(Duration, Duration)>);
        for record in records(body) {
            match record? {
                Record::Context(context) => {
                    whose.now(&context);
                    if std::mem::take(&mut self.keys_lost) {
                        self.cut(whose.stamp_unix_ms);
                    }
                }
                Record::Cut { at_unix_ms } => self.cut(at_unix_ms),
                Record::Entry(entry) => {
                    *head = head.next();
                    entries += 1;
                    self.entry(*head, &entry, body, &whose)?;
                }
                Record::Key(known) => {
                    let at = Duration::from_millis(known.at_unix_ms);
                    if known.carried {
                        times = Some(times.map_or((at, at), |(from, to)| (from.min(at), to.max(at))));
                    } else {
                        self.retention.add(self.segment, 0, known.at_unix_ms);
                    }
                    let seq = (known.seq > 0).then_some(Seq(known.seq));
                    let key = Key::of_text(&whose.publisher, known.text);
                    self.key(known.at_unix_ms, key, known.content, seq);
                }
                Record::Standing { kind, message } => self.apply(kind, message, &whose)?,
            }
        }
        if let Some((from, to)) = times {
            self.retention.keep_keys(Keys { from, to, place: self.segment });
        }
        // What only carries says how late it was; what gathered meanwhile lies behind it, and was stamped before.
        let latest = if whose.wall_unix_ms == 0 { &mut self.final_unix_ms } else { &mut self.last_unix_ms };
        *latest = (*latest).max(whose.stamp_unix_ms);
        Ok(entries)
    }

    fn entry(
        &mut self,
        cursor: Cursor,
        entry: &Entry<'_>,
        body: &Bytes,
        whose: &Whose,
    ) -> Result<(), Nonsense> {
        let view = FrameView::read(message(entry.frame)).map_err(|_| Nonsense)?;
        self.last_unix_ms = self.last_unix_ms.max(whose.stamp_unix_ms);
        self.retention.add(self.segment, 1, self.last_unix_ms);
        self.retention.weigh(self.segment, entry.frame.len() as u64);
        if let (LogKind::Event, Some(content)) = (entry.kind, entry.content) {
            let event = EventView::of(view.body());
            let key = Key::new(&whose.publisher, event.source(), event.id());
            self.key(self.last_unix_ms, key, content, Some(cursor.seq));
        }
        if entry.kind != LogKind::Event {
            self.apply(entry.kind, view.body(), whose)?;
        }
        self.batch.push(Committed {
            kind: entry.kind,
            cursor,
            traits: entry.traits,
            frame: body.slice_ref(entry.frame),
            appended_unix_ms: view.appended_unix_ms(),
        });
        if self.batch.len() >= HANDED_AT_ONCE && !entry.traits.has(Traits::CONTINUES) {
            self.hand_on();
        }
        Ok(())
    }

    fn cut(&mut self, at_unix_ms: u64) {
        self.cut_at = self.cut_at.max(Some(Duration::from_millis(at_unix_ms)));
    }

    fn key(&mut self, at_unix_ms: u64, key: Key, content: Content, seq: Option<Seq>) {
        if !too_old(at_unix_ms, self.final_unix_ms, self.key_age) {
            self.keys.push((Duration::from_millis(at_unix_ms), key, content, seq));
        }
    }

    fn apply(&mut self, kind: LogKind, message: &[u8], whose: &Whose) -> Result<(), Nonsense> {
        let (change, _) = match kind {
            LogKind::SessionInvalidation => {
                Change::invalidation(&v1::SessionInvalidation::decode(message).map_err(|_| Nonsense)?)
            }
            LogKind::Membership => {
                Change::membership(&v1::Membership::decode(message).map_err(|_| Nonsense)?)
            }
            LogKind::Event => return Err(Nonsense),
        };
        self.visible.standing.apply(&change, whose.share.as_ref(), whose.wall_unix_ms);
        Ok(())
    }

    fn hand_on(&mut self) {
        if !self.batch.is_empty() {
            self.sink.restored(&self.batch);
            self.batch.clear();
        }
    }

    /// The head is known, and everything read.
    pub(crate) fn finish(mut self, head: Cursor) -> (Visible, Retention, u64) {
        self.hand_on();
        let last_unix_ms = self.last_unix_ms.max(self.final_unix_ms);
        let now = Duration::from_millis(last_unix_ms);
        if self.keys_lost {
            self.cut(last_unix_ms);
        }
        if let Some(cut) = self.cut_at {
            self.visible.published.was_cut(cut);
        }
        self.keys.sort_by_key(|(at, ..)| *at);
        for (at, key, content, seq) in self.keys {
            if now.saturating_sub(at) <= self.key_age && self.visible.published.get(&key, at).is_none() {
                self.visible.published.remember(key, content, seq, at);
            }
        }
        (self.visible.head, self.visible.now) = (head, now);
        (self.visible, self.retention, last_unix_ms)
    }
}

impl Whose {
    fn now(&mut self, context: &Context<'_>) {
        if *self.publisher != *context.publisher {
            self.publisher = context.publisher.into();
        }
        if self.share.as_deref() != context.share {
            self.share = context.share.map(Arc::from);
        }
        (self.wall_unix_ms, self.stamp_unix_ms) = (context.wall_unix_ms, context.stamp_unix_ms);
    }
}

/// Keys older than this need not be read: the age bound, seen from the last stamp.
fn too_old(at_unix_ms: u64, last_unix_ms: u64, age: Duration) -> bool {
    u128::from(last_unix_ms.saturating_sub(at_unix_ms)) > age.as_millis()
}
