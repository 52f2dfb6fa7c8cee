//! The dedup window against a list that is searched from the end.

use super::*;
use proptest::prelude::*;

fn key(n: u8) -> Key {
    Key::new("/s", &n.to_string())
}

proptest! {
    #[test]
    fn recognises_exactly_what_is_within_both_bounds(
        ops in prop::collection::vec((0u8..12, 0u64..40), 1..200), age in 1u64..100, ids in 1usize..8,
    ) {
        let bounds = Bounds { age: Duration::from_millis(age), ids, bytes: usize::MAX };
        let mut dedup = Dedup::new(bounds);
        let (mut published, mut now) = (Vec::<(u8, Duration, usize)>::new(), Duration::ZERO);
        for (value, (id, wait)) in ops.into_iter().enumerate() {
            now += Duration::from_millis(wait);
            let recent = &published[published.len().saturating_sub(ids)..];
            let known = recent.iter().rfind(|(known, at, _)| *known == id && now - *at <= bounds.age);
            let expected = known.map(|(_, _, value)| *value);
            prop_assert_eq!(dedup.get(&key(id), now), expected);
            if expected.is_none() {
                dedup.remember(key(id), value, now);
                published.push((id, now, value));
            }
            check_horizon(&mut dedup, &published, bounds, now)?;
        }
    }
}

/// The horizon is as far back as it can be, and everything published within it is recognised.
fn check_horizon(
    dedup: &mut Dedup<usize>,
    published: &[(u8, Duration, usize)],
    bounds: Bounds,
    now: Duration,
) -> Result<(), TestCaseError> {
    let horizon = dedup.horizon(now);
    let (cut, _) = published.split_at(published.len().saturating_sub(bounds.ids));
    let latest_cut = cut.last().map(|(_, at, _)| now - *at);
    prop_assert_eq!(horizon, latest_cut.unwrap_or(bounds.age).min(bounds.age));
    for (id, at, value) in published.iter().filter(|(_, at, _)| now - *at < horizon) {
        prop_assert_eq!(dedup.get(&key(*id), now), Some(*value), "published at {:?}", at);
    }
    Ok(())
}

#[test]
fn source_and_id_do_not_run_into_one_another() {
    assert_ne!(Key::new("/a", "b1"), Key::new("/ab", "1"));
    assert_ne!(Key::new("/a", "1"), Key::new("/b", "1"));
}

#[test]
fn the_count_bound_shortens_the_horizon() {
    let mut dedup = Dedup::new(Bounds { age: Duration::from_secs(100), ids: 2, bytes: usize::MAX });
    dedup.remember(key(1), (), Duration::from_secs(10));
    assert_eq!(dedup.horizon(Duration::from_secs(15)), Duration::from_secs(100));
    dedup.remember(key(2), (), Duration::from_secs(20));
    dedup.remember(key(3), (), Duration::from_secs(30));
    assert_eq!(
        dedup.horizon(Duration::from_secs(31)),
        Duration::from_secs(21),
        "what came after the one that went"
    );
    assert_eq!(dedup.get(&key(1), Duration::from_secs(31)), None);
    assert_eq!(dedup.get(&key(2), Duration::from_secs(31)), Some(()));
}

#[test]
fn the_bytes_bound_counts_sources_and_ids() {
    let long = |n: u8| Key::new(&"s".repeat(1_000), &n.to_string());
    let bounds = Bounds { bytes: 2_500, ..Bounds::default() };
    let mut dedup = Dedup::new(bounds);
    for n in 1..=3 {
        dedup.remember(long(n), n, Duration::from_secs(u64::from(n)));
    }
    let now = Duration::from_secs(4);
    assert_eq!([1, 2, 3].map(|n| dedup.get(&long(n), now)), [None, Some(2), Some(3)]);
    assert_eq!(dedup.horizon(now), Duration::from_secs(3));
    assert_eq!(dedup.horizon(Duration::from_secs(600)), bounds.age, "what went would have gone by now");
}

#[test]
fn what_is_too_old_gives_its_memory_back() {
    let mut dedup = Dedup::new(Bounds::default());
    for n in 0..=200 {
        dedup.remember(key(n), (), Duration::ZERO);
    }
    dedup.trim(Duration::from_secs(120));
    assert_eq!((dedup.order.len(), dedup.bytes > 0), (201, true));
    dedup.trim(Duration::from_secs(121));
    assert_eq!((dedup.order.len(), dedup.bytes, dedup.values.len()), (0, 0, 0));
    assert!(dedup.order.capacity() < 16 && dedup.values.capacity() < 16);
    assert_eq!(
        dedup.horizon(Duration::from_secs(121)),
        Bounds::default().age,
        "nothing went before its time"
    );
}
