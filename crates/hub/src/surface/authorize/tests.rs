//! Every role at every door, scopes, and rates.

use std::sync::Arc;

use galaxy_push_core::recipient::Pattern;
use galaxy_push_proto::v1;
use tonic::Code;

use super::*;
use crate::state::access::{Access, Identity, InvalidIdentity, PUBLISHER_ATTRIBUTE};

fn identify(
    access: &Access,
    headers: &HeaderMap,
    extensions: &Extensions,
    roles: &[Role],
) -> Result<Caller, Failure> {
    access.identify(&credential(headers, extensions), roles)
}

fn patterns(texts: &[&str]) -> Vec<Pattern> {
    texts.iter().map(|text| Pattern::parse(text).unwrap()).collect()
}

fn access() -> Access {
    let backend = Identity::new("backend", Role::Publisher)
        .recipients(patterns(&["user:*", "topic:news"]))
        .events_per_second(10);
    let gateway = Identity::new("gateway-1", Role::Gateway).recipients(patterns(&["topic:*"]));
    Access::open()
        .with(backend, Some(Fingerprint::of("secret-1")))
        .and_then(|access| access.with(gateway, Some(Fingerprint::of("secret-2"))))
        .and_then(|access| access.with(Identity::new("ops", Role::Operator), None))
        .unwrap()
}

fn by_token(token: &str, roles: &[Role]) -> Result<Caller, Failure> {
    let mut headers = HeaderMap::new();
    headers.insert(header::AUTHORIZATION, format!("Bearer {token}").parse().unwrap());
    identify(&access(), &headers, &Extensions::new(), roles)
}

fn by_certificate(name: &str, roles: &[Role]) -> Result<Caller, Failure> {
    by_names(&access(), &[name], roles)
}

fn by_names(access: &Access, names: &[&str], roles: &[Role]) -> Result<Caller, Failure> {
    let mut extensions = Extensions::new();
    extensions.insert(PeerNames(names.iter().map(ToString::to_string).collect()));
    identify(access, &HeaderMap::new(), &extensions, roles)
}

#[test]
fn a_hub_that_knows_nobody_is_open() {
    let caller =
        identify(&Access::open(), &HeaderMap::new(), &Extensions::new(), &[Role::Publisher]).unwrap();
    assert_eq!(caller.name(), "");
    let mut events = [v1::Event::default()];
    caller.stamp(&mut events, Duration::ZERO).unwrap();
    assert!(events[0].attributes.is_empty(), "it does not know who published it");
}

#[test]
fn every_role_at_every_door() {
    let all = [Role::Publisher, Role::Gateway, Role::Operator];
    for (name, own) in [("backend", Role::Publisher), ("gateway-1", Role::Gateway), ("ops", Role::Operator)] {
        for door in all {
            let answer = by_certificate(name, &[door]);
            match answer {
                Ok(caller) => assert_eq!((own, caller.name()), (door, name)),
                Err(failure) => assert_eq!((own == door, failure.code), (false, Code::PermissionDenied)),
            }
        }
    }
    assert_eq!(by_certificate("stranger", &all).unwrap_err().code, Code::Unauthenticated);
    assert_eq!(by_token("secret-1", &all).unwrap().name(), "backend");
    for wrong in ["secret-3", "", "secret-1 "] {
        let known = by_token(wrong, &all).is_ok();
        assert_eq!(known, wrong.trim() == "secret-1", "{wrong:?}");
    }
    let nobody = identify(&access(), &HeaderMap::new(), &Extensions::new(), &all);
    assert_eq!(nobody.unwrap_err().code, Code::Unauthenticated);
}

#[test]
fn a_wrong_token_is_not_saved_by_a_good_certificate() {
    let mut headers = HeaderMap::new();
    headers.insert(header::AUTHORIZATION, "Bearer wrong".parse().unwrap());
    let mut extensions = Extensions::new();
    extensions.insert(PeerNames(Arc::from(["backend".to_owned()])));
    assert!(identify(&access(), &headers, &extensions, &[Role::Publisher]).is_err());
}

#[test]
fn a_publisher_is_named_and_kept_to_its_recipients() {
    let caller = by_token("secret-1", &[Role::Publisher]).unwrap();
    let event = |to: &str| v1::Event {
        to: vec!["user:1".into(), to.into()],
        attributes: [(PUBLISHER_ATTRIBUTE.to_owned(), "somebody else".to_owned())].into(),
        ..v1::Event::default()
    };
    let mut good = [event("topic:news")];
    caller.stamp(&mut good, Duration::ZERO).unwrap();
    assert_eq!(good[0].attributes[PUBLISHER_ATTRIBUTE], "backend");
    let refused = caller.stamp(&mut [event("user:2"), event("all")], Duration::ZERO).unwrap_err();
    assert_eq!((refused.code, refused.field.as_deref()), (Code::PermissionDenied, Some("events[1].to[1]")));
}

#[test]
fn a_publisher_is_kept_to_its_rate_in_bytes_too() {
    let narrow = Identity::new("narrow", Role::Publisher).bytes_per_second(100_000);
    let narrow = narrow.recipients([Pattern::parse("user:1").unwrap()]);
    let access = Access::open().with(narrow, Some(Fingerprint::of("narrow"))).unwrap();
    let mut headers = HeaderMap::new();
    headers.insert(header::AUTHORIZATION, "Bearer narrow".parse().unwrap());
    let caller = identify(&access, &headers, &Extensions::new(), &[Role::Publisher]).unwrap();
    let publish = |bytes: usize, ms| {
        let mut event = v1::Event { to: vec!["user:1".into()], ..v1::Event::default() };
        event.data = vec![b'1'; bytes].into();
        caller.stamp(&mut [event], Duration::from_millis(ms)).map_err(|failure| {
            assert!(failure.message.contains("100000 bytes of events per second"), "{}", failure.message);
            assert_eq!((failure.reason, failure.code), (Some(Reason::Overloaded), Code::ResourceExhausted));
            failure.retry_after.unwrap().as_millis()
        })
    };
    assert_eq!(publish(90_000, 0), Ok(()));
    assert!(publish(20_000, 0).is_err_and(|wait| (100..110).contains(&wait)));
    assert_eq!(publish(20_000, 200), Ok(()));
    // One that tries for six minutes has its rate and a second's worth, whatever it asks for.
    let taken: usize = (1..36_000).filter(|tick| publish(10_000, 200 + tick * 10).is_ok()).count();
    assert!(taken * 10_000 <= 360 * 100_000 + 100_000, "{taken}");
    let record =
        v1::SessionInvalidation { recipient: "user:1".into(), reason: "x".repeat(200), ..Default::default() };
    let at = Duration::from_secs(10_000);
    let until_refused = (0..1_000).take_while(|_| caller.may_invalidate(&record, at).is_ok()).count();
    assert!((400..500).contains(&until_refused), "{until_refused}: records are counted alike");
    let none = Access::open().with(Identity::new("mute", Role::Publisher).bytes_per_second(0), None);
    assert_eq!(none.unwrap_err(), InvalidIdentity::Rate);
}

#[test]
fn a_publisher_is_kept_to_its_rate() {
    let caller = by_token("secret-1", &[Role::Publisher]).unwrap();
    let publish = |count: usize, ms: u64| {
        let mut events = vec![v1::Event { to: vec!["user:1".into()], ..v1::Event::default() }; count];
        caller.stamp(&mut events, Duration::from_millis(ms)).map_err(|failure| failure.retry_after)
    };
    assert_eq!(publish(10, 0), Ok(()));
    assert_eq!(publish(1, 0), Err(Some(Duration::from_millis(100))));
    assert_eq!(publish(1, 100), Ok(()));
    assert_eq!(publish(20, 1_000), Err(Some(Duration::from_millis(100))), "all that is owed comes first");
    assert_eq!(publish(20, 1_100), Ok(()), "a batch above a second's worth is not refused for ever");
}

#[test]
fn a_gateway_has_its_own_name_and_scope() {
    let caller = by_certificate("gateway-1", &[Role::Gateway, Role::Operator]).unwrap();
    let ask = |id: &str, asked: &[&str]| {
        let granted = caller.acting_as(id, "subscribe").and_then(|caller| caller.subscribe(patterns(asked)));
        let granted = granted.map_err(|failure| failure.code)?;
        Ok(granted.iter().map(ToString::to_string).collect::<Vec<_>>())
    };
    assert_eq!(ask("gateway-2", &[]), Err(Code::PermissionDenied));
    assert_eq!(ask("gateway-1", &[]), Ok(vec!["topic:*".to_owned()]), "everything means everything granted");
    assert_eq!(ask("gateway-1", &["topic:a*"]), Ok(vec!["topic:a*".to_owned()]));
    assert_eq!(ask("gateway-1", &["user:1"]), Err(Code::PermissionDenied));
    assert_eq!(ask("gateway-1", &["*"]), Err(Code::PermissionDenied), "wider than granted");
    let ops = by_certificate("ops", &[Role::Operator]).unwrap();
    assert!(ops.acting_as("tail-1", "subscribe").unwrap().subscribe(patterns(&["*"])).is_ok());
}

/// Gateways that share one certificate, and a name that stands for two roles.
#[test]
fn a_certificate_may_name_several() {
    const READERS: &[Role] = &[Role::Gateway, Role::Operator];
    let scoped = |name: &str, text: &str| Identity::new(name, Role::Gateway).recipients(patterns(&[text]));
    let access = Access::open()
        .with(scoped("edge-1", "user:*"), None)
        .and_then(|access| access.with(scoped("edge-2", "topic:*"), None))
        .and_then(|access| access.with(Identity::new("edge-2", Role::Operator), None))
        .unwrap();
    let ask = |names: &[&str], id: &str| {
        let caller = by_names(&access, names, READERS)?.acting_as(id, "subscribe")?;
        let granted = caller.subscribe(Vec::new())?;
        Ok::<_, Failure>(format!("{} {granted:?}", caller.name()))
    };
    assert!(
        ask(&["edge-1", "edge-2"], "edge-2")
            .is_ok_and(|who| who.starts_with("edge-2 ") && who.contains("topic:"))
    );
    assert!(
        ask(&["edge-1", "edge-2"], "edge-1")
            .is_ok_and(|who| who.starts_with("edge-1 ") && who.contains("user:"))
    );
    assert_eq!(ask(&["edge-2"], "tail-1"), Ok("edge-2 []".to_owned()), "as the operator");
    assert_eq!(ask(&["edge-1"], "edge-2").unwrap_err().code, Code::PermissionDenied);
    assert_eq!(ask(&["edge-1"], "tail-1").unwrap_err().code, Code::PermissionDenied);
}

#[test]
fn a_publisher_is_kept_to_its_recipients_in_standing_records_too() {
    let caller = by_token("secret-1", &[Role::Publisher]).unwrap();
    let invalidate = |recipient: &str| {
        let record = v1::SessionInvalidation { recipient: recipient.into(), ..Default::default() };
        caller.may_invalidate(&record, Duration::ZERO).map_err(|failure| failure.field.unwrap())
    };
    assert_eq!(invalidate("user:1"), Ok(()));
    assert_eq!(invalidate("session:1"), Err("invalidation.recipient".to_owned()));
    let set = |recipient: &str, topic: &str| {
        let member = |recipient: &str, topic: &str| v1::Membership {
            recipient: recipient.into(),
            topic: topic.into(),
            ..Default::default()
        };
        let records = [member("user:1", "news"), member(recipient, topic)];
        caller.may_set(&records, Duration::ZERO).map_err(|failure| failure.field.unwrap())
    };
    assert_eq!(set("user:2", "news"), Ok(()));
    assert_eq!(
        set("user:2", "secrets"),
        Err("memberships[1].topic".to_owned()),
        "it would be sent what is for it"
    );
    assert_eq!(
        set("user:2", "news*"),
        Err("memberships[1].topic".to_owned()),
        "a pattern wider than its scope"
    );
    assert_eq!(set("session:2", "news"), Err("memberships[1].recipient".to_owned()));
}

#[test]
fn identities_that_could_not_be_told_apart_are_refused() {
    let token = |text: &str| Some(Fingerprint::of(text));
    let twice = access().with(Identity::new("ops", Role::Operator), None);
    assert_eq!(twice.unwrap_err(), InvalidIdentity::Twice { role: Role::Operator });
    let same = access().with(Identity::new("other", Role::Publisher), token("secret-2"));
    assert_eq!(same.unwrap_err(), InvalidIdentity::SameToken { other: "gateway-1".into() });
    let unnamed = access().with(Identity::new("a b", Role::Publisher), None);
    assert_eq!(unnamed.unwrap_err(), InvalidIdentity::Name);
    let mute = access().with(Identity::new("mute", Role::Publisher).events_per_second(0), None);
    assert_eq!(mute.unwrap_err(), InvalidIdentity::Rate);
    let two_roles = access().with(Identity::new("ops", Role::Publisher), token("secret-3"));
    assert!(two_roles.is_ok());
}

#[test]
fn fingerprints_are_read_as_tools_print_them_and_never_shown() {
    let sha256_of_abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(Fingerprint::from_hex(sha256_of_abc), Some(Fingerprint::of("abc")));
    assert_eq!(Fingerprint::from_hex(&sha256_of_abc.to_uppercase()), Some(Fingerprint::of("abc")));
    for bad in ["", "ba78", &sha256_of_abc[1..], &format!("{sha256_of_abc}00"), &"g".repeat(64)] {
        assert_eq!(Fingerprint::from_hex(bad), None, "{bad}");
    }
    let shown = format!("{:?} {:?}", access(), Fingerprint::of("secret-1"));
    assert!(shown.contains("backend") && !shown.contains("secret") && !shown.contains("ba78"), "{shown}");
}

#[test]
fn two_tokens_are_none() {
    let mut headers = HeaderMap::new();
    headers.append(header::AUTHORIZATION, "Bearer secret-1".parse().unwrap());
    headers.append(header::AUTHORIZATION, "Bearer secret-2".parse().unwrap());
    assert!(identify(&access(), &headers, &Extensions::new(), &[Role::Publisher, Role::Gateway]).is_err());
}
