//! The rules that events and standing records must keep to be appended, on every surface alike.
//!
//! The hub calls [`fill_in`] and then [`batch`] or [`event`] before it appends anything; the publishing side of the
//! command line may call them earlier for a quicker answer. What a credential allows is not checked here.

mod standing;
#[cfg(test)]
mod tests;

pub(crate) use standing::check_records_count;
pub use standing::{
    CLOCK_SKEW, INVALIDATION_LIFE_DEFAULT, INVALIDATION_REASON_BYTES_MAX, INVALIDATIONS_PER_HOLDER_MAX,
    fill_in_invalidation, fill_in_memberships, invalidation, memberships,
};

use galaxy_push_core::recipient::{RECIPIENTS_MAX, Recipient, is_format};
use serde::de::IgnoredAny;

use crate::{Failure, Reason, media_type, time, v1};

/// The largest `data` of an event unless the hub is told otherwise, in bytes.
pub const DATA_BYTES_DEFAULT: usize = 64 * 1024;
/// The largest `data` of an event whatever the hub is told, in bytes.
pub const DATA_BYTES_MAX: usize = 1024 * 1024;
/// The most events in one batch.
pub const EVENTS_MAX: usize = 1_000;
/// The largest request of a publisher, in bytes.
pub const REQUEST_BYTES_MAX: usize = 4 * 1024 * 1024;
/// The longest `id`, `source`, `type`, `subject`, `collapse_key` and `data_content_type`, in bytes each: they are
/// copied into indexes, headers and logs.
pub const TEXT_BYTES_MAX: usize = 1_024;
/// The most extension attributes of one event: each costs its readers more than its bytes.
pub const ATTRIBUTES_MAX: usize = 64;
/// The names and values of all extension attributes together, in bytes: room for `traceparent` and `tracestate`
/// several times over.
pub const ATTRIBUTES_BYTES_MAX: usize = 16 * 1024;

/// How deep JSON `data` may be nested: objects and arrays within each other. Readers in many languages take no more, and
/// some break.
pub const DATA_DEPTH_MAX: usize = 128;

/// The rule that an event breaks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{message}", Prefix(field))]
#[non_exhaustive]
pub struct Invalid {
    /// Where: a field such as `to[0]`, in a batch `events[3].to[0]`. Empty: the input as a whole.
    pub field: String,
    /// Why, for programs.
    pub reason: Reason,
    /// What is wrong and what to do, for people.
    pub message: String,
}

struct Prefix<'a>(&'a str);

impl std::fmt::Display for Prefix<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, "{}: ", self.0) }
    }
}

impl Invalid {
    pub(crate) fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: field.into(), reason: Reason::RequestInvalid, message: message.into() }
    }

    fn because(reason: Reason, field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: field.into(), reason, message: message.into() }
    }

    /// The same, inside the message that is this field.
    fn inside(mut self, field: &str) -> Self {
        self.field = format!("{field}.{}", self.field);
        self
    }

    /// The same, inside the event of this index in a batch.
    #[must_use]
    pub fn in_batch(mut self, index: usize) -> Self {
        let dot = if self.field.is_empty() { "" } else { "." };
        self.field = format!("events[{index}]{dot}{}", self.field);
        self
    }

    /// The same, on the line of this number in a file; the first line is 1.
    #[must_use]
    pub fn on_line(mut self, number: u64) -> Self {
        let comma = if self.field.is_empty() { "" } else { ", " };
        self.field = format!("line {number}{comma}{}", self.field);
        self
    }
}

impl From<Invalid> for Failure {
    /// The message repeats the field, for callers that show nothing else.
    fn from(invalid: Invalid) -> Self {
        let failure = Self::new(invalid.reason, invalid.to_string());
        if invalid.field.is_empty() { failure } else { failure.field(invalid.field) }
    }
}

/// Fills in what a publisher may leave out: `time`, and the media type of data that is not JSON.
pub fn fill_in(event: &mut v1::Event, now_unix_ms: u64) {
    event.time.get_or_insert_with(|| time::from_unix_ms(now_unix_ms));
    if event.data_content_type.is_empty() && !event.data.is_empty() && !is_json(&event.data) {
        event.data_content_type = "application/octet-stream".to_owned();
    }
}

/// Checks every event of a batch.
///
/// # Errors
///
/// The first rule that is broken, with the index of the event; or more than [`EVENTS_MAX`] events.
pub fn batch(events: &[v1::Event], data_bytes_max: usize) -> Result<(), Invalid> {
    check_events_count(events.len())?;
    for (index, each) in events.iter().enumerate() {
        event(each, data_bytes_max).map_err(|invalid| invalid.in_batch(index))?;
    }
    Ok(())
}

/// Whether a batch may have so many events.
pub(crate) fn check_events_count(events: usize) -> Result<(), Invalid> {
    if events > EVENTS_MAX {
        let message = format!("more than {EVENTS_MAX} events: split the batch");
        return Err(Invalid::new("events", message));
    }
    Ok(())
}

/// Checks one event. `data_bytes_max` is the hub's limit; [`DATA_BYTES_MAX`] holds whatever it says.
///
/// # Errors
///
/// The first rule that is broken.
pub fn event(event: &v1::Event, data_bytes_max: usize) -> Result<(), Invalid> {
    check_texts(event)?;
    check_type(&event.r#type)?;
    check_recipients(&event.to)?;
    check_attributes(event)?;
    if event.time.is_some_and(|time| !time::is_valid(&time)) {
        return Err(Invalid::new("time", "must lie in the years 1 to 9999"));
    }
    if let Some(ttl) = &event.ttl
        && time::duration(ttl).is_none_or(|ttl| ttl.is_zero())
    {
        return Err(Invalid::new(
            "ttl",
            "must be longer than 0: leave it out to keep the event as long as others",
        ));
    }
    check_data(event, data_bytes_max.min(DATA_BYTES_MAX))
}

fn check_texts(event: &v1::Event) -> Result<(), Invalid> {
    for (field, text) in [("id", &event.id), ("source", &event.source), ("type", &event.r#type)] {
        if text.is_empty() {
            return Err(Invalid::new(field, "is required"));
        }
    }
    for (field, text) in [
        ("id", &event.id),
        ("source", &event.source),
        ("type", &event.r#type),
        ("subject", &event.subject),
        ("collapse_key", &event.collapse_key),
        ("data_content_type", &event.data_content_type),
    ] {
        check_text(field, text)?;
    }
    // These are compared, and what nobody sees would make two of what looks like one.
    for (field, text) in [
        ("id", &event.id),
        ("source", &event.source),
        ("type", &event.r#type),
        ("collapse_key", &event.collapse_key),
    ] {
        check_name(field, text)?;
    }
    let media_type = &event.data_content_type;
    let essence = media_type::essence(media_type);
    let (kind, subtype) = essence.split_once('/').unwrap_or_default();
    if !media_type.is_empty() && (kind.is_empty() || subtype.is_empty() || !media_type.is_ascii()) {
        return Err(Invalid::new("data_content_type", "must be a media type such as application/json"));
    }
    Ok(())
}

fn check_text(field: &str, text: &str) -> Result<(), Invalid> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(Invalid::new(field, format!("is longer than {TEXT_BYTES_MAX} bytes")));
    }
    // They become header values, log fields and the lines of a text stream.
    if text.chars().any(char::is_control) {
        return Err(Invalid::new(field, "must not hold control characters"));
    }
    Ok(())
}

/// Whether a text can be told from others by eye.
fn check_name(field: &str, text: &str) -> Result<(), Invalid> {
    if text.starts_with(char::is_whitespace) || text.ends_with(char::is_whitespace) {
        return Err(Invalid::new(field, "must not begin or end with a space"));
    }
    if text.chars().any(is_format) {
        let message =
            "must not hold format characters, which nobody sees, or those for the direction of text";
        return Err(Invalid::new(field, message));
    }
    Ok(())
}

/// Checks the id and source of a request for standing records. Without an id it has none, and is not recognised when it
/// comes again.
///
/// # Errors
///
/// Either breaks the rules of those of an event, or there is no source with an id.
pub fn record_id(id: &str, source: &str) -> Result<(), Invalid> {
    if !id.is_empty() && source.is_empty() {
        return Err(Invalid::new("source", "is required with an id"));
    }
    for (field, text) in [("id", id), ("source", source)] {
        check_text(field, text).and_then(|()| check_name(field, text))?;
    }
    Ok(())
}

fn check_type(event_type: &str) -> Result<(), Invalid> {
    if event_type == "open" || event_type == "error" || event_type.starts_with("push.") {
        let message = "`open`, `error` and names that begin with `push.` are reserved: choose another type";
        return Err(Invalid::new("type", message));
    }
    Ok(())
}

/// Whether an event may have so many recipients.
pub(crate) fn check_recipients_count(recipients: usize) -> Result<(), Invalid> {
    if recipients > RECIPIENTS_MAX {
        let message = format!(
            "{recipients} recipients are more than {RECIPIENTS_MAX}: publish to a topic, or split the event"
        );
        return Err(Invalid::because(Reason::RecipientInvalid, "to", message));
    }
    Ok(())
}

fn check_recipients(recipients: &[String]) -> Result<(), Invalid> {
    let invalid = |field: String, message: String| Invalid::because(Reason::RecipientInvalid, field, message);
    if recipients.is_empty() {
        return Err(invalid(
            "to".to_owned(),
            "is required: name at least one recipient, such as user:42".to_owned(),
        ));
    }
    check_recipients_count(recipients.len())?;
    for (index, recipient) in recipients.iter().enumerate() {
        Recipient::parse(recipient).map_err(|error| invalid(format!("to[{index}]"), error.to_string()))?;
    }
    Ok(())
}

/// Whether an event may have so many extension attributes.
pub(crate) fn check_attributes_count(attributes: usize) -> Result<(), Invalid> {
    if attributes > ATTRIBUTES_MAX {
        let message =
            format!("are more than {ATTRIBUTES_MAX}: put what belongs together into one, or into data");
        return Err(Invalid::new("attributes", message));
    }
    Ok(())
}

fn check_attributes(event: &v1::Event) -> Result<(), Invalid> {
    check_attributes_count(event.attributes.len())?;
    let mut bytes = 0;
    for (name, value) in &event.attributes {
        check_attribute_name(name)?;
        if value.chars().any(char::is_control) {
            return Err(Invalid::new(format!("attributes.{name}"), "must not hold control characters"));
        }
        bytes += name.len() + value.len();
    }
    if bytes > ATTRIBUTES_BYTES_MAX {
        let message = format!("names and values are longer than {ATTRIBUTES_BYTES_MAX} bytes together");
        return Err(Invalid::new("attributes", message));
    }
    Ok(())
}

/// Checks the name of an extension attribute.
pub(crate) fn check_attribute_name(name: &str) -> Result<(), Invalid> {
    let field = || format!("attributes.{}", name.escape_debug());
    if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()) {
        return Err(Invalid::new(field(), "must be a name of lower-case letters a-z and digits"));
    }
    if RESERVED.contains(&name) {
        return Err(Invalid::new(field(), "is the name of a field: set the field instead"));
    }
    Ok(())
}

/// Names that mean a field of the event where events are CloudEvents.
const RESERVED: [&str; 12] = [
    "specversion",
    "id",
    "source",
    "type",
    "subject",
    "time",
    "datacontenttype",
    "data",
    "to",
    "collapsekey",
    "ttl",
    "ephemeral",
];

fn check_data(event: &v1::Event, bytes_max: usize) -> Result<(), Invalid> {
    if event.data.len() > bytes_max {
        let message = format!(
            "{} bytes are more than the {bytes_max} bytes an event may carry: send a reference instead",
            event.data.len()
        );
        return Err(Invalid::because(Reason::EventTooLarge, "data", message));
    }
    let declared = !event.data.is_empty() && media_type::is_json(&event.data_content_type);
    if declared && let Err(error) = serde_json::from_slice::<IgnoredAny>(&event.data) {
        let why = match event.data.starts_with(b"\xef\xbb\xbf") {
            true => "it begins with a byte order mark, which JSON does not have".to_owned(),
            false => error.to_string(),
        };
        let message = format!("is not valid JSON ({why}): correct it, or name another data_content_type");
        return Err(Invalid::new("data", message));
    }
    if declared && std::str::from_utf8(&event.data).is_err() {
        return Err(Invalid::new("data", "is not valid JSON: it is not UTF-8"));
    }
    if declared && depth(&event.data) > DATA_DEPTH_MAX {
        let message = format!(
            "is nested deeper than {DATA_DEPTH_MAX} levels: flatten it, or send it as another data_content_type"
        );
        return Err(Invalid::new("data", message));
    }
    Ok(())
}

/// How deep valid JSON is nested.
fn depth(json: &[u8]) -> usize {
    let (mut now, mut deepest, mut in_text, mut escaped) = (0_usize, 0, false, false);
    for byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            _ if in_text => {}
            b'{' | b'[' => {
                now += 1;
                deepest = deepest.max(now);
            }
            b'}' | b']' => now = now.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

fn is_json(data: &[u8]) -> bool {
    std::str::from_utf8(data).is_ok() && serde_json::from_slice::<IgnoredAny>(data).is_ok()
}
