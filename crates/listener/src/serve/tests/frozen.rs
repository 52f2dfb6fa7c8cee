//! HTTP/2 peers that take nothing, or too little, of a stream without end: who of them is dead, and who is only slow.

use tokio::net::{TcpListener, TcpSocket};
use tokio::time::{Instant, sleep, timeout_at};

use super::unread_responses::{
    END_STREAM_AND_HEADERS, HEADERS, INITIAL_WINDOW_SIZE, SETTINGS, fields, frame,
};
use super::*;

const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const ACK: u8 = 1;

/// More than a pipe, or a socket with small buffers, and HTTP/2 hold on their way.
const MUCH: u32 = 8 << 20;

/// Serves a stream without end, as a hub listens. The places tell whether the connection is there.
fn serve_flood(accept: impl Accept) -> ConnectionSlots {
    let limits = Limits::hub();
    let slots = ConnectionSlots::new("test", &limits, SlotPolicy::default());
    let app = Router::new().route("/flood", get(flood));
    tokio::spawn(serve_at(accept, None, app, limits, slots.clone(), Drain::default()));
    slots
}

async fn pipe() -> (DuplexStream, ConnectionSlots) {
    let (pipes, incoming) = mpsc::channel(1);
    let slots = serve_flood(MemoryListener(incoming));
    let (near, far) = tokio::io::duplex(1 << 16);
    pipes.send(far).await.unwrap();
    tokio::spawn(async move { pipes.closed().await });
    (near, slots)
}

async fn tcp() -> (tokio::net::TcpStream, ConnectionSlots) {
    let listener: TcpListener = crate::listen(([127, 0, 0, 1], 0).into()).unwrap();
    let address = listener.local_addr().unwrap();
    let slots = serve_flood(listener);
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    (socket.connect(address).await.unwrap(), slots)
}

/// Asks for the stream, and lets so many bytes of it come.
async fn ask_for(io: &mut (impl AsyncWrite + Unpin), window: u32) {
    let head = fields(&[(":method", "GET"), (":scheme", "http"), (":path", "/flood"), (":authority", "x")]);
    let begin = [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        frame(SETTINGS, 0, 0, &[&[0, INITIAL_WINDOW_SIZE][..], &window.to_be_bytes()].concat()),
        frame(WINDOW_UPDATE, 0, 0, &(1_u32 << 30).to_be_bytes()),
        frame(HEADERS, END_STREAM_AND_HEADERS, 1, &head),
    ];
    io.write_all(&begin.concat()).await.unwrap();
    sleep(Duration::from_millis(1)).await;
}

/// Takes everything that comes until then, and answers pings if it is to.
async fn take_until(io: &mut (impl AsyncRead + AsyncWrite + Unpin), until: Instant, answers: bool) {
    let taking = async {
        loop {
            let mut head = [0; 9];
            io.read_exact(&mut head).await.unwrap();
            let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
            io.read_exact(&mut payload).await.unwrap();
            if answers && head[3] == PING && head[4] & ACK == 0 {
                io.write_all(&frame(PING, ACK, 0, &payload)).await.unwrap();
            }
        }
    };
    assert!(timeout_at(until, taking).await.is_err());
}

fn is_there(slots: &ConnectionSlots) -> bool {
    slots.taken().authenticated > 0
}

/// After how many seconds the connection is closed. A second is the grain of it.
async fn gone_after(slots: &ConnectionSlots) -> u64 {
    let from = Instant::now();
    while is_there(slots) && from.elapsed() < Duration::from_secs(600) {
        sleep(Duration::from_secs(1)).await;
    }
    from.elapsed().as_secs()
}

/// The fault: HTTP/2 reads nothing while a ping finds no room, so nobody saw that nothing came.
#[tokio::test(start_paused = true)]
async fn who_is_frozen_behind_a_full_pipe_is_dead_after_15_s() {
    let (mut peer, slots) = pipe().await;
    ask_for(&mut peer, MUCH).await;
    let after = gone_after(&slots).await;
    assert!((15..=16).contains(&after), "{after} s");
}

/// The same with a kernel, which itself takes bytes for a moment, on a clock that leaps: from the last of them the time counts.
#[tokio::test(start_paused = true)]
async fn who_is_frozen_behind_a_full_socket_is_dead_after_15_s() {
    let (mut peer, slots) = tcp().await;
    ask_for(&mut peer, MUCH).await;
    let after = gone_after(&slots).await;
    assert!((15..=60).contains(&after), "{after} s");
}

/// Nothing is on its way: the window of HTTP/2 is used up, and everything was taken.
#[tokio::test(start_paused = true)]
async fn who_is_frozen_behind_a_used_up_window_is_dead_after_15_s() {
    let (mut peer, slots) = pipe().await;
    ask_for(&mut peer, 10_000).await;
    let after = gone_after(&slots).await;
    assert!((15..=16).contains(&after), "{after} s");
}

#[tokio::test(start_paused = true)]
async fn who_answers_pings_and_takes_no_data_stays() {
    let (mut peer, slots) = pipe().await;
    ask_for(&mut peer, 10_000).await;
    take_until(&mut peer, Instant::now() + Duration::from_secs(600), true).await;
    assert!(is_there(&slots));
}

/// What answers it gives lie behind what it has not taken.
#[tokio::test(start_paused = true)]
async fn who_takes_a_little_all_the_time_stays() {
    let (mut peer, slots) = pipe().await;
    ask_for(&mut peer, MUCH).await;
    for _ in 0..300 {
        sleep(Duration::from_secs(1)).await;
        peer.read_exact(&mut [0; 100]).await.unwrap();
    }
    assert!(is_there(&slots));
    let after = gone_after(&slots).await;
    assert!((15..=16).contains(&after), "{after} s after the last byte");
}

#[tokio::test(start_paused = true)]
async fn who_takes_a_little_from_a_socket_all_the_time_stays() {
    let (mut peer, slots) = tcp().await;
    ask_for(&mut peer, MUCH).await;
    for _ in 0..60 {
        sleep(Duration::from_secs(1)).await;
        peer.read_exact(&mut [0; 8 << 10]).await.unwrap();
    }
    assert!(is_there(&slots));
}

#[tokio::test(start_paused = true)]
async fn who_is_frozen_for_less_goes_on() {
    let (mut peer, slots) = pipe().await;
    ask_for(&mut peer, 1 << 20).await;
    for _ in 0..5 {
        sleep(Duration::from_secs(14)).await;
        take_until(&mut peer, Instant::now() + Duration::from_secs(30), true).await;
        let more = (1_u32 << 20).to_be_bytes();
        peer.write_all(&frame(WINDOW_UPDATE, 0, 1, &more)).await.unwrap();
    }
    assert!(is_there(&slots));
}
