//! `serve --store disk`: a hub that is killed goes on where it ended, and nobody misses anything.

use serde_json::Value;

use crate::world::{Folder, Server, publish, tail};

fn serve(folder: &Folder) -> Server {
    folder.serve(&["--store", "disk", "--data-dir", "kept/data"])
}

#[test]
fn a_hub_that_is_killed_goes_on_where_it_ended() {
    let folder = Folder::new("disk");
    let first = serve(&folder);
    let a = publish(&folder, &first, "a");
    let b = publish(&folder, &first, "b");
    folder.stdout(&["revoke", "--hub", &first.hub, "--session", "8d1f"]);
    drop(first); // killed, without a word

    let second = serve(&folder);
    let again = publish(&folder, &second, "a");
    assert_eq!((&again["cursor"], &again["duplicate"]), (&a["cursor"], &Value::Bool(true)), "{again}");
    let c = publish(&folder, &second, "c");
    let frames = tail(&folder, &second, a["cursor"].as_str().unwrap(), "2");
    assert_eq!(frames[0]["welcome"]["outcome"], "RESUMED", "{frames:?}");
    let cursor = |id: &str| frames.iter().find(|each| each["event"]["id"] == id).map(|each| &each["cursor"]);
    assert_eq!((cursor("b"), cursor("c")), (Some(&b["cursor"]), Some(&c["cursor"])));
    assert!(frames.iter().all(|each| each.get("gap").is_none()), "{frames:?}");
    let records = tail(&folder, &second, "oldest", "3");
    let stands = |each: &Value| each["standing"].to_string().contains("session:8d1f");
    assert!(records.iter().any(stands), "the revocation holds: {records:?}");
}

#[test]
fn one_process_has_the_folder_and_flags_belong_together() {
    let folder = Folder::new("disk-refused");
    let first = serve(&folder);
    let ports = ["--hub-addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0"];
    for (args, code, expected) in [
        (&["--store", "disk", "--data-dir", "kept/data"][..], 1, "is used by another process"),
        (&["--store", "disk"], 2, "--store disk needs --data-dir"),
        (&["--data-dir", "kept/data"], 2, "--data-dir is for --store disk"),
    ] {
        let outcome = folder.run(&[&["hub"][..], &ports, args].concat());
        assert_eq!(outcome.code, Some(code), "{args:?}: {outcome:?}");
        assert!(outcome.stderr.contains(expected), "{args:?}: {outcome:?}");
    }
    publish(&folder, &first, "still served");
}
