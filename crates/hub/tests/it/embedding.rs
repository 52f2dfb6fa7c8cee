//! The hub inside another server: the examples run as they stand.

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

#[expect(dead_code, reason = "an example has a main of its own")]
#[path = "../../examples/on_disk.rs"]
mod on_disk;

#[tokio::test]
async fn a_service_keeps_its_log_in_a_folder() {
    let folder = tempfile::TempDir::new().unwrap();
    let folder = folder.path().join("log");
    assert_eq!(on_disk::run(&folder).await.unwrap(), (0, 1));
    assert_eq!(on_disk::run(&folder).await.unwrap(), (1, 2), "what was published is there again");
}

#[test]
fn services_have_their_names() {
    assert_eq!((PushService::NAME, PublisherService::NAME), ("push.v1.Push", "push.v1.Publisher"));
}
