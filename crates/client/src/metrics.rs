//! A client's status as Prometheus metrics, read when somebody scrapes. Nothing is counted here.
//!
//! Names begin with `push_client_`. A process that runs several clients registers each in a registry of its own labels.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use crate::{Counters, PushClient, State};

impl PushClient {
    /// Adds the client's metrics to a registry. They hold no handle: a client that has stopped shows its last status.
    ///
    /// ```no_run
    /// use galaxy_push_client::{Item, PushClient};
    /// use prometheus_client::registry::Registry;
    ///
    /// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
    /// let client = PushClient::builder("gateway-1").hub("http://127.0.0.1:7400").start(async |_: Item| Ok(()))?;
    /// let mut registry = Registry::default();
    /// client.register(&mut registry);
    /// # client.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn register(&self, registry: &mut Registry) {
        registry.register_collector(Box::new(Scrape { status: self.status.clone(), started: self.started }));
    }
}

#[derive(Debug)]
struct Scrape {
    status: tokio::sync::watch::Receiver<crate::Status>,
    started: tokio::time::Instant,
}

impl Collector for Scrape {
    fn encode(&self, mut out: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let status = self.status.borrow().clone();
        let now = self.started.elapsed();
        let handling = status.handling_since.map_or(0.0, |since| now.saturating_sub(since).as_secs_f64());
        for (name, help, value) in [
            (
                "live",
                "1 while events come as they are published.",
                f64::from(u8::from(status.state == State::Live)),
            ),
            (
                "failures",
                "Tries and streams in a row that ended without proof of health.",
                f64::from(status.failures),
            ),
            (
                "state_age_seconds",
                "How long the client has been in its present state.",
                now.saturating_sub(status.since).as_secs_f64(),
            ),
            (
                "handling_seconds",
                "How long the handler has been at work on what it was given last.",
                handling,
            ),
            ("in_flight_items", "Items handed out and not acked.", status.in_flight_items as f64),
            (
                "in_flight_bytes",
                "Bytes of the items handed out and not acked.",
                status.in_flight_bytes as f64,
            ),
            (
                "handler_failing",
                "1 while the handler fails on an item.",
                f64::from(u8::from(status.handler.is_some())),
            ),
            (
                "split",
                "1 while the hubs say that they hold different logs.",
                f64::from(u8::from(status.is_split())),
            ),
            (
                "stale",
                "1 while the hub of the stream says that it cannot reach its store.",
                f64::from(u8::from(status.stale_since.is_some())),
            ),
            ("store_failing", "1 while the cursor store fails.", f64::from(u8::from(status.store.is_some()))),
        ] {
            put(&mut out, name, help, &ConstGauge::new(value))?;
        }
        for (name, help, value) in counted(&status.counters) {
            put(&mut out, name, help, &ConstCounter::new(value))?;
        }
        let help = "Tries and streams that ended, by why.";
        let counter = ConstCounter::new(0_u64);
        let mut ends = out.encode_descriptor("push_client_ends", help, None, counter.metric_type())?;
        for (end, value) in status.counters.ends.iter() {
            ConstCounter::new(value).encode(ends.encode_family(&[("cause", end.name())])?)?;
        }
        Ok(())
    }
}

fn counted(counters: &Counters) -> [(&'static str, &'static str, u64); 14] {
    [
        ("dials", "Connections tried.", counters.dials),
        ("streams", "Streams that were welcomed.", counters.streams),
        ("received_bytes", "Bytes of streams received.", counters.bytes),
        ("records", "Events and standing records received.", counters.records),
        ("handled", "Items of every kind that the handler finished.", counters.handled),
        ("gaps", "Gaps told to the handler.", counters.gaps),
        ("log_changes", "Times the stream went on in another log.", counters.log_changes),
        ("unreadable_cursors", "Cursors that could not be read.", counters.unreadable_cursors),
        ("fell_behind", "Times the stream fell behind.", counters.fell_behind),
        ("duplicates", "Records dropped because their position was received before.", counters.duplicates),
        ("handler_failures", "Calls of the handler that failed.", counters.handler_failures),
        ("dead_letters", "Items given up and taken as dead letters.", counters.dead_letters),
        ("cursor_saves", "Cursors stored.", counters.saves),
        ("store_failures", "Loads and saves of the cursor store that failed.", counters.store_failures),
    ]
}

fn put(out: &mut DescriptorEncoder<'_>, name: &str, help: &str, metric: &impl EncodeMetric) -> fmt::Result {
    let name = format!("push_client_{name}");
    metric.encode(out.encode_descriptor(&name, help, None, metric.metric_type())?)
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;

    use super::*;

    #[test]
    fn shows_the_status() {
        let mut status = crate::Status::default();
        (status.state, status.counters.gaps, status.failures) = (State::Live, 3, 2);
        let (_sender, status) = tokio::sync::watch::channel(status);
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Scrape { status, started: tokio::time::Instant::now() }));
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        for line in
            ["push_client_live 1", "push_client_ends_total{cause=\"silence\"} 0", "push_client_gaps_total 3"]
        {
            assert!(text.contains(line), "{line}: {text}");
        }
    }
}
