//! Keys and values of the fence's bucket, and what a hub remembers of it.

use std::time::Duration;

use super::*;
use crate::fence::TakeoverKind;

fn register() -> Register {
    let attempts = vec![("a".to_owned(), 7), ("b".to_owned(), 0)];
    let holder = Holder {
        generation: 9,
        instance: "b".into(),
        peer: "10.0.0.1:5".into(),
        attempts,
        ..Holder::default()
    };
    Register { door: HubId(5), gateway: "edge-1".into(), holder }
}

#[test]
fn what_was_written_is_read() {
    for register in
        [register(), Register { door: HubId(0), gateway: String::new(), holder: Holder::default() }]
    {
        assert_eq!(Register::read(&register.write()), Ok(register));
    }
    let beat = Beat { number: 3, highest: GENERATION_MAX - 1 };
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

/// As it is when many share an id: everything that is remembered of it at most.
fn fought_over() -> Register {
    let mut register = register();
    let ms = |ms| Duration::from_millis(1_700_000_000_000 + ms);
    let flap = &mut register.holder.flap;
    for n in 0..200 {
        flap.left(&format!("former-{n}"), n, ms(n));
    }
    for n in 0..10 {
        flap.took("b", n, "b", TakeoverKind::ReconnectWhileAlive, ms(n));
        flap.took("a", n, "b", TakeoverKind::OtherInstance, ms(n));
        flap.took("b", n, "a", TakeoverKind::OtherInstance, ms(n));
    }
    flap.hold_off(false, ms(7));
    flap.hold_off(true, ms(8));
    register.holder.attempts =
        (0..INSTANCES_MAX as u64).map(|n| ("x".repeat(254) + &n.to_string(), n)).collect();
    register
}

#[test]
fn what_was_remembered_of_a_fight_is_read_and_bounded() {
    let register = fought_over();
    let bytes = register.write();
    assert!(bytes.len() < 20_000, "{}", bytes.len());
    let read = Register::read(&bytes).unwrap();
    assert_eq!(read.holder.flap, register.holder.flap);
    assert_eq!(read.holder.attempts, register.holder.attempts[1..], "one attempt less, the oldest");
    assert_eq!(read.write(), bytes);
}

/// The form as the first hubs with a fence have it: all that they read, and what they make of it when they write.
fn as_before(bytes: &[u8]) -> Vec<(String, u64)> {
    let mut fields = versioned(bytes).unwrap();
    fields.take(16 + 8).unwrap();
    let skipped = (0..3).map(|_| fields.text().unwrap()).count();
    assert_eq!(skipped, 3);
    let mut attempts = Vec::new();
    while !fields.0.is_empty() {
        attempts.push((fields.text().unwrap().to_owned(), fields.u64().unwrap()));
    }
    assert!(attempts.len() <= INSTANCES_MAX, "a hub from before does not read it");
    attempts
}

#[test]
fn hubs_from_before_read_it_and_pass_on_what_they_do_not_know() {
    let register = fought_over();
    let before = as_before(&register.write());
    assert_eq!(before.last(), register.holder.attempts.last(), "who has it is the last");
    // It takes the id, as it always did: the latest is the last, and of too many the first goes.
    let mut passed_on = Register {
        holder: Holder { flap: OwnershipFlap::default(), ..register.holder.clone() },
        ..register.clone()
    };
    passed_on.holder.attempts = before[..INSTANCES_MAX - 1].to_vec();
    passed_on.holder.attempts.push(("newer".into(), 1));
    let read = Register::read(&passed_on.write()).unwrap();
    assert_eq!(read.holder.flap, register.holder.flap);
    assert!(read.holder.attempts.iter().all(|(instance, _)| !instance.contains(' ')));
    // And what they wrote.
    let old = self::register();
    assert_eq!(as_before(&old.write()), old.holder.attempts, "where nothing has happened it is as it was");
}

#[test]
fn what_cannot_be_read_of_a_fight_is_as_if_nothing_had_happened() {
    let plain = |text: &str, version| {
        let mut register = register();
        register.holder.attempts.insert(0, (text.to_owned(), version));
        let read = Register::read(&register.write()).unwrap().holder;
        assert_eq!(read.attempts, register.holder.attempts[1..]);
        read.flap
    };
    let (text, version) = as_before(&fought_over().write()).swap_remove(0);
    assert_eq!(plain(&text, version), fought_over().holder.flap);
    assert_eq!(plain(&(text.clone() + "00"), version + 1), fought_over().holder.flap, "a later one has more");
    for (text, version) in [
        (&text[..text.len() - 1], version),
        (&text[..text.len() - 2], version),
        (&text, 0),
        (" duel ", version),
        (" duel zz", version),
        (" duel \u{e4}", version),
        (&format!(" duel {}", "ff".repeat(4_000)), version),
    ] {
        assert_eq!(plain(text, version), OwnershipFlap::default(), "{text}");
    }
}
