//! Until when a hub knows the fence.

use super::super::tests::World;
use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_fence_is_known_for_a_while_and_by_the_connection_that_there_is() {
    let Some(World { bucket, link, options, _broker, .. }) = World::begin().await else { return };
    let made = link.made();
    let fence = RegisterBucket::new(HubId(1), bucket, link, &options);
    let known = |at, made| {
        fence.known_at.send_replace(Some(KnownAt { at, made }));
        (fence.is_known(), fence.is_reached())
    };
    let ago = |ms| Instant::now() - Duration::from_millis(ms);
    // At no moment of the test is it long ago.
    let now = Instant::now() + Duration::from_secs(3_600);
    assert!(!fence.is_known() && !fence.is_reached(), "it was never read");
    assert_eq!(known(now, made), (true, true));
    assert_eq!(known(now, made - 1), (false, true), "by the connection before this one");
    assert!(!known(ago(800), made).0);
    assert_eq!(known(ago(2_000), made), (false, false));
}
