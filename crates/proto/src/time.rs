//! Times and durations between protobuf and text: RFC 3339 and "1.5s", as proto3's JSON mapping writes them.
//!
//! What comes off the wire may be out of range; it then has no text, and nothing panics.

use std::time::Duration;

use prost_types::{Duration as ProtoDuration, Timestamp};

/// 0001-01-01T00:00:00Z to 9999-12-31T23:59:59Z, the range protobuf defines.
const SECONDS: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;
const NANOS_PER_SECOND: i32 = 1_000_000_000;

/// A time of the given milliseconds since the Unix epoch.
pub(crate) fn from_unix_ms(unix_ms: u64) -> Timestamp {
    Timestamp { seconds: (unix_ms / 1000) as i64, nanos: (unix_ms % 1000 * 1_000_000) as i32 }
}

/// Whether protobuf defines this time.
pub(crate) fn is_valid(time: &Timestamp) -> bool {
    SECONDS.contains(&time.seconds) && (0..NANOS_PER_SECOND).contains(&time.nanos)
}

/// RFC 3339 in UTC, with 0, 3, 6 or 9 fractional digits.
pub fn timestamp_text(time: &Timestamp) -> Option<String> {
    is_valid(time).then(|| time.to_string())
}

/// Reads RFC 3339: date, `T`, time, and `Z` or an offset.
pub(crate) fn parse_timestamp(text: &str) -> Option<Timestamp> {
    // The parser behind this also takes a date alone or a missing offset, which leave open what moment is meant.
    let zoned = matches!(text.as_bytes(), [.., b'Z' | b'z'] | [.., b'+' | b'-', _, _, b':', _, _]);
    let dated = text.len() >= 20 && text.as_bytes()[4] == b'-' && text.as_bytes()[13] == b':';
    if !zoned || !dated {
        return None;
    }
    text.parse().ok().filter(is_valid)
}

/// A duration that is neither negative nor malformed.
pub(crate) fn duration(wire: &ProtoDuration) -> Option<Duration> {
    let nanos = (0..NANOS_PER_SECOND).contains(&wire.nanos).then_some(wire.nanos as u32)?;
    Some(Duration::new(u64::try_from(wire.seconds).ok()?, nanos))
}

/// The protobuf form; beyond its range, the largest there is.
pub(crate) fn proto_duration(duration: Duration) -> ProtoDuration {
    let seconds = i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    ProtoDuration { seconds, nanos: duration.subsec_nanos() as i32 }
}

/// Such as "5s" or "0.250s".
pub(crate) fn duration_text(wire: &ProtoDuration) -> Option<String> {
    duration(wire).map(|_| wire.to_string())
}

/// Seconds in decimal without a unit, such as "5" or "0.25".
pub(crate) fn seconds_text(wire: &ProtoDuration) -> Option<String> {
    let text = duration_text(wire)?;
    let seconds = text.trim_end_matches('s');
    Some(if seconds.contains('.') { seconds.trim_end_matches('0') } else { seconds }.to_owned())
}

/// Reads seconds in decimal without sign, exponent or unit.
pub(crate) fn parse_seconds(text: &str) -> Option<ProtoDuration> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(fraction) || fraction.len() > 9 {
        return None;
    }
    Some(ProtoDuration { seconds: whole.parse().ok()?, nanos: format!("{fraction:0<9}").parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn timestamps() {
        for text in ["2026-11-24T07:05:00Z", "2026-11-24T07:05:00.250Z", "0001-01-01T00:00:00Z"] {
            assert_eq!(timestamp_text(&parse_timestamp(text).unwrap()).as_deref(), Some(text));
        }
        let offset = parse_timestamp("2026-11-24T08:05:00+01:00").unwrap();
        assert_eq!(timestamp_text(&offset).unwrap(), "2026-11-24T07:05:00Z");
        for text in [
            "",
            "Z",
            "2026-11-24",
            "2026-11-24Z",
            "2026-11-24T07:05:00",
            "2026-13-24T07:05:00Z",
            "yesterday at noon Z",
            "99999-01-01T00:00:00Z",
            "2026-11-24T07:05:00+1:00",
            "ⅩⅩⅩⅩⅩⅩⅩⅩⅩⅩZ",
        ] {
            assert_eq!(parse_timestamp(text), None, "{text:?}");
        }
        assert_eq!(timestamp_text(&from_unix_ms(1_700_000_000_001)).unwrap(), "2023-11-14T22:13:20.001Z");
    }

    #[test]
    fn seconds() {
        for (text, seconds, nanos) in [("5", 5, 0), ("0.25", 0, 250_000_000), ("7.000000001", 7, 1)] {
            let wire = ProtoDuration { seconds, nanos };
            assert_eq!(parse_seconds(text), Some(wire));
            assert_eq!(seconds_text(&wire).as_deref(), Some(text));
        }
        for text in ["", "-1", "+1", "1e3", "1.", ".5", "1s", "0.1234567890", "99999999999999999999"] {
            assert_eq!(parse_seconds(text), None, "{text:?}");
        }
        assert_eq!(
            duration_text(&ProtoDuration { seconds: 10, nanos: 500_000_000 }).as_deref(),
            Some("10.500s")
        );
    }

    proptest! {
        #[test]
        fn whatever_is_on_the_wire_has_a_text_or_none(seconds: i64, nanos: i32) {
            let time = Timestamp { seconds, nanos };
            if let Some(text) = timestamp_text(&time) {
                prop_assert_eq!(parse_timestamp(&text), Some(time));
            }
            let wire = ProtoDuration { seconds, nanos };
            prop_assert_eq!(duration_text(&wire).is_some(), seconds >= 0 && (0..NANOS_PER_SECOND).contains(&nanos));
        }

        #[test]
        fn seconds_read_back(seconds in 0..i64::MAX, nanos in 0..NANOS_PER_SECOND) {
            let wire = ProtoDuration { seconds, nanos };
            prop_assert_eq!(parse_seconds(&seconds_text(&wire).unwrap()), Some(wire));
        }

        #[test]
        fn any_text_is_a_time_or_not(text in ".{0,40}") {
            let _ = (parse_timestamp(&text), parse_seconds(&text));
        }
    }
}
