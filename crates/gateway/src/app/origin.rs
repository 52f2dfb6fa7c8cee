//! What an origin is: the part of a page's URL that browsers send as `Origin` (RFC 6454).
//!
//! Called at the start, to check the settings, and by `surface/origin.rs`, which checks requests. Knows no request.

use galaxy_push_listener::authority;
use http::uri::Authority;

/// Whether a setting is an origin at all, as browsers write them: of whatever scheme, since apps have their own.
pub(crate) fn is_origin(text: &str) -> bool {
    authority_of(text).is_some() && !text.bytes().any(|byte| byte.is_ascii_uppercase())
}

/// The host of an origin: an authority alone, since a path, a user or a query would make it something else.
pub(crate) fn authority_of(origin: &str) -> Option<Authority> {
    let (scheme, rest) = origin.split_once("://")?;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
    let is_scheme =
        scheme.starts_with(|first: char| first.is_ascii_alphabetic()) && scheme.bytes().all(is_plain);
    authority(rest).filter(|_| is_scheme)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_of_any_scheme_may_be_listed() {
        for good in [
            "https://app.example",
            "http://localhost:3000",
            "capacitor://localhost",
            "tauri://localhost",
            "chrome-extension://abcdefghijklmnop",
            "http://[::1]:3000",
        ] {
            assert!(is_origin(good), "{good}");
        }
        for bad in [
            "*",
            "null",
            "app.example",
            "https://app.example/",
            "https://App.example",
            "https://",
            "://app.example",
            "1a://b",
            "https://a@b",
            "http://[[::1]]",
            "https://*.example",
        ] {
            assert!(!is_origin(bad), "{bad}");
        }
    }
}
