//! What the values of flags look like: from text to a value, or what to write instead.
//!
//! The same texts come from the environment and from the file. A message here completes "invalid value 'x' for '--flag': ".

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use bytesize::ByteSize;
use galaxy_push_client::{BuildError, Connecting, Connector, Publisher};
use galaxy_push_core::cursor::StartFrom;
use galaxy_push_core::recipient::{InvalidRecipient, Pattern, Recipient, check_id, check_name};
use galaxy_push_listener::{IpNet, Proxies};
use galaxy_push_proto::validate::{DATA_BYTES_MAX, REQUEST_BYTES_MAX};

/// What lasts longer is for ever to everybody who will read it, and sums of such times never overflow.
const LONGEST: Duration = Duration::from_secs(100 * 31_557_600);
const SHORTEST: Duration = Duration::from_millis(1);

/// More than any machine has; the sum of some such sizes never overflows.
const SIZE_MAX: u64 = 16 << 40;

pub(super) fn duration(text: &str) -> Result<Duration, String> {
    within(text, LONGEST, "1ms to 100y")
}

/// How long somebody waits for something that is under way.
pub(super) fn wait(text: &str) -> Result<Duration, String> {
    within(text, Duration::from_secs(86_400), "1ms to 24h")
}

fn within(text: &str, longest: Duration, range: &str) -> Result<Duration, String> {
    use humantime::DurationError::NumberOverflow;
    match humantime::parse_duration(text) {
        Ok(duration) if (SHORTEST..=longest).contains(&duration) => Ok(duration),
        Ok(_) | Err(NumberOverflow) => Err(format!("must be from {range}")),
        Err(_) => Err(format!("write a number and its unit: 500ms, 30s, 5m, 1h; from {range}")),
    }
}

/// How long a user may be told nothing. Beyond it a WebSocket could not answer a ping before it is taken for dead.
pub(super) fn progress_interval(text: &str) -> Result<Duration, String> {
    let fits = |interval: &Duration| (Duration::from_secs(1)..=Duration::from_secs(50)).contains(interval);
    duration(text).ok().filter(fits).ok_or_else(|| "write a time from 1s to 50s".into())
}

/// Where the log of a hub is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Store {
    Memory,
    Disk,
    Nats,
}

/// The store, and what becomes of one that this build lacks.
pub(super) fn store(text: &str) -> Result<Store, String> {
    match text {
        "memory" => Ok(Store::Memory),
        "disk" => Ok(Store::Disk),
        "nats" if cfg!(feature = "nats") => Ok(Store::Nats),
        "nats" => {
            Err("this build has no NATS: build it with the feature nats, or write memory or disk".into())
        }
        _ => Err("write memory, disk or nats".into()),
    }
}

pub(super) fn replicas(text: &str) -> Result<u64, String> {
    let fits = count(text).ok().filter(|replicas| *replicas <= 5);
    fits.ok_or_else(|| "write a whole number from 1 to 5".into())
}

/// What stream and subject are named after.
pub(super) fn stream_prefix(text: &str) -> Result<String, String> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let fits = (1..=64).contains(&text.len()) && text.chars().all(is_name);
    fits.then(|| text.to_owned()).ok_or_else(|| "write 1 to 64 letters, digits, `-` and `_`".into())
}

pub(super) fn host_name(text: &str) -> Result<String, String> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let fits = !text.is_empty() && text.chars().all(is_name);
    fits.then(|| text.to_owned())
        .ok_or_else(|| "write the name alone, such as hub.example: no scheme, no port".into())
}

pub(super) fn network(text: &str) -> Result<IpNet, String> {
    Proxies::network(text)
        .ok_or_else(|| "write an address or a network: 10.0.0.7, 10.0.0.0/8, fd00::/8".into())
}

pub(crate) fn size(text: &str) -> Result<u64, String> {
    match text.parse::<ByteSize>() {
        Ok(ByteSize(bytes)) if (1..=SIZE_MAX).contains(&bytes) => Ok(bytes),
        Ok(_) => Err("must be from 1B to 16TiB".into()),
        Err(_) => Err("write a size such as 64KiB, 256MiB or 1GiB; from 1B to 16TiB".into()),
    }
}

pub(super) fn event_size(text: &str) -> Result<usize, String> {
    let bytes = size(text)?;
    let fits = usize::try_from(bytes).ok().filter(|bytes| *bytes <= DATA_BYTES_MAX);
    fits.ok_or_else(|| "must be from 1B to 1MiB: an event carries 1MiB at most; put larger data elsewhere and send its address".into())
}

pub(super) fn request_size(text: &str) -> Result<u64, String> {
    let bytes = size(text)?;
    let fits = bytes >= REQUEST_BYTES_MAX as u64;
    fits.then_some(bytes)
        .ok_or_else(|| "must be from 4MiB to 16TiB: it holds one request, which may have 4MiB".into())
}

pub(super) fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse()
        .map_err(|_| "write an IP address and a port: 127.0.0.1:7400, [::1]:7400, 0.0.0.0:7400".into())
}

pub(super) fn hub_url(text: &str) -> Result<String, String> {
    match Publisher::builder().hub(text).connector(AnyHub).build() {
        Ok(_) => Ok(text.trim().to_owned()),
        Err(BuildError::HubUrl { why, .. }) => {
            Err(format!("{why}; write http://HOST:PORT or https://HOST:PORT"))
        }
        Err(error) => Err(error.to_string()),
    }
}

/// Takes every URL that a client takes; whether there is TLS is seen once all flags are known.
struct AnyHub;

impl Connector for AnyHub {
    fn connect(&self, _: &str, _: u16) -> Connecting {
        Box::pin(async { Err(std::io::ErrorKind::Unsupported.into()) }) // nothing is connected
    }

    fn secures(&self) -> bool {
        true
    }
}

pub(super) fn recipient(text: &str) -> Result<String, String> {
    Recipient::parse(text).map(|_| text.to_owned()).map_err(|why| why.to_string())
}

/// Who can hold a session or a membership. What looks like a pattern would be taken by its letters, and mean nobody.
pub(super) fn holder(text: &str) -> Result<String, String> {
    match Recipient::parse(text) {
        Ok(Recipient::User(name) | Recipient::Session(name)) => match check_name(name) {
            Ok(()) => Ok(text.to_owned()),
            Err(why) => Err(format!("{why}, and publish to `all` what everybody is to receive")),
        },
        Ok(_) | Err(InvalidRecipient::UnknownKind) => Err("write user:<id> or session:<id>".into()),
        Err(why) => Err(why.to_string()),
    }
}

pub(super) fn instant(text: &str) -> Result<SystemTime, String> {
    humantime::parse_rfc3339(text).map_err(|_| "write a moment in UTC, such as 2026-11-24T10:00:00Z".into())
}

pub(super) fn pattern(text: &str) -> Result<String, String> {
    Pattern::parse(text).map(|_| text.to_owned()).map_err(|why| why.to_string())
}

pub(super) fn topic(text: &str) -> Result<String, String> {
    Pattern::parse(&format!("topic:{text}")).map(|_| text.to_owned()).map_err(|why| why.to_string())
}

pub(super) fn not_empty(text: &str) -> Result<String, String> {
    if text.is_empty() { Err("must not be empty".into()) } else { Ok(text.to_owned()) }
}

pub(super) fn name(text: &str) -> Result<String, String> {
    match check_id(text) {
        Ok(()) => Ok(text.to_owned()),
        Err(_) if text.is_empty() => Err("must not be empty".into()),
        Err(why) => Err(why.to_string()),
    }
}

/// The user or session of a token, as gateways take it.
pub(super) fn subject(text: &str) -> Result<String, String> {
    if text.ends_with('*') {
        return Err("no gateway takes a name that ends in `*`, which stands for many names elsewhere".into());
    }
    name(text)
}

/// One user or session whose tokens are to be void.
pub(super) fn voided(text: &str) -> Result<String, String> {
    if let Err(why @ InvalidRecipient::ManyNames) = check_name(text) {
        return Err(format!(
            "{why}; --user ends every session of that user, and everybody's end when the key that signs their tokens is taken \
             out of --user-keys and the gateways are restarted"
        ));
    }
    if let Some(id) = text.strip_prefix("user:").or_else(|| text.strip_prefix("session:")) {
        return Err(format!(
            "the flag says already whether it is a user or a session, and this would be the name of another: write {id}"
        ));
    }
    name(text)
}

pub(super) fn gateway_id(text: &str) -> Result<String, String> {
    name(text).map_err(|why| format!("{why}; give each gateway a name of its own, such as edge-1"))
}

/// A flag that takes no value on the command line, but one in the environment and in the file.
pub(super) fn switch(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" => Ok(false),
        _ => Err("write true or false".into()),
    }
}

pub(super) fn count(text: &str) -> Result<u64, String> {
    let count = text.parse().ok().filter(|count| *count > 0);
    count.ok_or_else(|| format!("write a whole number, 1 at least, and {} at most", u64::MAX))
}

/// Where a reader starts, in the hub's words: now is the empty cursor.
pub(super) fn start(text: &str) -> Result<String, String> {
    match text {
        "now" => Ok(String::new()),
        "" => Err("write now, oldest, or a cursor".into()),
        _ => StartFrom::parse(text)
            .map(|_| text.to_owned())
            .map_err(|_| "not a cursor: write now, oldest, or a cursor exactly as it was printed".into()),
    }
}

pub(super) fn attribute(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write NAME=VALUE".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_have_units() {
        assert_eq!(duration("5m"), Ok(Duration::from_secs(300)));
        for bad in [
            "5",
            "0s",
            "-5s",
            "5 parsecs",
            "",
            "1ns",
            "101y",
            "18446744073709551615s",
            "99999999999999999999s",
        ] {
            assert!(duration(bad).is_err_and(|why| why.contains("1ms to 100y")), "{bad}");
        }
        assert_eq!(progress_interval("15s"), Ok(Duration::from_secs(15)));
        assert!(progress_interval("999ms").is_err() && progress_interval("51s").is_err());
        assert!(duration("100y").is_ok() && wait("24h").is_ok());
        assert!(wait("25h").is_err_and(|why| why.contains("1ms to 24h")));
        assert_eq!(size("64MiB"), Ok(64 << 20));
        assert_eq!(size("1000"), Ok(1_000));
        for bad in ["much", "0", "-1", "", "17TiB", "16EiB", "99999999999999999999"] {
            assert!(size(bad).is_err_and(|why| why.contains("1B to 16TiB")), "{bad}");
        }
        assert_eq!(event_size("1MiB"), Ok(1 << 20));
        assert!(event_size("1025KiB").is_err());
        assert_eq!((count("1"), switch("On"), switch("0")), (Ok(1), Ok(true), Ok(false)));
        assert!(count("0").is_err() && count("-1").is_err() && switch("maybe").is_err());
    }

    #[test]
    fn addresses_urls_and_starts() {
        assert!(address("127.0.0.1:0").is_ok() && address("[::1]:7400").is_ok());
        assert!(network("10.0.0.7").is_ok() && network("fd00::/8").is_ok() && network("proxy").is_err());
        assert!(address("localhost:7400").is_err() && address("127.0.0.1").is_err());
        assert_eq!(hub_url(" http://hub:7400 "), Ok("http://hub:7400".into()));
        assert_eq!(hub_url("https://hub"), Ok("https://hub".into()));
        assert!(hub_url("ftp://hub").is_err_and(|why| why.contains("or https://HOST:PORT")));
        assert_eq!((start("now"), start("oldest")), (Ok(String::new()), Ok("oldest".into())));
        assert!(start("").is_err() && start("17").is_ok() && start("Now").is_err());
        assert_eq!(attribute("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert!(attribute("=x").is_err() && attribute("x").is_err());
    }
}
