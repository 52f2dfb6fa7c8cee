//! What a peer may make a listener hold, and for how long.

use std::time::Duration;

use galaxy_push_core::FOR_EVER;

/// Bounds of one listener and its connections.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Limits {
    /// For the head of a request: from accept for the first, from its first byte for each later one over HTTP/1. Also how
    /// long a connection lasts on which nothing has been asked or everything was refused.
    pub header_read: Duration,
    /// How long a connection lasts behind its last request. Load balancers and clients keep theirs for 60 s.
    pub idle: Duration,
    /// The largest head of a request, in bytes: over HTTP/1 with its first line, over HTTP/2 as its fields count there
    /// (RFC 9113, section 6.5.2). What arrives of it is all that is held.
    pub head: usize,
    /// The most connections at a time, strangers apart ([`ConnectionSlots`](crate::ConnectionSlots)); further ones wait in the kernel's
    /// backlog.
    pub connections: usize,
    /// HTTP/2 requests at a time on one connection.
    pub h2_streams: u32,
    /// HTTP/2 flow-control window of one request body, in bytes.
    pub h2_stream_window: u32,
    /// HTTP/2 flow-control window of all request bodies of a connection, in bytes.
    ///
    /// Eight stream windows keep the budget for small DATA frames of the h2 crate out of reach.
    pub h2_connection_window: u32,
    /// The largest HTTP/2 frame taken, in bytes.
    pub h2_frame: u32,
    /// What an HTTP/2 response may buffer unsent, in bytes: the memory a stalled stream costs beyond its position.
    pub h2_send_buffer: usize,
    /// HTTP/2 ping after this long without a frame; dead after [`Limits::keepalive_timeout`] without an answer.
    pub keepalive: Duration,
    /// How long an HTTP/2 ping may stay unanswered, counted from the last byte taken where bytes waited: behind those,
    /// an answer comes late. Then the connection is dropped, with whatever waits on it.
    pub keepalive_timeout: Duration,
    /// A peer whose socket takes nothing for this long is dropped; `None`: never for that. Up to as long again is given
    /// to one that had just taken much, since its kernel makes room in large steps.
    pub write_stall: Option<Duration>,
}

impl Limits {
    /// The same, but that nothing is waited for longer than can be reckoned with.
    pub(crate) fn clamped(mut self) -> Self {
        let waits = [&mut self.header_read, &mut self.idle, &mut self.keepalive, &mut self.keepalive_timeout];
        waits.into_iter().chain(&mut self.write_stall).for_each(|wait| *wait = FOR_EVER.min(*wait));
        self
    }

    /// For publishers and gateways: few connections with large bodies.
    #[must_use]
    pub const fn hub() -> Self {
        Self {
            header_read: Duration::from_secs(5),
            idle: Duration::from_secs(75),
            head: 16 << 10,
            connections: 10_000,
            h2_streams: 16,
            h2_stream_window: 4 << 20,
            h2_connection_window: 32 << 20,
            h2_frame: 1 << 20,
            h2_send_buffer: 400 << 10,
            keepalive: Duration::from_secs(10),
            keepalive_timeout: Duration::from_secs(5),
            // A gateway is never closed for slowness while it answers pings.
            write_stall: None,
        }
    }

    /// For operators and their probes: few connections, and few large answers on each.
    #[must_use]
    pub const fn admin() -> Self {
        Self { connections: 64, h2_streams: 8, head: Self::hub().head, ..Self::edge() }
    }

    /// For users: many connections that send little.
    #[must_use]
    pub const fn edge() -> Self {
        Self {
            // Tokens of people with many groups have 16 KiB, and proxies add what they know.
            head: 32 << 10,
            connections: 100_000,
            h2_streams: 100,
            h2_stream_window: 64 << 10,
            h2_connection_window: 512 << 10,
            h2_frame: 16 << 10,
            h2_send_buffer: 64 << 10,
            keepalive: Duration::from_secs(25),
            keepalive_timeout: Duration::from_secs(35),
            write_stall: Some(Duration::from_secs(5)),
            ..Self::hub()
        }
    }
}
