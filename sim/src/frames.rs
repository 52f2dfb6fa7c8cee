//! What a reader saw, from the JSON form of a frame into the history.
//!
//! SSE, WebSocket and gRPC readers all come through here, so that the three are judged by the same words. Nothing is
//! read with the product's own cursor or frame code.

use std::sync::Arc;

use anyhow::{Context as _, bail};
use galaxy_push_testkit::Recorder;
use galaxy_push_testkit::history::{
    Cursor, Event, Gap, GapReason, Goodbye, GoodbyeReason, Hash, Mark, Name, Outcome, Position, StreamId,
    Subscribed, Welcome, What,
};
use serde_json::Value;

/// One stream as its reader writes it down.
#[derive(Clone, Debug)]
pub struct StreamLog {
    recorder: Recorder,
    /// The stream's number in the history.
    pub stream: StreamId,
    clock: fn() -> u64,
}

impl StreamLog {
    /// A new stream of this history, on a clock in microseconds.
    #[must_use]
    pub fn new(recorder: &Recorder, clock: fn() -> u64) -> Self {
        Self { recorder: recorder.clone(), stream: recorder.next_stream(), clock }
    }

    /// Writes something down now.
    pub fn record(&self, what: What) {
        self.recorder.record((self.clock)(), what);
    }

    /// Writes a frame down.
    ///
    /// # Errors
    ///
    /// When it does not have the JSON form of a frame: that is a broken promise of its own.
    pub fn frame(&self, frame: &Value) -> anyhow::Result<()> {
        let what = self.read(frame).with_context(|| format!("not a frame in JSON form: {frame}"))?;
        self.record(what);
        Ok(())
    }

    fn read(&self, frame: &Value) -> anyhow::Result<What> {
        let fields = frame.as_object().context("not an object")?;
        let text = fields.get("cursor").and_then(Value::as_str).unwrap_or_default();
        let (stream, cursor) = (self.stream, cursor(text));
        let (kind, body) = fields
            .iter()
            .find(|(name, _)| !matches!(name.as_str(), "cursor" | "appendedUnixMs"))
            .context("no kind")?;
        let mark = Mark { stream, cursor: cursor.clone() };
        Ok(match kind.as_str() {
            "event" => What::Event(event(stream, &cursor, body)?),
            "progress" => What::Progress(mark),
            "caughtUp" => What::CaughtUp(mark),
            "fellBehind" => What::FellBehind(mark),
            "welcome" => What::Welcome(Welcome {
                stream,
                outcome: named::<Outcome>(body, "outcome")?,
                cursor,
                head: position(text_of(body, "head")?)?,
                oldest: position(text_of(body, "oldest")?)?,
                epoch: text_of(body, "epoch")?.into(),
                generation: number(body, "generation").unwrap_or_default(),
            }),
            "gap" => What::Gap(Gap {
                stream,
                reason: named::<GapReason>(body, "reason")?,
                from: self::cursor(body["from"].as_str().unwrap_or_default()),
                to: self::cursor(text_of(body, "to")?),
                count: number(body, "count"),
                cursor,
            }),
            "goodbye" => {
                What::Goodbye(Goodbye { stream, reason: named::<GoodbyeReason>(body, "reason")?, cursor })
            }
            "subscribed" => What::Subscribed(Subscribed { stream, cursor, recipients: topics(body) }),
            other => bail!("unknown kind {other}"),
        })
    }
}

fn event(stream: StreamId, cursor: &Cursor, event: &Value) -> anyhow::Result<Event> {
    let position = match cursor {
        Cursor::At(position) => Some(position.clone()),
        _ => None,
    };
    let id = text_of(event, "id")?.into();
    let shown_to = event.get("to").and_then(Value::as_str).unwrap_or_default();
    let shown_to = shown_to.split(',').filter(|to| !to.is_empty()).map(Name::from).collect();
    Ok(Event { stream, ephemeral: position.is_none(), position, id, hash: event_hash(event)?, shown_to })
}

/// The fingerprint of an event in CloudEvents JSON: what every reader must receive unchanged.
///
/// # Errors
///
/// When id, source or type is missing.
pub fn event_hash(event: &Value) -> anyhow::Result<Hash> {
    let data = event.get("data").map(Value::to_string).unwrap_or_default();
    let base64 = event.get("data_base64").and_then(Value::as_str).unwrap_or_default();
    let head = [text_of(event, "source")?, text_of(event, "id")?, text_of(event, "type")?];
    Ok(Hash::of(&[
        head[0].as_bytes(),
        head[1].as_bytes(),
        head[2].as_bytes(),
        data.as_bytes(),
        base64.as_bytes(),
    ]))
}

fn topics(body: &Value) -> Vec<Name> {
    let topics = body["topics"].as_array().map(Vec::as_slice).unwrap_or_default();
    topics.iter().filter_map(Value::as_str).map(|topic| Name::from(format!("topic:{topic}"))).collect()
}

/// What a cursor text says. Reads `1.<epoch>.<seq>` by hand.
#[must_use]
pub fn cursor(text: &str) -> Cursor {
    match text {
        "" => Cursor::Empty,
        "oldest" => Cursor::Oldest,
        _ => match position(text) {
            Ok(position) => Cursor::At(position),
            Err(_) if text.starts_with(|first: char| first.is_ascii_digit()) => Cursor::Foreign,
            Err(_) => Cursor::Garbage,
        },
    }
}

fn position(text: &str) -> anyhow::Result<Position> {
    let mut parts = text.split('.');
    let (Some("1"), Some(epoch), Some(seq), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        bail!("{text:?} is not a position");
    };
    Ok(Position { epoch: Arc::from(epoch), seq: seq.parse()? })
}

fn text_of<'a>(body: &'a Value, field: &str) -> anyhow::Result<&'a str> {
    body.get(field).and_then(Value::as_str).with_context(|| format!("no text `{field}`"))
}

/// 64-bit numbers are strings in the JSON form.
fn number(body: &Value, field: &str) -> Option<u64> {
    body.get(field)?.as_str()?.parse().ok()
}

fn named<T: serde::de::DeserializeOwned>(body: &Value, field: &str) -> anyhow::Result<T> {
    Ok(serde_json::from_value(body.get(field).cloned().with_context(|| format!("no `{field}`"))?)?)
}
