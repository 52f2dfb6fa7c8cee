//! Users over WebSocket, whose library takes no message beyond a limit of its own. Frames are read and written by hand, so that
//! a close frame goes out in the middle of a message, as those libraries send it.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use serde_json::Value;

use crate::bounded::peak;
use crate::world::{Folder, PATIENCE};

const TEXT: u8 = 1;
const CLOSE: u8 = 8;

/// What most clients take, and a little more than an event may carry.
const LIMIT: u64 = 1 << 20;

struct Reader(TcpStream);

impl Reader {
    /// Connects, and says nothing.
    fn dial(edge: &str) -> Self {
        let authority = edge.strip_prefix("http://").unwrap();
        let mut reader = Self(TcpStream::connect(authority).unwrap());
        reader.0.set_read_timeout(Some(PATIENCE)).unwrap();
        let handshake = format!(
            "GET /v1/ws HTTP/1.1\r\nHost: {authority}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: \
             13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: push.v1.json\r\n\r\n"
        );
        reader.0.write_all(handshake.as_bytes()).unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(reader.take(1)[0]);
        }
        assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
        reader
    }

    /// Connects, and asks for everything behind this cursor.
    fn open(edge: &str, cursor: &str) -> Self {
        let mut reader = Self::dial(edge);
        let connect = serde_json::json!({"connect": {"user": "7", "cursor": cursor}}).to_string();
        reader.write(TEXT, connect.as_bytes());
        reader
    }

    /// Most of a message that does not end, in one frame or as a first piece.
    fn begin(&mut self, bytes: u16, is_piece: bool) {
        let opcode = if is_piece { TEXT } else { 0x80 | TEXT };
        let length = if is_piece { bytes } else { bytes + 1 };
        let head = [&[opcode, 0x80 | 126][..], &length.to_be_bytes(), &[0; 4]].concat();
        self.0.write_all(&[&head[..], &vec![b' '; bytes.into()]].concat()).unwrap();
    }

    /// A frame of at most 125 bytes, under a mask of zeros.
    fn write(&mut self, opcode: u8, body: &[u8]) {
        let length = u8::try_from(body.len()).unwrap();
        assert!(length < 126);
        self.0.write_all(&[&[0x80 | opcode, 0x80 | length, 0, 0, 0, 0], body].concat()).unwrap();
    }

    fn take(&mut self, bytes: u64) -> Vec<u8> {
        let mut taken = Vec::new();
        (&mut self.0).take(bytes).read_to_end(&mut taken).unwrap();
        assert_eq!(taken.len() as u64, bytes, "the connection ended");
        taken
    }

    /// The next text; `None`: it is too large, and the connection is closed for it.
    fn next(mut self) -> Option<(Value, Self)> {
        loop {
            let head = self.take(2);
            let length = match head[1] {
                126 => self.take(2),
                127 => self.take(8),
                length => vec![length],
            };
            let length = length.iter().fold(0, |length, byte| length << 8 | u64::from(*byte));
            if length > LIMIT {
                self.write(CLOSE, &[&1009_u16.to_be_bytes()[..], b"message too big"].concat());
                return None;
            }
            let body = self.take(length);
            if head[0] & 15 == TEXT {
                return Some((serde_json::from_slice(&body).unwrap(), self));
            }
        }
    }
}

#[test]
fn a_user_whose_limit_is_below_an_event_gets_past_it_by_a_gap() {
    let folder = Folder::new("too-large");
    let server = folder.serve(&["--max-event-bytes", "1MiB"]);
    folder.write("large.json", format!("\"{}\"", "x".repeat((1 << 20) - 2)));
    let publish = |id: &str, data: &[&str]| {
        let event = ["publish", "--hub", &server.hub, "--to", "user:7", "--type", "t", "--id", id];
        folder.stdout(&[&event, data].concat());
    };
    publish("small", &["1"]);
    publish("large", &["--data-file", "large.json"]);
    publish("behind", &["1"]);
    let (mut told, mut cursor) = (Vec::new(), "oldest".to_owned());
    for _ in 0..5 {
        let mut reader = Some(Reader::open(&server.edge, &cursor));
        while let Some((frame, next)) = reader.take().and_then(Reader::next) {
            if let Some(at) = frame["cursor"].as_str() {
                at.clone_into(&mut cursor);
            }
            for word in [&frame["event"]["id"], &frame["gap"]["reason"]] {
                told.extend(word.as_str().map(str::to_owned));
            }
            if frame.get("caughtUp").is_some() {
                assert_eq!(told.join(" "), "small 1009 TOO_LARGE behind");
                return;
            }
            reader = Some(next);
        }
        told.push("1009".into());
    }
    panic!("the same event again and again: {told:?}");
}

/// The fault: a stranger's WebSocket with a message that does not end cost twice what was said, a user's thrice.
#[test]
fn bounded_with_messages_of_users_that_never_end() {
    const EACH: u64 = 200;
    const MESSAGE: u16 = (52 << 10) - 8;
    // What docs/semantics.md says of a connection, and of a message that does not end.
    const PER_SOCKET: u64 = (64 + 2 * 52) << 10;
    let folder = Folder::new("unended-messages");
    for (is_user, is_piece) in [(false, false), (false, true), (true, false), (true, true)] {
        let server = folder.serve(&[]);
        let before = peak(&server);
        let socket = |_| {
            let mut socket =
                if is_user { Reader::open(&server.edge, "") } else { Reader::dial(&server.edge) };
            socket.begin(MESSAGE, is_piece);
            socket
        };
        let sockets: Vec<_> = (0..EACH).map(socket).collect();
        let others = Reader::open(&server.edge, "oldest");
        assert!(others.next().is_some(), "what came before is read");
        let grown = peak(&server) - before;
        assert!(grown < EACH * PER_SOCKET, "user {is_user}, piece {is_piece}: {} each", grown / EACH);
        assert!(grown > EACH * (32 << 10), "or it would show nothing: {} each", grown / EACH);
        drop(sockets);
    }
}
