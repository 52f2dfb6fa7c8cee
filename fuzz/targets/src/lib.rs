//! What is fuzzed, as plain functions of bytes: one for each target, which panics where a promise is broken.
//!
//! Called by libFuzzer (`fuzz/fuzz_targets`, `cargo xtask fuzz`) and, with the inputs of `fuzz/corpus`, by `tests/replay.rs` in
//! each test run. Everything is a function of the bytes: time is paused, and randomness counts.

mod cloudevents;
mod cursor;
mod deframer;
mod frames;
mod listener;
mod sequences;
mod tokens;
mod websocket;
mod world;

pub use cloudevents::cloudevents;
pub use cursor::cursor;
pub use deframer::deframer;
pub use frames::frames;
pub use listener::listener;
pub use sequences::sequences;
pub use tokens::tokens;
pub use websocket::websocket;

/// One target.
pub type Target = fn(&[u8]);

/// All of them, by their names.
pub const TARGETS: [(&str, Target); 8] = [
    ("cursor", cursor),
    ("frames", frames),
    ("cloudevents", cloudevents),
    ("deframer", deframer),
    ("tokens", tokens),
    ("sequences", sequences),
    ("listener", listener),
    ("websocket", websocket),
];
