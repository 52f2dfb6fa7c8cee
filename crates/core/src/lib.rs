//! The pure part of Galaxy Push: what a position is, what a window holds, what a reader is sent, when a client dials.
//!
//! Everything here is a plain state machine over plain values. Nothing awaits, spawns, sleeps, reads a clock, draws a
//! random number or touches the network (`pem` reads what its caller has opened, to its end): callers pass [`Now`] and random values in, so a test or a simulation owns time.
//!
//! In reading order:
//!
//! | module | what it is |
//! |---|---|
//! | [`ambient`] | the wall clock and randomness, passed in |
//! | [`cursor`] | positions in a log, their text form, and the only arithmetic on them |
//! | [`recipient`] | whom an event is for, and patterns over that |
//! | [`wire`] | reading and writing protobuf fields without decoding a message |
//! | [`frame`] | one framed `PushEvent`: the lazy view, the encoder, the splitter of byte streams |
//! | [`log_clock`] | the clock by which a hub stamps its log, as a reader estimates it |
//! | [`window`] | the ordered, bounded events still held |
//! | [`reader`] | what one stream is sent next: the promises of a stream, as a state machine |
//! | [`backoff`] | how long to wait before the next try |
//! | `certificate` | from when to when a certificate of one's own is of use; a feature |
//! | `pem` | certificates and keys in PEM; of the same feature |
//! | [`log_sampler`] | which of many log lines of one kind are written |
//! | [`link`] | a client's whole policy: when to dial, wait, deliver and give up |
//! | [`rate`] | so many per second, on the caller's clock |
//! | [`trace`] | the context an event carries, and where spans of it go |

pub mod ambient;
pub mod backoff;
#[cfg(feature = "certificate")]
pub mod certificate;
pub mod cursor;
pub mod frame;
pub mod link;
pub mod log_clock;
pub mod log_sampler;
#[cfg(feature = "certificate")]
pub mod pem;
pub mod rate;
pub mod reader;
pub mod recipient;
pub mod trace;
pub mod window;
pub mod wire;

use std::time::Duration;

/// The longest time that anything waits, a year: a setting that says more says "for ever", and a sum with this never
/// overflows. For what is waited for, not for what is kept.
pub const FOR_EVER: Duration = Duration::from_secs(365 * 24 * 3_600);

/// The time, as a caller at the border read it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Monotonic time since an origin the process chose. Ages, deadlines and heartbeats are measured on it, so a
    /// stepped wall clock can neither empty a window nor kill a stream.
    pub mono: Duration,
    /// Wall-clock milliseconds since the Unix epoch. Tokens and standing records end by it, and nothing else: it steps,
    /// and no two processes have the same. Whatever is measured between two of them goes by [`log_clock`].
    pub unix_ms: u64,
}
