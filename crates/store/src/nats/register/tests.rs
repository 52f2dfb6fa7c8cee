//! Keys and values of the fence's bucket, and what a hub remembers of it.

use super::*;

fn register() -> Register {
    let attempts = vec![("a".to_owned(), 7), ("b".to_owned(), 0)];
    let holder = Holder { generation: 9, instance: "b".into(), peer: "10.0.0.1:5".into(), attempts };
    Register { door: HubId(5), gateway: "edge-1".into(), holder }
}

#[test]
fn what_was_written_is_read() {
    for register in
        [register(), Register { door: HubId(0), gateway: String::new(), holder: Holder::default() }]
    {
        assert_eq!(Register::read(&register.write()), Ok(register));
    }
    let beat = Beat { number: 3, highest: u64::MAX };
    assert_eq!(Beat::read(&beat.write()), Ok(beat));
}

#[test]
fn what_no_hub_of_this_version_wrote_is_told() {
    let written = register().write();
    let mut later = written.clone();
    later[0] = 2;
    assert_eq!(Register::read(&later), Err(Unreadable::Version(2)));
    assert_eq!(Beat::read(&[2]), Err(Unreadable::Version(2)));
    // Where a register ends between two attempts it is one that knows fewer of them.
    let shorter: Vec<_> =
        (0..written.len()).filter(|length| Register::read(&written[..*length]).is_ok()).collect();
    assert_eq!(shorter, [written.len() - 26, written.len() - 13]);
    assert_eq!(Beat::read(&[1, 2]), Err(Unreadable::Foreign));
    let mut crowd = register();
    crowd.holder.attempts = (0..=INSTANCES_MAX as u64).map(|n| (n.to_string(), n)).collect();
    assert_eq!(Register::read(&crowd.write()), Err(Unreadable::Foreign));
}

#[test]
fn every_id_has_a_key_of_its_own_that_a_bucket_takes() {
    let long = "x".repeat(65);
    let ids = ["a", "A", "a.b", "a*b>", "ä ö", &long[..64], &long, "61"];
    let keys: std::collections::BTreeSet<_> = ids.iter().map(|id| key(id)).collect();
    assert_eq!(keys.len(), ids.len());
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-/_=.".contains(c);
    assert!(keys.iter().all(|key| key.len() < 150 && key.chars().all(allowed)), "{keys:?}");
    assert_eq!((key("a.b").as_str(), beat_key(HubId(10)).len()), ("id.612e62", 36));
}

#[test]
fn the_next_generation_lies_behind_all_that_a_hub_may_have_given_out_by_itself() {
    assert_eq!(used_up(0) + 1, APART);
    for highest in [APART, APART + 1, 2 * APART - 1] {
        assert_eq!(used_up(highest) + 1, 2 * APART, "{highest}");
    }
}

#[test]
fn a_hub_knows_what_it_holds_until_another_takes_it() {
    let holder = |generation| Holder { generation, ..Holder::default() };
    let generation = |held: &Held, id| held.holder(id).map(|holder| holder.generation);
    let mut held = Held::default();
    held.took("a", 1, holder(1));
    held.took("b", 2, holder(2));
    held.took("a", 3, holder(3));
    held.lost("b");
    held.lost("c");
    assert_eq!((generation(&held, "a"), generation(&held, "b")), (Some(3), None));
    for revision in 4..4 + HELD_MAX as u64 {
        held.took(&revision.to_string(), revision, holder(revision));
    }
    assert_eq!((generation(&held, "a"), generation(&held, "4")), (None, Some(4)), "the oldest goes first");
    assert_eq!((held.by_id.len(), held.by_revision.len()), (HELD_MAX, HELD_MAX));
}
