//! What Galaxy Push's tests share: a history of what was seen, a checker that judges it, an SSE parser, and real NATS servers
//! ([`broker`]).
//!
//! Called by the simulation and by tests that run real processes. A harness writes down what it observes
//! ([`Recorder`]), the truth about the log included; [`check`] then looks for broken promises. Neither knows how the
//! product works: this crate depends on no other crate of the workspace, so a fault in shared code cannot hide itself.
//!
//! ```
//! use galaxy_push_testkit::{Recorder, check, history::What};
//!
//! let recorder = Recorder::new(1_000).process("world");
//! recorder.record(0, What::Start);
//! recorder.record(1, What::End);
//! let report = check(&recorder.finish()?);
//! assert!(report.is_clean(), "{report}");
//! # Ok::<(), galaxy_push_testkit::history::Full>(())
//! ```
//!
//! # Writing a history
//!
//! - Record what the *reader* saw, when it saw it; never what a server meant to send.
//! - Dump the log (`log`) where events are appended, all of it, whoever acknowledged what; and say what a crash made
//!   unknowable (`log_known`). Without the log there is no truth to judge by.
//! - Record a publish call before it is sent. A call without an answer counts as unknown.
//! - Before `end`, stop publishing, say `healed`, and leave more than [`history::Rules::live_within_us`]; then demand
//!   [`Sight::LiveJudged`].
//! - Demand what must have happened ([`Report::require_seen`]): a clean history in which nothing happened is worthless.
//!
//! What it does not do: drive the system, inject faults or read clocks. The harness does, and says so in the history.

pub mod broker;
pub mod checker;
pub mod history;
pub mod sse;

pub use checker::{Promise, Report, Sight, Violation, check, check_with};
pub use history::{Record, Recorder, What};
