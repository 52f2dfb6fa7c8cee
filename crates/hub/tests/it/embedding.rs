//! The hub inside another server: the example runs as it stands.

use galaxy_push_hub::{PublisherService, PushService};
use tonic::server::NamedService;

#[expect(dead_code, reason = "an example has a main of its own")]
#[path = "../../examples/embed.rs"]
mod embed;

#[tokio::test]
async fn a_service_mounts_the_hub_and_publishes_in_process() {
    let received = embed::run().await.unwrap();
    assert_eq!(received, r#"{"order":7}"#);
}

#[test]
fn services_have_their_names() {
    assert_eq!((PushService::NAME, PublisherService::NAME), ("push.v1.Push", "push.v1.Publisher"));
}
