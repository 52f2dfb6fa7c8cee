//! What one turn may cost the others, who wait for the log's lock meanwhile.

use galaxy_push_core::ambient::Ambient;
use galaxy_push_listener::Outflow;
use galaxy_push_proto::v1::{Event, GatewaySubscribeRequest};

use super::request::SubscribeRequest;
use super::*;
use crate::app::Hub;
use crate::app::config::Config;
use crate::state::access::Caller;
use crate::state::ownership::register::Registered;

fn event(id: usize, to: &str) -> Event {
    Event {
        to: vec![to.to_owned()],
        id: id.to_string(),
        source: "/s".to_owned(),
        r#type: "t".to_owned(),
        ..Event::default()
    }
}

/// The fault: what HTTP/2 still held, because the peer's window was closed, counted as taken, and a gateway that was cut off had
/// nothing left, it was said.
#[tokio::test(start_paused = true)]
async fn what_http_holds_is_left_for_who_is_cut_off() {
    let hub = Hub::in_memory(Config::default(), Ambient::new(|| 0, || 4)).unwrap();
    let request =
        GatewaySubscribeRequest { gateway_client_id: "gw".to_owned(), ..GatewaySubscribeRequest::default() };
    let wanted = SubscribeRequest::check(request, "peer".to_owned(), &Caller::process()).unwrap();
    let mut stream = Subscription::open(&hub.shared, wanted, Outflow::default(), None).await.unwrap();
    let mut held = Vec::new();
    for count in [1, 3, 5] {
        hub.publish((0..count).map(|i| event(count * 10 + i, "all")).collect()).await.unwrap();
        held.extend(stream.next().await.unwrap().into_data());
    }
    // It is asked for more, and there is none.
    assert!(futures_util::FutureExt::now_or_never(stream.next()).is_none());
    assert!(stream.send_progress.is_pending());
    let taken = stream.gauge.mark_cut_off().unwrap();
    assert_eq!(taken, galaxy_push_core::window::Slot::default());
    drop(held);
    assert!(!stream.send_progress.is_pending());
}

/// The fault: such a stream took over the number of its register, which a newer one here may have, and freed the id as it ended.
#[tokio::test(start_paused = true)]
async fn who_gave_way_before_its_register_was_written_does_not_free_the_id() {
    let hub = Hub::in_memory(Config::default(), Ambient::new(|| 0, || 4)).unwrap();
    let open = || {
        let request = GatewaySubscribeRequest {
            gateway_client_id: "gw".to_owned(),
            ..GatewaySubscribeRequest::default()
        };
        let wanted = SubscribeRequest::check(request, "peer".to_owned(), &Caller::process()).unwrap();
        Subscription::open(&hub.shared, wanted, Outflow::default(), None)
    };
    let mut older = open().await.unwrap();
    let newer = open().await.unwrap();
    let own = older.generation;
    assert_ne!(own, newer.generation);
    older.registered(Registered::Written(newer.generation));
    assert_eq!((older.generation, older.welcome.generation), (own, own));
    drop(older);
    assert!(
        hub.shared.log.with_state(|state, _| state.gateways.is_current("gw", newer.generation)),
        "it is the newer one's"
    );
}

#[tokio::test(start_paused = true)]
async fn a_sparse_filter_gives_the_lock_back_between_what_it_finds() {
    let hub = Hub::in_memory(Config::default(), Ambient::new(|| 0, || 4)).unwrap();
    for batch in 0..40 {
        let to = |i: usize| if i.is_multiple_of(500) { "user:1" } else { "user:2" };
        hub.publish((0..1_000).map(|i| event(batch * 1_000 + i, to(i))).collect()).await.unwrap();
    }
    let request = GatewaySubscribeRequest {
        gateway_client_id: "gw".to_owned(),
        cursor: "oldest".to_owned(),
        recipients: vec!["user:1".to_owned()],
        ..GatewaySubscribeRequest::default()
    };
    let wanted = SubscribeRequest::check(request, "peer".to_owned(), &Caller::process()).unwrap();
    let mut stream = Subscription::open(&hub.shared, wanted, Outflow::default(), None).await.unwrap();
    let (mut turns, mut bytes) = (0, 0);
    while !stream.reader.is_live() {
        let before = stream.reader.next();
        if let Turn::Data(data) = stream.turn() {
            bytes += data.len();
        }
        let looked_at = stream.reader.next().since(before);
        assert!(looked_at < 2 * ENTRIES_PER_TURN, "{looked_at} entries under one lock");
        turns += 1;
    }
    assert!((5..50).contains(&turns) && bytes > 80 * 40, "{turns} turns, {bytes} bytes");
}
