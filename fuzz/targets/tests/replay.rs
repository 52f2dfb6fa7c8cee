//! The corpus of `fuzz/corpus`, input by input: what fuzzing has reached and what it once found holds in each test run.

#![expect(
    clippy::disallowed_methods,
    reason = "an input that takes long is a find, by the clock of the machine"
)]

use std::fs;
use std::panic;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use galaxy_push_fuzz_targets::TARGETS;

/// An input that takes longer is a find.
const INPUT_WITHIN: Duration = Duration::from_secs(1);

/// A corpus is looked through by people, and by each clone.
const FILES_MAX: usize = 300;
const BYTES_MAX: u64 = 100_000;

/// A task that panics has its panic caught by whoever runs it: it is counted here.
static PANICS: AtomicUsize = AtomicUsize::new(0);

/// All of the corpus.
#[test]
fn the_corpus_holds() {
    let told = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        PANICS.fetch_add(1, Ordering::Relaxed);
        told(info);
    }));
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus");
    let mut finds = Vec::new();
    for (name, target) in TARGETS {
        let inputs = inputs(&corpus.join(name));
        assert!(!inputs.is_empty(), "{name} has no corpus");
        let bytes: u64 = inputs.iter().map(|input| fs::metadata(input).unwrap().len()).sum();
        assert!(
            inputs.len() <= FILES_MAX && bytes <= BYTES_MAX,
            "{name}: {} files of {bytes} bytes",
            inputs.len()
        );
        for input in inputs {
            finds.extend(replay(target, &input));
        }
    }
    assert!(finds.is_empty(), "{}", finds.join("\n"));
}

/// One input, which lies anywhere: `FUZZ_TARGET=cursor FUZZ_INPUT=FILE cargo test -p galaxy-push-fuzz-targets one_input`.
#[test]
fn one_input() {
    let (Ok(wanted), Ok(input)) = (std::env::var("FUZZ_TARGET"), std::env::var("FUZZ_INPUT")) else { return };
    let (_, target) = TARGETS.iter().find(|(name, _)| *name == wanted).expect("a target of that name");
    assert_eq!(replay(*target, Path::new(&input)), None);
}

fn inputs(folder: &Path) -> Vec<PathBuf> {
    let mut inputs: Vec<_> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .map(|entry| entry.expect("a folder that is read").path())
        .collect();
    inputs.sort();
    inputs
}

/// What is wrong with an input.
fn replay(target: galaxy_push_fuzz_targets::Target, input: &Path) -> Option<String> {
    let data = fs::read(input).expect("an input");
    // A machine that is busy with something else may take long once.
    let mut took = Duration::MAX;
    for _ in 0..3 {
        let (panics, begun) = (PANICS.load(Ordering::Relaxed), Instant::now());
        let ended = panic::catch_unwind(|| target(&data));
        took = took.min(begun.elapsed());
        if ended.is_err() || PANICS.load(Ordering::Relaxed) > panics {
            return Some(format!("{} breaks a promise: see above", input.display()));
        }
        if took <= INPUT_WITHIN {
            return None;
        }
    }
    Some(format!("{} takes {took:?}", input.display()))
}
