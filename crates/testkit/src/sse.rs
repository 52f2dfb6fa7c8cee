//! An incremental parser for server-sent events, by the rules of the WHATWG event stream format.
//!
//! Used by simulated users and end-to-end tests in place of a browser's `EventSource`. It reconnects to nothing and
//! reads no socket. Memory is bounded by what one event holds: it is meant for servers under test.

/// One block of an event stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SseEvent {
    /// The block's `id:`, if it had one. Empty: the id was reset.
    pub id: Option<String>,
    /// The block's `event:`, or `message`.
    pub event: String,
    /// The block's `data:` lines joined. `None`: the block had none, so that a browser would dispatch nothing and only
    /// remember the id.
    pub data: Option<String>,
}

/// The parser's place in a stream.
#[derive(Clone, Debug, Default)]
pub struct SseParser {
    line: Vec<u8>,
    /// The last byte was a CR: a LF that follows belongs to it.
    after_cr: bool,
    past_bom: bool,
    id: Option<String>,
    event: String,
    data: Option<String>,
    last_event_id: String,
    retry_ms: Option<u64>,
}

impl SseParser {
    /// A parser at the start of a stream.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes of the stream, however they were cut, and gives the blocks they complete.
    ///
    /// A block without any field (a comment, a `retry:`) gives nothing; one with only an `id:` gives an event without
    /// data. A block the stream ends in the middle of is never given, as the format demands.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<SseEvent> {
        let mut events = Vec::new();
        for &byte in bytes {
            match byte {
                b'\n' if std::mem::take(&mut self.after_cr) => {}
                b'\r' | b'\n' => {
                    self.after_cr = byte == b'\r';
                    let line = std::mem::take(&mut self.line);
                    events.extend(self.take_line(&line));
                    self.line = line;
                    self.line.clear();
                }
                _ => {
                    self.after_cr = false;
                    self.line.push(byte);
                }
            }
        }
        events
    }

    /// What a browser would send as `Last-Event-ID`.
    #[must_use]
    pub fn last_event_id(&self) -> &str {
        &self.last_event_id
    }

    /// The last reconnection time the server asked for, in milliseconds.
    #[must_use]
    pub const fn retry_ms(&self) -> Option<u64> {
        self.retry_ms
    }

    fn take_line(&mut self, line: &[u8]) -> Option<SseEvent> {
        let bom: &[u8] = if std::mem::replace(&mut self.past_bom, true) { b"" } else { b"\xef\xbb\xbf" };
        let line = String::from_utf8_lossy(line.strip_prefix(bom).unwrap_or(line));
        if line.is_empty() {
            return self.dispatch();
        }
        let (field, value) = line.split_once(':').unwrap_or((&line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "data" => match &mut self.data {
                Some(data) => {
                    data.push('\n');
                    data.push_str(value);
                }
                None => self.data = Some(value.to_owned()),
            },
            "event" => value.clone_into(&mut self.event),
            "id" if !value.contains('\0') => self.id = Some(value.to_owned()),
            "retry" if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) => {
                self.retry_ms = value.parse().ok().or(self.retry_ms);
            }
            _ => {} // a comment (an empty field name), or a field nobody knows
        }
        None
    }

    fn dispatch(&mut self) -> Option<SseEvent> {
        let (id, data) = (self.id.take(), self.data.take());
        let mut event = std::mem::take(&mut self.event);
        if let Some(id) = &id {
            id.clone_into(&mut self.last_event_id);
        }
        if event.is_empty() {
            "message".clone_into(&mut event);
        }
        (id.is_some() || data.is_some()).then_some(SseEvent { id, event, data })
    }
}
