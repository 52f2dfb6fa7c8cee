//! The two forms of a frame, each read by the names of the contract into the words of the history.

use std::borrow::Cow;
use std::collections::BTreeMap;

use anyhow::{Context as _, bail, ensure};
use base64::Engine as _;
use galaxy_push_proto::v1::{self, push_event::Kind};
use galaxy_push_testkit::history::{
    self, Cursor, GapReason, GoodbyeReason, Hash, Mark, Name, Outcome, StreamId, What,
};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::value::RawValue;

use super::{cursor as read_cursor, position, prints};

/// What a CloudEvent may have at an edge that shows no extension attribute.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EventForm<'a> {
    specversion: Cow<'a, str>,
    id: Cow<'a, str>,
    source: Cow<'a, str>,
    r#type: Cow<'a, str>,
    #[serde(default)]
    subject: Cow<'a, str>,
    #[serde(default)]
    time: Cow<'a, str>,
    #[serde(default)]
    datacontenttype: Cow<'a, str>,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
    #[serde(default)]
    data_base64: Option<Cow<'a, str>>,
    /// Never shown at an edge: read so that it is told as a leak and not as a frame of no form.
    #[serde(default)]
    to: Cow<'a, str>,
}

pub(super) fn of_proto(stream: StreamId, frame: &v1::PushEvent) -> anyhow::Result<What> {
    let cursor = read_cursor(&frame.cursor);
    let mark = Mark { stream, cursor: cursor.clone() };
    Ok(match frame.kind.as_ref().context("a frame without a kind")? {
        Kind::Event(event) => {
            let to = event.to.iter().map(|to| Name::from(to.as_str())).collect();
            event_at(stream, cursor, event.id.as_str().into(), prints::event(event), to)?
        }
        Kind::SessionInvalidation(record) => record_at(stream, cursor, prints::invalidation(record))?,
        Kind::Membership(record) => record_at(stream, cursor, prints::membership(record))?,
        Kind::Standing(standing) => {
            let invalidations = standing.invalidations.iter().map(prints::invalidation);
            let records = invalidations.chain(standing.memberships.iter().map(prints::membership)).collect();
            What::Standing(history::Standing { stream, cursor, records, more: standing.more })
        }
        Kind::Progress(_) => What::Progress(mark),
        Kind::CaughtUp(_) => What::CaughtUp(mark),
        Kind::FellBehind(_) => What::FellBehind(mark),
        Kind::Welcome(welcome) => What::Welcome(history::Welcome {
            stream,
            outcome: named::<Outcome>(welcome.outcome().as_str_name(), "OUTCOME_")?,
            cursor,
            head: position(&welcome.head)?,
            oldest: position(&welcome.oldest)?,
            epoch: welcome.epoch.as_str().into(),
            generation: welcome.generation,
        }),
        Kind::Gap(gap) => What::Gap(history::Gap {
            stream,
            reason: named::<GapReason>(gap.reason().as_str_name(), "GAP_REASON_")?,
            from: read_cursor(&gap.from),
            to: read_cursor(&gap.to),
            count: gap.count,
            repair_after_us: gap.repair_after.as_ref().map(of_duration),
            cursor,
        }),
        Kind::Goodbye(goodbye) => {
            let reason = named::<GoodbyeReason>(goodbye.reason().as_str_name(), "GOODBYE_REASON_")?;
            let retry_after_us = goodbye.retry_after.as_ref().map(of_duration);
            What::Goodbye(history::Goodbye { stream, reason, retry_after_us, cursor })
        }
        Kind::Subscribed(subscribed) => subscribed_to(stream, cursor, subscribed.topics.iter()),
    })
}

/// A frame in JSON form as its cursor, its kind and the JSON of the kind.
pub(super) fn split(text: &str) -> anyhow::Result<(Cow<'_, str>, Cow<'_, str>, &str)> {
    let fields: BTreeMap<Cow<'_, str>, &RawValue> = serde_json::from_str(text)?;
    let mut cursor = Cow::Borrowed("");
    let mut kind = None;
    for (name, value) in fields {
        match &*name {
            "cursor" => cursor = serde_json::from_str(value.get())?,
            "appendedUnixMs" => {}
            _ => ensure!(kind.replace((name, value.get())).is_none(), "two kinds"),
        }
    }
    let (kind, body) = kind.context("no kind")?;
    Ok((cursor, kind, body))
}

pub(super) fn of_json(stream: StreamId, text: &str, kind: &str, body: &str) -> anyhow::Result<What> {
    let cursor = read_cursor(text);
    if kind == "event" {
        let event: EventForm<'_> = serde_json::from_str(body).context("not an event as users may see it")?;
        return event_form(stream, cursor, &event);
    }
    let body: Value = serde_json::from_str(body)?;
    let mark = Mark { stream, cursor: cursor.clone() };
    Ok(match kind {
        "progress" => What::Progress(mark),
        "caughtUp" => What::CaughtUp(mark),
        "fellBehind" => What::FellBehind(mark),
        "welcome" => What::Welcome(history::Welcome {
            stream,
            outcome: named(text_of(&body, "outcome")?, "")?,
            cursor,
            head: position(text_of(&body, "head")?)?,
            oldest: position(text_of(&body, "oldest")?)?,
            epoch: text_of(&body, "epoch")?.into(),
            generation: number(&body, "generation").unwrap_or_default(),
        }),
        "gap" => What::Gap(history::Gap {
            stream,
            reason: named(text_of(&body, "reason")?, "")?,
            from: read_cursor(body["from"].as_str().unwrap_or_default()),
            to: read_cursor(text_of(&body, "to")?),
            count: number(&body, "count"),
            repair_after_us: body.get("repairAfter").and_then(Value::as_str).map(microseconds).transpose()?,
            cursor,
        }),
        "goodbye" => {
            let reason = named(text_of(&body, "reason")?, "")?;
            let retry_after_us =
                body.get("retryAfter").and_then(Value::as_str).map(microseconds).transpose()?;
            What::Goodbye(history::Goodbye { stream, reason, retry_after_us, cursor })
        }
        "subscribed" => {
            let topics = body["topics"].as_array().map(Vec::as_slice).unwrap_or_default();
            subscribed_to(stream, cursor, topics.iter().filter_map(Value::as_str))
        }
        other => bail!("unknown kind {other}"),
    })
}

fn event_form(stream: StreamId, cursor: Cursor, event: &EventForm<'_>) -> anyhow::Result<What> {
    ensure!(event.specversion == "1.0", "specversion {}", event.specversion);
    ensure!(!event.time.is_empty(), "an event without a time");
    let data = match (event.data, &event.data_base64) {
        (Some(json), None) => json.get().as_bytes().into(),
        (None, Some(text)) => base64::engine::general_purpose::STANDARD.decode(&**text)?,
        (None, None) => Vec::new(),
        (Some(_), Some(_)) => bail!("data and data_base64"),
    };
    let texts = [&*event.source, &event.id, &event.r#type, &event.subject, &event.datacontenttype];
    let to = event.to.split(',').filter(|to| !to.is_empty()).map(Name::from).collect();
    event_at(stream, cursor, (&*event.id).into(), prints::of_event(texts, &data), to)
}

fn event_at(
    stream: StreamId,
    cursor: Cursor,
    id: Name,
    hash: Hash,
    shown_to: Vec<Name>,
) -> anyhow::Result<What> {
    let position = match cursor {
        Cursor::At(position) => Some(position),
        Cursor::Empty => None,
        _ => bail!("an event whose cursor is no position"),
    };
    Ok(What::Event(history::Event { stream, ephemeral: position.is_none(), position, id, hash, shown_to }))
}

/// A standing record in its place in the log. It has no id: its fingerprint serves as one.
fn record_at(stream: StreamId, cursor: Cursor, hash: Hash) -> anyhow::Result<What> {
    ensure!(matches!(cursor, Cursor::At(_)), "a standing record without a position");
    event_at(stream, cursor, hash.to_string().into(), hash, Vec::new())
}

fn subscribed_to<T: AsRef<str>>(stream: StreamId, cursor: Cursor, topics: impl Iterator<Item = T>) -> What {
    let recipients = topics.map(|topic| Name::from(format!("topic:{}", topic.as_ref()))).collect();
    What::Subscribed(history::Subscribed { stream, cursor, recipients })
}

fn text_of<'a>(body: &'a Value, field: &str) -> anyhow::Result<&'a str> {
    body.get(field).and_then(Value::as_str).with_context(|| format!("no text `{field}`"))
}

/// 64-bit numbers are strings in the JSON form.
fn number(body: &Value, field: &str) -> Option<u64> {
    body.get(field)?.as_str()?.parse().ok()
}

fn of_duration(duration: &prost_types::Duration) -> u64 {
    duration.seconds.unsigned_abs() * 1_000_000 + u64::from(duration.nanos.unsigned_abs()) / 1_000
}

/// A duration, such as "5s" or "0.040s".
fn microseconds(duration: &str) -> anyhow::Result<u64> {
    let text = duration.strip_suffix('s').with_context(|| format!("{duration} is no duration"))?;
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let fraction = format!("{fraction:0<6}");
    let micros = fraction.get(..6).with_context(|| format!("{duration} is no duration"))?;
    Ok(seconds.parse::<u64>()? * 1_000_000 + micros.parse::<u64>()?)
}

/// A value of an enum by its name in the contract.
fn named<T: DeserializeOwned>(name: &str, prefix: &str) -> anyhow::Result<T> {
    let name = name.strip_prefix(prefix).with_context(|| format!("{name} does not begin with {prefix}"))?;
    Ok(serde_json::from_value(name.into())?)
}
