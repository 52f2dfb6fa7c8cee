//! A store over simulated brokers is held to what every store promises, and its fence to what every fence does.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use galaxy_push_store::{Error, Refused, Sink, Store, conformance};
use galaxy_push_testkit::Recorder;
use tokio::time::sleep;

use super::{Brokers, Plan};
use crate::rng::{ambient, now_us};

/// Brokers to which nothing happens, in a simulation that goes on.
fn brokers(seed: u64) -> Brokers {
    let lag_max = Duration::from_millis(200);
    let plan = Plan { age: None, messages: None, lag_max, hubs_ahead_ms: 0 };
    let brokers = Brokers::new(seed, plan, Recorder::new(1_000_000));
    let here = brokers.clone();
    tokio::spawn(async move {
        loop {
            here.advance(Duration::from_micros(now_us()));
            sleep(Duration::from_millis(10)).await;
        }
    });
    brokers
}

fn open(brokers: &Brokers, hub: &'static str, sink: Arc<dyn Sink>) -> Result<Arc<dyn Store>, Error> {
    let at = brokers.attach(hub).ok_or_else(|| Refused::Unavailable("nobody leads".to_owned()))?;
    at.maker(&ambient(1, hub))(sink)
}

fn simulate(what: impl Future<Output = ()> + 'static) {
    let mut sim = turmoil::Builder::new()
        .tick_duration(Duration::from_millis(10))
        .simulation_duration(Duration::from_secs(3_600))
        .build();
    sim.client("hubs", async {
        what.await;
        Ok(())
    });
    let ended = sim.run();
    assert!(ended.is_ok(), "{ended:?}");
}

#[test]
fn a_store_over_simulated_brokers_keeps_what_every_store_promises() {
    let seeds = AtomicU64::new(1);
    simulate(conformance::check(move |sink| {
        open(&brokers(seeds.fetch_add(1, Ordering::Relaxed)), "hub", sink)
    }));
}

#[test]
fn a_fence_over_simulated_brokers_keeps_what_every_fence_promises() {
    simulate(async {
        let brokers = brokers(1);
        let doors = AtomicU64::new(0);
        let names = ["hub-a", "hub-b", "hub-c", "hub-d"];
        let door = |sink| open(&brokers, names[doors.fetch_add(1, Ordering::Relaxed) as usize], sink);
        conformance::check_fence(door, Duration::from_secs(1)).await;
    });
}
