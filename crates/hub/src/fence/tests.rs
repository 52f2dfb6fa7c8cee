//! Every way in which two claims on one gateway id can meet.

use super::*;
use tonic::Code;

fn claim(instance: &str, attempt: u64) -> Claim {
    Claim { gateway: "gw".into(), instance: instance.into(), attempt, peer: format!("{instance}:{attempt}") }
}

fn is_over(admitted: &Admitted) -> bool {
    admitted.ending.borrow().is_some()
}

#[test]
fn who_gives_way() {
    for (older, newer, quiet) in [
        (claim("a", 1), claim("a", 2), Some(true)),
        (claim("a", 1), claim("a", 1), Some(true)), // a transparent retry
        (claim("a", 2), claim("a", 1), None),
        (claim("a", 9), claim("b", 1), Some(false)),
        (claim("a", 9), claim("", 0), Some(false)),
        (claim("", 0), claim("a", 1), Some(false)),
        (claim("", 0), claim("", 0), Some(false)), // without an instance id the last wins
    ] {
        let mut gateways = Gateways::default();
        let first = gateways.admit(older.clone()).unwrap();
        let second = gateways.admit(newer.clone());
        assert_eq!(first.takeover, None);
        match quiet {
            Some(quiet) => {
                let second = second.unwrap();
                assert_eq!(second.takeover, Some(Takeover { older, quiet }), "{newer:?}");
                assert!(second.generation > first.generation && !is_over(&second));
                assert_eq!(*first.ending.borrow(), Some(Ending::Replaced { rival: newer }));
            }
            None => {
                let refused = second.unwrap_err();
                assert_eq!((refused.code, refused.reason), (Code::Aborted, Some(Reason::StaleAttempt)));
                assert!(!is_over(&first), "a late duplicate disturbs nobody");
            }
        }
    }
}

#[test]
fn cleaning_up_after_the_older_leaves_the_newer_alone() {
    let mut gateways = Gateways::default();
    let first = gateways.admit(claim("a", 1)).unwrap();
    let second = gateways.admit(claim("b", 1)).unwrap();
    gateways.leave("gw", first.generation);
    let third = gateways.admit(claim("c", 1)).unwrap();
    assert!(is_over(&second), "it was still known, and so it was ended");
    gateways.leave("gw", third.generation);
    assert_eq!(gateways.admit(claim("d", 1)).unwrap().takeover, None);
}

#[test]
fn ids_are_independent_and_generations_rise() {
    let mut gateways = Gateways::default();
    let first = gateways.admit(claim("a", 1)).unwrap();
    let second = gateways.admit(Claim { gateway: "other".into(), ..claim("a", 1) }).unwrap();
    assert!(!is_over(&first) && second.generation > first.generation);
}

#[test]
fn a_drain_spreads_the_returns_and_admits_nobody() {
    let mut gateways = Gateways::default();
    let streams: Vec<_> = (0..3)
        .map(|i| gateways.admit(Claim { gateway: format!("gw{i}"), ..claim("a", 1) }).unwrap())
        .collect();
    gateways.close();
    assert_eq!(gateways.admit(claim("z", 1)).unwrap_err().reason, Some(Reason::Draining));
    assert_eq!(gateways.dismiss(Duration::from_secs(7), 10, Duration::from_millis(360)), Some(3));
    assert_eq!(gateways.dismiss(Duration::from_secs(8), 10, Duration::from_millis(360)), None);
    let endings: Vec<_> = streams.iter().map(|stream| stream.ending.borrow().clone().unwrap()).collect();
    let ms = Duration::from_millis;
    for (ending, (close_at, slot)) in endings.into_iter().zip([(7_000, 0), (7_100, 100), (7_180, 200)]) {
        let expected =
            Ending::Draining { close_at: ms(close_at), close_by: ms(close_at + 90), retry_after: ms(slot) };
        assert_eq!(ending, expected);
    }
}
