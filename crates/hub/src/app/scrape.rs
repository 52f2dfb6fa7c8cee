//! What is read off the hub at the moment somebody scrapes: the window, the streams, the publishes, the store.
//!
//! [`Hub::register`](crate::Hub::register) adds it to a registry. It holds the hub weakly: of a hub that is gone it shows
//! nothing. Everything about streams is read under one hold of the log's lock, about a microsecond for each stream.

use std::fmt;
use std::sync::Weak;
use std::time::Duration;

use galaxy_push_core::frame::LogKind;
use galaxy_push_store::disk::{SYNC_SECONDS, SyncTimes};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric as _, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;

use crate::app::metrics::{ByBound, ByClass, ByKind};
use crate::app::shared::Shared;
use crate::app::status::{WindowStatus, of_window};
use crate::state::report::Lag;
use crate::state::stream_gauge::StreamPhase;

/// The collector that a registry calls at each scrape.
pub(super) struct Scraped(pub(super) Weak<Shared>);

/// What is read under the log's lock, all of one moment.
#[derive(Default)]
struct Seen {
    /// When it was read, on the log's monotonic clock.
    now: Duration,
    /// The window; `None` only before anything was read.
    window: Option<WindowStatus>,
    /// How many gateway ids flap.
    flaps: usize,
    /// How many streams never learn of invalidations.
    unaware: usize,
    /// Users' connections that gateways report, in all.
    connections: u64,
    /// The streams of each phase.
    lags: [PhaseLag; StreamPhase::ALL.len()],
}

/// The streams of one phase: how many, and how far the slowest of them is behind.
#[derive(Clone, Copy, Default)]
struct PhaseLag {
    /// How many there are.
    streams: u64,
    /// The most entries that one of them has yet to be handed.
    events: u64,
    /// The age of the oldest entry that one of them has yet to be handed.
    time: Duration,
    /// The same by what gateways have handled.
    handled: HandledLag,
}

/// The same by what gateways report as handled, for those that report it: the largest, and the sum.
#[derive(Clone, Copy, Default)]
struct HandledLag {
    streams: u64,
    events_max: u64,
    events_all: u64,
    time_max: Duration,
    time_all: Duration,
}

impl Collector for Scraped {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let Some(shared) = self.0.upgrade() else { return Ok(()) };
        let seen = look(&shared);
        let mut out = Out(encoder);
        seen.window.as_ref().map_or(Ok(()), |seen| window(&mut out, seen))?;
        streams(&mut out, &seen)?;
        publishers(&mut out, &shared, &seen)?;
        disk(&mut out, &shared)
    }
}

/// Reads everything about the window and the streams, under one hold of the log's lock.
fn look(shared: &Shared) -> Seen {
    shared.log.with_state(|state, now| {
        let held = &state.window;
        let window = Some(of_window(held, shared.config.window, now));
        let mut lags = [PhaseLag::default(); StreamPhase::ALL.len()];
        let (mut connections, mut unaware) = (0_u64, 0);
        for incumbent in state.gateways.incumbents() {
            let (next, phase) = incumbent.gauge.position();
            unaware += usize::from(!incumbent.claim.learns_of_invalidations);
            let lag = &mut lags[phase as usize];
            lag.streams += 1;
            let own = Lag::of_slot(held, next, now.mono);
            lag.events = lag.events.max(own.events);
            lag.time = lag.time.max(own.age);
            let Some(report) = &incumbent.report else { continue };
            connections = connections.saturating_add(report.connections);
            if let Some(handled) = report.handled {
                lag.handled.add(Lag::of_cursor(held, handled, now.mono));
            }
        }
        Seen {
            now: now.mono,
            window,
            flaps: state.gateways.flapping_count(now.mono),
            unaware,
            connections,
            lags,
        }
    })
}

/// The window: how full, how old, and how long it holds an event at the present rate.
fn window(out: &mut Out<'_>, window: &WindowStatus) -> fmt::Result {
    out.gauge("push_window_events", "Entries held in the window", None, window.events as f64)?;
    out.gauge("push_window", "Bytes of frames held in the window", Some(&Unit::Bytes), window.bytes as f64)?;
    let age = window.age.as_secs_f64();
    out.gauge("push_window_age", "Age of the oldest entry held", Some(&Unit::Seconds), age)?;
    let help = "How long the window holds an event at the rate of those held now";
    out.gauge("push_window_holds", help, Some(&Unit::Seconds), window.holds.as_secs_f64())?;
    let bounds = ["age", "events", "bytes"].map(|bound| ByBound { bound });
    let fill = bounds.into_iter().zip(window.fill);
    let help = "How much of each bound the window fills: the fullest is the one that binds";
    out.gauges("push_window_fill", help, Some(&Unit::Other("ratio".to_owned())), fill)
}

/// Streams by phase: how many, and how far the slowest is behind in what it was handed.
fn streams(out: &mut Out<'_>, seen: &Seen) -> fmt::Result {
    let by = |phase: StreamPhase| ByClass { class: phase.name() };
    let lags = || StreamPhase::ALL.into_iter().zip(seen.lags);
    let help = "Open gateway streams by what they are doing";
    let streams = lags().map(|(phase, lag)| (by(phase), lag.streams as f64));
    out.gauges("push_streams_by_class", help, None, streams)?;
    let help = "The most entries that any stream of the class has not been handed yet";
    let events = lags().map(|(phase, lag)| (by(phase), lag.events as f64));
    out.gauges("push_stream_lag_events", help, None, events)?;
    let help = "The age of the oldest entry that any stream of the class has not been handed yet";
    let times = lags().map(|(phase, lag)| (by(phase), lag.time.as_secs_f64()));
    out.gauges("push_stream_lag", help, Some(&Unit::Seconds), times)?;
    handled(out, &lags().map(|(phase, lag)| (phase, lag.handled)).collect::<Vec<_>>())?;
    let help = "Users' connections, as the gateways report them";
    out.gauge("push_reported_connections", help, None, seen.connections as f64)?;
    out.gauge("push_duels", "Gateway ids that instances keep taking from each other", None, seen.flaps as f64)
}

/// Streams by phase: how far gateways are behind in what they have handled, for those that report it.
fn handled(out: &mut Out<'_>, lags: &[(StreamPhase, HandledLag)]) -> fmt::Result {
    let each = |value: fn(&HandledLag) -> f64| {
        lags.iter().map(move |(phase, lag)| (ByClass { class: phase.name() }, value(lag)))
    };
    let seconds = Some(&Unit::Seconds);
    let help = "Open gateway streams whose gateway reports what it has handled";
    out.gauges("push_streams_reporting", help, None, each(|lag| lag.streams as f64))?;
    let help = "The most entries that any reporting gateway of the class has not reported as handled";
    out.gauges("push_handled_lag_events", help, None, each(|lag| lag.events_max as f64))?;
    let help = "The age of the oldest entry held that any reporting gateway of the class has not reported as handled";
    out.gauges("push_handled_lag", help, seconds, each(|lag| lag.time_max.as_secs_f64()))?;
    let help = "Entries not reported as handled, summed over the reporting gateways of the class";
    out.gauges("push_handled_lag_all_events", help, None, each(|lag| lag.events_all as f64))?;
    let help = "The age of the oldest entry held and not reported as handled, summed over the reporting gateways of the class";
    out.gauges("push_handled_lag_all", help, seconds, each(|lag| lag.time_all.as_secs_f64()))
}

impl HandledLag {
    /// One more reporting gateway.
    fn add(&mut self, lag: Lag) {
        let Lag { events, age: time } = lag;
        self.streams += 1;
        self.events_max = self.events_max.max(events);
        self.events_all += events;
        self.time_max = self.time_max.max(time);
        self.time_all += time;
    }
}

/// What publishers feel: the dedup window, what is in flight, and the room for standing records.
fn publishers(out: &mut Out<'_>, shared: &Shared, seen: &Seen) -> fmt::Result {
    let horizon = shared.store.dedup_horizon(seen.now).as_secs_f64();
    out.gauge(
        "push_dedup_horizon",
        "How far back a repeated publish is recognised",
        Some(&Unit::Seconds),
        horizon,
    )?;
    let in_flight = shared.publishes_in_flight.usage();
    let requests = in_flight.requests as f64;
    out.gauge("push_publishes_under_way", "Publish requests that are not answered yet", None, requests)?;
    let help = "Bytes of the publish requests that are not answered yet";
    out.gauge("push_publish_under_way", help, Some(&Unit::Bytes), in_flight.bytes as f64)?;
    let wall_ms = shared.clock.ambient.unix_ms();
    let fill = |kind| shared.store.standing_fill(kind, None, wall_ms);
    let fills =
        [("invalidation", fill(LogKind::SessionInvalidation)), ("membership", fill(LogKind::Membership))];
    let records = fills.map(|(kind, fill)| (ByKind { kind }, fill.held as f64));
    out.gauges("push_standing_records", "Standing records that hold, by kind", None, records)?;
    let ratios = fills.map(|(kind, fill)| (ByKind { kind }, fill.held as f64 / fill.max.max(1) as f64));
    let help = "How much of the room for standing records is taken, by kind: at 1 more are refused";
    out.gauges("push_standing_fill", help, Some(&Unit::Other("ratio".to_owned())), ratios)?;
    let unaware = if fills[0].1.held > 0 { seen.unaware } else { 0 };
    let help = "Open streams of gateways that are not told of session invalidations, while any are in force";
    out.gauge("push_streams_unaware_of_invalidations", help, None, unaware as f64)
}

/// Of a store that keeps files; of others, whether it is reached.
fn disk(out: &mut Out<'_>, shared: &Shared) -> fmt::Result {
    let help = "1 while the store cannot be reached, so that nothing is appended here and the log may go on elsewhere";
    out.gauge("push_store_stale", help, None, f64::from(u8::from(shared.store.is_stale())))?;
    let Some(figures) = shared.store.disk_figures() else { return Ok(()) };
    out.counter("push_store_syncs", "Groups of batches that were made durable", figures.syncs)?;
    let help =
        "Events and records that these groups held: divided by push_store_syncs, how many share one sync";
    out.counter("push_store_synced_events", help, figures.entries)?;
    let help = "How long syncs took, those of heads and ends of segments included";
    out.times("push_store_sync", help, &figures.sync_times)?;
    let help = "How long it took to read the log when the hub started";
    out.gauge("push_store_recovery", help, Some(&Unit::Seconds), figures.opened_in.as_secs_f64())?;
    let help = "What the files of the log take up on the disk";
    out.gauge("push_store_disk", help, Some(&Unit::Bytes), figures.disk_bytes as f64)?;
    let help = "What may still be written to the file system of the log, looked at every 5 s; NaN where nobody knows";
    let free = figures.free_bytes.map_or(f64::NAN, |free| free as f64);
    out.gauge("push_store_disk_free", help, Some(&Unit::Bytes), free)?;
    let help = "What the log may still need by its bounds: with less free, it could fill the disk";
    out.gauge("push_store_disk_needed", help, Some(&Unit::Bytes), figures.needed_bytes as f64)?;
    let help = "1 while publishes are refused because the disk is full";
    out.gauge("push_store_full", help, None, f64::from(u8::from(figures.is_full)))
}

/// Writes gauges.
struct Out<'a>(DescriptorEncoder<'a>);

impl Out<'_> {
    /// One gauge without labels.
    fn gauge(&mut self, name: &str, help: &str, unit: Option<&Unit>, value: f64) -> fmt::Result {
        let gauge = ConstGauge::new(value);
        gauge.encode(self.0.encode_descriptor(name, &sentence(help), unit, gauge.metric_type())?)
    }

    /// One counter that is kept elsewhere.
    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        let counter = ConstCounter::new(value);
        counter.encode(self.0.encode_descriptor(name, &sentence(help), None, counter.metric_type())?)
    }

    /// A histogram of how long syncs took.
    fn times(&mut self, name: &str, help: &str, times: &SyncTimes) -> fmt::Result {
        let bounds = SYNC_SECONDS.into_iter().chain([f64::INFINITY]);
        let buckets: Vec<_> = bounds.zip(times.counts).collect();
        let (sum, count) = (times.total.as_secs_f64(), times.counts.iter().sum());
        let unit = Some(&Unit::Seconds);
        let mut out = self.0.encode_descriptor(name, &sentence(help), unit, MetricType::Histogram)?;
        out.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }

    /// One gauge with a label of a fixed list of values.
    fn gauges<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        values: impl IntoIterator<Item = (L, f64)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, &sentence(help), unit, MetricType::Gauge)?;
        for (labels, value) in values {
            ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

/// A registry ends the help of its own metrics with a full stop.
fn sentence(help: &str) -> String {
    format!("{help}.")
}

impl fmt::Debug for Scraped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scraped")
    }
}
