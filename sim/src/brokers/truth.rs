//! What the stream holds in truth: read message by message as it is stored, by the rules of `docs/adr/0018` and none of the store's code
//! but the bytes of a pack. It forgets nothing, and begins with the first message.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use galaxy_push_core::cursor::Epoch;
use galaxy_push_core::frame::LogKind;
use galaxy_push_core::window::Traits;
use galaxy_push_proto::v1;
use galaxy_push_store::batch::{Batch, Item};
use galaxy_push_store::nats::pack;
use galaxy_push_store::{Content, Key};
use galaxy_push_testkit::Recorder;
use galaxy_push_testkit::history::{Name, Position, What};
use prost::Message as _;

use crate::log_lines::{log_line, record_standing, record_uncounted};
use crate::rng::UNIX_MS_START;

/// A claim is dead once a message behind it is so much older than the pack.
const HEEDED_MS: u64 = 10_000;

/// Or once more items lie between.
const HEEDED_ITEMS: u64 = 262_144;

/// A message has so many places.
const PLACES: u64 = 1 << 16;

pub(super) struct Truth {
    epoch: Epoch,
    name: Name,
    hubs_ahead_ms: i64,
    recorder: Recorder,
    /// Of each message, from the first on: its stamp, and how many items it has.
    messages: Vec<(u64, u64)>,
    /// The last pack of each hub.
    hubs: BTreeMap<u128, u64>,
    /// By key, in which message which content was appended. Looked up only.
    appended: HashMap<Key, Vec<(u64, Content)>>,
}

/// Where a request lies.
#[derive(Clone, Copy)]
struct Place {
    message: u64,
    /// How many items of the message come behind it.
    behind: u64,
}

impl Place {
    /// The positions of its items.
    fn of_items(self, batch: &Batch) -> impl Iterator<Item = u64> + use<> {
        let end = self.message * PLACES + PLACES - 1 - self.behind;
        let count = batch.items.len() as u64;
        (1..=count).map(move |item| end - (count - item))
    }
}

impl Truth {
    pub(super) fn new(epoch: Epoch, hubs_ahead_ms: i64, recorder: Recorder) -> Self {
        let name = epoch.to_string().into();
        let (messages, hubs, appended) = (Vec::new(), BTreeMap::new(), HashMap::new());
        Self { epoch, name, hubs_ahead_ms, recorder, messages, hubs, appended }
    }

    /// The next message.
    pub(super) fn read(
        &mut self,
        number: u64,
        stamp_ms: u64,
        payload: &Bytes,
        now_us: u64,
        met: &mut BTreeMap<&'static str, u64>,
    ) {
        let mut meets = |what| *met.entry(what).or_default() += 1;
        let pack = pack::read(payload).ok();
        self.messages.push((stamp_ms, pack.as_ref().map_or(1, |pack| pack.items().max(1) as u64)));
        let end = Position { epoch: self.name.clone(), seq: number * PLACES + PLACES - 1 };
        let Some(pack) = pack.filter(|pack| pack.head.epoch == self.epoch && pack.head.read < number) else {
            return self.recorder.record(now_us, What::Head(end));
        };
        let is_overtaken = self.hubs.get(&pack.head.hub.0).is_some_and(|last| pack.head.number <= *last);
        let is_dead = self.is_dead(pack.head.read, stamp_ms);
        if is_overtaken {
            meets("Overtaken");
        } else {
            self.hubs.insert(pack.head.hub.0, pack.head.number);
        }
        let mut behind = pack.items() as u64;
        for batch in pack.requests {
            behind -= batch.items.len() as u64;
            let place = Place { message: number, behind };
            if !is_overtaken && !is_dead {
                meets(self.judge(batch, place, pack.head.read, now_us));
                continue;
            }
            if !is_overtaken {
                meets("DeadClaim");
            }
            self.uncounted(&batch, place, now_us);
        }
        self.recorder.record(now_us, What::Head(end));
    }

    /// Whether nobody heeds what a pack in the last message says of everything up to `read`.
    fn is_dead(&self, read: u64, stamp_ms: u64) -> bool {
        let between = self.messages.get(read as usize..).unwrap_or_default();
        let before = &between[..between.len().saturating_sub(1)];
        between.iter().any(|(stamp, _)| stamp + HEEDED_MS <= stamp_ms)
            || before.iter().map(|(_, items)| items).sum::<u64>() > HEEDED_ITEMS
    }

    fn judge(&mut self, batch: Batch, place: Place, read: u64, now_us: u64) -> &'static str {
        let said = |key: &Key, appended: &HashMap<Key, Vec<(u64, Content)>>| {
            let all = appended.get(key).map_or(&[][..], Vec::as_slice);
            all.iter().find(|(message, _)| *message > read).map(|(_, content)| *content)
        };
        if let Some((key, content)) = &batch.key {
            match said(key, &self.appended) {
                None => {}
                Some(other) => {
                    self.uncounted(&batch, place, now_us);
                    return if other == *content { "SaidBefore" } else { "OtherContent" };
                }
            }
        }
        let (mut here, mut known) = (HashMap::<&Key, Content>::new(), Vec::new());
        for item in &batch.items {
            let Some((key, content)) = &item.key else {
                known.push(false);
                continue;
            };
            let before = [said(key, &self.appended), here.insert(key, *content)];
            if before.iter().flatten().any(|other| other != content) {
                return "OtherContent";
            }
            known.push(before.iter().any(Option::is_some));
        }
        for ((item, is_known), seq) in batch.items.iter().zip(&known).zip(place.of_items(&batch)) {
            if !is_known {
                self.append(item, seq, batch.stamp_unix_ms, now_us);
            }
        }
        let new = batch.items.into_iter().zip(&known).filter(|(_, is_known)| !**is_known);
        for (key, content) in new.filter_map(|(item, _)| item.key).chain(batch.key) {
            self.appended.entry(key).or_default().push((place.message, content));
        }
        if known.contains(&true) { "SaidBefore" } else { "Appended" }
    }

    /// Its records are none of the log, and whoever cannot judge them may believe them.
    fn uncounted(&self, batch: &Batch, place: Place, now_us: u64) {
        for (item, seq) in batch.items.iter().zip(place.of_items(batch)) {
            let position = Position { epoch: self.name.clone(), seq };
            record_uncounted(&self.recorder, position, item.kind, &item.event, now_us);
        }
    }

    fn append(&self, item: &Item, seq: u64, stamp_unix_ms: u64, now_us: u64) {
        let position = Position { epoch: self.name.clone(), seq };
        if item.kind != LogKind::Event {
            return record_standing(&self.recorder, position, item.kind, &item.event, now_us);
        }
        let Ok(event) = v1::Event::decode(item.event.clone()) else { return };
        if item.traits.has(Traits::EPHEMERAL) {
            return;
        }
        // It counts from when its hub took it, by the hubs' clock.
        let taken_ms = stamp_unix_ms.saturating_add_signed(-self.hubs_ahead_ms).saturating_sub(UNIX_MS_START);
        let line = log_line(position, &event, taken_ms * 1_000);
        self.recorder.record(now_us, What::Log(line));
    }
}
