//! Who is behind a reverse proxy: the address that it says it speaks for, if its word is to be taken.
//!
//! `X-Forwarded-For` and `Forwarded` (RFC 7239) are written by anybody, so they count only where the connection itself comes
//! from a proxy that the operator named, and are read from the end: each proxy appends whom it heard from.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use http::{HeaderMap, header};
pub use ipnet::IpNet;

const X_FORWARDED_FOR: &str = "x-forwarded-for";

/// The proxies whose word is taken, as networks. By default nobody's is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proxies(Vec<IpNet>);

impl Proxies {
    /// Those in these networks.
    pub fn new(networks: impl IntoIterator<Item = IpNet>) -> Self {
        Self(networks.into_iter().collect())
    }

    /// Reads an address, or a network such as `10.0.0.0/8`. `None`: it is neither.
    #[must_use]
    pub fn network(text: &str) -> Option<IpNet> {
        text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
    }

    /// Whether this address is a proxy's.
    #[must_use]
    pub fn trust(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }

    /// Whose request this is: the peer's own, or of whoever the proxies say they heard it from. Where they say two things,
    /// one of them came from outside, and it is the peer's own again.
    #[must_use]
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let peer = peer.to_canonical();
        if !self.trust(peer) {
            return peer;
        }
        let hops = |name: &str| headers.get_all(name).iter().map(|value| value.to_str().unwrap_or_default());
        let plain: Vec<_> = hops(X_FORWARDED_FOR).flat_map(|list| list.split(',')).map(plain).collect();
        let forwarded: Vec<_> =
            hops(header::FORWARDED.as_str()).flat_map(|list| list.split(',')).map(forwarded).collect();
        let (by_plain, by_forwarded) =
            (self.first_stranger(peer, &plain), self.first_stranger(peer, &forwarded));
        match (plain.is_empty(), forwarded.is_empty()) {
            (_, true) => by_plain,
            (true, false) => by_forwarded,
            (false, false) if by_plain == by_forwarded => by_plain,
            (false, false) => peer,
        }
    }

    /// The last hop that is no proxy of ours; what stands before it, it may have made up.
    fn first_stranger(&self, peer: IpAddr, hops: &[Option<IpAddr>]) -> IpAddr {
        let mut nearest = peer;
        for hop in hops.iter().rev() {
            // Beyond one that cannot be read, nobody is known: it is that proxy's.
            let Some(address) = hop else { break };
            nearest = *address;
            if !self.trust(nearest) {
                break;
            }
        }
        nearest
    }
}

/// What bounds per address count by: an IPv4 address, and of IPv6 the network of 64 bits that one subscriber has.
#[must_use]
pub fn subscriber(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
        address => address,
    }
}

/// An address, perhaps with a port.
fn plain(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse().ok().or_else(|| Some(text.parse::<SocketAddr>().ok()?.ip()));
    address.map(|address: IpAddr| address.to_canonical())
}

/// The `for` of one element.
fn forwarded(element: &str) -> Option<IpAddr> {
    let value = element.split(';').find_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        name.trim().eq_ignore_ascii_case("for").then(|| value.trim())
    })?;
    plain(value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(peer: &str, headers: &[(&'static str, &str)]) -> String {
        let proxies =
            Proxies::new(["10.0.0.0/8", "127.0.0.1", "fd00::/8"].map(|text| Proxies::network(text).unwrap()));
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        proxies.client(peer.parse().unwrap(), &map).to_string()
    }

    #[test]
    fn only_the_word_of_a_trusted_proxy_is_taken() {
        let xff = "x-forwarded-for";
        for (peer, headers, expected) in [
            ("203.0.113.9", &[(xff, "198.51.100.1")][..], "203.0.113.9"),
            ("10.0.0.1", &[], "10.0.0.1"),
            ("10.0.0.1", &[(xff, "198.51.100.1")], "198.51.100.1"),
            ("::ffff:10.0.0.1", &[(xff, "198.51.100.1")], "198.51.100.1"),
            ("10.0.0.1", &[(xff, "1.2.3.4, 198.51.100.1, 10.9.9.9")], "198.51.100.1"),
            ("10.0.0.1", &[(xff, "1.2.3.4"), (xff, "198.51.100.1")], "198.51.100.1"),
            ("10.0.0.1", &[(xff, "10.0.0.7, 10.0.0.8")], "10.0.0.7"),
            ("10.0.0.1", &[(xff, "1.2.3.4, unknown")], "10.0.0.1"),
            ("10.0.0.1", &[(xff, "1.2.3.4, nonsense, 10.0.0.8")], "10.0.0.8"),
            ("10.0.0.1", &[(xff, "198.51.100.1:5555")], "198.51.100.1"),
            ("fd00::1", &[(xff, "[2001:db8::1]:80")], "2001:db8::1"),
            ("10.0.0.1", &[("forwarded", "for=198.51.100.1;proto=https")], "198.51.100.1"),
            (
                "10.0.0.1",
                &[("forwarded", "for=1.2.3.4, proto=https;For=\"[2001:db8::1]:4711\"")],
                "2001:db8::1",
            ),
            ("10.0.0.1", &[("forwarded", "for=_hidden")], "10.0.0.1"),
            ("10.0.0.1", &[("forwarded", "proto=https")], "10.0.0.1"),
            ("10.0.0.1", &[(xff, "1.2.3.4"), ("forwarded", "for=1.2.3.4")], "1.2.3.4"),
            ("10.0.0.1", &[(xff, "1.2.3.4"), ("forwarded", "for=4.3.2.1")], "10.0.0.1"),
        ] {
            assert_eq!(client(peer, headers), expected, "{peer} {headers:?}");
        }
    }

    #[test]
    fn networks_and_subscribers() {
        for bad in ["", "10.0.0.0/33", "proxy.example", "10.0.0.1:80", "10.0.0"] {
            assert!(Proxies::network(bad).is_none(), "{bad}");
        }
        let of = |text: &str| subscriber(text.parse().unwrap()).to_string();
        assert_eq!(of("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(
            (of("198.51.100.1"), of("::ffff:198.51.100.1")),
            ("198.51.100.1".into(), "198.51.100.1".into())
        );
    }
}
