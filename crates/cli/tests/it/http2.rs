//! HTTP/2 by hand: requests as no library would send them.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const WINDOW_UPDATE: u8 = 8;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// `SETTINGS_INITIAL_WINDOW_SIZE`, with nothing.
const NO_WINDOW: [u8; 6] = [0, 4, 0, 0, 0, 0];

/// What a frame carries at most, unless the peer says more.
pub(crate) const FRAME_BYTES: usize = 16 << 10;

/// A connection that does not look at what the server says.
pub(crate) struct Http2(TcpStream);

pub(crate) fn address(url: &str) -> SocketAddr {
    url.split("//").nth(1).unwrap().parse().unwrap()
}

/// A connection from an address of this machine's own.
pub(crate) fn connect_from(source: [u8; 4], url: &str) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((source, 0)).into()).unwrap();
    socket.connect(&address(url).into()).unwrap();
    socket.into()
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// One header field, as a literal that no table remembers.
fn field(name: &str, value: &str) -> Vec<u8> {
    [&[0, name.len() as u8], name.as_bytes(), &[value.len() as u8], value.as_bytes()].concat()
}

impl Http2 {
    pub(crate) fn new(socket: TcpStream) -> Self {
        Self::with_settings(socket, &[])
    }

    /// Answers are given no room: what is beyond their heads never goes out.
    pub(crate) fn without_window(socket: TcpStream) -> Self {
        Self::with_settings(socket, &NO_WINDOW)
    }

    fn with_settings(mut socket: TcpStream, settings: &[u8]) -> Self {
        socket.set_write_timeout(Some(Duration::from_secs(5))).unwrap();
        socket.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
        socket.write_all(&frame(SETTINGS, 0, 0, settings)).unwrap();
        // Its windows hold once it knows that they were heard of.
        let (mut settings, mut window) = (false, false);
        while !(settings && window) {
            let mut head = [0; 9];
            socket.read_exact(&mut head).unwrap();
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            socket.read_exact(&mut vec![0; length as usize]).unwrap();
            settings |= head[3] == SETTINGS && head[4] != ACK;
            window |= head[3] == WINDOW_UPDATE;
        }
        socket.write_all(&frame(SETTINGS, ACK, 0, &[])).unwrap();
        Self(socket)
    }

    /// A whole request. `false`: the server is gone.
    pub(crate) fn get(&mut self, stream: u32, path: &str) -> bool {
        let fields = [(":method", "GET"), (":scheme", "http"), (":path", path), (":authority", "localhost")];
        let block: Vec<u8> = fields.iter().flat_map(|(name, value)| field(name, value)).collect();
        self.0.write_all(&frame(HEADERS, END_HEADERS | END_STREAM, stream, &block)).is_ok()
    }

    /// The head of a gRPC call. `false`: the server is gone.
    pub(crate) fn call(&mut self, stream: u32, path: &str) -> bool {
        self.call_with(stream, path, &[])
    }

    /// The same, with more header fields.
    pub(crate) fn call_with(&mut self, stream: u32, path: &str, more: &[(&str, &str)]) -> bool {
        let fields = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", path),
            (":authority", "localhost"),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
        ];
        let fields = fields.iter().chain(more);
        let block: Vec<u8> = fields.flat_map(|(name, value)| field(name, value)).collect();
        self.0.write_all(&frame(HEADERS, END_HEADERS, stream, &block)).is_ok()
    }

    /// A part of a body. `false`: the server is gone.
    pub(crate) fn data(&mut self, stream: u32, part: &[u8]) -> bool {
        self.0.write_all(&frame(DATA, 0, stream, part)).is_ok()
    }
}
