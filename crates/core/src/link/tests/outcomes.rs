//! Exactly one committed outcome per item, whatever handler, dead letter, store and network do.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

#[derive(Clone, Copy, Debug)]
enum Chance {
    Good,
    Bad,
    Cut,
    Late,
}

/// A world that answers each action by chance, and counts what becomes of each event of a log.
struct Judge {
    world: World,
    /// The last position of the log.
    head: u64,
    /// What the hub would send next on the present stream.
    sent: u64,
    outcomes: BTreeMap<String, (u32, u32)>,
    calls: BTreeMap<String, u32>,
    /// How often each item failed while nothing else was offered, or when the handler takes one at a time.
    own_failures: BTreeMap<String, u32>,
    out: Vec<Delivery>,
    stored: Option<String>,
    one_by_one: bool,
    retry: RetryPolicy,
}

impl Judge {
    fn new(config: Config) -> Self {
        let (one_by_one, retry) = (config.delivery_mode == DeliveryMode::Items, config.retry);
        let world = World::new(config);
        Self {
            world,
            head: 12,
            sent: 0,
            outcomes: BTreeMap::new(),
            calls: BTreeMap::new(),
            own_failures: BTreeMap::new(),
            out: Vec::new(),
            stored: None,
            one_by_one,
            retry,
        }
    }

    fn answer(&mut self, chance: Chance, number: u64) {
        let input = match (self.world.action.clone(), chance) {
            (Action::Dial { .. } | Action::Subscribe { .. } | Action::Read { .. }, Chance::Cut) => {
                Input::Failed(Failure::Lost("cut".into()))
            }
            (Action::Dial { .. }, _) => Input::Connected,
            (Action::Subscribe { cursor, .. }, _) => {
                self.sent = short(&cursor).trim_start_matches(char::is_alphabetic).parse().unwrap_or(0);
                Input::Subscribed
            }
            (Action::Read { .. }, Chance::Late) if !self.out.is_empty() => return self.late(),
            (Action::Read { .. }, _) => self.received(number),
            (Action::Await { .. } | Action::Wait { .. } | Action::Pause { .. }, _) => return self.late(),
            (Action::Load { .. }, Chance::Bad) => Input::LoadFailed("bad".into()),
            (Action::Load { .. }, _) => Input::Loaded(self.stored.clone()),
            (Action::Save { .. }, Chance::Bad) => Input::SaveFailed("bad".into()),
            (Action::Save { cursor, .. }, _) => {
                self.stored = Some(cursor);
                Input::Saved
            }
            (Action::Deliver, chance) => self.call(chance, number),
            (Action::DeadLetter, Chance::Bad) => Input::DeadLetterFailed("bad".into()),
            (Action::DeadLetter, _) => {
                let dead = self.world.link.dead_letter().unwrap();
                let name = name(dead.item);
                let own = self.own_failures.get(&name).copied().unwrap_or_default();
                assert!(self.retry.gives_up(own), "{name} is given up after {own} failures of its own");
                self.outcomes.entry(name).or_default().1 += 1;
                Input::DeadLettered
            }
            (Action::AskHubs { .. } | Action::Finish, _) => return,
        };
        self.step(input);
    }

    fn step(&mut self, input: Input) {
        let random = u64::MAX;
        self.world.action = self.world.link.step(input, self.world.now, random);
        self.out.extend(self.world.link.drain_deliveries());
    }

    fn late(&mut self) {
        self.world.now = self.world.now.max(self.world.until());
        self.step(Input::TimerFired);
    }

    fn received(&mut self, number: u64) -> Input {
        let mut bytes = Vec::new();
        if self.world.link.status().state == State::Connecting {
            bytes.extend(frame(&format!("welcome@a{}", self.sent)));
        }
        for seq in self.sent + 1..=self.head.min(self.sent + 1 + number % 4) {
            bytes.extend(frame(&format!("a{seq}")));
            self.sent = seq;
        }
        bytes.extend(frame(&format!("progress@a{}", self.sent)));
        Input::Received(bytes.into())
    }

    fn call(&mut self, chance: Chance, number: u64) -> Input {
        let items: Vec<_> = self.world.link.batch_mut().items().iter().map(name).collect();
        assert!(!items.is_empty());
        let done = if matches!(chance, Chance::Good) { items.len() } else { number as usize % items.len() };
        for (i, item) in items.iter().enumerate().take(done + 1) {
            *self.calls.entry(item.clone()).or_default() += 1;
            if i < done {
                self.outcomes.entry(item.clone()).or_default().0 += 1;
                self.world.link.batch_mut().finish_one();
            }
        }
        if done == items.len() {
            return Input::Handled;
        }
        if items.len() == 1 || self.one_by_one {
            *self.own_failures.entry(items[done].clone()).or_default() += 1;
        }
        Input::HandlerFailed("bad".into())
    }

    /// The application judges one of the items it holds.
    fn ack_result(&mut self, chance: Chance, number: u64) {
        if self.out.is_empty() {
            return;
        }
        let handed = self.out.remove(number as usize % self.out.len());
        *self.calls.entry(name(&handed.item)).or_default() += 1;
        let result = match chance {
            Chance::Bad => {
                *self.own_failures.entry(name(&handed.item)).or_default() += 1;
                Err("bad".into())
            }
            _ => {
                self.outcomes.entry(name(&handed.item)).or_default().0 += 1;
                Ok(())
            }
        };
        self.step(Input::Acks(vec![AckResult { id: handed.id, result }]));
    }

    fn check(&self, limit: Option<u32>) {
        let cursor = short(&self.world.link.status().cursor);
        let cursor: u64 = cursor.trim_start_matches(char::is_alphabetic).parse().unwrap_or(0);
        for seq in 1..=self.head {
            let (good, dead) = self.outcomes.get(&format!("a{seq}")).copied().unwrap_or_default();
            assert!(good + dead <= 1, "a{seq} has {good} + {dead} outcomes");
            assert!(seq > cursor || good + dead == 1, "the cursor {cursor} passed a{seq} without an outcome");
            let calls = self.calls.get(&format!("a{seq}")).copied().unwrap_or_default();
            assert!(limit.is_none_or(|limit| calls <= limit + 1), "a{seq} was called {calls} times");
        }
        let stored = self.stored.as_deref().map_or_else(String::new, short);
        let stored: u64 = stored.trim_start_matches(char::is_alphabetic).parse().unwrap_or(0);
        assert!(stored <= cursor, "{stored} is stored and {cursor} handled");
    }
}

fn any_config() -> impl Strategy<Value = Config> {
    let delivery_mode = prop_oneof![
        Just(DeliveryMode::Items),
        Just(DeliveryMode::Batches),
        (1usize..2000).prop_map(|in_flight_bytes| DeliveryMode::Stream { in_flight_bytes }),
    ];
    let retry = prop_oneof![Just(RetryPolicy::forever()), (0u32..3).prop_map(RetryPolicy::times)];
    let storing = prop::option::of((1u32..5).prop_map(|every| Storing { every, ..Storing::default() }));
    (delivery_mode, retry, storing).prop_map(|(delivery_mode, retry, storing)| Config {
        delivery_mode,
        retry,
        storing,
        start: "oldest".into(),
        ..Config::default()
    })
}

fn any_chance() -> impl Strategy<Value = (Chance, u64, bool)> {
    let chance = prop_oneof![
        6 => Just(Chance::Good), 3 => Just(Chance::Bad), 1 => Just(Chance::Cut), 1 => Just(Chance::Late)
    ];
    (chance, any::<u64>(), any::<bool>())
}

proptest! {
    #[test]
    fn each_item_has_exactly_one_committed_outcome(
        config in any_config(), chances in prop::collection::vec(any_chance(), 0..200),
    ) {
        // The failure of a batch may come before those of the item.
        let limit = config.retry.is_limited().then_some(2 + u32::from(config.delivery_mode == DeliveryMode::Batches));
        let mut judge = Judge::new(config);
        for (chance, number, ack_result) in chances {
            if ack_result {
                judge.ack_result(chance, number);
            } else {
                judge.answer(chance, number);
            }
            judge.check(limit);
        }
        // Once everything goes well, everything has its outcome.
        for round in 0..400 {
            judge.answer(Chance::Good, round);
            judge.ack_result(Chance::Good, 0);
            judge.check(limit);
        }
        let all = (1..=judge.head).map(|seq| judge.outcomes.get(&format!("a{seq}")).copied().unwrap_or_default());
        prop_assert!(all.clone().all(|(good, dead)| good + dead == 1), "{:?}", judge.outcomes);
        judge.step(Input::Stop);
        if matches!(judge.world.action, Action::Save { .. }) {
            judge.answer(Chance::Good, 0);
            prop_assert_eq!(&judge.stored, &Some(judge.world.link.status().cursor.clone()));
        }
        prop_assert_eq!(&judge.world.action, &Action::Finish);
    }
}
