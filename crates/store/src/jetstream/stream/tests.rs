//! Which streams will do, and what is said of the others.

use async_nats::jetstream::stream::Source;
use galaxy_push_core::ambient::Ambient;
use galaxy_push_core::cursor::Cursor;
use serde_json::json;

use super::super::tests::World;
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
        (found(|found| found.sealed = true), ["is sealed", "--nats-prefix"]),
        (found(|found| found.no_ack = true), ["does not acknowledge", "--nats-prefix"]),
        (found(|found| found.mirror = Some(Source::default())), ["filled from another", "--nats-prefix"]),
        (
            found(|found| found.sources = Some(vec![Source::default()])),
            ["filled from another", "--nats-prefix"],
        ),
        (found(|found| found.storage = StorageType::Memory), ["must keep files", "--nats-prefix"]),
        (found(|found| found.retention = RetentionPolicy::WorkQueue), ["by limits", "--nats-prefix"]),
        (found(|found| found.discard = DiscardPolicy::New), ["discard what is old", "--nats-prefix"]),
        (
            found(|found| found.num_replicas = 1),
            ["nats stream edit p-default --replicas 3", "lower --nats-replicas"],
        ),
        (found(|found| found.max_age = Duration::from_secs(1)), ["--max-age 680s", "lower --window-age"]),
        (found(|found| found.max_bytes = 1), ["--max-bytes 1073741824", "lower --window-bytes"]),
        (found(|found| found.max_messages = 10), ["bounded by time and bytes", "--nats-prefix"]),
        (found(|found| found.max_messages_per_subject = 9), ["bounded by time and bytes", "--nats-prefix"]),
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

/// What the leader of a stream with three replicas says, which has heard of the others so long ago.
fn look(others: &[(f64, bool)]) -> StreamView {
    let replica = |(seconds, is_offline): &(f64, bool)| json!({ "name": "n", "current": true, "offline": is_offline, "active": (seconds * 1e9) as u64 });
    let replicas: Vec<_> = others.iter().map(replica).collect();
    let (mut config, created) = (wanted(), "2026-01-01T00:00:00Z");
    config.num_replicas = 1 + others.len();
    let info = json!({
        "config": config, "created": created, "cluster": { "name": "c", "leader": "l", "replicas": replicas },
        "state": {
            "messages": 5, "bytes": 500, "first_seq": 5, "first_ts": created, "last_seq": 9, "last_ts": created,
            "consumer_count": 0,
        },
    });
    look_of(&serde_json::from_value(info).unwrap())
}

#[test]
fn a_leader_has_heard_from_as_many_as_the_last_that_a_majority_takes() {
    let heard = |others: &[(f64, bool)]| look(others).heard.map(|ago| ago.as_secs_f64());
    assert_eq!(heard(&[]), Some(0.0), "alone it needs nobody");
    assert_eq!(heard(&[(1.5, false)]), Some(1.5), "of two it takes both");
    assert_eq!(heard(&[(60.0, false), (0.5, false)]), Some(0.5));
    assert_eq!(heard(&[(60.0, false), (0.5, true)]), Some(60.0), "who is offline says nothing");
    assert_eq!(heard(&[(0.1, true), (0.5, true)]), None);
    assert_eq!(heard(&[(0.1, false), (9.0, false), (7.0, false), (8.0, false)]), Some(7.0));
    for (ago, has) in [(4.9, true), (5.0, false)] {
        assert_eq!(look(&[(ago, false), (60.0, false)]).has_majority(), has, "{ago} s");
    }
}

/// The fault: a leader that was cut off was believed for ten seconds, while another one had stored more after four.
#[test]
fn where_the_log_ends_is_said_by_the_leader_of_that_log_while_there_can_be_no_other() {
    let epoch = Epoch::with_holes(7 << 24);
    let end = |ago, epoch, read| look(&[(ago, false), (60.0, false)]).end(epoch, read);
    assert_eq!(end(2.9, epoch, 9), Ok(Cursor::end_of_message(epoch, 9)));
    assert_eq!(end(0.1, epoch, 12), Ok(Cursor::end_of_message(epoch, 12)), "what was read is there");
    assert!(end(3.0, epoch, 9).is_err_and(|why| why.contains("no majority")));
    assert!(end(0.1, Epoch::with_holes(8 << 24), 9).is_err_and(|why| why.contains("another log")));
    assert_eq!(look(&[]).end(epoch, 0), Ok(Cursor::end_of_message(epoch, 9)), "one broker leads itself");
}

/// Two hubs find out at once, and the one that comes later must not end the log that the first has begun.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_begins_anew_once() {
    let Some(World { log, _broker, .. }) = World::begin().await else { return };
    let epoch = async || log.look().await.unwrap().epoch.unwrap();
    let (old, next) = (epoch().await, [1, 2].map(|n| Epoch::with_holes(n << 32)));
    for new in next {
        log.begin_anew(old, new).await.unwrap();
        assert_eq!(epoch().await, next[0]);
    }
    log.begin_anew(next[0], next[1]).await.unwrap();
    assert_eq!(epoch().await, next[1]);
}
