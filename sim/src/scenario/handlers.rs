//! In which form an application takes its items, what befalls its cursor store, and what hubs of the future say.

use std::time::Duration;

use galaxy_push_testkit::history::Form;

use super::{FAULTS_FROM, Fault, Kind, Scenario};
use crate::rng::Rng;

/// How the application of a scenario behaves. It outlives the application's processes.
#[derive(Clone, Copy, Debug)]
pub struct Handlers {
    /// Its form.
    pub form: Form,
    /// Batches: whether it finishes items one by one within a call.
    pub piecewise: bool,
    /// How often a failing item is tried again before it is given up. `None`: for ever.
    pub retries: Option<u32>,
    /// How often in a thousand an item can never be dealt with. Only where items are given up.
    pub poisonous_permille: u64,
    /// The cursor is saved after so many calls.
    pub save_every: u32,
    /// In the stream form: how much may be out.
    pub in_flight_bytes: usize,
    /// Its store.
    pub store: Store,
    /// After how many frames in a thousand a hub says something that nobody knows.
    pub unknown_permille: u64,
}

/// What befalls a cursor store until the calm.
#[derive(Clone, Copy, Debug)]
pub struct Store {
    /// How many writes in a hundred fail.
    pub fails_percent: u64,
    /// While it fails for a while, all of them do: from when, for how long.
    pub outage: Option<(Duration, Duration)>,
    /// How many writes in a thousand take long, some longer than is waited for.
    pub slow_permille: u64,
    /// How often, in percent, what is read at a start is no cursor.
    pub garbage_percent: u64,
    /// How often, in percent, a read at a start fails.
    pub unreadable_percent: u64,
}

impl Scenario {
    /// How the application behaves; drawn apart, as whatever came later.
    #[must_use]
    pub fn handlers(&self) -> Handlers {
        let mut rng = Rng::new(self.seed, "handlers");
        let form = *rng.pick(&[Form::Items, Form::Batches, Form::Stream]);
        let retries = rng.percent(50).then(|| rng.below(3) as u32);
        let outage = rng.percent(30).then(|| {
            let from = rng.between(Duration::from_secs(1), Duration::from_secs(15));
            // Some disks never work again.
            let lasts = if rng.percent(30) { 3_600_000 } else { 1_000 + rng.below(15_000) };
            (from, Duration::from_millis(lasts))
        });
        Handlers {
            form,
            piecewise: rng.percent(50),
            retries,
            poisonous_permille: if retries.is_some() { 5 } else { 0 },
            save_every: *rng.pick(&[1, 1, 1, 2, 5]),
            in_flight_bytes: *rng.pick(&[600, 2 << 10, 8 << 10]),
            store: Store {
                fails_percent: *rng.pick(&[0, 0, 5, 30]),
                outage,
                slow_permille: *rng.pick(&[0, 2, 5]),
                garbage_percent: 15,
                unreadable_percent: *rng.pick(&[0, 10, 90]),
            },
            unknown_permille: *rng.pick(&[0, 20, 100]),
        }
    }

    /// The application is killed more often than others: what a crash repeats is seen there alone.
    pub(super) fn draw_crashes_of_the_app(&mut self) {
        let mut rng = Rng::new(self.seed, "crashes of the app");
        if rng.percent(40) {
            return;
        }
        let mut at = FAULTS_FROM;
        loop {
            at += rng.between(Duration::from_millis(500), Duration::from_secs(9));
            if at >= self.calm_from {
                return;
            }
            let until =
                (at + rng.between(Duration::from_millis(50), Duration::from_secs(2))).min(self.calm_from);
            self.faults.push((at, Fault { kind: Kind::Kill("app".to_owned()), until }));
        }
    }
}
