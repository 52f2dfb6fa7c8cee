//! The JSON event format: one event, or an array of them.

use std::{borrow::Cow, collections::BTreeSet};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use serde_json::value::RawValue;

use super::attribute::Reading;
use crate::json::streamed;
use crate::validate::{ATTRIBUTES_MAX, check_attributes_count, check_events_count};
use crate::{Invalid, media_type, v1};

/// The members of an event that are no extension attributes, and those that are, at most.
const MEMBERS_MAX: usize = 16 + ATTRIBUTES_MAX;

pub(super) fn parse_batch(json: &[u8]) -> Result<Vec<v1::Event>, Invalid> {
    let mut events = Vec::new();
    let read = streamed::items(json, |index, event| {
        check_events_count(index + 1)?;
        events.push(parse(event.get().as_bytes()).map_err(|invalid| invalid.in_batch(index))?);
        Ok(())
    });
    read.map_err(|ended| {
        ended.invalid(|error| Invalid::new("", format!("a batch must be a JSON array: {error}")))
    })?;
    Ok(events)
}

pub(super) fn parse(json: &[u8]) -> Result<v1::Event, Invalid> {
    let members = members(json)?;
    let mut reading = Reading::default();
    let (mut data, mut data_base64) = (None, None);
    let mut named = BTreeSet::new();
    for (name, value) in &members {
        let name = name.as_ref();
        if !named.insert(name) {
            return Err(Invalid::new(name.escape_debug().to_string(), "is named twice"));
        }
        match name {
            "data" => data = Some(*value),
            "data_base64" => data_base64 = Some(*value),
            // An attribute that is null is one that is not there.
            _ if value.get() == "null" => {}
            _ => reading.attribute(name, attribute_text(name, value)?)?,
        }
    }

    let data = match (data, data_base64) {
        (None, None) => Bytes::new(),
        (Some(data), None) => data_bytes(data, reading.data_content_type())?,
        (None, Some(encoded)) => decode(encoded)?,
        (Some(_), Some(_)) => return Err(Invalid::new("data_base64", "must not stand beside data")),
    };
    reading.finish(data)
}

/// The members of an event in order, with repeated names, and their values as they were sent.
fn members(json: &[u8]) -> Result<Vec<(Cow<'_, str>, &RawValue)>, Invalid> {
    let mut members = Vec::new();
    let read = streamed::members(json, |name, value| {
        if members.len() == MEMBERS_MAX {
            check_attributes_count(MEMBERS_MAX)?;
        }
        members.push((name, value));
        Ok(())
    });
    read.map_err(|ended| {
        ended.invalid(|error| Invalid::new("", format!("an event must be a JSON object: {error}")))
    })?;
    Ok(members)
}

/// The text form of an attribute. Core attributes are strings; extensions may also be booleans or integers.
fn attribute_text(name: &str, value: &RawValue) -> Result<String, Invalid> {
    let text = value.get();
    let string_only = ["specversion", "id", "source", "type", "subject", "time", "datacontenttype", "to"];
    let field = || name.escape_debug().to_string();
    if text.starts_with('"') {
        // The value is valid JSON; only its escapes may still spell half a character.
        return serde_json::from_str(text).map_err(|_| Invalid::new(field(), "is not Unicode text"));
    }
    if string_only.contains(&name) {
        return Err(Invalid::new(field(), "must be a string"));
    }
    let integer = text.strip_prefix('-').unwrap_or(text).bytes().all(|byte| byte.is_ascii_digit());
    if matches!(text, "true" | "false") || integer || (name == "ttl" && !text.starts_with(['[', '{'])) {
        return Ok(text.to_owned());
    }
    Err(Invalid::new(field(), "must be a string, a boolean or an integer"))
}

/// JSON data is kept as it was sent; of other data, a JSON string is the text.
fn data_bytes(data: &RawValue, content_type: &str) -> Result<Bytes, Invalid> {
    let text = data.get();
    if !media_type::is_json(content_type) && text.starts_with('"') {
        let text: String =
            serde_json::from_str(text).map_err(|_| Invalid::new("data", "is not Unicode text"))?;
        return Ok(text.into());
    }
    Ok(Bytes::copy_from_slice(text.as_bytes()))
}

fn decode(encoded: &RawValue) -> Result<Bytes, Invalid> {
    if encoded.get() == "null" {
        return Ok(Bytes::new());
    }
    let text: Cow<'_, str> =
        serde_json::from_str(encoded.get()).map_err(|_| Invalid::new("data_base64", "must be a string"))?;
    let bytes = STANDARD.decode(text.as_bytes());
    bytes.map(Bytes::from).map_err(|error| Invalid::new("data_base64", format!("is not Base64: {error}")))
}
