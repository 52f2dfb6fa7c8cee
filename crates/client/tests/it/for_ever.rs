//! Settings that say "for ever" as people write it: `Duration::MAX`.

use std::time::Duration;

use galaxy_push_client::{MemoryCursorStore, Publisher, State};
use galaxy_push_proto::v1;
use tokio::time::sleep;

use crate::hub::{Dial, Hub, Notes, Step, at, caught_up, event, heartbeats, until, welcome};

#[tokio::test(start_paused = true)]
async fn every_duration_of_a_client_may_be_the_longest() {
    const MAX: Duration = Duration::MAX;
    type Setting = fn(galaxy_push_client::Builder) -> galaxy_push_client::Builder;
    let settings: [(&str, Setting); 7] = [
        ("leave_log_after", |builder| builder.hub("http://b").leave_log_after(MAX)),
        ("connect_deadline", |builder| builder.connect_deadline(MAX)),
        ("welcome_deadline", |builder| builder.welcome_deadline(MAX)),
        ("silence_deadline", |builder| builder.silence_deadline(MAX)),
        ("report_every", |builder| builder.report_every(MAX)),
        ("handler_deadline", |builder| builder.handler_deadline(MAX)),
        ("save_every", |builder| builder.cursor_store(MemoryCursorStore::default()).save_every(9, MAX)),
    ];
    for (name, set) in settings {
        let life = |from| {
            [vec![welcome(&at(from)), event(from + 1), caught_up(from + 1)], heartbeats(from + 1, 5)].concat()
        };
        let cut = [life(5), vec![Step::Cut]].concat();
        let hub =
            Hub::new([Dial::Serve(cut), Dial::Serve([life(6), heartbeats(7, 99)].concat())]).of_several();
        let notes = Notes::default();
        let client = set(hub.client()).start(notes.handler()).unwrap();
        hub.dialed(2).await;
        until(&client, |status| status.state == State::Live && status.cursor == at(7)).await;
        sleep(Duration::from_secs(120)).await;
        assert!(client.status().has_changed().is_ok(), "{name}: the driver lives");
        assert_eq!(client.shutdown().await.cursor, at(7), "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn every_duration_of_a_publisher_may_be_the_longest() {
    let hub = Hub::new([Dial::Refused, Dial::Hang]);
    let builder =
        || Publisher::builder().hub("http://hub").connector(hub.connector()).give_up_after(Duration::MAX);
    let mut publisher = builder().build().unwrap();
    let publish = publisher.publish(vec![v1::Event::default()]);
    assert!(tokio::time::timeout(Duration::from_secs(5), publish).await.is_err(), "it tries on");
    let stream = builder().build().unwrap().stream();
    let mut ack = stream.send(vec![v1::Event::default()]).await.unwrap();
    assert!(tokio::time::timeout(Duration::from_secs(5), &mut ack).await.is_err(), "it tries on");
}
