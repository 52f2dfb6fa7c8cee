//! A user over server-sent events, as far as the tests need one.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};

use serde_json::Value;

use crate::world::{Lines, PATIENCE};

/// A stream of server-sent events.
pub(crate) struct Sse {
    lines: Lines,
    socket: TcpStream,
}

/// One of them.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Frame {
    pub(crate) id: String,
    pub(crate) event: String,
    pub(crate) data: Value,
}

/// Opens a connection to an URL of this machine and sends a request head, with the headers given as lines.
pub(crate) fn request(method: &str, url: &str, headers: &[&str]) -> TcpStream {
    let rest = url.strip_prefix("http://").unwrap();
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let mut socket = TcpStream::connect(authority).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
    // HTTP/1.0 bodies come as they are, without chunks, up to the end of the connection.
    write!(socket, "{method} {path} HTTP/1.0\r\nHost: {authority}\r\n{headers}\r\n").unwrap();
    socket
}

/// The whole answer, head and body.
pub(crate) fn get(url: &str) -> String {
    let mut answer = String::new();
    request("GET", url, &[]).read_to_string(&mut answer).unwrap();
    answer
}

impl Drop for Sse {
    /// The thread that reads lines has the socket too, and would keep it open.
    fn drop(&mut self) {
        let _ = self.socket.shutdown(Shutdown::Both);
    }
}

impl Sse {
    /// Connects, and reads the head of the answer.
    pub(crate) fn open(url: &str, headers: &[&str]) -> Self {
        let socket = request("GET", url, headers);
        let lines = Lines::of(socket.try_clone().unwrap());
        let status = lines.next().unwrap_or_default();
        assert!(status.contains(" 200 "), "{url}: {status} {:?}", std::iter::from_fn(|| lines.next()).last());
        while lines.next().is_some_and(|header| !header.is_empty()) {}
        Self { lines, socket }
    }

    /// The next frame; `None` at the end of the stream.
    pub(crate) fn next(&self) -> Option<Frame> {
        let mut frame = Frame::default();
        while let Some(line) = self.lines.next() {
            match line.split_once(": ") {
                Some(("id", id)) => frame.id = id.to_owned(),
                Some(("event", event)) => frame.event = event.to_owned(),
                Some(("data", data)) => frame.data = serde_json::from_str(data).unwrap(),
                _ if line.is_empty() && frame != Frame::default() => return Some(frame),
                _ => {}
            }
        }
        None
    }

    /// Reads up to the first frame of this type.
    pub(crate) fn find(&self, event: &str) -> Frame {
        while let Some(frame) = self.next() {
            if frame.event == event {
                return frame;
            }
        }
        panic!("the stream ended without {event}");
    }
}
