//! Limits how many lines about one peer are logged: the first, second, fourth and so on.
//!
//! A lock and this process's clock around the core's [`LogSampler`]. Whoever logs something that peers can cause asks it first,
//! and logs how many lines were left out, so that nobody can fill a log by being refused.

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use galaxy_push_core::log_sampler::LogSampler;
use tokio::time::Instant;

use crate::proxies::subscriber;

/// Which lines about each peer are written: the first, second, fourth and so on.
#[derive(Debug, Default)]
pub struct LogLimiter {
    state: Mutex<Option<(Instant, LogSampler)>>,
}

impl LogLimiter {
    /// Counts one line about this peer. `Some`: write it; so many were left out before it.
    pub fn count(&self, peer: &str) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, sampler) = state.get_or_insert_with(|| (Instant::now(), LogSampler::default()));
        sampler.count(peer, since.elapsed())
    }

    /// As [`LogLimiter::count`], about an address: of IPv6 its network of 64 bits, since whoever has one address there has them
    /// all. `None`: it is not known.
    pub fn count_address(&self, address: Option<IpAddr>) -> Option<u64> {
        self.count(&address.map_or_else(String::new, |address| subscriber(address).to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The fault: whoever had a network of IPv6 had a line for each of its addresses.
    #[tokio::test(start_paused = true)]
    async fn the_addresses_of_one_ipv6_network_are_one_peer() {
        let limiter = LogLimiter::default();
        let count = |address: &str| limiter.count_address(Some(address.parse().unwrap())).is_some();
        assert!(count("2001:db8::1") && count("2001:db8::2") && !count("2001:db8::3"));
        assert!(count("2001:db8:0:1::1") && count("192.0.2.1") && count("192.0.2.2"));
        assert!(count("::ffff:192.0.2.1") && !count("192.0.2.1"), "an IPv4 address, however it is written");
        assert!(limiter.count_address(None).is_some());
    }
}
