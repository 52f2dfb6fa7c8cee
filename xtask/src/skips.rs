//! What a test run could not do on this machine: nothing is left out silently.
//!
//! Filled by the steps of `test`, which prints it last. Where continuous integration runs (`CI=true`), nothing may be left out.

use anyhow::{Result, bail};

/// What was left out, in the order in which it was.
#[derive(Debug)]
pub(crate) struct Skips {
    allowed: bool,
    told: Vec<Skip>,
}

#[derive(Debug)]
struct Skip {
    step: &'static str,
    what: String,
    why: String,
}

impl Skips {
    /// Allowed on people's machines only.
    pub(crate) fn from_environment() -> Self {
        Self::new(std::env::var("CI").ok().as_deref())
    }

    fn new(ci: Option<&str>) -> Self {
        Self { allowed: !matches!(ci, Some("true" | "1")), told: Vec::new() }
    }

    /// Notes that a step leaves something out.
    ///
    /// # Errors
    ///
    /// Where nothing may be left out.
    pub(crate) fn leave_out(&mut self, step: &'static str, what: &str, why: &str) -> Result<()> {
        if !self.allowed {
            bail!("{what} cannot be done here, and with CI=true nothing may be left out: {why}");
        }
        self.told.push(Skip { step, what: what.into(), why: why.into() });
        Ok(())
    }

    /// The last lines of a run.
    pub(crate) fn lines(&self) -> Vec<String> {
        if self.told.is_empty() {
            return vec!["nothing was skipped".into()];
        }
        let each =
            self.told.iter().map(|skip| format!("skipped {}: {} ({})", skip.step, skip.what, skip.why));
        each.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_is_listed_and_in_ci_refused() {
        let mut skips = Skips::new(None);
        assert_eq!(skips.lines(), ["nothing was skipped"]);
        skips.leave_out("chaos", "the network", "no right").unwrap();
        assert_eq!(skips.lines(), ["skipped chaos: the network (no right)"]);

        let refused = Skips::new(Some("true")).leave_out("chaos", "the network", "no right");
        assert!(refused.unwrap_err().to_string().contains("CI=true"));
    }
}
