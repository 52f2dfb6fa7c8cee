//! Readers that pause: the smallest events do not end the connection, and nothing is lost.

use galaxy_push_hub::Config;
use galaxy_push_proto::v1::push_event::Kind;

use crate::world::{World, event};

/// HTTP/2 implementations count small DATA frames that a receiver leaves unread and end the connection when they are
/// too many. With the windows of DESIGN.md §7 even one frame per smallest event stays within that budget.
#[tokio::test(start_paused = true)]
async fn a_paused_reader_of_the_smallest_events_keeps_its_connection() {
    const EVENTS: u64 = 60_000;
    let world = World::new(Config::default());
    let mut reading = world.read("gw", "").await;
    reading.until("caught up").await;
    for i in 0..EVENTS {
        world.publish_all(vec![event(&i.to_string())]).await;
        tokio::task::yield_now().await; // so that it goes out alone
    }
    let mut next = 1;
    while next <= EVENTS {
        let frame = reading.frame().await.unwrap().unwrap();
        match frame.kind.unwrap() {
            Kind::Event(_) => {
                assert_eq!(frame.cursor, world.at(next));
                next += 1;
            }
            Kind::Progress(_) | Kind::CaughtUp(_) | Kind::FellBehind(_) => {}
            other => panic!("{other:?}"),
        }
    }
}
