//! The dedup window against a list that is searched from the end.

use super::*;
use proptest::prelude::*;

const CONTENT: Content = Content([0; 16]);

fn key(n: u8) -> Key {
    Key::new(&Arc::default(), "/s", &n.to_string())
}

/// The value, if the key is known with the one content.
fn get<V: Copy + std::fmt::Debug>(dedup: &mut Dedup<V>, key: &Key, now: Duration) -> Option<V> {
    match dedup.look_up(key, CONTENT, now) {
        Known::No => None,
        Known::Same(value) => Some(value),
        Known::Other => panic!("there is one content"),
    }
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
            prop_assert_eq!(get(&mut dedup, &key(id), now), expected);
            if expected.is_none() {
                dedup.remember(key(id), CONTENT, value, now);
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
        prop_assert_eq!(get(dedup, &key(*id), now), Some(*value), "published at {:?}", at);
    }
    Ok(())
}

#[test]
fn source_and_id_do_not_run_into_one_another() {
    let key = |source, id| Key::new(&Arc::default(), source, id);
    assert_ne!(key("/a", "b1"), key("/ab", "1"));
    assert_ne!(key("/a", "1"), key("/b", "1"));
    assert_ne!(key("/a", "1"), Key::new(&"p".into(), "/a", "1"));
    assert_ne!(Content::of([&b"ab"[..], b""]), Content::of([&b"a"[..], b"b"]));
}

#[test]
fn the_count_bound_shortens_the_horizon() {
    let mut dedup = Dedup::new(Bounds { age: Duration::from_secs(100), ids: 2, bytes: usize::MAX });
    dedup.remember(key(1), CONTENT, (), Duration::from_secs(10));
    assert_eq!(dedup.horizon(Duration::from_secs(15)), Duration::from_secs(100));
    dedup.remember(key(2), CONTENT, (), Duration::from_secs(20));
    dedup.remember(key(3), CONTENT, (), Duration::from_secs(30));
    assert_eq!(
        dedup.horizon(Duration::from_secs(31)),
        Duration::from_secs(21),
        "what came after the one that went"
    );
    assert_eq!(get(&mut dedup, &key(1), Duration::from_secs(31)), None);
    assert_eq!(get(&mut dedup, &key(2), Duration::from_secs(31)), Some(()));
}

#[test]
fn the_bytes_bound_counts_sources_and_ids() {
    let long = |n: u8| Key::new(&Arc::default(), &"s".repeat(1_000), &n.to_string());
    let bounds = Bounds { bytes: 2_500, ..Bounds::default() };
    let mut dedup = Dedup::new(bounds);
    for n in 1..=3 {
        dedup.remember(long(n), CONTENT, n, Duration::from_secs(u64::from(n)));
    }
    let now = Duration::from_secs(4);
    assert_eq!([1, 2, 3].map(|n| get(&mut dedup, &long(n), now)), [None, Some(2), Some(3)]);
    assert_eq!(dedup.horizon(now), Duration::from_secs(3));
    assert_eq!(dedup.horizon(Duration::from_secs(600)), bounds.age, "what went would have gone by now");
}

#[test]
fn what_is_too_old_gives_its_memory_back() {
    let mut dedup = Dedup::new(Bounds::default());
    for n in 0..=200 {
        dedup.remember(key(n), CONTENT, (), Duration::ZERO);
    }
    dedup.trim(Duration::from_secs(120));
    assert_eq!((dedup.ids, dedup.bytes > 0, dedup.shares.len()), (201, true, 1));
    dedup.trim(Duration::from_secs(121));
    assert_eq!((dedup.ids, dedup.bytes, dedup.shares.len()), (0, 0, 0));
    assert_eq!(
        dedup.horizon(Duration::from_secs(121)),
        Bounds::default().age,
        "nothing went before its time"
    );
}

#[test]
fn what_is_half_too_old_gives_half_of_its_memory_back() {
    let mut dedup = Dedup::new(Bounds::default());
    for n in 0..=200 {
        dedup.remember(key(n), CONTENT, (), Duration::from_secs(u64::from(n == 200)));
    }
    dedup.trim(Duration::from_secs(121));
    let share = &dedup.shares[""];
    assert_eq!((dedup.ids, share.order.len(), share.values.len()), (1, 1, 1));
    assert!(share.order.capacity() < 16 && share.values.capacity() < 16);
}

#[test]
fn another_content_is_known_as_such() {
    let mut dedup = Dedup::new(Bounds::default());
    dedup.remember(key(1), CONTENT, 7, Duration::ZERO);
    assert_eq!(dedup.look_up(&key(1), CONTENT, Duration::ZERO), Known::Same(7));
    assert_eq!(dedup.look_up(&key(1), Content([1; 16]), Duration::ZERO), Known::Other);
}

#[test]
fn nobody_flushes_the_ids_of_another() {
    for bounds in [Bounds { ids: 100, ..Bounds::default() }, Bounds { bytes: 1_000, ..Bounds::default() }] {
        let mut dedup = Dedup::new(bounds);
        let of = |name: &str, n: u32| Key::new(&name.into(), "/s", &format!("{n:06}"));
        for n in 0..30 {
            dedup.remember(of("quiet", n), CONTENT, n, Duration::from_secs(1));
        }
        for n in 0..10_000 {
            dedup.remember(of("loud", n), CONTENT, n, Duration::from_secs(2));
        }
        let now = Duration::from_secs(3);
        assert!((0..30).all(|n| get(&mut dedup, &of("quiet", n), now) == Some(n)));
        assert_eq!(get(&mut dedup, &of("loud", 9_999), now), Some(9_999));
        assert!(dedup.ids <= bounds.ids && dedup.bytes <= bounds.bytes);
        assert_eq!(dedup.horizon(now), Duration::from_secs(1), "of whoever fares worst");
        // And the place of whoever was here first is given back to those who come later.
        dedup.remember(of("late", 0), CONTENT, 0, now);
        assert_eq!(get(&mut dedup, &of("late", 0), now), Some(0));
    }
}

proptest! {
    /// Whoever remembers no more than an equal part of the bounds loses nothing before its time, whatever others do.
    #[test]
    fn an_equal_part_is_everybodys_own(
        ops in prop::collection::vec((0u8..4, 0u64..10), 1..400), age in 20u64..200, ids in 4usize..40,
    ) {
        let bounds = Bounds { age: Duration::from_millis(age), ids, bytes: usize::MAX };
        let (mut dedup, mut now) = (Dedup::new(bounds), Duration::ZERO);
        let mut published = Vec::<(u8, Duration)>::new();
        let key = |publisher: u8, n: usize| Key::new(&publisher.to_string().into(), "/s", &n.to_string());
        for (publisher, wait) in ops {
            now += Duration::from_millis(wait);
            dedup.remember(key(publisher, published.len()), CONTENT, published.len(), now);
            published.push((publisher, now));
            prop_assert!(dedup.ids <= ids);
            for each in 0..4u8 {
                let own = || published.iter().enumerate().filter(move |(_, (by, _))| *by == each);
                // Of the latest, as many as are everybody's own whoever else comes.
                let kept = own().rev().take(ids / 4).filter(|(_, (_, at))| now - *at <= bounds.age);
                for (n, _) in kept.collect::<Vec<_>>() {
                    prop_assert_eq!(get(&mut dedup, &key(each, n), now), Some(n));
                }
            }
        }
    }
}

#[test]
fn what_came_to_nothing_takes_no_room() {
    let bytes = 2 * key(0).text().len();
    let bounds = Bounds { bytes, ..Bounds::default() };
    let (mut dedup, nobody) = (Dedup::new(bounds), Arc::default());
    (0..2).for_each(|n| dedup.remember(key(n), CONTENT, n, Duration::ZERO));
    dedup.remember_for_now(key(2), CONTENT, 2, Duration::ZERO);
    dedup.take_back(&nobody, 1);
    dedup.confirm(&nobody, Duration::ZERO);
    let known = [0, 1, 2].map(|n| get(&mut dedup, &key(n), Duration::ZERO));
    assert_eq!(known, [Some(0), Some(1), None]);
}

#[test]
fn a_key_that_is_renewed_is_known_for_the_whole_age_from_then_on() {
    let ms = Duration::from_millis;
    let mut dedup = Dedup::new(Bounds { age: ms(10), ..Bounds::default() });
    let other = Content([1; 16]);
    dedup.remember(key(1), CONTENT, 1, ms(0));
    dedup.renew(key(1), CONTENT, 2, ms(4));
    dedup.renew(key(1), other, 3, ms(8));
    assert_eq!(dedup.look_up(&key(1), CONTENT, ms(11)), Known::Other, "the last content counts");
    assert_eq!(dedup.look_up(&key(1), other, ms(18)), Known::Same(3));
    assert_eq!(dedup.look_up(&key(1), other, ms(19)), Known::No);
    assert_eq!((dedup.len(), dedup.bytes), (0, 0));
    dedup.remember(key(1), CONTENT, 4, ms(19));
    assert_eq!(dedup.look_up(&key(1), CONTENT, ms(30)), Known::No, "nothing is left of it");
}
