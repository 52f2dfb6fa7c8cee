//! Reading media types, as far as JSON and CloudEvents need it.

/// The `type/subtype` of a media type without its parameters.
pub(crate) fn essence(media_type: &str) -> &str {
    media_type.split(';').next().unwrap_or_default().trim()
}

/// How much a peer that sends these `Accept` headers wants this media type named in them, in thousandths. 0: it does not
/// (RFC 9110, section 12.5.1).
pub fn accepted<'a>(headers: impl IntoIterator<Item = &'a str>, media_type: &str) -> u16 {
    let ranges = headers.into_iter().flat_map(|header| header.split(','));
    let of = |range: &str| essence(range).eq_ignore_ascii_case(media_type).then(|| quality(range));
    ranges.filter_map(of).max().unwrap_or(0)
}

/// The weight of a media range; of one that cannot be read, and without any, the whole.
fn quality(range: &str) -> u16 {
    let weight = range.split(';').skip(1).find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim().eq_ignore_ascii_case("q").then_some(value.trim())
    });
    let weight = weight.and_then(|weight| weight.parse::<f32>().ok());
    weight.map_or(1_000, |weight| (weight.clamp(0.0, 1.0) * 1_000.0).round() as u16)
}

/// Whether data of this media type is JSON. An event without a media type has JSON data.
pub(crate) fn is_json(media_type: &str) -> bool {
    let essence = essence(media_type);
    let Some((_, subtype)) = essence.split_once('/') else { return essence.is_empty() };
    let suffix = subtype.rsplit('+').next().unwrap_or_default();
    suffix.eq_ignore_ascii_case("json")
}

/// The value of the `charset` parameter, unquoted.
pub(crate) fn charset(media_type: &str) -> Option<&str> {
    media_type.split(';').skip(1).find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim().eq_ignore_ascii_case("charset").then(|| value.trim().trim_matches('"'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_types() {
        for json in
            ["", "application/json", "Application/JSON; charset=utf-8", "application/vnd.x+json", "text/json"]
        {
            assert!(is_json(json), "{json:?}");
        }
        for other in
            ["text/plain", "application/jsonp", "application/json+xml", "json", "application/octet-stream"]
        {
            assert!(!is_json(other), "{other:?}");
        }
    }

    /// The fault: what a peer said it did not want (`q=0`) it was given.
    #[test]
    fn a_weight_of_nothing_is_a_refusal() {
        for (header, weight) in [
            ("", 0),
            ("text/plain", 0),
            ("text/plain, Application/X; version=1.0.0", 1_000),
            ("application/x;version=1.0.0;q=0.75,text/plain", 750),
            ("application/x;q=0,text/plain", 0),
            ("application/x; Q = 0.000", 0),
            ("application/x;q=0, application/x;q=0.001", 1),
            ("application/x;q=much", 1_000),
            ("application/xy", 0),
        ] {
            assert_eq!(accepted([header], "application/x"), weight, "{header}");
        }
        assert_eq!(accepted(["text/plain", "application/x"], "application/x"), 1_000, "several lines");
    }

    #[test]
    fn charsets() {
        assert_eq!(charset("application/json"), None);
        assert_eq!(charset("application/json; x=1; Charset=\"UTF-8\""), Some("UTF-8"));
    }
}
