//! Three brokers: one may be killed, and two may not. A leader without the others is not believed.

use galaxy_push_testkit::broker::Cluster;
use tokio::time::Instant;

use super::*;

pub(super) fn on(cluster: &Cluster) -> Options {
    let servers = cluster.servers.iter().map(Broker::url).collect();
    let mut options = Options::new(servers, ambient());
    options.replicas = 3;
    options
}

/// Who leads the log.
async fn leader(cluster: &Cluster) -> String {
    leader_of(cluster, "galaxy-push-default").await
}

/// Who leads the stream.
pub(super) async fn leader_of(cluster: &Cluster, stream: &str) -> String {
    let servers: Vec<async_nats::ServerAddr> =
        cluster.servers.iter().map(|server| server.url().parse().unwrap()).collect();
    let context = async_nats::jetstream::new(async_nats::connect(servers).await.unwrap());
    let stream = context.get_stream(stream).await.unwrap();
    stream.cached_info().cluster.clone().unwrap().leader.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_leader_is_killed_and_publishes_go_on_and_without_a_majority_they_do_not() {
    let Some(program) = broker::program() else { return };
    let mut cluster = tokio::task::block_in_place(|| Cluster::start(&program, &Settings::default())).unwrap();
    let (a, b) = (Hub::open(on(&cluster)).await, Hub::open(on(&cluster)).await);
    assert!(a.store.ack_meaning().unwrap().starts_with("stored by 2 of 3 brokers"));
    let mut told: Told = publish_all(&a, "a", 1_000).await;
    let led = leader(&cluster).await;
    cluster.named(&led).unwrap().kill();
    let killed = Instant::now();
    let (of_a, of_b) = tokio::join!(publish_all(&a, "b", 1_000), publish_all(&b, "c", 1_000));
    assert!(killed.elapsed() < Duration::from_secs(30), "{:?}", killed.elapsed());
    told.extend(of_a.into_iter().chain(of_b));

    let next = leader(&cluster).await;
    cluster.named(&next).unwrap().kill();
    let asked = Instant::now();
    let refused = a.append(&["nobody"]).await;
    assert!(refused.as_ref().is_err_and(is_passing), "{refused:?}");
    assert!(asked.elapsed() < Duration::from_secs(8), "{:?}", asked.elapsed());
    a.window.until("it is stale", |_| a.store.is_stale()).await;
    for name in [&led, &next] {
        tokio::task::block_in_place(|| cluster.named(name).unwrap().restart()).unwrap();
    }
    told.extend(publish_all(&a, "nobody", 1).await);
    told.insert("nobody".to_owned(), a.publish("nobody").await.0.cursor.unwrap());
    told.extend(publish_all(&b, "d", 1_000).await);
    let end = a.end().await;
    for hub in [&a, &b] {
        hub.window.until("the log is read to its end", |seen| seen.end == Some(end)).await;
        assert_eq!(hub.window.look(|seen| (seen.death.clone(), seen.gaps.len())), (None, 0));
    }
    judge([&a, &b], &told);
}

/// It gives up after ten seconds, and the others may have a leader after four, which stores what this one lacks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_hears_from_nobody_does_not_say_where_the_log_ends() {
    let Some(program) = broker::program() else { return };
    let mut cluster = tokio::task::block_in_place(|| Cluster::start(&program, &Settings::default())).unwrap();
    let first = Hub::open(on(&cluster)).await;
    first.publish("a").await;
    let led = leader(&cluster).await;
    let led = cluster.named(&led).unwrap().url();
    let mut by_the_leader = on(&cluster);
    by_the_leader.servers = vec![led.clone()];
    let hub = Hub::open(by_the_leader).await;
    let end = hub.publish("b").await.0.cursor.unwrap();
    assert_eq!(hub.end().await, end);
    let others = || cluster.servers.iter().filter(|server| server.url() != led);
    others().for_each(|other| other.pause().unwrap());
    let says = |answer: &Result<Cursor, Error>, what| {
        answer.as_ref().is_err_and(|error| error.to_string().contains(what))
    };
    let refused = timeout(PATIENCE, async { while !says(&hub.store.head().await, "no majority") {} });
    refused.await.expect("it is asked before it gives up");
    // Nor is it ever believed again before the others are back.
    hub.window.until("it is stale", |_| hub.store.is_stale()).await;
    assert!(hub.store.head().await.is_err());
    others().for_each(|other| other.resume().unwrap());
    let (again, _) = hub.publish("c").await;
    let known = timeout(PATIENCE, async { while hub.store.head().await != Ok(again.cursor.unwrap()) {} });
    known.await.expect("the leader has a majority again");
}
