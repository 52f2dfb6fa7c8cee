//! Every role at every door, scopes, and rates.

use super::*;

fn patterns(texts: &[&str]) -> Vec<Pattern> {
    texts.iter().map(|text| Pattern::parse(text).unwrap()).collect()
}

fn access() -> Access {
    Access::open()
        .with(
            Identity::new("backend", Role::Publisher).recipients(patterns(&["user:*", "topic:news"])).events_per_second(10),
            Some("secret-1"),
        )
        .with(Identity::new("gateway-1", Role::Gateway).recipients(patterns(&["topic:*"])), Some("secret-2"))
        .with(Identity::new("ops", Role::Operator), None)
}

fn by_token(token: &str, roles: &[Role]) -> Result<Caller, Failure> {
    let mut headers = HeaderMap::new();
    headers.insert(header::AUTHORIZATION, format!("Bearer {token}").parse().unwrap());
    access().identify(&headers, &Extensions::new(), roles)
}

fn by_certificate(name: &str, roles: &[Role]) -> Result<Caller, Failure> {
    let mut extensions = Extensions::new();
    extensions.insert(PeerNames(Arc::from([name.to_owned()])));
    access().identify(&HeaderMap::new(), &extensions, roles)
}

#[test]
fn a_hub_that_knows_nobody_is_open() {
    let caller = Access::open().identify(&HeaderMap::new(), &Extensions::new(), &[Role::Publisher]).unwrap();
    assert_eq!(caller.name(), "");
    assert!(caller.stamp(&mut [v1::Event::default()], Duration::ZERO).is_ok());
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
    let nobody = access().identify(&HeaderMap::new(), &Extensions::new(), &all);
    assert_eq!(nobody.unwrap_err().code, Code::Unauthenticated);
}

#[test]
fn a_wrong_token_is_not_saved_by_a_good_certificate() {
    let mut headers = HeaderMap::new();
    headers.insert(header::AUTHORIZATION, "Bearer wrong".parse().unwrap());
    let mut extensions = Extensions::new();
    extensions.insert(PeerNames(Arc::from(["backend".to_owned()])));
    assert!(access().identify(&headers, &extensions, &[Role::Publisher]).is_err());
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
fn a_publisher_is_kept_to_its_rate() {
    let caller = by_token("secret-1", &[Role::Publisher]).unwrap();
    let mut publish = |count: usize, ms: u64| {
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
        let granted = caller.subscribe(id, patterns(asked)).map_err(|failure| failure.code)?;
        Ok(granted.iter().map(ToString::to_string).collect::<Vec<_>>())
    };
    assert_eq!(ask("gateway-2", &[]), Err(Code::PermissionDenied));
    assert_eq!(ask("gateway-1", &[]), Ok(vec!["topic:*".to_owned()]), "everything means everything granted");
    assert_eq!(ask("gateway-1", &["topic:a*"]), Ok(vec!["topic:a*".to_owned()]));
    assert_eq!(ask("gateway-1", &["user:1"]), Err(Code::PermissionDenied));
    assert_eq!(ask("gateway-1", &["*"]), Err(Code::PermissionDenied), "wider than granted");
    let ops = by_certificate("ops", &[Role::Operator]).unwrap();
    assert!(ops.subscribe("tail-1", patterns(&["*"])).is_ok());
}
