//! A gateway whose process stands still while much is published for it, so that all that lies on the way is full.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use galaxy_push_hub::Config;
use galaxy_push_listener::{Drain, Limits, listen, serve};
use galaxy_push_proto::v1::push_client::PushClient;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpSocket;
use tokio::time::{Instant, sleep};
use tonic::transport::Endpoint;

use crate::world::{Reading, World, from, large};

/// A process's way to stand still: while it does, it neither reads nor writes.
#[derive(Clone, Default)]
struct Frost(Arc<(AtomicBool, Mutex<Vec<Waker>>)>);

struct Freezing<I>(I, Frost);

impl Frost {
    fn strike(&self) {
        self.0.0.store(true, Ordering::Relaxed);
    }

    fn thaw(&self) {
        self.0.0.store(false, Ordering::Relaxed);
        self.0.1.lock().unwrap().drain(..).for_each(Waker::wake);
    }

    fn holds(&self, cx: &Context<'_>) -> bool {
        let holds = self.0.0.load(Ordering::Relaxed);
        if holds {
            self.0.1.lock().unwrap().push(cx.waker().clone());
        }
        holds
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Freezing<I> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Self(io, frost) = self.get_mut();
        if frost.holds(cx) { Poll::Pending } else { Pin::new(io).poll_read(cx, buf) }
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Freezing<I> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let Self(io, frost) = self.get_mut();
        if frost.holds(cx) { Poll::Pending } else { Pin::new(io).poll_write(cx, bytes) }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_shutdown(cx)
    }
}

/// A gateway's stream over this connection, when it has caught up.
async fn subscribed<I>(io: I) -> (Reading, Frost)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let frost = Frost::default();
    let mut io = Some(TokioIo::new(Freezing(io, frost.clone())));
    let channel = Endpoint::from_static("http://hub")
        .initial_stream_window_size(4 << 20)
        .initial_connection_window_size(32 << 20)
        .connect_with_connector_lazy(tower::service_fn(move |_| {
            let io = io.take().ok_or(io::ErrorKind::NotConnected);
            async move { Ok::<_, io::Error>(io?) }
        }));
    let mut client = PushClient::new(channel).max_decoding_message_size(8 << 20);
    let stream = client.subscribe_push(from("gw", "")).await.unwrap().into_inner();
    let mut reading = Reading::over(stream);
    reading.until("caught up").await;
    (reading, frost)
}

/// For how many seconds the hub keeps the stream. A second is the grain of it.
async fn kept_for(world: &World) -> u64 {
    let from = Instant::now();
    while !world.hub.status().streams.is_empty() && from.elapsed() < Duration::from_secs(600) {
        sleep(Duration::from_secs(1)).await;
    }
    from.elapsed().as_secs()
}

/// The fault: the hub kept the stream for as long as the gateway stood still.
#[tokio::test(start_paused = true)]
async fn a_frozen_gateway_is_dead_after_15_s_however_much_lies_on_its_way() {
    for events in [0, 2, 200] {
        let world = World::new(Config::default());
        let listener = listen(([127, 0, 0, 1], 0).into()).unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(serve(listener, world.hub.router(), Limits::hub(), Drain::default()));
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(64 << 10).unwrap();
        let (_reading, frost) = subscribed(socket.connect(address).await.unwrap()).await;
        frost.strike();
        world.flood(events).await;
        let kept = kept_for(&world).await;
        // From the last byte on that its kernel took, which need not keep up with a clock that leaps.
        assert!((14..=60).contains(&kept), "{events} events: {kept} s");
    }
}

/// Counted from when the hub heard of it last: its answer to a ping, or the room that it made.
#[tokio::test(start_paused = true)]
async fn a_gateway_that_stands_still_for_less_goes_on_and_misses_nothing() {
    let world = World::new(Config::default());
    let (mut reading, frost) = subscribed(world.connect().await.unwrap()).await;
    for round in 0..3 {
        frost.strike();
        for number in 0..200 {
            world.publish_all(vec![large(&format!("{round}.{number}"))]).await;
            tokio::task::yield_now().await;
        }
        sleep(Duration::from_secs(14)).await;
        frost.thaw();
        for seq in 1..=200 {
            let event = reading.until("event").await;
            let at = format!("@{}", round * 200 + seq);
            assert!(event.ends_with(&at), "{at}: {event}");
        }
    }
    assert_eq!(world.hub.status().streams.len(), 1);
}
