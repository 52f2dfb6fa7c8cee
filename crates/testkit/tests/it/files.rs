//! Histories on disk, the recorder's cap, and the command that judges again.

use std::path::PathBuf;
use std::process::Command;

use galaxy_push_testkit::history::{self, Hash, Recorder, What};

use crate::script::records;

const SCRIPT: &str = "
    rules | log 1 a all key=k expires=9 | call 7 x all batch=3 ephemeral | nack 7 | call 8 y all | unknown 8 | known e1 0 5 | head 1
    open 1 gateway g user:* oldest standing collapses | welcome 1 FRESH 0 0 1 gen=4 | standing 1 0
    gap 1 COLLAPSED 0 1 count=1 | ephemeral 1 x | progress 1 1 | caught_up 1 1 | fell_behind 1 1
    subscribed 1 1 topic:x | grant 1 topic:y 1 | ungrant 1 topic:y | goodbye 1 SLOW 1 | close 1 1013
    pause 1 9 ahead=5 | goodbye 1 DRAINING 1 retry=5 | upstream live | rules timing deliver=500 edge=25
    left g | handled g 1 | start | crash | fault partition | healed | end
";

/// A directory of this test's own, empty.
fn directory(name: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&path);
    std::fs::create_dir_all(&path).unwrap();
    path
}

#[test]
fn a_history_survives_a_file() {
    let path = directory("survives").join("run.ndjson");
    let written = records(SCRIPT);
    history::write(&path, &written).unwrap();
    assert_eq!(history::read(&path).unwrap(), written);
}

#[test]
fn a_line_is_short_and_plain() {
    let record = &records("open 1 user ann user:ann 5 | event 1 6 a")[1];
    let text = serde_json::to_string(record).unwrap();
    let hash = Hash::of(&[b"a"]);
    let expected = format!(
        r#"{{"at_us":1000,"process":"world","what":{{"event":{{"stream":1,"position":{{"epoch":"e1","seq":6}},"id":"a","hash":"{hash}"}}}}}}"#
    );
    assert_eq!(text, expected);
}

#[test]
fn the_files_of_a_directory_are_one_history() {
    let path = directory("merged");
    let all = records(
        "by a | log 1 a all | by b | open 1 user ann all oldest | welcome 1 FRESH 0 0 1 | event 1 1 a",
    );
    let (one, two): (Vec<_>, Vec<_>) = all.iter().cloned().partition(|record| &*record.process == "b");
    history::write(&path.join("1.ndjson"), &one).unwrap();
    history::write(&path.join("2.ndjson"), &two).unwrap();
    assert_eq!(history::read(&path).unwrap(), all);
}

#[test]
fn what_is_no_history_is_refused_with_its_line() {
    let path = directory("refused");
    assert!(history::read(&path).unwrap_err().to_string().ends_with("holds no *.ndjson file"));
    let file = path.join("run.ndjson");
    std::fs::write(&file, "{\"at_us\":1,\"process\":\"p\",\"what\":\"end\"}\n{\"at_us\":2,\n").unwrap();
    assert!(history::read(&file).unwrap_err().to_string().contains("line 2 is not a record"));
    assert!(history::read(&path.join("absent")).is_err());
}

#[test]
fn the_command_judges_again() {
    let path = directory("command");
    let good = "log 1 a all | log 2 b all | open 1 user ann all oldest | welcome 1 FRESH 0 0 2 | event 1 1 a | event 1 2 b";
    let run = |path: &PathBuf| {
        let output =
            Command::new(env!("CARGO_BIN_EXE_galaxy-push-check")).arg("check").arg(path).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    history::write(&path.join("run.ndjson"), &records(good)).unwrap();
    let (code, text) = run(&path);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.ends_with("no promise was broken\n"), "{text}");
    history::write(&path.join("run.ndjson"), &records(&good.replace("event 1 1 a |", ""))).unwrap();
    let (code, text) = run(&path);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.ends_with("broken: resumable 1\n"), "{text}");
    assert_eq!(run(&path.join("absent")).0, Some(2));
}

#[test]
fn a_full_recorder_fails_loudly() {
    let recorder = Recorder::new(2).process("p");
    recorder.record(1, What::Start);
    recorder.record(2, What::End);
    recorder.record(3, What::End);
    assert_eq!(
        recorder.finish().unwrap_err().to_string(),
        "the history is full: 1 records beyond the cap of 2; raise the cap or shorten the run"
    );
    recorder.record(4, What::Start);
    assert_eq!(recorder.finish().unwrap().len(), 1);
}

#[test]
fn numbers_are_never_used_twice() {
    let recorder = Recorder::new(0).numbered_from(100);
    let other = recorder.process("other");
    assert_eq!(
        [recorder.next_stream(), other.next_stream(), recorder.next_call(), other.next_call()],
        [100, 101, 100, 101]
    );
}
