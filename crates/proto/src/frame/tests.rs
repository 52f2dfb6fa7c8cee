//! Each control becomes its frame with the right cursor, and the pure core reads back what is encoded here.

use expect_test::expect;
use galaxy_push_core::{
    cursor::{Cursor, Epoch, Seq},
    frame::{Deframer, FrameView, message},
};

use super::*;
use crate::json::{self, View};

fn at(seq: u64) -> Cursor {
    Cursor { epoch: Epoch(1), seq: Seq(seq) }
}

fn controls() -> Vec<Control> {
    let gap = MissingRange {
        reason: GapReason::Lapped,
        from: at(2).to_string(),
        to: at(7),
        count: Some(5),
        repair_after: Some(Duration::from_millis(40)),
    };
    vec![
        Control::Welcome {
            cursor: "9.presented".into(),
            outcome: Outcome::EpochChanged,
            epoch: Epoch(1),
            head: at(9),
            oldest: at(2),
        },
        Control::Gap(gap),
        Control::CaughtUp { cursor: at(7) },
        Control::Progress { cursor: at(8) },
        Control::FellBehind { cursor: at(8), events: 3, lag: Duration::from_millis(1500) },
    ]
}

#[test]
fn every_control_has_its_frame() {
    let welcome = WelcomeInfo {
        generation: 4,
        heartbeat_interval: Duration::from_secs(5),
        limits: v1::Limits { max_event_bytes: 65_536, ..v1::Limits::default() },
        connection_id: "c1".into(),
    };
    let mut frames: Vec<_> = controls().iter().map(|control| control_frame(control, &welcome)).collect();
    frames.push(goodbye_frame("2.e.a8", v1::GoodbyeReason::Draining, Some(Duration::from_secs(2))));
    frames.push(goodbye_frame("2.e.a8", v1::GoodbyeReason::Replaced, None));
    frames.push(subscribed_frame("2.e.a8", vec!["orders".into()]));
    let table: String = frames
        .iter()
        .map(|frame| String::from_utf8(json::frame(frame, View::Full)).unwrap() + "\n")
        .collect();
    expect![[r#"
        {"cursor":"9.presented","welcome":{"outcome":"EPOCH_CHANGED","epoch":"AAAAAAAAAAAAAAAAAAAAAQ","head":"2.AAAAAAAAAAAAAAAAAAAAAQ.a9","oldest":"2.AAAAAAAAAAAAAAAAAAAAAQ.a2","generation":"4","heartbeatInterval":"5s","limits":{"maxEventBytes":65536,"maxFrameBytes":0,"windowEvents":"0","windowBytes":"0"},"connectionId":"c1"}}
        {"cursor":"2.AAAAAAAAAAAAAAAAAAAAAQ.a7","gap":{"reason":"LAPPED","from":"2.AAAAAAAAAAAAAAAAAAAAAQ.a2","to":"2.AAAAAAAAAAAAAAAAAAAAAQ.a7","count":"5","repairAfter":"0.040s"}}
        {"cursor":"2.AAAAAAAAAAAAAAAAAAAAAQ.a7","caughtUp":{}}
        {"cursor":"2.AAAAAAAAAAAAAAAAAAAAAQ.a8","progress":{}}
        {"cursor":"2.AAAAAAAAAAAAAAAAAAAAAQ.a8","fellBehind":{"events":"3","lag":"1.500s"}}
        {"cursor":"2.e.a8","goodbye":{"reason":"DRAINING","retryAfter":"2s","reconnect":true}}
        {"cursor":"2.e.a8","goodbye":{"reason":"REPLACED","reconnect":false}}
        {"cursor":"2.e.a8","subscribed":{"topics":["orders"]}}
    "#]].assert_eq(&table);
}

#[test]
fn the_core_reads_what_is_encoded() {
    let kinds: Vec<_> = controls()
        .iter()
        .map(|control| {
            let frame = control_frame(control, &WelcomeInfo::default());
            let framed = encode_framed(&frame);
            let mut deframer = Deframer::new(framed.len());
            deframer.push(framed.clone());
            assert_eq!(deframer.next_message().unwrap().as_ref(), Some(&framed));
            let view = FrameView::read(message(&framed)).unwrap();
            assert_eq!(view.cursor(), frame.cursor);
            assert_eq!(v1::PushEvent::decode(message(&framed)).unwrap(), frame);
            view.kind()
        })
        .collect();
    expect!["[Welcome, Gap, CaughtUp, Progress, FellBehind]"].assert_eq(&format!("{kinds:?}"));
}

#[test]
fn enums_convert_both_ways() {
    for number in 1.. {
        let Ok(wire) = v1::Outcome::try_from(number) else { break };
        assert_eq!(v1::Outcome::from(Outcome::try_from(wire).unwrap()), wire);
    }
    for number in 1.. {
        let Ok(wire) = v1::GapReason::try_from(number) else { break };
        assert_eq!(v1::GapReason::from(GapReason::try_from(wire).unwrap()), wire);
    }
    assert_eq!(Outcome::try_from(v1::Outcome::Unspecified), Err(v1::Outcome::Unspecified));
}
