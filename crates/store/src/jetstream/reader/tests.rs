//! What a consumer brings, and what is told of it.

use async_nats::HeaderMap;

use super::super::tests::World;
use super::*;

/// What a consumer sends: to be answered there, with these headers.
fn delivered(reply: Option<&str>, headers: &[(&'static str, &str)]) -> Delivered {
    let mut map = HeaderMap::new();
    headers.iter().for_each(|(name, value)| map.insert(*name, *value));
    Delivered {
        subject: "inbox".into(),
        reply: reply.map(Into::into),
        payload: bytes::Bytes::new(),
        headers: Some(map),
        status: None,
        description: None,
        length: 0,
    }
}

#[test]
fn a_delivery_that_was_lost_is_noticed_with_the_next_one() {
    let of = |number: u64, count: u64| delivered(Some(&format!("$JS.ACK.s.c.1.{number}.{count}.9.0")), &[]);
    let mut count = 0;
    assert_eq!(Place::of(&of(4, 1), &mut count).map(|place| place.number), Ok(4));
    assert_eq!(
        Place::of(&of(9, 2), &mut count).map(|place| place.number),
        Ok(9),
        "of the stream it skips some"
    );
    assert_eq!(Place::of(&of(11, 4), &mut count), Err("delivery 4 came after 2".to_owned()));
    assert!(
        Place::of(&delivered(Some("elsewhere"), &[]), &mut 0)
            .is_err_and(|why| why.contains("somewhere else"))
    );
}

/// Where nothing follows it.
#[test]
fn a_delivery_that_was_lost_is_noticed_with_the_next_heartbeat() {
    let beat = |last: &str| delivered(None, &[("Nats-Last-Consumer", last)]);
    let said = |message: &Delivered| said(StatusCode::IDLE_HEARTBEAT, message, 7);
    assert_eq!(said(&beat("7")), Ok(Said::HasNothing));
    assert_eq!(said(&delivered(None, &[])), Ok(Said::HasNothing));
    assert_eq!(said(&beat("8")), Err("it has delivered 8 messages, and 7 came".to_owned()));
}

#[test]
fn a_consumer_that_asks_whether_it_may_go_on_is_answered_where_it_asks() {
    let said = |message: &Delivered| said(StatusCode::IDLE_HEARTBEAT, message, 7);
    assert_eq!(said(&delivered(Some("$JS.FC.a"), &[])), Ok(Said::Asks("$JS.FC.a".into())));
    let stalled = [("Nats-Consumer-Stalled", "$JS.FC.b"), ("Nats-Last-Consumer", "8")];
    assert_eq!(said(&delivered(None, &stalled)), Ok(Said::Asks("$JS.FC.b".into())));
}

#[test]
fn a_delivery_says_which_message_it_is() {
    let place = Place { number: 7, delivered: 3, stamp_ns: 1_700, pending: 2 };
    assert_eq!(Place::parse("$JS.ACK.s.c.1.7.3.1700.2"), Some(place));
    assert_eq!(Place::parse("$JS.ACK.hub.acc.s.c.1.7.3.1700.2"), Some(place));
    assert_eq!(Place::parse("$JS.ACK.hub.acc.s.c.1.7.3.1700.2.random"), Some(place));
    for strange in
        ["", "a.b", "$JS.ACK.s.c.1.x.3.1700.2", "$JS.FC.s.c.1.7.3.1700.2", "$JS.ACK.s.c.1.7.3.1700"]
    {
        assert_eq!(Place::parse(strange), None, "{strange}");
    }
}

/// Else a stream that was put back and has grown would be read on, and nobody would notice it by the message that was read last.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_read_behind_another_message_than_the_one_that_was_read_last() {
    let Some(World { link, log, _broker, .. }) = World::begin().await else { return };
    let (to, mut told) = mpsc::channel(9);
    let mut reader = Reader { log: log.clone(), next: 3, stamp_unix_ms: Some(7), to, was_at_end: true };
    let of = |stamp: u64| delivered(Some(&format!("$JS.ACK.s.c.1.2.1.{stamp}.0")), &[]);
    assert!(reader.take(&link, of(7_000_000), &mut 0).await.unwrap().message.is_none(), "a broker that lags");
    let why = reader.take(&link, of(8_000_000), &mut 0).await.err();
    assert_eq!(why.as_deref(), Some("message 2 is another one than was read"));
    for _ in 0..3 {
        let published = link.publishing.publish(log.subject().to_owned(), "x".into()).await.unwrap();
        published.await.unwrap();
    }
    let End::Anew(why) = reader.read(&mut link.clone()).await else { panic!("somebody takes it") };
    assert_eq!(why, "message 2 is another one than was read");
    assert!(told.try_recv().is_err() && reader.next == 3);
}

/// Its broker may have had messages that it never delivered: then nothing else says that they are gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_that_is_further_on_than_it_has_delivered_has_its_reader_ask_the_leader() {
    let Some(World { link, log, _broker, .. }) = World::begin().await else { return };
    let (to, mut told) = mpsc::channel(1);
    let mut reader = Reader { log: log.clone(), next: 1, stamp_unix_ms: None, to, was_at_end: true };
    let beat = |last: &str| Delivered {
        status: Some(StatusCode::IDLE_HEARTBEAT),
        ..delivered(None, &[("Nats-Last-Consumer", "0"), ("Nats-Last-Stream", last)])
    };
    for _ in 0..2 {
        let published = link.publishing.publish(log.subject().to_owned(), "x".into()).await.unwrap();
        published.await.unwrap();
    }
    assert!(!reader.take(&link, beat("0"), &mut 0).await.unwrap().has_skipped);
    assert!(reader.take(&link, beat("2"), &mut 0).await.unwrap().has_skipped);
    assert!(reader.look_for_a_hole().await && told.is_empty(), "the leader has them still");
    link.context.get_stream(log.name()).await.unwrap().purge().await.unwrap();
    assert!(reader.look_for_a_hole().await);
    assert!(matches!(told.try_recv(), Ok(Event::Next(Next::Gone(2)))) && reader.next == 3);
    assert!(!reader.take(&link, beat("2"), &mut 0).await.unwrap().has_skipped);
}

/// A consumer's broker may lag behind the leader.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_a_consumer_leaves_out_is_lost_only_if_the_leader_lacks_it() {
    let Some(World { link, log, _broker, .. }) = World::begin().await else { return };
    for _ in 0..3 {
        let published = link.publishing.publish(log.subject().to_owned(), "x".into()).await.unwrap();
        published.await.unwrap();
    }
    let third = || delivered(Some("$JS.ACK.s.c.1.3.1.9.0"), &[]);
    let mut reader =
        Reader { log: log.clone(), next: 1, stamp_unix_ms: None, to: mpsc::channel(1).0, was_at_end: false };
    let why = reader.take(&link, third(), &mut 0).await.err();
    assert_eq!(why.as_deref(), Some("its broker lacks message 1, which the leader has"));
    assert_eq!(reader.next, 1);
    let stream = link.context.get_stream(log.name()).await.unwrap();
    for gone in [1, 2] {
        stream.delete_message(gone).await.unwrap();
    }
    let taken = reader.take(&link, third(), &mut 0).await.unwrap();
    assert_eq!((taken.message.map(|message| message.number), reader.next), (Some(3), 4));
}
