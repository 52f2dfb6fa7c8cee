//! Finds variables with our prefix that nothing reads: a misspelt one would quietly change nothing.
//!
//! Kubernetes puts variables about each Service into its containers, named after the Service. Those of a Service called
//! `galaxy-push`, or `galaxy-push-hub`, bear our prefix and are nobody's mistake.

use anyhow::anyhow;
use clap::Command;

use crate::Usage;
use crate::peer::TOKEN_VARIABLE;

const PREFIX: &str = "GALAXY_PUSH_";

/// Fails on the first variable that nobody knows.
pub(super) fn check(definition: &Command) -> anyhow::Result<()> {
    let known = known(definition);
    let mut set: Vec<_> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
        .filter(|(name, value)| name.starts_with(PREFIX) && !value.is_empty())
        .collect();
    set.sort();
    let unknown =
        |name: &str, value: &str| !known.iter().any(|known| known == name) && !is_injected(name, value);
    match set.iter().find(|(name, value)| unknown(name, &value.to_string_lossy())) {
        None => Ok(()),
        Some((name, _)) => Err(anyhow!(Usage(format!(
            "unknown variable {name} in the environment{}; each flag that has one names it in `galaxy-push COMMAND --help`",
            similar(name, &known)
        )))),
    }
}

fn known(command: &Command) -> Vec<String> {
    let own = command.get_arguments().filter_map(|arg| arg.get_env()?.to_str());
    let own = own.map(str::to_owned).chain([TOKEN_VARIABLE.to_owned()]);
    own.chain(command.get_subcommands().flat_map(known)).collect()
}

/// The name that was probably meant.
fn similar(name: &str, known: &[String]) -> String {
    let likeness = |known: &String| {
        let ahead = name.bytes().zip(known.bytes()).take_while(|(a, b)| a == b).count();
        let behind = name.bytes().rev().zip(known.bytes().rev()).take_while(|(a, b)| a == b).count();
        ahead.max(PREFIX.len()) - PREFIX.len() + behind
    };
    match known
        .iter()
        .max_by_key(|known| likeness(known))
        .filter(|known| 2 * likeness(known) >= known.len() - PREFIX.len())
    {
        Some(known) => format!(": was {known} meant?"),
        None => String::new(),
    }
}

/// Whether Kubernetes sets it for a Service whose name begins with ours.
fn is_injected(name: &str, value: &str) -> bool {
    let Some(rest) = name.strip_prefix("GALAXY_PUSH") else { return false };
    let is_protocol = |word: &str| matches!(word, "TCP" | "UDP" | "SCTP");
    let words: Vec<_> = rest.split('_').skip(1).collect();
    let is_number = |word: &str| word.parse::<u16>().is_ok();
    // What is before it belongs to the name of the Service.
    (0..words.len()).any(|at| match words[at..] {
        ["SERVICE", "HOST"] => true,
        ["SERVICE", "PORT", ..] => true,
        ["PORT"] => value.contains("://"),
        ["PORT", port, protocol] => is_number(port) && is_protocol(protocol),
        ["PORT", port, protocol, "ADDR" | "PORT" | "PROTO"] => is_number(port) && is_protocol(protocol),
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_kubernetes_injects_is_nobodys_mistake() {
        for (name, value) in [
            ("GALAXY_PUSH_SERVICE_HOST", "10.0.0.1"),
            ("GALAXY_PUSH_SERVICE_PORT", "7400"),
            ("GALAXY_PUSH_SERVICE_PORT_GRPC", "7400"),
            ("GALAXY_PUSH_PORT", "tcp://10.0.0.1:7400"),
            ("GALAXY_PUSH_PORT_7400_TCP", "tcp://10.0.0.1:7400"),
            ("GALAXY_PUSH_PORT_7400_TCP_ADDR", "10.0.0.1"),
            ("GALAXY_PUSH_PORT_7400_TCP_PORT", "7400"),
            ("GALAXY_PUSH_PORT_7400_TCP_PROTO", "tcp"),
            ("GALAXY_PUSH_HUB_SERVICE_HOST", "10.0.0.1"),
            ("GALAXY_PUSH_EDGE_SERVICE_PORT_HTTPS_ALT", "443"),
            ("GALAXY_PUSH_HUB_PORT", "udp://10.0.0.1:7400"),
            ("GALAXY_PUSH_HUB_A_PORT_7400_SCTP_PROTO", "sctp"),
        ] {
            assert!(is_injected(name, value), "{name}");
        }
        for (name, value) in [
            ("GALAXY_PUSH_HUB_PORT", "7400"),
            ("GALAXY_PUSH_PORT_HTTP_TCP", "x"),
            ("GALAXY_PUSH_PORT_7400_TLS", "x"),
            ("GALAXY_PUSH_WINDOW_AGES", "5m"),
            ("GALAXY_PUSH_SERVICE", "x"),
            ("GALAXY_PUSH_", "x"),
        ] {
            assert!(!is_injected(name, value), "{name}");
        }
    }

    #[test]
    fn the_name_that_was_meant_is_told() {
        let known = known(&crate::args::definition());
        assert_eq!(similar("GALAXY_PUSH_WINDW_AGE", &known), ": was GALAXY_PUSH_WINDOW_AGE meant?");
        assert_eq!(similar("GALAXY_PUSH_COLOUR", &known), "");
    }
}
