//! What is going on at a hub, for its operators: read at the moment it is asked for.
//!
//! [`Hub::status`](crate::Hub::status) hands it out, and `scrape.rs` takes the figures of the window from here. All of it is
//! read under one hold of the log's lock, so its parts are of one moment. It changes nothing.

use std::time::Duration;

use galaxy_push_core::Now;
use galaxy_push_core::window::{Bounds, Window};

use crate::app::shared::Shared;
use crate::state::log::Head;
use crate::state::ownership::Incumbent;
use crate::state::report::{Lag, Report};
use crate::state::stream_gauge::StreamPhase;

/// A hub at one moment.
///
/// ```
/// # use galaxy_push_core::ambient::Ambient;
/// # use galaxy_push_hub::{Config, Hub};
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let hub = Hub::in_memory(Config::default(), Ambient::new(|| 0, || 4))?;
/// let status = hub.status();
/// for stream in &status.streams {
///     println!("{} {:?}: {} entries behind", stream.gateway, stream.phase, stream.lag.events);
/// }
/// assert!(!status.draining && status.window.fill.iter().all(|bound| *bound == 0.0));
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Status {
    /// Where the log is.
    pub head: Head,
    /// It shuts down, and takes nothing new.
    pub draining: bool,
    /// What it holds.
    pub window: WindowStatus,
    /// Who is connected, ordered by gateway id.
    pub streams: Vec<StreamStatus>,
    /// The gateway ids that instances keep taking from each other, ordered. Each is a mistake in somebody's configuration.
    pub flapping: Vec<FlappingId>,
}

/// The window at one moment.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct WindowStatus {
    /// Entries held.
    pub events: u64,
    /// Bytes of frames held.
    pub bytes: u64,
    /// The age of the oldest entry held.
    pub age: Duration,
    /// How much of each bound that is, 0 to 1: by age, by count, by bytes. The fullest is the one that binds.
    pub fill: [f64; 3],
    /// How long an event would be held at the rate of those held now: the bound on age, or less where another binds first.
    /// This is how long a gateway may stay away and miss nothing.
    pub holds: Duration,
}

/// One gateway's stream.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StreamStatus {
    /// Its gateway id.
    pub gateway: String,
    /// Which process it is; empty for a client that does not say.
    pub instance: String,
    /// The identity it was let in as; empty where everybody may do everything.
    pub identity: String,
    /// Its network address.
    pub peer: String,
    /// Rises with each subscription that is accepted.
    pub generation: u64,
    /// How long it has been open.
    pub open_for: Duration,
    /// Whether it has caught up.
    pub phase: StreamPhase,
    /// How much it has yet to be handed.
    pub lag: Lag,
    /// What its gateway last said of itself; `None`: nothing yet.
    pub report: Option<Report>,
    /// How long ago that report came.
    pub report_age: Option<Duration>,
    /// How much its gateway has yet to handle, by that report; `None`: it has reported no position.
    pub handled_lag: Option<Lag>,
}

/// A gateway id that instances keep taking from each other.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FlappingId {
    /// The id.
    pub gateway: String,
    /// How long a newcomer would be told to stay away now; zero: nobody was held off yet.
    pub held_off_for: Duration,
}

/// Reads everything under one hold of the log's lock.
pub(crate) fn status(shared: &Shared) -> Status {
    shared.log.with_state(|state, now| {
        let window = &state.window;
        Status {
            head: Head { cursor: window.head(), oldest: window.floor() },
            draining: shared.is_draining(),
            window: of_window(window, shared.config.window, now),
            streams: state.gateways.incumbents().map(|incumbent| stream(incumbent, window, now)).collect(),
            flapping: state
                .gateways
                .flapping(now.mono)
                .map(|(gateway, held_off_for)| FlappingId { gateway: gateway.to_owned(), held_off_for })
                .collect(),
        }
    })
}

/// The figures of the window, and how long it would hold an event at this rate:
///
/// ```text
/// bounds: 10 min, 1,000 events    held: 500 events of the last 60 s
/// half of the count was filled in 60 s, so the window holds an event for 120 s, not for 10 min
/// ```
pub(crate) fn of_window(window: &Window, bounds: Bounds, now: Now) -> WindowStatus {
    let age = window.appended_at(window.oldest()).map_or(Duration::ZERO, |at| now.mono.saturating_sub(at));
    let (events, bytes) = (window.len(), window.held_bytes());
    let fill = [
        age.as_secs_f64() / bounds.age.as_secs_f64(),
        events as f64 / bounds.events as f64,
        bytes as f64 / bounds.bytes as f64,
    ];
    // What was held for `age` fills so much of a bound; at that rate the rest of it lasts accordingly.
    let binding = fill[1].max(fill[2]);
    let at_this_rate = age.as_secs_f64() / binding;
    let holds = if binding > 0.0 && !age.is_zero() { at_this_rate } else { f64::INFINITY };
    let holds = Duration::try_from_secs_f64(holds).map_or(bounds.age, |holds| holds.min(bounds.age));
    WindowStatus { events, bytes, age, fill, holds }
}

/// What is shown of one stream.
fn stream(incumbent: &Incumbent, window: &Window, now: Now) -> StreamStatus {
    let (next, phase) = incumbent.gauge.position();
    let (claim, report) = (incumbent.claim.clone(), incumbent.report.clone());
    let handled = report.as_ref().and_then(|report| report.handled);
    StreamStatus {
        gateway: claim.gateway,
        instance: claim.instance,
        identity: claim.identity,
        peer: claim.peer,
        generation: incumbent.generation,
        open_for: now.mono.saturating_sub(incumbent.since),
        phase,
        lag: Lag::of_slot(window, next, now.mono),
        report_age: report.as_ref().map(|report| now.mono.saturating_sub(report.received_at)),
        handled_lag: handled.map(|cursor| Lag::of_cursor(window, cursor, now.mono)),
        report,
    }
}
