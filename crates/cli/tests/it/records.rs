//! `revoke`, `member` and `cursor show`: what they say to a hub, and what they refuse.

use serde_json::{Value, json};

use crate::world::{Folder, NOBODY};

fn printed(folder: &Folder, args: &[&str]) -> Value {
    serde_json::from_str(&folder.stdout(args)).unwrap()
}

/// The records that a hub holds, as `tail` prints them.
fn told(folder: &Folder, hub: &str) -> Vec<Value> {
    folder.stdout(&["publish", "--hub", hub, "--to", "user:tail", "--type", "end"]);
    let lines = folder.stdout(&["tail", "--hub", hub, "--from", "oldest", "--count", "1"]);
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn what_they_say_is_what_a_hub_tells_its_readers() {
    let folder = Folder::new("records");
    let server = folder.serve(&[]);
    let hub = server.hub.as_str();
    let revoke = ["revoke", "--hub", hub, "--user", "42", "--reason", "signed out"];
    let before = ["--before", "2026-01-02T03:04:05Z", "--expires", "7d"];
    let revoked = printed(&folder, &[&revoke[..], &before].concat());
    let session = printed(&folder, &["revoke", "--hub", hub, "--session", "8d1f"]);
    assert_eq!(revoked["issuedBefore"], "2026-01-02T03:04:05Z");
    let until = session["issuedBefore"].as_str().unwrap();
    assert!(until.ends_with('Z') && until.len() == "2026-01-02T03:04:05Z".len(), "a whole second: {until}");
    let added = printed(&folder, &["member", "add", "user:7", "game.*", "--expires", "2h", "--hub", hub]);
    let removed = printed(&folder, &["member", "remove", "user:7", "game.*", "--hub", hub]);

    let lines = told(&folder, hub);
    let cursors: Vec<_> = lines.iter().map(|line| line["cursor"].clone()).collect();
    let said = [&revoked, &session, &added, &removed].map(|answer| answer["cursor"].clone());
    assert_eq!(cursors[..4], said, "{lines:?}");
    let record = &lines[0]["sessionInvalidation"];
    assert_eq!(record["recipient"], "user:42");
    assert_eq!(
        (&record["reason"], &record["issuedBefore"]),
        (&json!("signed out"), &json!("2026-01-02T03:04:05Z"))
    );
    assert_eq!(lines[1]["sessionInvalidation"]["recipient"], "session:8d1f");
    let member = &lines[2]["membership"];
    assert_eq!(
        (&member["recipient"], &member["topic"], &member["member"]),
        (&json!("user:7"), &json!("game.*"), &json!(true))
    );
    assert!(member["expiresAt"].is_string(), "{member}");
    assert_ne!(lines[3]["membership"]["member"], json!(true));
}

#[test]
fn what_they_do_not_understand_and_what_no_hub_hears() {
    let folder = Folder::new("records-refused");
    let server = folder.serve(&[]);
    let hub = server.hub.as_str();
    let long = "x".repeat(300);
    for (args, code, expected) in [
        (&["revoke"][..], 2, "--session <ID>|--user <ID>"),
        (&["revoke", "--user", "1", "--session", "2"], 2, "cannot be used with"),
        (&["revoke", "--user", "a b"], 2, "--user"),
        (&["revoke", "--user", "*"], 2, "when the key that signs their tokens is taken out"),
        (&["revoke", "--session", "8d*"], 2, "name one"),
        (&["member", "add", "user:*", "news"], 2, "publish to `all`"),
        (
            &["revoke", "--user", "1", "--before", "2100-01-01T00:00:00Z", "--hub", hub],
            1,
            "more than 30 s ahead",
        ),
        (&["revoke", "--user", "1", "--before", "yesterday"], 2, "2026-11-24T10:00:00Z"),
        (&["revoke", "--user", "1", "--expires", "0s"], 2, "from 1ms to 100y"),
        (&["revoke", "--user", "1", "--expires", "9999y"], 2, "from 1ms to 100y"),
        (&["revoke", "--user", "1", "--hub", hub, "--reason", &long], 1, "the hub refused the record"),
        (&["member"], 2, "add"),
        (&["member", "add", "topic:x", "y"], 2, "user:<id> or session:<id>"),
        (&["member", "add", "user:1"], 2, "<TOPIC>"),
        (&["member", "remove", "user:1", "a b"], 2, "TOPIC"),
        (&["member", "add", "user:1", "x", "--hub", NOBODY, "--timeout", "1s"], 1, "Connection refused"),
        (&["member", "add", "user:1", "x", "--hub", &server.admin], 1, "is no hub"),
        (&["cursor", "show", "garbage"], 2, "not a cursor: \"garbage\""),
        (&["cursor", "show", "-1"], 2, "not a cursor: \"-1\"; a cursor begins with a digit"),
    ] {
        let outcome = folder.run(args);
        assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(code), ""), "{args:?}: {outcome:?}");
        assert!(outcome.stderr.contains(expected), "{args:?}: {expected:?} is not in {}", outcome.stderr);
    }
}

/// A full set of memberships takes revocations all the same, and what has no room is refused at once, not tried for 30 s.
#[test]
fn no_room_for_a_membership_is_said_at_once_and_never_stops_a_revocation() {
    let folder = Folder::new("records-full");
    let server = folder.serve(&["--max-standing-records", "2"]);
    let hub = server.hub.as_str();
    for topic in ["a", "b"] {
        printed(&folder, &["member", "add", "user:1", topic, "--hub", hub]);
    }
    let began = tokio::time::Instant::now();
    let full = folder.run(&["member", "add", "user:1", "c", "--hub", hub]);
    assert!(began.elapsed() < std::time::Duration::from_secs(10), "{:?}", began.elapsed());
    assert_eq!((full.code, full.stdout.as_str()), (Some(1), ""), "{full:?}");
    for part in ["2 memberships are held", "--max-standing-records"] {
        assert!(full.stderr.contains(part), "{}", full.stderr);
    }
    for user in ["1", "2"] {
        printed(&folder, &["revoke", "--user", user, "--hub", hub]);
    }
    let full = folder.run(&["revoke", "--user", "3", "--hub", hub]);
    assert!(full.stderr.contains("2 session invalidations are held"), "{}", full.stderr);
    assert!(server.process.stderr.find("the room for standing records runs out").contains("WARN"));
}

/// Until a store keeps records, everybody who may rely on one is told.
#[test]
fn that_a_restart_forgets_revocations_is_said_plainly() {
    let folder = Folder::new("records-forgotten");
    let server = folder.serve(&[]);
    server.process.stderr.find("a restart forgets events, revocations");
    let revoked = folder.run(&["revoke", "--user", "1", "--hub", server.hub.as_str()]);
    assert!(revoked.stderr.contains("--store disk keeps this over a restart"), "{}", revoked.stderr);
    for help in [folder.stdout(&["revoke", "--help"]), include_str!("../../../../README.md").to_owned()] {
        assert!(help.contains("restart"), "{help}");
    }
}

#[test]
fn a_cursor_is_explained() {
    let folder = Folder::new("cursor");
    let text = folder.stdout(&["cursor", "show", "2.AAAAAAAAAAAAAAAAAAAAAA.b41"]);
    assert!(text.contains("AAAAAAAAAAAAAAAAAAAAAA") && text.contains("resumes with 42"), "{text}");
    assert!(folder.stdout(&["cursor", "show", "oldest"]).contains("still held"));
}
