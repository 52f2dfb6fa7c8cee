//! Tests of positions, their text form and where they have holes.

use super::*;
use proptest::prelude::*;

/// Every number of digits as likely as any other, and the steps between two of them often.
fn any_seq() -> impl Strategy<Value = u64> {
    let steps = (0u32..20, 0u64..3).prop_map(|(digits, past)| (10u64.pow(digits) - 1).saturating_add(past));
    prop_oneof![any::<u64>(), (any::<u64>(), 0u32..64).prop_map(|(seq, bits)| seq >> bits), steps]
}

proptest! {
    #[test]
    fn text_round_trips(epoch: u128, seq: u64) {
        let cursor = Cursor { epoch: Epoch(epoch), seq: Seq(seq) };
        let text = cursor.to_string();
        prop_assert!(text.len() <= CURSOR_TEXT_MAX);
        prop_assert_eq!(StartFrom::parse(&text), Ok(StartFrom::At(cursor)));
    }

    #[test]
    fn text_is_version_epoch_and_position(epoch: u128, seq in any_seq()) {
        let cursor = Cursor { epoch: Epoch(epoch), seq: Seq(seq) };
        prop_assert_eq!(cursor.to_string(), format!("{VERSION}.{}.{}", cursor.epoch, cursor.seq));
    }

    #[test]
    fn one_position_has_one_text(epoch: u128, seq: u64, at in 0usize..40, byte in 32u8..127) {
        let cursor = Cursor { epoch: Epoch(epoch), seq: Seq(seq) };
        let mut changed = cursor.to_string().into_bytes();
        let at = at % changed.len();
        prop_assume!(changed[at] != byte);
        changed[at] = byte;
        let changed = String::from_utf8(changed).unwrap();
        prop_assert_ne!(StartFrom::parse(&changed), Ok(StartFrom::At(cursor)));
    }

    #[test]
    fn cursors_of_one_epoch_sort_as_text(epoch: u128, a in any_seq(), b in any_seq()) {
        let text = |seq| Cursor { epoch: Epoch(epoch), seq: Seq(seq) }.to_string();
        prop_assert_eq!(text(a).as_bytes().cmp(text(b).as_bytes()), a.cmp(&b));
    }

    #[test]
    fn any_text_has_an_answer(text in ".{0,140}") {
        let _ = StartFrom::parse(&text);
    }
}

#[test]
fn asks() {
    for (text, expected) in [
        ("", Ok(StartFrom::Head)),
        ("oldest", Ok(StartFrom::Oldest)),
        ("3.whatever-comes_next", Ok(StartFrom::Foreign)),
        ("10", Ok(StartFrom::Foreign)),
        ("1", Ok(StartFrom::Foreign)),
        ("1.AAAAAAAAAAAAAAAAAAAAAA.7", Ok(StartFrom::Foreign)),
        ("2", Err(MalformedCursor)),
        ("2.AAAAAAAAAAAAAAAAAAAAAA.7", Err(MalformedCursor)),
        ("2.AAAAAAAAAAAAAAAAAAAAAA.b7", Err(MalformedCursor)),
        ("2.AAAAAAAAAAAAAAAAAAAAAA.b07", Err(MalformedCursor)),
        ("2.AAAAAAAAAAAAAAAAAAAAAA.a07", Err(MalformedCursor)),
        ("2.AAAAAAAAAAAAAAAAAAAAAA.A7", Err(MalformedCursor)),
        ("2.AAAAAAAAAAAAAAAAAAAAAA.a", Err(MalformedCursor)),
        ("2.AAAAAAAAAAAAAAAAAAAAAA.", Err(MalformedCursor)),
        ("2.AAAAAAAAAAAAAAAAAAAAAA.`", Err(MalformedCursor)),
        ("2.AAAAAAAAAAAAAAAAAAAAAB.a1", Err(MalformedCursor)),
        ("2.AAAAAAAAAAAAAAAAAAAAAA.t18446744073709551616", Err(MalformedCursor)),
        ("2.AAAAAAAAAAAAAAAAAAAAAA.u100000000000000000000", Err(MalformedCursor)),
        ("2.AAAAAAAAAAAAAAAAAAAAAA.a1.a2", Err(MalformedCursor)),
        ("Oldest", Err(MalformedCursor)),
        ("3 3", Err(MalformedCursor)),
        ("2.AAAAAAAAAAAAAAAAAAAAAA.a7", Ok(StartFrom::At(Cursor { epoch: Epoch(0), seq: Seq(7) }))),
        ("2.AAAAAAAAAAAAAAAAAAAAAA.a0", Ok(StartFrom::At(Cursor { epoch: Epoch(0), seq: Seq(0) }))),
        ("2.AAAAAAAAAAAAAAAAAAAAAA.c527", Ok(StartFrom::At(Cursor { epoch: Epoch(0), seq: Seq(527) }))),
    ] {
        assert_eq!(StartFrom::parse(text), expected, "{text:?}");
    }
    assert_eq!(StartFrom::parse(&"3".repeat(129)), Err(MalformedCursor));
    assert_eq!(StartFrom::parse(&"3".repeat(65536)), Err(MalformedCursor));
}

#[test]
fn positions_of_two_epochs_have_no_order() {
    let a = Cursor { epoch: Epoch(1), seq: Seq(5) };
    let b = Cursor { epoch: Epoch(2), seq: Seq(9) };
    assert!(!a.follows(b) && !b.follows(a));
    assert_eq!(b.since(a), None);
    assert_eq!(a.since(Cursor::start(Epoch(1))), Some(5));
}

/// Any epoch, and as often one whose positions have holes.
fn any_epoch() -> impl Strategy<Value = Epoch> {
    prop_oneof![any::<u128>().prop_map(Epoch), any::<u128>().prop_map(Epoch::with_holes)]
}

#[test]
fn the_text_of_an_epoch_with_holes_begins_with_pack() {
    for random in [0, 1, u128::MAX, 0x0123_4567_89ab_cdef_0123_4567_89ab_cdef] {
        let epoch = Epoch::with_holes(random);
        assert!(epoch.to_string().starts_with("pack"), "{epoch}");
        assert_eq!(epoch.to_string().parse(), Ok(epoch));
    }
    assert_ne!(Epoch::with_holes(0), Epoch::with_holes(1), "the rest is random");
}

proptest! {
    #[test]
    fn an_epoch_has_holes_where_its_text_says_so(epoch in any_epoch()) {
        prop_assert_eq!(epoch.has_holes(), epoch.to_string().starts_with("pack"));
    }

    #[test]
    fn two_positions_with_holes_between_them_give_no_count(random: u128, a in any_seq(), b in any_seq()) {
        let at = |seq| Cursor { epoch: Epoch::with_holes(random), seq: Seq(seq) };
        prop_assert_eq!(at(a).since(at(b)), None);
        prop_assert_eq!(at(a).follows(at(b)), a > b, "but they have an order");
    }

    #[test]
    fn positions_in_messages_rise_and_name_their_message(
        message in 1..MESSAGE_MAX, behind: u16, later in 1..9u64, other: u16,
    ) {
        let epoch = Epoch::with_holes(7);
        let at = Cursor::in_message(epoch, message, behind);
        prop_assert_eq!(at.message(), message);
        prop_assert!(at.follows(Cursor::end_of_message(epoch, message - 1)));
        prop_assert!(!at.follows(Cursor::end_of_message(epoch, message)));
        let next = message.saturating_add(later).min(MESSAGE_MAX);
        prop_assert!(Cursor::in_message(epoch, next, other).follows(at));
        prop_assert_eq!(at.follows(Cursor::in_message(epoch, message, other)), other > behind);
    }
}

#[test]
fn the_last_position_of_a_message_follows_from_its_number_alone() {
    let epoch = Epoch::with_holes(1);
    assert_eq!(Cursor::end_of_message(epoch, 0), Cursor::start(epoch), "nothing was appended yet");
    assert_eq!(Cursor::end_of_message(epoch, 1).seq, Seq(2 * 65_536 - 1));
    assert_eq!(Cursor::in_message(epoch, 1, 65_535).seq, Seq(65_536), "the first of the most that fit");
    assert_eq!(Cursor::end_of_message(epoch, MESSAGE_MAX).seq, Seq(u64::MAX));
    assert_eq!(Cursor::end_of_message(epoch, u64::MAX).seq, Seq(u64::MAX), "nothing overflows");
}
