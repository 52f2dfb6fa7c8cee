//! Tests of which buckets will do.

use async_nats::jetstream::stream::Source;

use super::*;

fn found(change: impl FnOnce(&mut Config)) -> String {
    told(Holds::Fence, change)
}

fn told(holds: Holds, change: impl FnOnce(&mut Config)) -> String {
    let wanted = wanted(&format!("p-default-{}", holds.suffix()), holds, 3);
    let mut found = wanted.clone();
    change(&mut found);
    difference(&found, &wanted, holds).unwrap_or_default()
}

#[test]
fn a_bucket_that_keeps_as_much_or_more_will_do() {
    assert_eq!(found(|_| {}), "");
    assert_eq!(
        found(|found| (found.max_age, found.max_bytes, found.num_replicas) = (Duration::ZERO, -1, 5)),
        ""
    );
}

#[test]
fn what_will_not_do_is_told_with_what_to_do() {
    for (said, parts) in [
        (found(|found| found.metadata.clear()), ["no hub of this version", "--nats-prefix"]),
        (found(|found| found.subjects.push("more".into())), ["other subjects", "--nats-prefix"]),
        (found(|found| found.sealed = true), ["is sealed", "--nats-prefix"]),
        (found(|found| found.no_ack = true), ["does not acknowledge", "--nats-prefix"]),
        (found(|found| found.mirror = Some(Source::default())), ["filled from another", "--nats-prefix"]),
        (
            found(|found| found.sources = Some(vec![Source::default()])),
            ["filled from another", "--nats-prefix"],
        ),
        (found(|found| found.storage = StorageType::Memory), ["must keep files", "remove it"]),
        (found(|found| found.retention = RetentionPolicy::WorkQueue), ["by limits", "remove it"]),
        (found(|found| found.discard = DiscardPolicy::New), ["discard what is old", "remove it"]),
        (found(|found| found.max_messages = 10), ["the last value", "remove it"]),
        (found(|found| found.max_messages_per_subject = 5), ["the last value", "remove it"]),
        (found(|found| found.num_replicas = 1), ["KV_p-default-fence --replicas 3", "--nats-replicas"]),
        (found(|found| found.max_age = Duration::from_secs(1)), ["for 1 s", "--max-age 86400s"]),
        (found(|found| found.max_bytes = 1), ["1 bytes", "--max-bytes 67108864"]),
    ] {
        assert!(parts.iter().all(|part| said.contains(part)), "{parts:?} in {said:?}");
    }
}

#[test]
fn a_bucket_that_would_forget_records_will_not_do() {
    let found = |change: fn(&mut Config)| told(Holds::Records, change);
    assert_eq!(found(|_| {}), "");
    let larger = found(|found| (found.max_bytes, found.num_replicas) = (1 << 30, 5));
    assert_eq!(larger, "", "what is full refuses, and forgets nothing");
    for (said, parts) in [
        (found(|found| found.metadata.clear()), ["no hub of this version", "without the revocations"]),
        (found(|found| found.discard = DiscardPolicy::Old), ["discard nothing", "remove it"]),
        (found(|found| found.num_replicas = 1), ["KV_p-default-standing --replicas 3", "--nats-replicas"]),
        (found(|found| found.max_age = Duration::from_secs(9)), ["after 9 s", "--max-age 0"]),
        (found(|found| found.max_message_size = 100), ["100 bytes", "--max-msg-size 65536"]),
    ] {
        assert!(parts.iter().all(|part| said.contains(part)), "{parts:?} in {said:?}");
    }
}
