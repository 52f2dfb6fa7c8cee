//! What a hub holds, and until when it knows that.

use super::super::tests::World;
use super::*;

#[test]
fn what_a_hub_wrote_it_holds_unless_it_has_read_that_another_took_it_since() {
    let holder = |generation| Holder { generation, ..Holder::default() };
    let (mut known, now) = (Known::default(), Instant::now());
    known.wrote("a", 5, holder(1));
    assert_eq!(known.held.holder("a"), Some(&holder(1)), "before it was read back");
    let [own, other] = [HubId(1), HubId(2)];
    let of = |door, gateway: &str, number| Register { door, gateway: gateway.into(), holder: holder(number) };
    assert!(known.read(8, &of(other, "b", 3), own, now));
    known.wrote("b", 7, holder(2));
    assert_eq!((known.held.holder("b"), known.highest), (None, 3));
    known.wrote("c", 9, holder(4));
    assert!(!known.read(9, &of(own, "c", 4), own, now), "its own fence knows");
    assert_eq!((known.held.holder("c"), known.highest), (Some(&holder(4)), 4));
    assert!(known.read(10, &of(other, "a", 5), own, now));
    assert_eq!(known.held.holder("a"), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_fence_is_known_for_a_while_and_by_the_connection_that_there_is() {
    let Some(World { bucket, link, options, _broker, .. }) = World::begin().await else { return };
    let made = link.made();
    let fence = SharedFence::new(HubId(1), bucket, link, &options);
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

#[test]
fn a_hub_is_alive_for_a_while_after_each_beat() {
    let begun = Instant::now();
    let mut doors = Doors::default();
    let at = |ms| begun + Duration::from_millis(ms);
    doors.beat(&register::beat_key(HubId(1)), at(0));
    doors.beat(&register::beat_key(HubId(2)), at(1_500));
    assert!(doors.is_alive(HubId(1), at(1_999)) && !doors.is_alive(HubId(1), at(2_000)));
    assert!(doors.is_alive(HubId(2), at(2_000)) && !doors.is_alive(HubId(3), at(2_000)));
    for hub in 0..2 * DOORS_MAX as u128 {
        doors.beat(&register::beat_key(HubId(hub)), at(4_000));
    }
    assert_eq!(doors.0.len(), DOORS_MAX);
    doors.beat(&register::beat_key(HubId(u128::MAX)), at(6_000));
    assert!(doors.is_alive(HubId(u128::MAX), at(6_000)) && doors.0.len() == 1);
}

#[test]
fn a_beat_that_comes_back_tells_when_it_was_written() {
    let begun = Instant::now();
    let at = |n| begun + BEAT_EVERY * n;
    let mut beats = Beats::default();
    let numbers: Vec<_> = (1..=20).map(|n| beats.next(at(n))).collect();
    assert_eq!(numbers, (1..=20).collect::<Vec<_>>());
    beats.came_back(4);
    assert_eq!(beats.read, None, "so late nobody wants to know");
    beats.came_back(7);
    assert_eq!(beats.read, Some(at(7)));
    beats.came_back(6);
    beats.came_back(21);
    assert_eq!((beats.read, beats.under_way.len()), (Some(at(7)), 0));
    assert_eq!(beats.take_known(1), None, "more is to come");
    assert_eq!((beats.take_known(0), beats.take_known(0)), (Some(at(7)), None));
    let for_another = beats.next(at(30));
    beats.begin_anew();
    beats.came_back(for_another);
    assert_eq!(beats.read, None, "it may lie before what this consumer lacks");
}
