//! An event as CloudEvents 1.0 JSON.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Serialize, Serializer, ser::SerializeMap as _};
use serde_json::value::RawValue;

use super::View;
use crate::{media_type, time, v1};

pub(super) struct EventJson<'a> {
    pub(super) event: &'a v1::Event,
    pub(super) view: View<'a>,
}

impl Serialize for EventJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { event, view } = *self;
        let mut members = serializer.serialize_map(None)?;
        members.serialize_entry("specversion", "1.0")?;
        members.serialize_entry("id", &event.id)?;
        members.serialize_entry("source", &event.source)?;
        members.serialize_entry("type", &event.r#type)?;
        if !event.subject.is_empty() {
            members.serialize_entry("subject", &event.subject)?;
        }
        if let Some(time) = event.time.as_ref().and_then(time::timestamp_text) {
            members.serialize_entry("time", &time)?;
        }
        if !event.data_content_type.is_empty() {
            members.serialize_entry("datacontenttype", &event.data_content_type)?;
        }
        serialize_extensions(event, view, &mut members)?;
        match data(event) {
            Data::None => {}
            Data::Json(json) => members.serialize_entry("data", json)?,
            Data::Bytes(bytes) => members.serialize_entry("data_base64", &STANDARD.encode(bytes))?,
        }
        members.end()
    }
}

fn serialize_extensions<M: serde::ser::SerializeMap>(
    event: &v1::Event,
    view: View<'_>,
    members: &mut M,
) -> Result<(), M::Error> {
    if view.shows("to") {
        members.serialize_entry("to", &event.to.join(","))?;
    }
    if !event.collapse_key.is_empty() && view.shows("collapsekey") {
        members.serialize_entry("collapsekey", &event.collapse_key)?;
    }
    if let Some(ttl) = event.ttl.as_ref().filter(|_| view.shows("ttl")) {
        match (ttl.nanos, time::seconds_text(ttl)) {
            (0, Some(_)) => members.serialize_entry("ttl", &ttl.seconds)?,
            // CloudEvents knows no fractional numbers.
            (_, Some(seconds)) => members.serialize_entry("ttl", &seconds)?,
            (_, None) => {}
        }
    }
    if event.ephemeral && view.shows("ephemeral") {
        members.serialize_entry("ephemeral", &true)?;
    }
    for (name, value) in event.attributes.iter().filter(|(name, _)| view.shows(name)) {
        members.serialize_entry(name, value)?;
    }
    Ok(())
}

enum Data<'a> {
    None,
    Json(&'a RawValue),
    Bytes(&'a [u8]),
}

fn data(event: &v1::Event) -> Data<'_> {
    if event.data.is_empty() {
        return Data::None;
    }
    // Declared JSON was checked when it was published. It is looked at again, because one spliced byte that is no JSON
    // would break the line of every reader.
    let json = media_type::is_json(&event.data_content_type).then(|| serde_json::from_slice(&event.data));
    match json {
        Some(Ok(json)) => Data::Json(json),
        _ => Data::Bytes(&event.data),
    }
}
