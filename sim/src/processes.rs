//! The servers of the world, hub and gateway, each as the binary runs it.

use std::future::Future;
use std::time::Duration;

use axum::Router;
use galaxy_push_client::State;
use galaxy_push_core::ambient::Ambient;
use galaxy_push_core::cursor::{Cursor, Epoch};
use galaxy_push_core::recipient::Pattern;
use galaxy_push_core::window::Bounds;
use galaxy_push_gateway::Gateway;
use galaxy_push_hub::{Hub, Identity, Role};
use galaxy_push_listener::{Drain, Limits, serve};
use galaxy_push_store::{DedupBounds, MemoryStore};
use galaxy_push_testkit::Recorder;
use galaxy_push_testkit::history::{Follows, Measured, Missed, Position, What};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::task::AbortOnDropHandle;

use crate::account;
use crate::brokers::Brokers;
use crate::disk::HubDisk;
use crate::net::{self, Listener};
use crate::publisher::position;
use crate::rng::{Rng, now_us};
use crate::shared::SharedLog;
use crate::truth::{Truth, witnessed};
use crate::unknown::Unknown;
use crate::witness;

/// Tells a server what to do. Clones tell the same one.
pub type Leave = watch::Sender<Order>;

/// What a server is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// To leave in order, as SIGTERM does.
    #[default]
    Leave,
    /// To close its listener and all connections for so long, as when a network is cut off. It lives on; hubs only.
    Unplug(Duration),
    /// The same at the side door alone.
    ShutSideDoor(Duration),
}

/// How long a server may take to send its streams away.
pub const LEAVE_WITHIN: Duration = Duration::from_secs(3);

/// And its connections after that.
const CLOSE_WITHIN: Duration = Duration::from_secs(1);

/// Whoever left in order is started again after this long, as by an orchestrator.
const BACK_AFTER: Duration = Duration::from_millis(300);

/// How large the data of an event may be, unless its hub's window is tiny.
const EVENT_BYTES: usize = 64 << 10;

/// Where a hub's log is.
#[derive(Clone)]
#[expect(missing_debug_implementations, reason = "the store inside has none")]
pub enum Log {
    /// In its memory: each life of the hub is a new epoch.
    Own,
    /// In a store that others share, behind a door that lags so much at most.
    Shared(SharedLog, Duration),
    /// On its disk: each life of the hub goes on in the same epoch.
    Disk(HubDisk),
    /// In a stream that brokers keep, which it knows by this name.
    Brokers(Brokers, &'static str),
}

/// Runs a hub until it is killed.
///
/// # Errors
///
/// When it cannot start.
pub async fn hub(
    (window, return_rate): (Bounds, u32),
    ambient: Ambient,
    recorder: Recorder,
    log: Log,
    has_side_door: bool,
    leave: Leave,
    unknown: Unknown,
) -> anyhow::Result<()> {
    loop {
        recorder.record(now_us(), What::Start);
        let mut truth = None;
        let store = match &log {
            Log::Own => {
                let epoch = Epoch(ambient.random_128());
                let own = &*truth.insert(Truth::new(recorder.clone()));
                let store = MemoryStore::maker(epoch, DedupBounds::default());
                witnessed(store, Cursor::start(epoch), own.clone())
            }
            Log::Shared(log, lag_max) => log.door(*lag_max),
            Log::Disk(disk) => disk.maker(window, &ambient),
            Log::Brokers(brokers, name) => {
                let at = loop {
                    match brokers.attach(name) {
                        Some(at) => break at,
                        None => sleep(BACK_AFTER).await,
                    }
                };
                at.maker(&ambient)
            }
        };
        let config = galaxy_push_hub::Config::default().window(window).return_rate(return_rate);
        // A hub takes no event that its window could not hold.
        let config = match (window.bytes / 4) as usize {
            most if most < EVENT_BYTES => config.event_bytes_max(most),
            _ => config,
        };
        let hub = match Hub::new(config, store, ambient.clone()) {
            Err(_) if matches!(&log, Log::Disk(disk) if disk.may_fail_to_open()) => {
                sleep(BACK_AFTER).await;
                continue;
            }
            opened => opened?,
        };
        if let Log::Disk(disk) = &log {
            disk.opened().await?;
        }
        let aside = aside(&hub, window, truth, &recorder, &log);
        let limited = Drain::default();
        let limited_door = tokio::spawn(limited_door(hub.clone(), limited.clone()));
        let router = unknown.around(hub.router());
        let side_door = side_door(router.clone(), leave.clone());
        let _side_door = has_side_door.then(|| AbortOnDropHandle::new(tokio::spawn(side_door)));
        loop {
            let drain = Drain::default();
            let serving = serve(Listener::bind().await?, router.clone(), Limits::hub(), drain.clone());
            let mut serving = tokio::spawn(serving);
            match told(&leave).await {
                None => {
                    send_away(serving, drain, hub.drain(LEAVE_WITHIN)).await;
                    break;
                }
                Some(time) => {
                    drain.draining.cancel();
                    drain.deadline.cancel();
                    let _ = (&mut serving).await;
                    sleep(time).await;
                }
            }
        }
        shut(&limited, limited_door).await;
        drop((aside, hub, router));
        if let Log::Disk(disk) = &log {
            disk.released().await?;
        }
        sleep(BACK_AFTER).await;
    }
}

/// A door for one publisher that the hub knows by name: it may publish for topics and everybody, and little.
async fn limited_door(hub: Hub, drain: Drain) -> anyhow::Result<()> {
    let scope = ["topic:*", "all"].into_iter().filter_map(|pattern| Pattern::parse(pattern).ok());
    let identity = Identity::new("limited", Role::Publisher).recipients(scope).events_per_second(8);
    serve(Listener::at(net::LIMITED_PORT).await?, hub.router_for(identity), Limits::hub(), drain).await;
    Ok(())
}

/// Closes a door with all its connections.
async fn shut(door: &Drain, serving: JoinHandle<anyhow::Result<()>>) {
    door.draining.cancel();
    door.deadline.cancel();
    let _ = serving.await;
}

/// What goes on beside a hub in its own process.
fn aside(
    hub: &Hub,
    window: Bounds,
    truth: Option<Truth>,
    recorder: &Recorder,
    log: &Log,
) -> Vec<AbortOnDropHandle<()>> {
    let account = account::of_hub(hub.clone(), window, truth, recorder.clone());
    let mut aside = vec![AbortOnDropHandle::new(tokio::spawn(account))];
    // Where the truth is read from what is kept, nobody else need read it.
    if matches!(log, Log::Own | Log::Shared(..)) {
        let (hub, recorder) = (hub.clone(), recorder.clone());
        aside.push(AbortOnDropHandle::new(tokio::spawn(async move {
            if let Err(fault) = witness::run(&hub, recorder.clone()).await {
                tracing::error!(%fault, "the witness was sent what is no frame");
                recorder.record(
                    now_us(),
                    What::Measured(Measured { what: fault.to_string().into(), is: 1, most: 0 }),
                );
            }
        })));
    }
    aside
}

/// A door of a hub for one gateway, which is cut off from it while this is shut. It knows no leaving in order.
async fn side_door(router: Router, orders: Leave) -> anyhow::Result<()> {
    let mut orders = orders.subscribe();
    loop {
        let drain = Drain::default();
        let serving = serve(Listener::aside().await?, router.clone(), Limits::hub(), drain.clone());
        let mut serving = AbortOnDropHandle::new(tokio::spawn(serving));
        let time = loop {
            orders.changed().await?;
            if let Order::ShutSideDoor(time) = *orders.borrow_and_update() {
                break time;
            }
        };
        drain.draining.cancel();
        drain.deadline.cancel();
        let _ = (&mut serving).await;
        sleep(time).await;
    }
}

/// Runs a gateway until it is killed.
///
/// # Errors
///
/// When it cannot start.
pub async fn gateway(
    config: galaxy_push_gateway::Config,
    ambient: Ambient,
    recorder: Recorder,
    segment_bytes: usize,
    leave: Leave,
) -> anyhow::Result<()> {
    loop {
        recorder.record(now_us(), What::Start);
        let gateway = Gateway::start(config.clone(), net::connect, ambient.clone())?;
        let _following = gateway.upstream().map(|upstream| {
            AbortOnDropHandle::new(tokio::spawn(follow(upstream.status(), recorder.clone())))
        });
        let account =
            account::of_gateway(gateway.clone(), config.window, config.mailbox_slots, recorder.clone());
        let _account = AbortOnDropHandle::new(tokio::spawn(account));
        let drain = Drain::default();
        let listener = Listener::with_segments(segment_bytes).await?;
        let serving = serve(listener, gateway.router(), Limits::edge(), drain.clone());
        let serving = tokio::spawn(serving);
        told(&leave).await;
        send_away(serving, drain, gateway.drain()).await;
        sleep(BACK_AFTER).await;
    }
}

/// Writes down which log a gateway follows, whenever that is another one, whether it is at its head, where its hub told it of
/// a gap, and when it met something it does not know.
async fn follow(mut status: watch::Receiver<galaxy_push_client::Status>, recorder: Recorder) {
    let mut here: Option<Position> = None;
    // Gaps so far; and where it stood before one that it may not have behind it yet.
    let (mut gaps, mut missing) = (0, None);
    let (mut unknown, mut was_live) = (0, false);
    loop {
        note_unknown(&status.borrow(), &mut unknown, &recorder);
        let now = status.borrow_and_update().clone();
        let live = now.state == State::Live;
        if std::mem::replace(&mut was_live, live) != live {
            recorder.record(now_us(), What::Upstream { live });
        }
        if now.counters.gaps > gaps {
            gaps = now.counters.gaps;
            let after = missing.get_or_insert_with(|| here.clone()).clone();
            recorder.record(now_us(), What::Missed(Missed { after, through: None }));
        }
        let position = position(&now.cursor);
        let is_behind = live && now.handling_since.is_none();
        if is_behind && position.is_some() && missing.as_ref().is_some_and(|after| *after != position) {
            let after = missing.take().flatten();
            recorder.record(now_us(), What::Missed(Missed { after, through: position.clone() }));
        }
        if let Some(position) = position {
            if here.as_ref().is_none_or(|here| here.epoch != position.epoch) {
                let follows = Follows { left: here.take(), position: position.clone() };
                recorder.record(now_us(), What::Follows(follows));
            }
            here = Some(position);
        }
        if status.changed().await.is_err() {
            return;
        }
    }
}

/// Writes down that a client has met what it does not know, whenever that was once more.
pub(crate) fn note_unknown(status: &galaxy_push_client::Status, known: &mut u64, recorder: &Recorder) {
    if std::mem::replace(known, status.counters.unknown) < status.counters.unknown {
        recorder.record(now_us(), What::UnknownFrame(recorder.name().clone()));
    }
}

/// The next order, unless it is for the side door: how long to be unplugged, or `None`, to leave.
async fn told(leave: &Leave) -> Option<Duration> {
    let mut orders = leave.subscribe();
    loop {
        let _ = orders.changed().await;
        match *orders.borrow_and_update() {
            Order::Leave => return None,
            Order::Unplug(time) => return Some(time),
            Order::ShutSideDoor(_) => {}
        }
    }
}

/// The streams go first, the listener last.
async fn send_away(mut serving: JoinHandle<()>, drain: Drain, send_away: impl Future<Output = ()>) {
    let _ = timeout(LEAVE_WITHIN, send_away).await;
    drain.draining.cancel();
    let _ = timeout(CLOSE_WITHIN, &mut serving).await;
    drain.deadline.cancel();
    if !serving.is_finished() {
        let _ = serving.await;
    }
}

/// A log that hubs share until `trouble_until` with a store that fails now and then; what is appended is written down.
#[must_use]
pub fn shared_log(seed: u64, recorder: Recorder, trouble_until: Duration) -> SharedLog {
    let mut rng = Rng::new(seed, "store");
    let epoch = Epoch(u128::from(rng.draw()) << 64 | u128::from(rng.draw()));
    SharedLog::new(epoch, rng, Some(recorder), trouble_until)
}
