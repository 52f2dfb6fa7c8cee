//! Who may come while the registers are out of reach, and what a notice means for a stream whose own taking is under way.

use std::future::pending;
use std::sync::Mutex;

use futures_util::future::{BoxFuture, FutureExt as _};
use galaxy_push_core::ambient::Ambient;
use galaxy_push_listener::Clock;
use galaxy_push_store::Refused;
use galaxy_push_store::fence::Register;
use tokio::time::Instant;
use tonic::Code;

use super::*;
use crate::state::ownership::tests::claim;
use crate::state::ownership::{Admitted, ClaimOutcome};

/// What happens to whoever asks.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Open,
    /// Registers are read, and a write is lost.
    Torn,
    /// Known to be cut.
    Cut,
    /// Nothing is answered, and nobody knows yet.
    Silent,
}

/// One register.
struct Fake {
    way: Way,
    register: Mutex<Register>,
    held: Option<Holder>,
}

impl Fake {
    fn new(way: Way, held: Option<&str>) -> Self {
        let held =
            held.map(|instance| Holder::default().succeeded_by(instance, 1, "peer", 7).unwrap_or_default());
        let holder = held.clone().unwrap_or_default();
        Self { way, register: Mutex::new(Register { holder, behind: 0, revision: 3, door: 0 }), held }
    }
}

impl Fence for Fake {
    fn read<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Register, Error>> {
        match self.way {
            Way::Silent => pending().boxed(),
            Way::Cut => async { Err(Refused::Unavailable("cut".into()).into()) }.boxed(),
            Way::Open | Way::Torn => async { Ok(self.register.lock().unwrap().clone()) }.boxed(),
        }
    }

    fn swap<'a>(&'a self, _: &'a str, revision: u64, holder: Holder) -> BoxFuture<'a, Result<bool, Error>> {
        async move {
            if self.way == Way::Torn {
                return Err(Error::Unknown("torn".into()));
            }
            let mut register = self.register.lock().unwrap();
            let is_same = register.revision == revision;
            if is_same {
                *register = Register { holder, behind: 0, revision: revision + 1, door: 0 };
            }
            Ok(is_same)
        }
        .boxed()
    }

    fn is_reached(&self) -> bool {
        self.way != Way::Cut
    }

    fn held(&self, _: &str) -> Option<Holder> {
        self.held.clone()
    }
}

/// Takes an id as a hub does where nobody has it.
async fn write_ownership(fence: &Fake, claim: &Claim, least: u64) -> Result<Registered, Failure> {
    let clock = Clock::start(Ambient::new(|| 1_700_000_000_000, || 4), Duration::ZERO);
    let remote = RemoteOwnership::read(fence, claim, &clock).await?;
    super::write_ownership(fence, claim, least, remote, &|| true).await.map(Option::unwrap)
}

#[tokio::test(start_paused = true)]
async fn without_the_registers_only_the_holder_comes_back_and_everybody_else_waits() {
    for way in [Way::Torn, Way::Cut, Way::Silent] {
        let fence = Fake::new(way, Some("a"));
        let asked = Instant::now();
        assert_eq!(write_ownership(&fence, &claim("a", 2), 9).await, Ok(Registered::AlreadyHeld(7)));
        assert!(check_reachable(&fence, &claim("a", 2)).is_ok());
        for stranger in ["b", ""] {
            let refused = write_ownership(&fence, &claim(stranger, 1), 9).await.unwrap_err();
            assert_eq!((refused.code, refused.reason), (Code::Unavailable, Some(Reason::StoreUnavailable)));
            assert!(refused.retry_after.is_some());
            // Told at once where it is known, so that nobody gives way to it; and where it was not known a moment before.
            if way == Way::Cut {
                let clock = Clock::start(Ambient::new(|| 1_700_000_000_000, || 4), Duration::ZERO);
                assert!(RemoteOwnership::read(&fence, &claim(stranger, 1), &clock).await.is_err());
            }
            assert_eq!(check_reachable(&fence, &claim(stranger, 1)).is_ok(), way != Way::Cut);
        }
        assert!(asked.elapsed() <= 3 * REGISTER_WITHIN);
        assert_eq!(fence.register.lock().unwrap().revision, 3);
    }
    let nobody = Fake::new(Way::Cut, None);
    assert!(
        write_ownership(&nobody, &claim("a", 2), 9).await.is_err()
            && check_reachable(&nobody, &claim("a", 2)).is_err()
    );
    // Without a name nobody is the same as anybody.
    assert!(check_reachable(&Fake::new(Way::Cut, Some("")), &claim("", 0)).is_err());
}

#[tokio::test(start_paused = true)]
async fn with_the_registers_whoever_comes_last_has_the_id_unless_it_is_late() {
    let fence = Fake::new(Way::Open, Some("a"));
    assert_eq!(write_ownership(&fence, &claim("b", 1), 3).await, Ok(Registered::Written(8)));
    assert_eq!(
        write_ownership(&fence, &claim("b", 2), 20).await,
        Ok(Registered::Written(20)),
        "no lower than this hub's own"
    );
    let late = write_ownership(&fence, &claim("a", 1), 3).await.unwrap_err();
    assert_eq!(late.reason, Some(Reason::StaleAttempt));
}

/// A gateway has an id at this hub.
fn admitted(gateways: &mut Gateways, claim: Claim) -> Admitted {
    match gateways.claim(claim, None, None, Duration::ZERO).unwrap() {
        ClaimOutcome::Admitted(admitted) => admitted,
        must_probe => panic!("{must_probe:?}"),
    }
}

fn has_ended(stream: &Admitted) -> bool {
    stream.signal.borrow().stream_end.is_some()
}

fn by(generation: u64) -> Holder {
    Holder { generation, instance: "elsewhere".into(), ..Holder::default() }
}

#[test]
fn a_notice_that_comes_while_the_id_is_being_taken_is_judged_by_the_register() {
    for (notices, pending_rival) in [(&[5, 4][..], false), (&[6], false), (&[4, 7, 5], true)] {
        let mut gateways = Gateways::default();
        let stream = admitted(&mut gateways, claim("a", 1));
        for notice in notices {
            gateways.end_if_superseded("gw", &by(*notice));
            assert!(!has_ended(&stream), "which of the two came first is not known yet");
        }
        assert_eq!(gateways.confirm_registration("gw", stream.generation, Registered::Written(6)), Some(6));
        assert_eq!(has_ended(&stream), pending_rival, "{notices:?}");
        gateways.end_if_superseded("gw", &by(6));
        assert_eq!(has_ended(&stream), pending_rival);
        gateways.end_if_superseded("gw", &by(8));
        assert!(has_ended(&stream));
    }
}

#[test]
fn whoever_came_back_without_the_register_ends_once_another_is_known_to_have_come() {
    let mut gateways = Gateways::default();
    let first = admitted(&mut gateways, claim("a", 1));
    assert_eq!(gateways.confirm_registration("gw", first.generation, Registered::Written(100)), Some(100));
    let back = admitted(&mut gateways, claim("a", 2));
    assert!(has_ended(&first));
    assert_eq!(
        gateways.confirm_registration("gw", back.generation, Registered::AlreadyHeld(100)),
        Some(101),
        "rises"
    );
    gateways.release("gw", 100, Duration::ZERO);
    assert_eq!(gateways.incumbents().count(), 1, "the older stream does not take it along");
    gateways.end_if_superseded("gw", &by(100));
    assert!(!has_ended(&back), "that was itself");
    gateways.end_if_superseded("gw", &by(101));
    assert!(has_ended(&back), "though its own number is as high");
    assert_eq!(gateways.confirm_registration("gw", 101, Registered::Written(102)), None);
}

/// The fault: a hub that had just started wrote a register, was not answered and found it written; its stream then had the number that
/// this hub counts itself, below that of streams before it.
#[test]
fn what_was_written_without_an_answer_is_not_undercut() {
    let mut gateways = Gateways::default();
    let stream = admitted(&mut gateways, claim("a", 2));
    assert_eq!(
        gateways.confirm_registration("gw", stream.generation, Registered::AlreadyHeld(100)),
        Some(101)
    );
    gateways.release("gw", 1, Duration::ZERO);
    gateways.end_if_superseded("gw", &by(100));
    assert!(!has_ended(&stream), "that was itself");
    assert_eq!(admitted(&mut gateways, claim("a", 3)).generation, 102);
    assert!(has_ended(&stream));
}
