//! The bearer token of a request (RFC 6750). The only place that reads one.
//!
//! Called by the hub for its peers and by the gateway for its users. It does not judge the token.

use http::{HeaderMap, header};

/// There is an `Authorization` header, and it is not one bearer token: another scheme, no token, or more than one header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotBearer;

/// The token in `Authorization`; `None` without that header.
///
/// ```
/// # use galaxy_push_listener::{NotBearer, bearer};
/// let mut headers = http::HeaderMap::new();
/// assert_eq!(bearer(&headers), Ok(None));
/// headers.insert("authorization", "bearer a.b.c".parse().unwrap());
/// assert_eq!(bearer(&headers), Ok(Some("a.b.c")));
/// headers.append("authorization", "Bearer d".parse().unwrap());
/// assert_eq!(bearer(&headers), Err(NotBearer));
/// ```
///
/// # Errors
///
/// [`NotBearer`].
pub fn bearer(headers: &HeaderMap) -> Result<Option<&str>, NotBearer> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let (scheme, token) = value.to_str().ok().and_then(|text| text.split_once(' ')).ok_or(NotBearer)?;
    let token = token.trim();
    let is_one = scheme.eq_ignore_ascii_case("bearer") && !token.is_empty() && values.next().is_none();
    if is_one { Ok(Some(token)) } else { Err(NotBearer) }
}
