//! What is remembered of those who have left.

use std::net::Ipv4Addr;

use super::*;

/// An address with IPv6 has many networks to come from: each that stayed would be memory that is never given back.
#[tokio::test(start_paused = true)]
async fn an_address_is_forgotten_with_its_last_stranger() {
    let policy = SlotPolicy {
        anonymous: Some(AnonymousSlots { slots: 100, per_address: 2 }),
        ..SlotPolicy::default()
    };
    let slots = ConnectionSlots::new("test", &Limits::hub(), policy);
    let addresses = || slots.lock().of_address.len();
    let enter = |last| slots.enter(Ipv4Addr::new(192, 0, 2, last).into()).unwrap();
    let (first, second, other) = (enter(1), enter(1), enter(2));
    assert_eq!(addresses(), 2);
    drop(first);
    assert_eq!(addresses(), 2, "one of them is there yet");
    drop(second);
    assert_eq!(addresses(), 1);
    other.connection().authenticate().unwrap();
    assert_eq!(addresses(), 0, "who is known counts by address no more");
    drop(other);
    assert_eq!((addresses(), slots.taken()), (0, SlotCounts::default()));
}
