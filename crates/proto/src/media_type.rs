//! Reading media types, as far as JSON and CloudEvents need it.

/// The `type/subtype` of a media type without its parameters.
pub(crate) fn essence(media_type: &str) -> &str {
    media_type.split(';').next().unwrap_or_default().trim()
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

    #[test]
    fn charsets() {
        assert_eq!(charset("application/json"), None);
        assert_eq!(charset("application/json; x=1; Charset=\"UTF-8\""), Some("UTF-8"));
    }
}
