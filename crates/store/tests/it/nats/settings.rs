//! What is there is checked when a hub starts, and told by the setting that is at fault.

use galaxy_push_store::nats::pack;

use super::*;

/// Why a store is not opened.
pub(super) async fn refusal(options: Options) -> String {
    match Hub::try_open(options).await {
        Ok(_) => panic!("it is opened"),
        Err(error) => {
            let sources = std::iter::successors(std::error::Error::source(&error), |error| error.source());
            [error.to_string()]
                .into_iter()
                .chain(sources.map(ToString::to_string))
                .collect::<Vec<_>>()
                .join(": ")
        }
    }
}

#[tokio::test]
async fn brokers_whose_messages_are_too_small_are_refused_by_their_setting() {
    let Some(program) = broker::program() else { return };
    let small = Settings::default().max_payload(128 << 10);
    let broker = Broker::start(&program, &small).unwrap();
    let mut asked = options(&broker, "p");
    asked.event_bytes_max = (64 << 10) + 1;
    let why = refusal(asked).await;
    assert!(why.contains("max_payload: 131073") && why.contains("--max-event-bytes 65537"), "{why}");
    let hub = Hub::open(options(&broker, "p")).await;
    let ids: Vec<_> = (0..700).map(|n| n.to_string()).collect();
    let large = hub.append(&ids.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let Err(Error::Refused(Refused::TooLarge { bytes, bytes_max })) = large else { panic!("{large:?}") };
    assert!(bytes > bytes_max && bytes_max < 128 << 10, "{bytes} of {bytes_max}");
    hub.appended(&["a"]).await;
    assert_eq!(hub.window.log().len(), 1);
    // What is said to be allowed is taken, with all that travels beside it.
    let long = (100 << 10) + bytes_max - pack::request_bytes(&of_bytes("b", 100 << 10));
    assert_eq!(pack::request_bytes(&of_bytes("b", long)), bytes_max);
    assert!(hub.store.append(of_bytes("b", long)).await.is_ok());
    let longer = hub.store.append(of_bytes("c", long + 1)).await;
    assert!(matches!(longer, Err(Error::Refused(Refused::TooLarge { .. }))), "{longer:?}");
}

/// One event with so much data.
fn of_bytes(id: &str, bytes: usize) -> Batch {
    let event = v1::Event { id: id.to_owned(), data: vec![b'x'; bytes].into(), ..v1::Event::default() };
    Batch::encode(&[event], &Arc::default(), Now { mono: Duration::ZERO, unix_ms: 1_700_000_000_000 })
}

#[tokio::test]
async fn a_stream_that_will_not_do_is_told_with_what_to_do() {
    let Some(broker) = broker() else { return };
    drop(Hub::open(options(&broker, "p")).await);
    let mut longer = options(&broker, "p");
    longer.window.age = Duration::from_secs(3_600);
    let why = refusal(longer).await;
    assert!(
        why.contains("`nats stream edit p-default --max-age 3680s`") && why.contains("--window-age"),
        "{why}"
    );
    let mut remembering = options(&broker, "p");
    remembering.dedup.age = Duration::from_secs(7_200);
    let why = refusal(remembering).await;
    assert!(why.contains("--max-age 7280s"), "{why}");
    let mut larger = options(&broker, "p");
    larger.window.bytes = 1 << 30;
    let why = refusal(larger).await;
    assert!(why.contains("--max-bytes 2214592512") && why.contains("--window-bytes"), "{why}");
    let mut safer = options(&broker, "p");
    safer.replicas = 3;
    let why = refusal(safer).await;
    assert!(why.contains("--replicas 3"), "{why}");

    let client = async_nats::connect(broker.url()).await.unwrap();
    let foreign = async_nats::jetstream::stream::Config { name: "q-default".into(), ..Default::default() };
    async_nats::jetstream::new(client).create_stream(foreign).await.unwrap();
    let why = refusal(options(&broker, "q")).await;
    assert!(why.contains("no hub has made it"), "{why}");
}

#[tokio::test]
async fn a_hub_says_who_it_is_and_is_told_when_that_is_wrong() {
    let Some(program) = broker::program() else { return };
    let guarded = Settings::default().more("authorization { user: hub, password: secret }");
    let broker = Broker::start(&program, &guarded).unwrap();
    let at = broker.url().replace("nats://", "");
    let with = |who: &str| Options::new(vec![format!("nats://{who}{at}")], ambient());
    assert!(Hub::try_open(with("hub:secret@")).await.is_ok());
    for who in ["", "hub:wrong@"] {
        let why = refusal(with(who)).await;
        assert!(why.contains("lets this hub in") && !why.contains("wrong"), "{why}");
    }
    let guarded = Settings::default().more("authorization { token: secret }");
    let broker = Broker::start(&program, &guarded).unwrap();
    let at = broker.url().replace("nats://", "");
    assert!(Hub::try_open(Options::new(vec![format!("nats://secret@{at}")], ambient())).await.is_ok());
}

#[tokio::test]
async fn what_no_hub_wrote_is_skipped_and_said() {
    let Some(broker) = broker() else { return };
    let hub = Hub::open(options(&broker, "p")).await;
    hub.appended(&["a"]).await;
    let client = async_nats::connect(broker.url()).await.unwrap();
    let stranger = async_nats::jetstream::new(client);
    stranger.publish("p.default.log", "hello".into()).await.unwrap().await.unwrap();
    hub.appended(&["b"]).await;
    let is_said = |notice: &Notice| matches!(notice, Notice::Skipped { message: 2, .. });
    hub.window.until("it is said", |seen| seen.notices.iter().any(is_said)).await;
    let ids: Vec<_> = hub.window.log().into_iter().map(|(_, id)| id).collect();
    assert_eq!(ids, ["a", "b"]);
    assert_eq!(hub.window.look(|seen| seen.gaps.len()), 0, "everybody skips it");
}

#[tokio::test]
async fn a_broker_that_may_be_asked_says_when_it_syncs() {
    let Some(program) = broker::program() else { return };
    let accounts = r#"accounts {
  SYS { users: [{ user: sys, password: secret }], exports: [{ service: "$SYS.REQ.SERVER.*.JSZ" }] }
  PUSH {
    jetstream: enabled, users: [{ user: hub, password: "a/b" }]
    imports: [{ service: { account: SYS, subject: "$SYS.REQ.SERVER.*.JSZ" } }]
  }
}
system_account: SYS"#;
    for (sync_interval, said) in
        [("always", "synced it (sync_interval: always)"), ("5s", "sync_interval: 5s")]
    {
        let settings = Settings::default().sync_interval(sync_interval).more(accounts);
        let broker = Broker::start(&program, &settings).unwrap();
        let at = broker.url().replace("nats://", "nats://hub:a%2Fb@");
        let hub = Hub::open(Options::new(vec![at], ambient())).await;
        let meaning = hub.store.ack_meaning().unwrap();
        assert!(meaning.contains(said), "{meaning}");
        assert_eq!(hub.store.meaning().is_synced(), sync_interval == "always");
    }
    let broker = broker().unwrap();
    let hub = Hub::open(options(&broker, "p")).await;
    assert!(hub.store.ack_meaning().unwrap().contains("do not say when"));
}

/// What docs/operations.md says that a client needs, and no more: what it may not do, the broker would say.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hub_makes_do_with_the_rights_that_the_docs_name() {
    let Some(program) = broker::program() else { return };
    let docs = include_str!("../../../../../docs/operations.md");
    let (_, rights) = docs.split_once("A client that may do no more than it must has").unwrap();
    let (rights, _) = rights.split_once("\n\n").unwrap();
    let named: Vec<_> =
        rights.split('`').skip(1).step_by(2).map(|name| name.replace("PREFIX", "p")).collect();
    let fence =
        named.iter().filter(|name| name.contains("fence")).map(|name| name.replace("fence", "standing"));
    let each = named.iter().filter(|name| name.contains(['.', '>'])).cloned().chain(fence);
    let publish: Vec<_> = each.filter(|name| name != "_INBOX.>").flat_map(|name| braces(&name)).collect();
    let subscribe = ["_INBOX.>", "p.default.hub.>"];
    assert!(subscribe.iter().all(|name| named.iter().any(|each| each == name)), "{named:?}");
    let guarded = format!(
        "authorization {{ users: [{{ user: hub, password: secret, permissions: {{ publish: {publish:?}, subscribe: {subscribe:?} }} \
         }}] }}"
    );
    let broker = Broker::start(&program, &Settings::default().more(&guarded)).unwrap();
    let mut asked = options(&broker, "p");
    asked.servers = vec![broker.url().replace("nats://", "nats://hub:secret@")];
    let (hub, other) = (Hub::open(asked.clone()).await, Hub::open(asked).await);
    hub.publish("a").await;
    standing::say(&hub, &standing::revoke("1", "r1")).await;
    fence::take(&hub, "gw", "i", 1).await;
    fence::until_asked(&other, &hub).await;
    let is_denied = |notice: &Notice| format!("{notice:?}").to_lowercase().contains("violation");
    assert_eq!(hub.window.look(|seen| seen.notices.iter().filter(|notice| is_denied(notice)).count()), 0);
}

/// `a.{B,C}.d` is `a.B.d` and `a.C.d`.
fn braces(name: &str) -> Vec<String> {
    let Some((before, (each, after))) =
        name.split_once('{').and_then(|(before, rest)| Some((before, rest.split_once('}')?)))
    else {
        return vec![name.to_owned()];
    };
    each.split(',').map(|one| format!("{before}{one}{after}")).collect()
}
