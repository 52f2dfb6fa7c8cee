//! The JSON form of a frame: what a WebSocket with `push.v1.json`, `tail` and, in parts, server-sent events print.
//!
//! `{"cursor":"…","event":{CloudEvents JSON}}`, `{"cursor":"…","gap":{…}}` and so on: names in lowerCamelCase, enum values
//! without their prefix, 64-bit integers as strings, times in RFC 3339, durations such as "5s". Whoever renders an
//! event does it once and hands the bytes to every connection.
//!
//! Every output is one line: line breaks between the tokens of JSON `data` become spaces, and data is otherwise
//! passed on as it was sent.

mod client_frame;
mod control;
mod event;
mod record;
pub(crate) mod streamed;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use serde::{Serialize, Serializer, ser::SerializeMap as _};

pub use client_frame::parse_client_frame;
pub use record::{parse_invalidation, parse_memberships};

pub use crate::time::timestamp_text;

use crate::v1::{self, push_event::Kind};
use control::ControlJson;
use event::EventJson;

/// A text without the byte order mark that some editors and shells put in front of it. JSON has none (RFC 8259,
/// section 8.1), so what is left is the same text to everybody.
#[must_use]
pub fn without_bom(text: &[u8]) -> &[u8] {
    text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text)
}

/// How much of an event is shown.
#[derive(Clone, Copy, Debug)]
pub enum View<'a> {
    /// Everything: for gateways and `tail`.
    Full,
    /// What users may see: never the recipients, so that they do not learn of each other.
    Edge(&'a EdgeView),
}

/// Which extension attributes users may see. None, unless named; the core attributes of CloudEvents are always shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EdgeView {
    shown: BTreeSet<String>,
}

impl EdgeView {
    /// Shows the extension attributes of these names, `collapsekey`, `ttl` and `ephemeral` among them. `to` is never
    /// shown, whatever is named.
    pub fn showing<T: Into<String>>(names: impl IntoIterator<Item = T>) -> Self {
        Self { shown: names.into_iter().map(Into::into).collect() }
    }

    fn shows(&self, attribute: &str) -> bool {
        // `dataschema` is a core attribute of CloudEvents that events carry among the extensions.
        attribute == "dataschema" || (attribute != "to" && self.shown.contains(attribute))
    }
}

impl View<'_> {
    fn shows(self, attribute: &str) -> bool {
        match self {
            Self::Full => true,
            Self::Edge(edge) => edge.shows(attribute),
        }
    }
}

/// The whole frame. A frame without a cursor has no `cursor` member, and one of an unknown kind nothing but it.
#[must_use]
pub fn frame(frame: &v1::PushEvent, view: View<'_>) -> Vec<u8> {
    to_line(&FrameJson { frame, view })
}

/// The event alone, as CloudEvents JSON: the `data:` of a server-sent event.
#[must_use]
pub fn event_data(event: &v1::Event, view: View<'_>) -> Vec<u8> {
    to_line(&EventJson { event, view })
}

/// A frame that is no event, for a server-sent event: its name, such as `push.caught_up`, and the object inside.
/// `None`: the frame is an event.
#[must_use]
pub fn control(kind: &Kind) -> Option<(&'static str, Vec<u8>)> {
    let name = match kind {
        Kind::Event(_) => return None,
        Kind::SessionInvalidation(_) => "push.session_invalidation",
        Kind::Membership(_) => "push.membership",
        Kind::Welcome(_) => "push.welcome",
        Kind::Progress(_) => "push.progress",
        Kind::Gap(_) => "push.gap",
        Kind::CaughtUp(_) => "push.caught_up",
        Kind::FellBehind(_) => "push.fell_behind",
        Kind::Goodbye(_) => "push.goodbye",
        Kind::Standing(_) => "push.standing",
        Kind::Subscribed(_) => "push.subscribed",
    };
    Some((name, to_line(&ControlJson(kind))))
}

/// The frame as users of the binary form may see it: the same that [`View::Edge`] shows.
#[must_use]
pub fn strip_for_edge(frame: &v1::PushEvent, edge: &EdgeView) -> v1::PushEvent {
    let mut frame = frame.clone();
    if let Some(Kind::Event(event)) = &mut frame.kind {
        event.to.clear();
        event.attributes.retain(|name, _| edge.shows(name));
        if !edge.shows("collapsekey") {
            event.collapse_key.clear();
        }
        if !edge.shows("ttl") {
            event.ttl = None;
        }
        if !edge.shows("ephemeral") {
            event.ephemeral = false;
        }
    }
    frame
}

struct FrameJson<'a> {
    frame: &'a v1::PushEvent,
    view: View<'a>,
}

impl Serialize for FrameJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut members = serializer.serialize_map(None)?;
        if !self.frame.cursor.is_empty() {
            members.serialize_entry("cursor", &self.frame.cursor)?;
        }
        match &self.frame.kind {
            None => {}
            Some(Kind::Event(event)) => {
                members.serialize_entry("event", &EventJson { event, view: self.view })?;
            }
            Some(kind) => members.serialize_entry(control::name(kind), &ControlJson(kind))?,
        }
        members.end()
    }
}

fn to_line(value: &impl Serialize) -> Vec<u8> {
    let mut line = serde_json::to_vec(value).unwrap_or_default(); // strings, numbers and valid JSON always have a form
    // A raw line break can only stand between tokens of spliced data, where it means as much as a space.
    for byte in &mut line {
        if matches!(byte, b'\n' | b'\r') {
            *byte = b' ';
        }
    }
    line
}
