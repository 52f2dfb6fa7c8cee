//! What is said in the log, once and with all that is needed, because nobody else would say it.

use std::fmt::{self, Write as _};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use galaxy_push_core::window::Bounds;
use galaxy_push_hub::{Access, Config, Identity, Role};
use galaxy_push_proto::v1::GatewaySubscribeRequest;
use galaxy_push_proto::{Failure, Reason, feature};
use tokio::time::sleep;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::DefaultGuard;
use tracing::{Event, Level, Metadata, Subscriber};

use crate::fencing::claim;
use crate::records::{invalidation, membership};
use crate::services::scrape;
use crate::world::{World, from};

/// The warnings of one test, each as `message name=value …`.
#[derive(Clone, Default)]
pub(crate) struct Warnings {
    lines: Arc<Mutex<Vec<String>>>,
    with_infos: bool,
}

impl Warnings {
    pub(crate) fn listen() -> (Self, DefaultGuard) {
        Self::default().heard()
    }

    /// As [`Warnings::listen`], with what is said at INFO and at ERROR.
    pub(crate) fn listen_to_infos() -> (Self, DefaultGuard) {
        Self { with_infos: true, ..Self::default() }.heard()
    }

    fn heard(self) -> (Self, DefaultGuard) {
        let guard = tracing::subscriber::set_default(self.clone());
        (self, guard)
    }

    /// Those that hold this text, which are heard with that.
    pub(crate) fn take(&self, text: &str) -> Vec<String> {
        let mut lines = self.lines.lock().unwrap();
        let (taken, left) = std::mem::take(&mut *lines).into_iter().partition(|line| line.contains(text));
        *lines = left;
        taken
    }
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            "message" => self.0.insert_str(0, &format!("{value:?}")),
            name => write!(self.0, " {name}={value:?}").unwrap(),
        }
    }
}

impl Subscriber for Warnings {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() == Level::WARN || self.with_infos && *metadata.level() <= Level::INFO
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(String::new());
        event.record(&mut line);
        self.lines.lock().unwrap().push(line.0);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[tokio::test(start_paused = true)]
async fn a_gap_told_to_a_reader_that_cannot_read_it_is_one_warning() {
    let (warnings, _guard) = Warnings::listen();
    let world = World::new(Config::default().window(Bounds { events: 1, ..Bounds::default() }));
    world.publish("a b c").await;
    let knows = GatewaySubscribeRequest { instance_id: "i".into(), ..from("new", &world.at(1)) };
    world.subscribe(knows).await.unwrap().until("caught up").await;
    assert_eq!(warnings.take("gap"), [""; 0], "it reads them");
    world.read("old", &world.at(1)).await.until("caught up").await;
    let said = warnings.take("cannot read gaps");
    let range = format!("reason=Trimmed from={} to={} count=1", world.at(1), world.at(2));
    assert!(matches!(&said[..], [line] if line.contains("gateway=old") && line.contains(&range)), "{said:?}");
}

/// The fault: a thousand gaps were a thousand lines.
#[tokio::test(start_paused = true)]
async fn lines_about_gaps_without_end_for_a_reader_that_cannot_read_them_are_rate_limited() {
    let (warnings, _guard) = Warnings::listen();
    let world = World::new(Config::default().window(Bounds { events: 1, ..Bounds::default() }));
    world.publish("a b c").await;
    for _ in 0..20 {
        world.read("old", &world.at(1)).await.until("caught up").await;
    }
    let said = warnings.take("cannot read gaps");
    assert_eq!(said.len(), 5, "the 1st, 2nd, 4th, 8th, 16th: {said:?}");
    assert!(said[4].contains("left_out=7"), "{said:?}");
    world.read("another", &world.at(1)).await.until("caught up").await;
    assert_eq!(warnings.take("gateway=another").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_never_learns_of_invalidations_is_named_while_any_are_in_force() {
    let (warnings, _guard) = Warnings::listen();
    let world = World::new(Config::default());
    let metric = |count: &str| format!("push_streams_unaware_of_invalidations {count}\n");
    let features = [feature::STANDING, feature::SESSION_INVALIDATION].map(str::to_owned).to_vec();
    let knows = GatewaySubscribeRequest { features, ..from("new", "") };
    let mut new = world.subscribe(knows).await.unwrap();
    let mut old = world.read("old", "").await;
    new.until("caught up").await;
    old.until("caught up").await;
    assert_eq!(warnings.take("invalidations"), [""; 0], "there are none");
    assert!(scrape(&world).contains(&metric("0.0")));
    for user in ["user:1", "user:2"] {
        world.hub.invalidate(invalidation(user)).await.unwrap();
    }
    let said = warnings.take("not told of them");
    assert!(matches!(&said[..], [line] if line.contains("gateway=old")), "once a stream: {said:?}");
    let _late = world.read("late", "").await;
    let said = warnings.take("not told of them");
    assert!(matches!(&said[..], [line] if line.contains("gateway=late")), "{said:?}");
    assert!(scrape(&world).contains(&metric("2.0")));
    sleep(Duration::from_secs(86_401)).await;
    assert!(scrape(&world).contains(&metric("0.0")), "they have expired");
}

#[tokio::test(start_paused = true)]
async fn the_lines_about_a_flapping_id_are_rate_limited_and_summed_up() {
    let (warnings, _guard) = Warnings::listen();
    let world = World::new(Config::default());
    let mut last = None;
    for _ in 0..40 {
        let mut newer = world.subscribe(claim("", 0)).await.unwrap();
        newer.until("caught up").await;
        last = Some(newer);
        sleep(Duration::from_secs(5)).await;
    }
    let said = warnings.take("gateway id");
    assert_eq!(said.len(), 6, "of 39: the 1st, 2nd, 4th, 8th, 16th, 32nd: {said:?}");
    assert!(said[5].contains("happenings=32"), "{said:?}");
    drop(last);
    sleep(Duration::from_secs(70)).await;
    let said = warnings.take("no longer fought over");
    let sum = "happenings=39 untold=33";
    assert!(matches!(&said[..], [line] if line.contains("gateway=gw") && line.contains(sum)), "{said:?}");
}

#[tokio::test(start_paused = true)]
async fn lines_about_late_duplicates_are_rate_limited() {
    let (warnings, _guard) = Warnings::listen();
    let world = World::new(Config::default());
    let mut holder = world.subscribe(claim("a", 9)).await.unwrap();
    holder.until("caught up").await;
    for _ in 0..20 {
        world.subscribe(claim("a", 1)).await.map(|_| ()).unwrap_err();
    }
    assert_eq!(warnings.take("subscribe refused").len(), 5, "the 1st, 2nd, 4th, 8th, 16th");
}

/// A narrow publisher of memberships without an end leaves room for others, and is named before it is refused.
#[tokio::test(start_paused = true)]
async fn a_publisher_that_fills_its_share_is_named_and_blocks_nobody() {
    let (warnings, _guard) = Warnings::listen();
    let access = ["narrow", "backend"].into_iter().fold(Access::open(), |access, name| {
        let token = galaxy_push_hub::Fingerprint::of(name);
        access.with(Identity::new(name, Role::Publisher), Some(token)).unwrap()
    });
    let world = World::new(Config::default().standing_records_max(20).access(access));
    let join = async |publisher: &str, topic: u32| {
        let mut client = galaxy_push_proto::v1::publisher_client::PublisherClient::new(world.connection());
        let memberships = vec![membership("user:1", &format!("{publisher}-{topic}"), true)];
        let mut request = tonic::Request::new(galaxy_push_proto::v1::SetMembershipRequest {
            memberships,
            ..Default::default()
        });
        request.metadata_mut().insert("authorization", format!("Bearer {publisher}").parse().unwrap());
        client.set_membership(request).await.map(|_| ())
    };
    for topic in 0..10 {
        join("narrow", topic).await.unwrap();
    }
    let refused = Failure::of(&join("narrow", 10).await.unwrap_err());
    assert_eq!(refused.reason, Some(Reason::RecordsFull));
    assert!(refused.message.starts_with("narrow holds 10 memberships"), "{refused}");
    let said = warnings.take("share of the room");
    assert!(
        matches!(&said[..], [line] if line.contains("narrow") && line.contains("held=8 most=10")),
        "{said:?}"
    );
    join("backend", 0).await.unwrap();
    world.hub.invalidate(invalidation("user:1")).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_room_for_standing_records_runs_out_with_a_warning() {
    let (warnings, _guard) = Warnings::listen();
    let world = World::new(Config::default().standing_records_max(10));
    for i in 0..10 {
        world.hub.set_memberships(vec![membership("user:1", &i.to_string(), true)]).await.unwrap();
    }
    let said = warnings.take("runs out");
    assert!(matches!(&said[..], [line] if line.contains("held=8 most=10")), "{said:?}");
}

/// A peer may give another gateway id each time: what it says of itself does not decide what is logged.
#[tokio::test(start_paused = true)]
async fn lines_about_refusals_of_one_address_are_rate_limited_whatever_gateway_it_says_it_is() {
    let (warnings, _guard) = Warnings::listen();
    let world = World::new(Config::default());
    for i in 0..20 {
        let unreadable =
            GatewaySubscribeRequest { instance_id: "i".into(), ..from(&format!("gw{i}"), "garbage") };
        world.subscribe(unreadable).await.map(|_| ()).unwrap_err();
    }
    let said = warnings.take("subscribe refused");
    assert_eq!(said.len(), 5, "the 1st, 2nd, 4th, 8th, 16th: {said:?}");
    assert!(said[4].contains("gateway=\"gw15\"") && said[4].contains("left_out=7"), "{said:?}");
}

#[tokio::test(start_paused = true)]
async fn lines_about_refusals_for_what_the_hub_is_at_are_rate_limited() {
    let (warnings, _guard) = Warnings::listen();
    let world = World::new(Config::default());
    world.hub.drain(Duration::from_secs(1)).await;
    for i in 0..20 {
        let refused = world.subscribe(from(&format!("gw{i}"), "")).await.map(|_| ()).unwrap_err();
        assert_eq!(Failure::of(&refused).reason, Some(Reason::Draining));
    }
    let said = warnings.take("subscribe refused");
    assert_eq!(said.len(), 5, "the 1st, 2nd, 4th, 8th, 16th: {said:?}");
    assert!(said[4].contains("gateway=gw15") && said[4].contains("left_out=7"), "{said:?}");
}

#[tokio::test(start_paused = true)]
async fn what_a_failing_store_and_a_full_room_make_of_publishes_is_rate_limited() {
    let (warnings, _guard) = Warnings::listen();
    let world = crate::stores::full();
    for i in 0..20 {
        world.hub.publish(vec![crate::world::event(&i.to_string())]).await.unwrap_err();
    }
    assert_eq!(warnings.take("did not acknowledge").len(), 5, "the 1st, 2nd, 4th, 8th, 16th");
    let world = World::new(Config::default().standing_records_max(10));
    for i in 0..30 {
        let _full = world.hub.set_memberships(vec![membership("user:1", &i.to_string(), true)]).await;
    }
    assert_eq!(warnings.take("").len(), 1, "that the room runs out");
}

#[tokio::test(start_paused = true)]
async fn the_line_about_a_gateway_that_is_cut_off_reads_well() {
    let (warnings, _guard) = Warnings::listen();
    let world = World::new(Config::default());
    let _stalled = world.read("asleep", "").await;
    world.flood(200).await;
    world.hub.drain(Duration::from_secs(1)).await;
    let said = warnings.take("cut off by the shutdown");
    assert!(matches!(&said[..], [line] if line.contains("asleep") && !line.contains("  ")), "{said:?}");
}
