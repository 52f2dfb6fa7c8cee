//! The URL of a hub, checked once at the border.

use http::Uri;

use crate::BuildError;

const BAD_PORT: &str = "its port must be a number from 1 to 65535: give one, or leave the colon out";

/// A hub's address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HubUrl {
    /// Scheme and authority, the front of each request's URI.
    pub(crate) origin: String,
    pub(crate) host: String,
    pub(crate) port: u16,
    /// Whether the URL asks for TLS.
    pub(crate) secure: bool,
}

impl HubUrl {
    /// Reads `http://host[:port]` or `https://host[:port]`.
    pub(crate) fn parse(url: &str) -> Result<Self, BuildError> {
        let bad = |why| BuildError::HubUrl { url: url.to_owned(), why };
        let uri: Uri = url.trim().parse().map_err(|_| bad("it is not a URL"))?;
        let (secure, default_port) = match uri.scheme_str() {
            Some("http") => (false, 80),
            Some("https") => (true, 443),
            _ => return Err(bad("it must begin with http:// or https://")),
        };
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(bad("a hub has no path of its own: end the URL after the port"));
        }
        let authority = uri.authority().ok_or_else(|| bad("it names no host"))?;
        if authority.as_str().contains('@') {
            return Err(bad("credentials do not belong into a URL"));
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        if host.is_empty() {
            return Err(bad("it names no host"));
        }
        let scheme = if secure { "https" } else { "http" };
        let port = match authority.as_str().strip_prefix(authority.host()) {
            Some("") => default_port,
            // The parser takes any digits, and none at all, for a port that is not given.
            _ => authority.port_u16().filter(|port| *port > 0).ok_or_else(|| bad(BAD_PORT))?,
        };
        Ok(Self { origin: format!("{scheme}://{authority}"), host, port, secure })
    }

    /// Reads one or more URLs with commas between.
    pub(crate) fn parse_list(urls: &str) -> Result<Vec<Self>, BuildError> {
        urls.split(',').map(Self::parse).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_hosts_and_ports() {
        let hub = |url| HubUrl::parse(url).map(|hub| (hub.origin, hub.host, hub.port)).unwrap();
        assert_eq!(hub("http://hub:7400"), ("http://hub:7400".into(), "hub".into(), 7400));
        assert_eq!(hub(" http://hub/ "), ("http://hub".into(), "hub".into(), 80));
        assert_eq!(hub("http://[::1]:7400"), ("http://[::1]:7400".into(), "::1".into(), 7400));
        assert_eq!(hub("https://hub"), ("https://hub".into(), "hub".into(), 443));
        assert_eq!(HubUrl::parse_list("http://a:1,http://b:2").unwrap().len(), 2);
    }

    #[test]
    fn refuses_the_rest_and_says_why() {
        for url in
            ["", "hub:7400", "hub", "ftp://hub", "http://", "http://hub/path", "http://a:b@hub", "http://a,"]
        {
            let error = HubUrl::parse_list(url).unwrap_err();
            assert!(error.to_string().contains(':'), "{url:?}: {error}");
        }
        for url in ["http://hub:", "http://hub:99999", "http://hub:0", "http://[::1]:", "https://[::1]:65536"]
        {
            let error = HubUrl::parse(url).unwrap_err().to_string();
            assert!(error.contains("1 to 65535"), "{url:?}: {error}");
        }
    }
}
