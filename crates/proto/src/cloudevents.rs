//! Events as CloudEvents 1.0, the form in which they are published over HTTP and from files.
//!
//! The extension attributes `to` (recipients, separated by commas), `collapsekey`, `ttl` (seconds) and `ephemeral` are
//! fields of an event; all others become its `attributes`. What is read here has all required attributes, each well
//! formed by itself; the rules for publishing are those of [`validate`](crate::validate).

mod attribute;
mod binary;
mod structured;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use http::{HeaderMap, header::CONTENT_TYPE};

use crate::{
    Failure, Invalid, Reason,
    json::{self, View},
    media_type, v1,
};

/// The media type of one event in JSON.
pub const STRUCTURED_MEDIA_TYPE: &str = "application/cloudevents+json";
/// The media type of a JSON array of events.
pub const BATCH_MEDIA_TYPE: &str = "application/cloudevents-batch+json";

/// How an HTTP request carries events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The body is one event in JSON.
    Structured,
    /// The body is a JSON array of events.
    Batch,
    /// The body is the data; the attributes are `ce-` headers.
    Binary,
}

/// Reads the events of an HTTP request, in any mode.
///
/// # Errors
///
/// The mode is unknown (HTTP status 415), or an event cannot be read; in a batch the field begins with its index.
pub fn from_http(headers: &HeaderMap, body: Bytes) -> Result<Vec<v1::Event>, Failure> {
    Ok(match mode(headers)? {
        Mode::Structured => vec![parse_structured(&body)?],
        Mode::Batch => parse_batch(&body)?,
        Mode::Binary => vec![binary::parse(headers, body)?],
    })
}

/// Tells the mode of an HTTP request from its `Content-Type` and, for binary mode, `ce-specversion`.
///
/// # Errors
///
/// HTTP status 415: a CloudEvents format or a charset that is not supported, or not a CloudEvent at all.
pub fn mode(headers: &HeaderMap) -> Result<Mode, Failure> {
    let unsupported = |message: String| {
        Err(Failure::new(Reason::RequestInvalid, message).field("content-type").http_status(415))
    };
    let Ok(content_type) = headers.get(CONTENT_TYPE).map_or(Ok(""), |value| value.to_str()) else {
        return unsupported("the Content-Type header is not text".to_owned());
    };
    let essence = media_type::essence(content_type).to_ascii_lowercase();
    let mode = match essence.as_str() {
        STRUCTURED_MEDIA_TYPE => Mode::Structured,
        BATCH_MEDIA_TYPE => Mode::Batch,
        other if other.starts_with("application/cloudevents") => {
            let message =
                format!("{other} is not supported: send {STRUCTURED_MEDIA_TYPE} or {BATCH_MEDIA_TYPE}");
            return unsupported(message);
        }
        _ if headers.contains_key("ce-specversion") => return Ok(Mode::Binary),
        _ => {
            return unsupported(format!(
                "not a CloudEvent: send Content-Type {STRUCTURED_MEDIA_TYPE}, {BATCH_MEDIA_TYPE}, \
                 or the headers ce-specversion, ce-id, ce-source, ce-type and ce-to"
            ));
        }
    };
    match media_type::charset(content_type) {
        Some(charset) if !charset.eq_ignore_ascii_case("utf-8") => {
            unsupported(format!("the charset {charset} is not supported: send UTF-8"))
        }
        _ => Ok(mode),
    }
}

/// Reads one event in JSON.
///
/// # Errors
///
/// Not a JSON object, or an attribute is missing, malformed or named twice.
pub fn parse_structured(json: &[u8]) -> Result<v1::Event, Invalid> {
    structured::parse(json::without_bom(json))
}

/// Reads a JSON array of events.
///
/// # Errors
///
/// Not a JSON array, or the first event that cannot be read, with its index.
pub fn parse_batch(json: &[u8]) -> Result<Vec<v1::Event>, Invalid> {
    structured::parse_batch(json::without_bom(json))
}

/// Reads one line of a file of events in JSON, one per line. `number` is that of the line, from 1. `None`: a blank
/// line.
///
/// # Errors
///
/// As [`parse_structured`], with the number of the line.
pub fn parse_line(line: &[u8], number: u64) -> Result<Option<v1::Event>, Invalid> {
    let line = json::without_bom(line); // files that have one may have been joined
    if line.trim_ascii().is_empty() {
        return Ok(None);
    }
    structured::parse(line).map(Some).map_err(|invalid| invalid.on_line(number))
}

/// The event in JSON, on one line, with all its attributes.
#[must_use]
pub fn to_structured(event: &v1::Event) -> Vec<u8> {
    json::event_data(event, View::Full)
}
