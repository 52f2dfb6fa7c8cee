//! Bytes of any kind to the hub's listener: it answers or closes, and each connection ends.

use std::time::Duration;

use galaxy_push_listener::{Drain, Limits, memory_listener, serve};

use crate::world::{converse, hub, run};

/// What HTTP/2 begins with: the preface and empty settings.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// The first byte says what the others are: bytes as they are, bytes behind a preface of HTTP/2, or its frames, each of a type, flags, a
/// stream, a length and so many bytes. The second how many bytes are written at once.
pub fn listener(data: &[u8]) {
    let Some((&[way, step], rest)) = data.split_first_chunk::<2>() else { return };
    let framed;
    let (begin, stream) = match way % 3 {
        0 => (&[][..], rest),
        1 => (PREFACE, rest),
        _ => {
            framed = frames(rest);
            (PREFACE, &*framed)
        }
    };
    let pieces: Vec<&[u8]> = stream.chunks(usize::from(step).max(1) * 16).collect();
    let pause = Duration::from_millis(if way & 0x80 == 0 { 1 } else { 700 });
    run(async {
        let hub = hub();
        let (dial, accept) = memory_listener();
        let drain = Drain::default();
        let serving = tokio::spawn(serve(accept, hub.router(), Limits::hub(), drain.clone()));
        let Ok(pipe) = dial.connect().await else { panic!("no place for the only one") };
        converse(pipe, begin, &pieces, pause).await;
        drain.draining.cancel();
        let ended = tokio::time::timeout(Duration::from_secs(60), serving).await;
        assert!(ended.is_ok(), "the listener does not end");
    });
}

fn frames(mut rest: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    while let Some((&[kind, flags, stream, length], behind)) = rest.split_first_chunk::<4>() {
        let (payload, behind) = behind.split_at(usize::from(length).min(behind.len()));
        out.extend([0, 0, payload.len() as u8, kind, flags, 0, 0, 0, stream]);
        out.extend_from_slice(payload);
        rest = behind;
    }
    out
}
