//! `galaxy-push-sim`: runs seeds, says which of them break a promise, and how to run one again.
//!
//! Each seed runs in a process of its own. tokio numbers the tasks of a process one after another and drops them in an
//! order that depends on those numbers, so only a fresh process replays a seed exactly.

mod least;
mod ledger;
mod seeds;
mod total;

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use galaxy_push_sim::scenario::Scenario;
use galaxy_push_sim::{tally, world};
use galaxy_push_testkit::history;

/// Runs the whole system in a deterministic simulation and checks every promise.
#[derive(Debug, Parser)]
#[command(after_help = "The same seed always gives the same history. Look into one with:
  cargo xtask sim --seed N --history target/history.ndjson --log debug

Exit code 0: every promise kept; 1: one was broken, or a world failed; 2: the command line was not understood.")]
struct Args {
    /// Run this seed only.
    #[arg(long, conflicts_with = "seeds")]
    seed: Option<u64>,
    /// Run this many seeds, from --from on.
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// Simulated seconds of each.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(40..=3_600))]
    seconds: u64,
    /// A seed whose process has not ended after so many seconds of wall time is killed, and has failed. Default: 60, and one for
    /// each 3 simulated ones, which is twenty times what they take.
    #[arg(long, value_name = "SECONDS")]
    wall_limit: Option<u64>,
    /// Run each seed twice and compare the histories; with a number, the first so many.
    #[arg(long, value_name = "N", num_args = 0..=1, default_value_t = 0, default_missing_value = "18446744073709551615")]
    twice: u64,
    /// Say now and then how far the run is.
    #[arg(long)]
    progress: bool,
    /// Go on after a broken promise, and count it.
    #[arg(long)]
    keep_going: bool,
    /// Keep what each seed came to in this file, and run only the seeds that are not in it.
    #[arg(long, value_name = "FILE", conflicts_with = "twice")]
    results: Option<PathBuf>,
    /// Write the whole run down in this Markdown file, below the runs it has already.
    #[arg(long, value_name = "FILE", requires = "code")]
    ledger: Option<PathBuf>,
    /// What code is run, for the ledger.
    #[arg(long, value_name = "COMMIT")]
    code: Option<String>,
    /// Write the history of the one seed to this file, for `galaxy-push-check`.
    #[arg(long, value_name = "FILE", requires = "seed")]
    history: Option<PathBuf>,
    /// Log what the system says in the one seed, with this filter.
    #[arg(long, value_name = "FILTER", requires = "seed")]
    log: Option<String>,
}

impl Args {
    /// How long one seed may take, of wall time.
    fn wall_limit(&self) -> Duration {
        Duration::from_secs(self.wall_limit.unwrap_or(60 + self.seconds / 3))
    }
}

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line tool")]
fn main() -> ExitCode {
    let args = Args::parse();
    let told = match args.seed {
        Some(seed) => one(seed, &args),
        None => seeds::run(&args),
    };
    match told {
        Ok(told) => {
            println!("{told}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs one seed in this process.
fn one(seed: u64, args: &Args) -> anyhow::Result<String> {
    if let Some(filter) = &args.log {
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).without_time().init();
    }
    if let Some(limit) = args.wall_limit {
        end_after(seed, Duration::from_secs(limit));
    }
    let scenario = Scenario::draw(seed, Duration::from_secs(args.seconds));
    let outcome = world::run(&scenario)?;
    if let Some(path) = &args.history {
        history::write(path, &outcome.history)?;
    }
    anyhow::ensure!(
        outcome.report.is_clean(),
        "{}\nseed {seed} broke a promise; run it again with:\n  cargo xtask sim --seed {seed} --seconds {}",
        outcome.report,
        args.seconds
    );
    let mut hasher = DefaultHasher::new();
    for record in &outcome.history {
        format!("{record:?}").hash(&mut hasher);
    }
    let seed = total::Seed {
        seed,
        faults: tally::faults(&scenario),
        records: outcome.history.len(),
        trace: format!("{:016x}", hasher.finish()),
        seen: tally::met(&scenario, &outcome),
    };
    Ok(serde_json::to_string(&seed)?)
}

/// Ends this process as a failure if it still runs then: a world that spins never comes to its end.
#[expect(
    clippy::print_stderr,
    clippy::disallowed_methods,
    clippy::exit,
    reason = "a command line tool, by wall time"
)]
fn end_after(seed: u64, limit: Duration) {
    std::thread::spawn(move || {
        std::thread::sleep(limit);
        eprintln!("seed {seed} did not end within {} s of wall time", limit.as_secs());
        std::process::exit(1);
    });
}
