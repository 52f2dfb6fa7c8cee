//! What hubs and gateways account for, compared with the bounds that docs/semantics.md names ("Memory").
//!
//! The figures are those of the product's own metrics, looked up every second. What a memory hub holds is reckoned a second time from
//! what it acknowledged: that sum knows nothing of the window's own account.

use std::time::Duration;

use galaxy_push_core::window::Bounds;
use galaxy_push_gateway::Gateway;
use galaxy_push_hub::Hub;
use galaxy_push_testkit::Recorder;
use galaxy_push_testkit::history::{Measured, What};
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use tokio::time::sleep;

use crate::rng::now_us;
use crate::truth::Truth;

/// How often it is looked.
const EVERY: Duration = Duration::from_secs(1);

/// What is too old is let go of within a second, and looked for an eighth of the window's age apart at most.
const TRIMMED_WITHIN: Duration = Duration::from_millis(1_100);

/// Standing records of one kind.
const RECORDS_MAX: u64 = 100_000;

/// Publishes under way, in bytes.
const UNDER_WAY_BYTES: u64 = 64 << 20;

/// Rendered events of a gateway, in bytes.
const RENDERED_BYTES: u64 = 8 << 20;

/// Looks what a hub holds until it is dropped.
pub async fn of_hub(hub: Hub, window: Bounds, truth: Option<Truth>, recorder: Recorder) {
    let mut registry = Registry::default();
    hub.register(&mut registry);
    loop {
        sleep(EVERY).await;
        let mut figures = Figures::read(&registry);
        figures.window(["push_window_events", "push_window_bytes", "push_window_age_seconds"], window);
        figures.bounded("push_standing_records", RECORDS_MAX);
        figures.bounded("push_publish_under_way_bytes", UNDER_WAY_BYTES);
        if let Some(truth) = &truth {
            let head = hub.head();
            let (events, bytes) = truth.between(head.oldest, head.cursor);
            figures.is("events acknowledged and held", events, window.events);
            figures.is("bytes acknowledged and held", bytes, window.bytes);
        }
        figures.write(&recorder);
    }
}

/// Looks what a gateway holds until it is dropped.
pub async fn of_gateway(gateway: Gateway, window: Bounds, mailbox_slots: usize, recorder: Recorder) {
    let mut registry = Registry::default();
    gateway.register(&mut registry);
    loop {
        sleep(EVERY).await;
        let mut figures = Figures::read(&registry);
        let edge = ["push_edge_window_events", "push_edge_window_bytes", "push_edge_window_seconds"];
        figures.window(edge, window);
        figures.bounded("push_mailbox_slots", mailbox_slots as u64);
        figures.bounded("push_edge_invalidations", RECORDS_MAX);
        figures.bounded("push_edge_memberships", RECORDS_MAX);
        figures.bounded("push_render_cache_bytes", RENDERED_BYTES);
        figures.write(&recorder);
    }
}

/// What metrics say, and what of it was compared.
struct Figures {
    text: String,
    compared: Vec<Measured>,
}

impl Figures {
    fn read(registry: &Registry) -> Self {
        let mut text = String::new();
        let _ = encode(&mut text, registry); // a String takes everything
        Self { text, compared: Vec::new() }
    }

    /// The highest value under this name, whatever its labels. What is not there is more than any bound: a name has changed.
    fn value(&self, name: &str) -> u64 {
        let values = self.text.lines().filter_map(|line| {
            let rest = line.strip_prefix(name)?;
            let is_it = rest.starts_with([' ', '{']);
            rest.rsplit(' ').next().filter(|_| is_it)?.parse::<f64>().ok()
        });
        values.map(|value| value.ceil() as u64).max().unwrap_or(u64::MAX)
    }

    fn bounded(&mut self, name: &'static str, most: u64) {
        self.is(name, self.value(name), most);
    }

    fn window(&mut self, [events, bytes, age]: [&'static str; 3], window: Bounds) {
        self.bounded(events, window.events);
        self.bounded(bytes, window.bytes);
        self.bounded(age, (window.age + TRIMMED_WITHIN).as_secs_f64().ceil() as u64);
    }

    fn is(&mut self, what: &'static str, is: u64, most: u64) {
        self.compared.push(Measured { what: what.into(), is, most });
    }

    fn write(self, recorder: &Recorder) {
        for measured in self.compared {
            recorder.record(now_us(), What::Measured(measured));
        }
    }
}
