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
        let bounds = Bounds { age: Duration::from_millis(age), ids };
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
    let recent = &published[published.len().saturating_sub(bounds.ids)..];
    let oldest = recent.first().filter(|_| recent.len() == bounds.ids).map(|(_, at, _)| now - *at);
    prop_assert_eq!(horizon, oldest.unwrap_or(bounds.age).min(bounds.age));
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
    let mut dedup = Dedup::new(Bounds { age: Duration::from_secs(100), ids: 2 });
    dedup.remember(key(1), (), Duration::from_secs(10));
    assert_eq!(dedup.horizon(Duration::from_secs(15)), Duration::from_secs(100));
    dedup.remember(key(2), (), Duration::from_secs(20));
    dedup.remember(key(3), (), Duration::from_secs(30));
    assert_eq!(dedup.horizon(Duration::from_secs(31)), Duration::from_secs(11));
    assert_eq!(dedup.get(&key(1), Duration::from_secs(31)), None);
    assert_eq!(dedup.get(&key(2), Duration::from_secs(31)), Some(()));
}
