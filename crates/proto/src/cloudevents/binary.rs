//! The binary mode of the HTTP binding: attributes in `ce-` headers, data in the body.

use bytes::Bytes;
use http::{HeaderMap, header::CONTENT_TYPE};

use super::attribute::Reading;
use crate::{Invalid, v1};

const PREFIX: &str = "ce-";

pub(super) fn parse(headers: &HeaderMap, body: Bytes) -> Result<v1::Event, Invalid> {
    let mut reading = Reading::default();
    if let Some(content_type) = headers.get(CONTENT_TYPE) {
        let content_type = content_type.to_str().map_err(|_| Invalid::new("content-type", "is not text"))?;
        reading.attribute("datacontenttype", content_type.to_owned())?;
    }
    for name in headers.keys() {
        let Some(attribute) = name.as_str().strip_prefix(PREFIX) else { continue };
        if attribute == "datacontenttype" {
            return Err(Invalid::new(name.as_str(), "must not be sent: Content-Type says it"));
        }
        let mut values = headers.get_all(name).iter();
        let (Some(value), None) = (values.next(), values.next()) else {
            return Err(Invalid::new(name.as_str(), "is sent twice"));
        };
        let text =
            decode(value.as_bytes()).ok_or_else(|| Invalid::new(name.as_str(), "is not UTF-8 text"))?;
        reading.attribute(attribute, text)?;
    }
    reading.finish(body)
}

/// Undoes the header's encoding: first a quoted string with its backslashes, then one round of percent-encoding. A
/// percent sign without two hex digits stands for itself.
fn decode(value: &[u8]) -> Option<String> {
    let unquoted = unquote(value.trim_ascii());
    let mut text = Vec::with_capacity(unquoted.len());
    let mut rest = unquoted.as_slice();
    while let Some((&byte, after)) = rest.split_first() {
        match (byte, after) {
            (b'%', [high, low, after @ ..]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                text.push(hex(*high) << 4 | hex(*low));
                rest = after;
            }
            _ => {
                text.push(byte);
                rest = after;
            }
        }
    }
    String::from_utf8(text).ok()
}

fn unquote(value: &[u8]) -> Vec<u8> {
    let [b'"', inner @ .., b'"'] = value else { return value.to_vec() };
    let mut unquoted = Vec::with_capacity(inner.len());
    let mut bytes = inner.iter();
    while let Some(&byte) = bytes.next() {
        unquoted.push(if byte == b'\\' { bytes.next().copied().unwrap_or(byte) } else { byte });
    }
    unquoted
}

/// The value of an ASCII hex digit.
const fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => digit.to_ascii_lowercase() - b'a' + 10,
    }
}
