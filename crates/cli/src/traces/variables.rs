//! What OpenTelemetry's own variables say about traces. Called by `traces` alone.
//!
//! The library reads most of them by itself and is silent about what it does not understand; so that is said here.

/// The variables that name a collector for traces, the first that is set wins.
const ENDPOINTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];

const PROTOCOLS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"];

const COMPRESSIONS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "OTEL_EXPORTER_OTLP_COMPRESSION"];

const SAMPLERS: [&str; 6] = [
    "always_on",
    "always_off",
    "traceidratio",
    "parentbased_always_on",
    "parentbased_always_off",
    "parentbased_traceidratio",
];

/// A variable that is set to something.
pub(super) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The collector that is named for all that runs here.
pub(super) fn endpoint() -> Option<String> {
    ENDPOINTS.iter().find_map(|name| variable(name))
}

/// The variable that says that there are to be no traces, as far as one does.
pub(super) fn switched_off() -> Option<&'static str> {
    if variable("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
        return Some("OTEL_SDK_DISABLED");
    }
    let exporters = variable("OTEL_TRACES_EXPORTER")?;
    let is_none = exporters.split(',').all(|name| name.trim().eq_ignore_ascii_case("none"));
    is_none.then_some("OTEL_TRACES_EXPORTER")
}

/// Says what is not as the variables want it.
pub(super) fn warn() {
    let exporters = variable("OTEL_TRACES_EXPORTER");
    if let Some(exporters) = exporters.filter(|names| !names.split(',').any(|name| name.trim() == "otlp")) {
        tracing::warn!(OTEL_TRACES_EXPORTER = exporters, "traces are sent by otlp, the only way there is");
    }
    let protocol = PROTOCOLS.iter().find_map(|name| Some((name, variable(name)?)));
    if let Some((variable, value)) = protocol.filter(|(_, value)| value != "grpc") {
        tracing::warn!(
            variable,
            value,
            "traces are sent by grpc, the only protocol there is: name a collector's port for it, mostly 4317"
        );
    }
    let compression = COMPRESSIONS.iter().find_map(|name| Some((name, variable(name)?)));
    if let Some((variable, value)) = compression.filter(|(_, value)| value != "none") {
        tracing::warn!(variable, value, "traces are sent uncompressed");
    }
    let argument = variable("OTEL_TRACES_SAMPLER_ARG");
    if let Some(sampler) = variable("OTEL_TRACES_SAMPLER")
        && let Some(used) = used_instead(&sampler, argument.as_deref())
    {
        tracing::warn!(
            OTEL_TRACES_SAMPLER = sampler,
            OTEL_TRACES_SAMPLER_ARG = argument,
            used,
            "the sampler is unknown, or its argument no number: known are {}",
            SAMPLERS.join(", ")
        );
    }
}

/// What is used where a sampler cannot be as it is named.
fn used_instead(sampler: &str, argument: Option<&str>) -> Option<&'static str> {
    if !SAMPLERS.contains(&sampler) {
        return Some("parentbased_always_on");
    }
    let is_ratio = argument.is_some_and(|argument| argument.parse::<f64>().is_ok());
    (sampler.ends_with("traceidratio") && !is_ratio).then_some("a ratio of 1, which is all")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samplers_that_cannot_be_are_found() {
        for (sampler, argument, used) in [
            ("always_on", None, None),
            ("parentbased_traceidratio", Some("0.25"), None),
            ("parentbased_traceidratio", Some("a quarter"), Some("a ratio of 1, which is all")),
            ("traceidratio", None, Some("a ratio of 1, which is all")),
            ("bogus", None, Some("parentbased_always_on")),
            ("xray", Some("1"), Some("parentbased_always_on")),
        ] {
            assert_eq!(used_instead(sampler, argument), used, "{sampler} {argument:?}");
        }
    }
}
