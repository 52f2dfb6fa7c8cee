//! The JSON event format: one event, or an array of them.

use std::{borrow::Cow, collections::BTreeSet, fmt};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;

use super::attribute::Reading;
use crate::{Invalid, media_type, v1};

pub(super) fn parse_batch(json: &[u8]) -> Result<Vec<v1::Event>, Invalid> {
    let events: Vec<&RawValue> = serde_json::from_slice(json)
        .map_err(|error| Invalid::new("", format!("a batch must be a JSON array: {error}")))?;
    let parse_one = |(index, event): (usize, &&RawValue)| {
        parse(event.get().as_bytes()).map_err(|invalid| invalid.in_batch(index))
    };
    events.iter().enumerate().map(parse_one).collect()
}

pub(super) fn parse(json: &[u8]) -> Result<v1::Event, Invalid> {
    let Members(members) = serde_json::from_slice(json)
        .map_err(|error| Invalid::new("", format!("an event must be a JSON object: {error}")))?;

    let mut reading = Reading::default();
    let (mut data, mut data_base64) = (None, None);
    let mut named = BTreeSet::new();
    for (name, value) in &members {
        if !named.insert(name.as_str()) {
            return Err(Invalid::new(name.escape_debug().to_string(), "is named twice"));
        }
        match name.as_str() {
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

/// The members of a JSON object in order, with repeated names, and their values as they were sent.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MembersVisitor;

        impl<'de> Visitor<'de> for MembersVisitor {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(MembersVisitor)
    }
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
