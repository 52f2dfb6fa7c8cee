//! The commands that end by themselves; `roles` has those that serve.

pub(crate) mod completions;
pub(crate) mod cursor;
mod patience;
pub(crate) mod publish;
pub(crate) mod records;
pub(crate) mod store;
pub(crate) mod tail;
pub(crate) mod token;

use std::io::{ErrorKind, Write as _};

use anyhow::Context as _;

/// Prints what a hub answered. Where that fails, stderr says that the hub has it all the same: who sees nothing would send
/// it again.
fn print_ack(answer: &str, what: &str) -> anyhow::Result<()> {
    let printed = writeln!(std::io::stdout(), "{answer}");
    let is_in = || format!("{what} is acknowledged, which stdout did not take: {answer}");
    match printed {
        // Whoever read our stdout has gone, which is no failure of what was asked for.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => {
            let _ = writeln!(std::io::stderr(), "{}", is_in());
            Ok(())
        }
        printed => printed.with_context(is_in),
    }
}
