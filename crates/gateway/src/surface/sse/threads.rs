//! Models of streams that end, and of a drain (`cargo xtask threads`): the real gateway without its listener and its hub.

use futures_util::FutureExt as _;
use galaxy_push_core::ambient::Ambient;
use galaxy_push_core::cursor::{Cursor, Epoch};
use shuttle::future::block_on;
use shuttle::thread;

use super::*;
use crate::app::authority::{HeadAnswer, HubHead};
use crate::schedules::{Seen, explore};
use crate::state::close::CloseReason;
use crate::state::edge::Change;
use crate::{Access, Config, Gateway};

/// A hub that answers nothing.
struct Silent;

impl HubHead for Silent {
    fn head(&mut self) -> HeadAnswer<'_> {
        Box::pin(std::future::pending())
    }
}

/// A gateway in development mode, caught up with an empty log.
fn gateway() -> Gateway {
    let mut config = Config::new("http://hub:7400", "gateway-1");
    config.access = Access::development();
    let (gateway, _) = Gateway::assemble(config, Silent, None, Ambient::new(|| 0, || 0)).unwrap();
    let edge = &gateway.shared().admission.edge;
    edge.apply(&[Change::Begin(Cursor::start(Epoch(1)))]);
    edge.set_caught_up();
    gateway
}

/// A stream of this user, as a request opens it.
fn open_stream(context: &Arc<Context>) -> Result<Stream, Failure> {
    let carrier = Carrier::new(Outflow::default(), None, PieceSizes::HTTP1);
    let uri = Uri::from_static("/v1/stream?user=ann");
    block_on(open(context, carrier, None, &uri, &HeaderMap::new()))
}

/// Everything that the stream says until it ends.
fn text(stream: Stream) -> String {
    let (mut text, mut rest) = (String::new(), Some(stream));
    while let Some(stream) = rest.take() {
        if let Some((piece, stream)) = block_on(stream.next()) {
            text.push_str(std::str::from_utf8(&piece.unwrap()).unwrap());
            rest = Some(stream);
        }
    }
    text
}

#[test]
fn a_stream_that_is_given_up_while_it_is_read_ends_once() {
    let (early, late) = (Seen::default(), Seen::default());
    let sights = (early.clone(), late.clone());
    explore(
        "gateway: stalled streams",
        "a stream that has to end, given up while HTTP asks for its next piece or not, says one goodbye, and nothing of it is kept",
        move || {
            let gateway = gateway();
            let (context, shared) = (gateway.context().clone(), gateway.shared().clone());
            let stream = open_stream(&context).unwrap();
            let mailbox = shared.admission.edge.routes.mailboxes().remove(0);
            let ender = {
                let (context, shared) = (context.clone(), shared.clone());
                thread::spawn(move || {
                    mailbox.close(CloseReason::TokenExpired);
                    drop(mailbox);
                    context.stalled.end_stalled(Duration::MAX);
                    shared.admission.edge.routes.len() == 0
                })
            };
            let text = text(stream);
            assert_eq!(text.matches("push.goodbye").count(), 1, "{text}");
            let given_up = ender.join().unwrap();
            assert!(context.stalled.is_empty(), "something of it is kept");
            assert_eq!((shared.admission.edge.routes.len(), shared.tracker.len()), (0, 0));
            sights.0.count(u64::from(given_up));
            sights.1.count(u64::from(!given_up));
        },
    );
    assert!(early.in_some() && late.in_some(), "it shows nothing");
}

/// The fault: a user that came before the drain, and was let in after everybody had been told, was told nothing; and a drain
/// that waits for all did not wait for it.
#[test]
fn whoever_is_let_in_beside_a_drain_is_told() {
    let (admitted, refused) = (Seen::default(), Seen::default());
    let sights = (admitted.clone(), refused.clone());
    explore(
        "gateway: drain",
        "a user that comes while a drain begins is refused, or is told, and waited for",
        move || {
            let gateway = gateway();
            let (context, shared) = (gateway.context().clone(), gateway.shared().clone());
            let comes = {
                let context = context.clone();
                thread::spawn(move || open_stream(&context).ok())
            };
            // Or the user never comes before the drain.
            (0..8).for_each(|_| thread::yield_now());
            // Time stands still, and with it the pause after each of them: it goes on when it is called again.
            while shared.close_everybody().now_or_never().is_none() {}
            thread::yield_now();
            let is_waited_for = !shared.tracker.is_empty();
            match comes.join().unwrap() {
                Some(stream) => {
                    let Some(Kept::Open(open)) = context.stalled.remove(stream.id) else {
                        panic!("it is open")
                    };
                    assert!(matches!(open.close_reason(), Some(CloseReason::Draining(_))), "it is not told");
                    assert!(is_waited_for, "nobody waits for it");
                    sights.0.count(1);
                }
                None => sights.1.count(1),
            }
        },
    );
    assert!(admitted.in_some() && refused.in_some(), "it shows nothing");
}
