//! What a client tells the hub about itself: when, over what, and when no more.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use galaxy_push_client::{HandlerError, Item, State};
use galaxy_push_proto::v1::GatewayReport;
use http::HeaderMap;
use tokio::time::sleep;
use tonic::Code;

use crate::hub::{Dial, Hub, Notes, Step, at, caught_up, code, event, heartbeats, seconds, until, welcome};

const SUBSCRIBE: &str = "/push.v1.Push/SubscribePush";
const REPORT: &str = "/push.v1.Push/Report";
const FIVE: Duration = Duration::from_secs(5);

/// A report is taken.
fn taken() -> Vec<Step> {
    vec![
        Step::Send(vec![0; 5]),
        Step::End(HeaderMap::from_iter([("grpc-status".parse().unwrap(), "0".parse().unwrap())])),
    ]
}

/// Live at 5 for ever, with these steps before.
fn live(steps: Vec<Step>) -> Dial {
    let for_ever = heartbeats(5, 1_000);
    Dial::Serve([vec![welcome(&at(5)), caught_up(5)], steps, for_ever].concat())
}

fn reports(hub: &Hub) -> Vec<GatewayReport> {
    let all = hub.requests::<GatewayReport>().into_iter().zip(hub.paths());
    all.filter(|(_, path)| path == REPORT).map(|(report, _)| report).collect()
}

#[tokio::test(start_paused = true)]
async fn reports_what_changed_over_a_connection_of_their_own() {
    let hub = Hub::new([live([heartbeats(5, 4), vec![event(6), event(7)]].concat()), Dial::Serve(taken())]);
    let users = Arc::new(AtomicU64::new(3));
    let counted = users.clone();
    let client = hub.client().instance_id("i").report_every(FIVE);
    let client = client.report_connections(move || counted.load(Ordering::Relaxed));
    let client = client.start(Notes::default().handler()).unwrap();
    sleep(Duration::from_secs(19)).await;
    let told = reports(&hub);
    assert_eq!(told.len(), 1, "nothing has changed since: {told:?}");
    assert_eq!((&*told[0].gateway_client_id, &*told[0].instance_id), ("gateway-1", "i"));
    assert_eq!((told[0].handled_cursor.clone(), told[0].connections), (at(5), 3));
    sleep(Duration::from_secs(10)).await;
    users.store(4, Ordering::Relaxed);
    sleep(Duration::from_secs(60)).await;
    let told: Vec<_> =
        reports(&hub).into_iter().map(|told| (told.handled_cursor, told.connections)).collect();
    assert_eq!(told, [(at(5), 3), (at(7), 3), (at(7), 4)]);
    let first = hub.dial_times()[1];
    assert!((3.75..=6.25).contains(&first), "after {first} s");
    assert_eq!(hub.dial_times().len(), 2, "one connection for the stream, one for reports");
    assert_eq!(hub.paths(), [SUBSCRIBE, REPORT, REPORT, REPORT]);
    assert_eq!(client.counters().dials, 1, "of streams");
}

#[tokio::test(start_paused = true)]
async fn what_is_not_handled_is_not_reported() {
    let hub = Hub::new([live(vec![event(6), event(7)]), Dial::Serve(taken())]);
    let handler = async |item: Item| {
        if item.cursor() == at(7) {
            sleep(Duration::from_secs(30)).await;
        }
        Ok::<_, HandlerError>(())
    };
    let client = hub.client().report_every(FIVE).start(handler).unwrap();
    sleep(Duration::from_secs(25)).await;
    assert_eq!(reports(&hub).last().unwrap().handled_cursor, at(6), "while the handler is at 7");
    sleep(Duration::from_secs(20)).await;
    assert_eq!(reports(&hub).last().unwrap().handled_cursor, at(7));
    drop(client);
}

#[tokio::test(start_paused = true)]
async fn a_hub_that_refuses_reports_is_not_asked_again_while_the_stream_lives() {
    for refused in [Code::Unimplemented, Code::PermissionDenied] {
        let hub = Hub::new([
            live((6..60).flat_map(|seq| [seconds(5), event(seq)]).collect()),
            Dial::Serve(vec![code(refused)]),
        ]);
        let client = hub.client().report_every(FIVE).start(Notes::default().handler()).unwrap();
        sleep(Duration::from_secs(200)).await;
        assert_eq!((reports(&hub).len(), hub.dial_times().len()), (1, 2), "{refused:?}");
        assert_eq!((client.status().borrow().state, client.counters().lost), (State::Live, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_that_befalls_a_report_touches_the_stream() {
    let befalls = [
        Dial::Refused,
        Dial::Hang,
        Dial::Serve(vec![Step::Ignore]),
        Dial::Serve(vec![Step::Cut]),
        Dial::Serve(vec![code(Code::Unavailable)]),
        Dial::Serve(taken()),
    ];
    let hub = Hub::new([live(vec![])].into_iter().chain(befalls));
    let client = hub.client().report_every(FIVE).start(Notes::default().handler()).unwrap();
    hub.dialed(7).await;
    sleep(Duration::from_secs(100)).await;
    let times = hub.dial_times();
    assert_eq!(times.len(), 7, "once it is told there is nothing to say: {times:?}");
    let pauses: Vec<_> = times.windows(2).skip(1).map(|pair| pair[1] - pair[0]).collect();
    assert!(pauses.iter().all(|pause| *pause >= 3.75), "no report is tried again at once: {pauses:?}");
    let status = client.status().borrow().clone();
    assert_eq!((status.state, status.counters.dials, status.counters.lost), (State::Live, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn without_a_stream_there_are_no_reports_and_a_new_stream_is_told_anew() {
    let hub = Hub::new([
        Dial::Serve(vec![welcome(&at(5)), caught_up(5), seconds(8), Step::Cut]),
        Dial::Serve(taken()),
        Dial::Refused,
        Dial::Refused,
        live(vec![]),
        Dial::Serve(taken()),
    ]);
    let client = hub.client().report_every(FIVE).start(Notes::default().handler()).unwrap();
    until(&client, |status| status.attempt == 2 && status.state == State::Live).await;
    sleep(Duration::from_secs(60)).await;
    assert_eq!(hub.paths(), [SUBSCRIBE, REPORT, SUBSCRIBE, REPORT]);
    let last = reports(&hub).pop().unwrap();
    assert_eq!((last.handled_cursor, last.counts["ends.unreachable"]), (at(5), 2));
    assert_eq!(last.counts["ends.transport"], 1);
    client.shutdown().await;
    let dials = hub.dial_times().len();
    sleep(Duration::from_secs(60)).await;
    assert_eq!(hub.dial_times().len(), dials, "a client that has stopped says nothing");
}

#[tokio::test(start_paused = true)]
async fn a_client_reports_nothing_unless_asked_to() {
    let hub = Hub::new([live(vec![])]);
    let _client = hub.client().start(Notes::default().handler()).unwrap();
    sleep(Duration::from_secs(60)).await;
    assert_eq!((hub.dial_times().len(), hub.paths()), (1, vec![SUBSCRIBE.to_owned()]));
    let zero = hub.client().report_every(Duration::ZERO).start(Notes::default().handler());
    assert!(zero.unwrap_err().to_string().contains("the report deadline is zero"));
}
