//! Which streams will do, and what is said of the others.

use galaxy_push_core::ambient::Ambient;

use super::*;

/// What a hub would make.
fn wanted() -> Config {
    let mut config = Config {
        name: "p-default".into(),
        subjects: vec!["p.default.log".into()],
        num_replicas: 3,
        max_age: Duration::from_secs(680),
        max_bytes: 1 << 30,
        ..Config::default()
    };
    config.metadata.insert(EPOCH.to_owned(), Epoch::with_holes(7 << 24).to_string());
    config
}

fn found(change: impl FnOnce(&mut Config)) -> String {
    let mut found = wanted();
    change(&mut found);
    difference(&found, &wanted()).unwrap_or_default()
}

#[test]
fn a_stream_that_keeps_as_much_or_more_will_do() {
    assert_eq!(found(|_| {}), "");
    assert_eq!(found(|found| (found.max_age, found.max_bytes) = (Duration::ZERO, -1)), "", "without bounds");
    assert_eq!(found(|found| (found.max_bytes, found.num_replicas) = (2 << 30, 5)), "");
}

#[test]
fn what_will_not_do_is_told_with_what_to_do() {
    for (said, parts) in [
        (found(|found| found.metadata.clear()), ["no hub has made it", "--nats-prefix"]),
        (
            found(|found| _ = found.metadata.insert(EPOCH.into(), Epoch(1).to_string())),
            ["no hub", "--nats-prefix"],
        ),
        (found(|found| found.subjects.push("more".into())), ["its subjects", "--nats-prefix"]),
        (found(|found| found.no_ack = true), ["does not acknowledge", "--nats-prefix"]),
        (found(|found| found.storage = StorageType::Memory), ["must keep files", "--nats-prefix"]),
        (found(|found| found.discard = DiscardPolicy::New), ["discard what is old", "--nats-prefix"]),
        (
            found(|found| found.num_replicas = 1),
            ["nats stream edit p-default --replicas 3", "lower --nats-replicas"],
        ),
        (found(|found| found.max_age = Duration::from_secs(1)), ["--max-age 680s", "lower --window-age"]),
        (found(|found| found.max_bytes = 1), ["--max-bytes 1073741824", "lower --window-bytes"]),
        (found(|found| found.max_messages = 10), ["bounded by time and bytes", "--nats-prefix"]),
        (found(|found| found.max_message_size = 10), ["messages of 10 bytes", "--nats-prefix"]),
    ] {
        assert!(parts.iter().all(|part| said.contains(part)), "{parts:?} in {said:?}");
    }
}

#[test]
fn names_and_numbers_are_checked() {
    let with = |prefix: &str, replicas| {
        let mut options = Options::new(Vec::new(), Ambient::new(|| 0, || 0));
        (options.prefix, options.replicas) = (prefix.to_owned(), replicas);
        check(&options).is_ok()
    };
    assert!(with("a-b_9", 1) && with("x", 5));
    for (prefix, replicas) in [("", 1), ("a.b", 1), ("a b", 1), ("a*", 1), ("a", 0), ("a", 6)] {
        assert!(!with(prefix, replicas), "{prefix:?} {replicas}");
    }
}
