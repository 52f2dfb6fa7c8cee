//! What users cost one machine: memory while nothing happens, processor time for each delivery, and how long it takes until all of
//! them are back after all were cut off. Every event is looked for at every user, in order and once.
//!
//! `galaxy-push-bench-users BINARY USERS`. The product is one process, `serve`, which holds its log in memory; this one speaks to
//! it over plain sockets, on one thread. Two processors are enough for both.

mod server;
mod user;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use server::Server;
use tokio::task::LocalSet;
use user::{Crowd, Form};

/// Lone events, one after the other, each for all users.
const LONE: u64 = 100;
/// Events that come together, and how often.
const AT_ONCE: u64 = 8;
const BURSTS: u64 = 25;
/// What each user has missed when all come back.
const MISSED: u64 = 20;
/// Between two events, so that one is over before the next comes.
const PAUSE: Duration = Duration::from_millis(20);
/// What is measured as idle is what is left after this.
const SETTLED: Duration = Duration::from_secs(3);

fn main() {
    let mut arguments = std::env::args().skip(1);
    let (binary, users) = (arguments.next(), arguments.next().and_then(|users| users.parse().ok()));
    let (Some(binary), Some(users)) = (binary, users) else {
        eprintln!("galaxy-push-bench-users BINARY USERS");
        std::process::exit(2);
    };
    println!(
        "One process `serve` with {users} users, {LONE} lone events for all of them, {BURSTS} times {AT_ONCE} at once, and {MISSED} missed by each.\n\n\
         | users over | memory of one that is idle | a lone event: CPU for each delivery | from the publish to a user: median | p99 | the last of all, median | \
         {AT_ONCE} at once: CPU for each delivery | all back with what they missed | CPU for each that is back | deliveries, each seen in order and once |\n\
         |---|---|---|---|---|---|---|---|---|---|"
    );
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    for form in [Form::Sse, Form::WebSocket] {
        let local = LocalSet::new();
        println!("{}", local.block_on(&runtime, measure(&binary, form, users)));
    }
}

async fn measure(binary: &str, form: Form, users: usize) -> String {
    let mut server = Server::start(binary).await;
    let before = server.resident_bytes();
    let crowd = Rc::new(RefCell::new(Crowd::new(users)));
    let mut streams = user::connect(form, server.edge, users, None, &crowd).await;
    tokio::time::sleep(SETTLED).await;
    let each = (server.resident_bytes() - before) / users as u64;

    let mut last = Vec::new();
    let (lone, _) = cost(&mut server, async |server| {
        for _ in 0..LONE {
            let sent = publish(server, &crowd, 1).await;
            all_have(&crowd, sent).await;
            last.push(crowd.borrow().since(sent));
            tokio::time::sleep(PAUSE).await;
        }
    })
    .await;
    let mut waits = std::mem::take(&mut crowd.borrow_mut().waits);
    let (burst, _) = cost(&mut server, async |server| {
        for _ in 0..BURSTS {
            let sent = publish(server, &crowd, AT_ONCE).await;
            all_have(&crowd, sent).await;
            tokio::time::sleep(PAUSE).await;
        }
    })
    .await;

    streams.iter().for_each(tokio::task::JoinHandle::abort);
    tokio::time::sleep(SETTLED).await;
    let cursor = server.cursor.clone();
    let sent = publish(&mut server, &crowd, MISSED).await;
    let (back, took) = cost(&mut server, async |server| {
        streams = user::connect(form, server.edge, users, Some(&cursor), &crowd).await;
        all_have(&crowd, sent).await;
    })
    .await;

    let (users, deliveries) = (users as u64, crowd.borrow().taken);
    assert_eq!(deliveries, users * sent, "every event at every user");
    format!(
        "| {} | {:.1} KB | {:.1} µs | {:.1} ms | {:.1} ms | {:.1} ms | {:.2} µs | {:.2} s | {:.0} µs | {deliveries} |",
        form.name(),
        each as f64 / 1e3,
        micros(lone) / (users * LONE) as f64,
        quantile(&mut waits, 0.5) * 1e3,
        quantile(&mut waits, 0.99) * 1e3,
        quantile(&mut last, 0.5) * 1e3,
        micros(burst) / (users * BURSTS * AT_ONCE) as f64,
        took.as_secs_f64(),
        micros(back) / users as f64,
    )
}

/// What this takes of the server's processor time, and how long.
async fn cost(server: &mut Server, act: impl AsyncFnOnce(&mut Server)) -> (Duration, Duration) {
    let (begun, cpu) = (Instant::now(), server.processor_time());
    act(server).await;
    (server.processor_time() - cpu, begun.elapsed())
}

/// Publishes so many events at once. Returns the number of the last one.
async fn publish(server: &mut Server, crowd: &RefCell<Crowd>, count: u64) -> u64 {
    let first = crowd.borrow_mut().sends(count);
    server.publish(first, count).await;
    first + count - 1
}

/// Waits until every user has this event.
async fn all_have(crowd: &RefCell<Crowd>, number: u64) {
    let due = Instant::now() + Duration::from_secs(60);
    while !crowd.borrow().all_have(number) {
        let taken = crowd.borrow().taken;
        assert!(Instant::now() < due, "event {number} does not come to all users: {taken} deliveries so far");
        tokio::time::sleep(Duration::from_micros(200)).await;
    }
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

fn quantile(values: &mut [f64], q: f64) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[((values.len() - 1) as f64 * q).round() as usize]
}
