//! What the history says of a log: its events and standing records, and where it ends.
//!
//! Called by whoever knows the truth of a log (`truth`, `brokers/truth`). What a message says is read here with the contract's types.

use galaxy_push_core::cursor::Cursor;
use galaxy_push_core::frame::LogKind;
use galaxy_push_proto::v1;
use galaxy_push_testkit::Recorder;
use galaxy_push_testkit::history::{Hash, LogLine, LogRecord, Position, Says, Uncounted, What};
use prost::Message as _;
use prost_types::Timestamp;

use crate::frames::{self, invalidation_hash, membership_hash};
use crate::rng::UNIX_MS_START;

/// What the log has of an event that its hub took then. How large its entry is, is not said.
pub(crate) fn log_line(position: Position, event: &v1::Event, taken_us: u64) -> LogLine {
    let ttl_us = event.ttl.as_ref().map(|ttl| ttl.seconds.unsigned_abs() * 1_000_000);
    LogLine {
        position,
        source: event.source.as_str().into(),
        id: event.id.as_str().into(),
        to: event.to.iter().map(|to| to.as_str().into()).collect(),
        hash: frames::event_hash(event),
        standing: false,
        collapse_key: (!event.collapse_key.is_empty()).then(|| event.collapse_key.as_str().into()),
        expires_at_us: ttl_us.map(|ttl_us| taken_us + ttl_us),
        appended_us: None,
        bytes: 0,
    }
}

/// Writes down a standing record of the log: its fingerprint serves as its id.
pub(crate) fn record_standing(
    recorder: &Recorder,
    position: Position,
    kind: LogKind,
    message: &[u8],
    now_us: u64,
) {
    let Some((hash, says, expires)) = standing(kind, message) else { return };
    let line = LogLine {
        position: position.clone(),
        source: "".into(),
        id: hash.to_string().into(),
        to: Vec::new(),
        hash,
        standing: true,
        collapse_key: None,
        expires_at_us: None,
        appended_us: None,
        bytes: message.len() as u64,
    };
    recorder.record(now_us, What::Log(line));
    let until_us = expires.as_ref().map(in_the_world);
    recorder.record(now_us, What::LogRecord(LogRecord { position, says, until_us, appended_us: None }));
}

/// Writes down a standing record that lies among the messages of a log and does not count.
pub(crate) fn record_uncounted(
    recorder: &Recorder,
    position: Position,
    kind: LogKind,
    message: &[u8],
    now_us: u64,
) {
    let Some((hash, says, expires)) = standing(kind, message) else { return };
    let until_us = expires.as_ref().map(in_the_world);
    let record = LogRecord { position, says, until_us, appended_us: None };
    recorder.record(now_us, What::Uncounted(Uncounted { hash, record }));
}

/// A moment by the wall clock, in microseconds of the world.
fn in_the_world(at: &Timestamp) -> u64 {
    let unix_us = at.seconds.unsigned_abs() * 1_000_000 + u64::from(at.nanos.unsigned_abs()) / 1_000;
    unix_us.saturating_sub(UNIX_MS_START * 1_000)
}

fn standing(kind: LogKind, message: &[u8]) -> Option<(Hash, Says, Option<Timestamp>)> {
    match kind {
        LogKind::Event => None,
        LogKind::SessionInvalidation => {
            let record = v1::SessionInvalidation::decode(message).ok()?;
            let before_us = frames::explicit(&record).map(in_the_world);
            let says = Says::Void { holder: record.recipient.as_str().into(), before_us };
            Some((invalidation_hash(&record), says, record.expires_at))
        }
        LogKind::Membership => {
            let record = v1::Membership::decode(message).ok()?;
            let (holder, recipient) =
                (record.recipient.as_str().into(), format!("topic:{}", record.topic).into());
            let says = Says::Member { holder, recipient, member: record.member };
            Some((membership_hash(&record), says, record.expires_at))
        }
    }
}

/// A cursor as a place of the history.
pub(crate) fn place(cursor: Cursor) -> Position {
    Position { epoch: cursor.epoch.to_string().into(), seq: cursor.seq.0 }
}
