//! `cargo xtask metrics`: what `/metrics` of every role says, before Prometheus's own judges.
//!
//! Called from `commands` and `test`. The roles are started and stirred by the binary's own tests (`crates/cli/tests/it/metrics.rs`),
//! which judge by fewer rules when they run without promtool and the strict parser.

use anyhow::Result;

use crate::{project::Project, shell, tools::Tools};

/// Has every role's metrics judged in both formats.
///
/// # Errors
///
/// When a judge is missing, or finds a fault.
pub(crate) fn run(project: &Project) -> Result<()> {
    // The whole workspace, as elsewhere: a single package would be built again with other features.
    let arguments = ["test", "--workspace", "--test", "it", "--", "metrics::"];
    shell::check(
        project
            .cargo()
            .args(arguments)
            .env("PROMTOOL", Tools::promtool(project)?)
            .env("METRICS_PYTHON", Tools::python(project)?),
    )
}
