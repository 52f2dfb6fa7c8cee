//! Replay and live join without a hole or a repeat, however publishing and subscribing interleave.

use std::time::Duration;

use galaxy_push_hub::Config;
use galaxy_push_proto::v1::push_event::Kind;

use crate::world::{World, event};

/// Subscribes in the middle of a stream of publishes, over and over, on several threads and on real time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_event_is_missed_or_repeated_at_the_seam() {
    const ROUNDS: u64 = 200;
    const EVENTS: u64 = 200;
    for round in 0..ROUNDS {
        let world = std::sync::Arc::new(World::new(Config::default()));
        let publisher = {
            let world = world.clone();
            tokio::spawn(async move {
                for i in 0..EVENTS / 2 {
                    world.publish_all(vec![event(&format!("{i}")), event(&format!("{i}'"))]).await;
                    if i % 7 == 0 {
                        tokio::task::yield_now().await;
                    }
                }
            })
        };
        for _ in 0..round % 5 {
            tokio::task::yield_now().await;
        }
        let mut reading = world.read("gw", "oldest").await;
        let (mut next, mut caught_up) = (1, 0);
        while next <= EVENTS {
            let read = tokio::time::timeout(Duration::from_secs(20), reading.frame()).await;
            let frame =
                read.unwrap_or_else(|_| panic!("round {round}: stuck before {next}")).unwrap().unwrap();
            match frame.kind.unwrap() {
                Kind::Event(_) => {
                    assert_eq!(frame.cursor, world.at(next), "round {round}");
                    next += 1;
                }
                Kind::CaughtUp(_) => caught_up += 1,
                Kind::Welcome(_) | Kind::Progress(_) => {}
                other => panic!("round {round}: {other:?}"),
            }
        }
        assert!(caught_up <= 1, "round {round}");
        publisher.await.unwrap();
    }
}
