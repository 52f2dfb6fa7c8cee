//! Users: sockets that are read, and what came over them.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Instant;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

/// So many connect at a time: what listens has a queue, and the system counts who knocks.
const CONNECTING_MAX: usize = 256;

/// Kinds of WebSocket messages.
const TEXT: u8 = 1;
const PONG: u8 = 10;

/// Before the number of an event.
const MARK: &[u8] = br#""n":"#;

#[derive(Clone, Copy, PartialEq)]
pub enum Form {
    Sse,
    WebSocket,
}

impl Form {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sse => "SSE, HTTP/1.1",
            Self::WebSocket => "WebSocket, JSON",
        }
    }

    fn request(self, user: usize, cursor: Option<&str>) -> String {
        let cursor = cursor.map(|cursor| format!("&cursor={cursor}")).unwrap_or_default();
        let path = match self {
            Self::Sse => format!("/v1/stream?user=u{user}{cursor}"),
            Self::WebSocket => "/v1/ws".to_owned(),
        };
        let upgrade = match self {
            Self::Sse => "accept: text/event-stream\r\n",
            Self::WebSocket => {
                "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
                 sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-protocol: push.v1.json\r\n"
            }
        };
        format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n{upgrade}\r\n")
    }

    /// What a user says first.
    fn hello(self, user: usize, cursor: Option<&str>) -> Vec<u8> {
        if self == Self::Sse {
            return Vec::new();
        }
        let cursor = cursor.map(|cursor| format!(r#","cursor":"{cursor}""#)).unwrap_or_default();
        frame(TEXT, format!(r#"{{"connect":{{"user":"u{user}"{cursor}}}}}"#).as_bytes())
    }
}

/// What came to all of them.
pub struct Crowd {
    /// The last event of each user.
    have: Vec<u64>,
    /// When each was sent. The first has number 1.
    sent: Vec<Instant>,
    /// How many users have each.
    at: Vec<usize>,
    /// From the publish to a user, in seconds.
    pub waits: Vec<f64>,
    pub taken: u64,
}

impl Crowd {
    pub fn new(users: usize) -> Self {
        Self { have: vec![0; users], sent: Vec::new(), at: Vec::new(), waits: Vec::new(), taken: 0 }
    }

    /// So many are sent now. Returns the number of the first.
    pub fn sends(&mut self, count: u64) -> u64 {
        let first = self.sent.len() as u64 + 1;
        (0..count).for_each(|_| self.sent.push(Instant::now()));
        self.at.resize(self.sent.len(), 0);
        first
    }

    pub fn all_have(&self, number: u64) -> bool {
        self.at[number as usize - 1] == self.have.len()
    }

    /// How long ago this one was sent, in seconds.
    pub fn since(&self, number: u64) -> f64 {
        self.sent[number as usize - 1].elapsed().as_secs_f64()
    }

    fn takes(&mut self, user: usize, number: u64) {
        assert_eq!(number, self.have[user] + 1, "user {user} is given each event in order and once");
        self.have[user] = number;
        self.taken += 1;
        self.at[number as usize - 1] += 1;
        self.waits.push(self.since(number));
    }
}

/// Connects all, at the place of this cursor, and reads from them until their tasks are aborted.
pub async fn connect(
    form: Form,
    edge: SocketAddr,
    users: usize,
    cursor: Option<&str>,
    crowd: &Rc<RefCell<Crowd>>,
) -> Vec<JoinHandle<()>> {
    let connecting = Rc::new(Semaphore::new(CONNECTING_MAX));
    let start = |user: usize| {
        let (request, hello) = (form.request(user, cursor), form.hello(user, cursor));
        let (crowd, connecting) = (crowd.clone(), connecting.clone());
        tokio::task::spawn_local(async move {
            let turn = connecting.acquire().await.expect("it is never closed");
            let mut stream = TcpStream::connect(edge).await.expect("the edge listens");
            stream.write_all(&[request.as_bytes(), &hello].concat()).await.expect("it is written");
            let left = greeting(&mut stream, form).await;
            drop(turn);
            read(stream, form, user, &crowd, left).await;
        })
    };
    let streams: Vec<_> = (0..users).map(start).collect();
    // All have had their turn.
    drop(connecting.acquire_many(CONNECTING_MAX as u32).await);
    streams
}

/// Reads until the first frame, and returns what came with it.
async fn greeting(stream: &mut TcpStream, form: Form) -> Vec<u8> {
    let (mut head, mut piece) = (Vec::new(), [0; 4_096]);
    loop {
        let end = head.windows(4).position(|bytes| bytes == b"\r\n\r\n");
        let is_welcome = |bytes: &[u8]| bytes == b"\"welcome" || bytes == b"push.wel";
        if let Some(end) = end.filter(|_| head.windows(8).any(is_welcome)) {
            let expected: &[u8] = if form == Form::Sse { b"HTTP/1.1 200" } else { b"HTTP/1.1 101" };
            assert!(head.starts_with(expected), "{}", String::from_utf8_lossy(&head));
            return head.split_off(end + 4);
        }
        let read = stream.read(&mut piece).await.expect("it is read");
        assert!(read > 0, "not let in: {}", String::from_utf8_lossy(&head));
        head.extend_from_slice(&piece[..read]);
    }
}

async fn read(mut stream: TcpStream, form: Form, user: usize, crowd: &RefCell<Crowd>, mut left: Vec<u8>) {
    loop {
        let done = numbers(&left, |number| crowd.borrow_mut().takes(user, number));
        left.drain(..done);
        let mut piece = [0; 8_192];
        let read = stream.read(&mut piece).await.expect("it is read");
        let piece = &piece[..read];
        assert!(!piece.is_empty(), "user {user} was sent away: {}", String::from_utf8_lossy(&left));
        if let Some(payload) = ping(piece).filter(|_| form == Form::WebSocket) {
            stream.write_all(&frame(PONG, payload)).await.expect("it is written");
        }
        left.extend_from_slice(piece);
    }
}

/// The numbers of the events in there. Returns how much is done with: what may be the beginning of another is left.
fn numbers(bytes: &[u8], mut found: impl FnMut(u64)) -> usize {
    let mut at = 0;
    while let Some(next) = bytes[at..].windows(MARK.len()).position(|those| those == MARK) {
        let digits = &bytes[at + next + MARK.len()..];
        let Some(end) = digits.iter().position(|byte| !byte.is_ascii_digit()) else { return at + next };
        found(digits[..end].iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0')));
        at += next + MARK.len() + end;
    }
    at.max(bytes.len().saturating_sub(MARK.len()))
}

/// The payload of a ping. It comes alone: it is sent where nothing else happens.
fn ping(piece: &[u8]) -> Option<&[u8]> {
    match piece {
        [0x89, length, payload @ ..] => payload.get(..usize::from(*length)),
        _ => None,
    }
}

/// A whole message of at most 125 bytes. A mask of zeros leaves the payload as it is.
fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    [&[0x80 | kind, 0x80 | payload.len() as u8, 0, 0, 0, 0], payload].concat()
}
