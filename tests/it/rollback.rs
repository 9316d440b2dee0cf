//! An older version of the program on the spool of a newer one: what it does not know it keeps,
//! and says so.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::harness::{Endpoint, Sandbox};

/// Writes the records of a SPEC's spool anew, with one word in the place of another.
fn reword(spool: &Path, from: &str, to: &str) {
    let mut reworded = 0;
    for entry in fs::read_dir(spool.join("SPEC-1")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "jsonl") {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let records = text.trim_end_matches('\0');
        let lines = records.lines().map(|line| {
            let json = &line[18..];
            reworded += usize::from(json.contains(from));
            let json = json.replace(from, to);
            format!("{:08x} {:08x} {json}\n", crc32fast::hash(json.as_bytes()), json.len())
        });
        let text: String = lines.collect();
        fs::write(&path, text).unwrap();
    }
    assert!(reworded > 0, "nothing says {from}");
}

fn files(sandbox: &Sandbox) -> Vec<String> {
    let entries = fs::read_dir(sandbox.spool().join("SPEC-1")).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn what_only_a_later_version_knows_is_kept_for_it() {
    let dead = Endpoint::down();
    let often = "format = \"mattermost\"\ninitial_backoff_ms = 1\nmax_backoff_ms = 100\nmax_attempts = 1000";
    let sandbox = Sandbox::new(&[("chat", &dead.url(), often)]);
    let serve = sandbox.serve_with(&["--no-watch"]);
    sandbox.emit("SPEC-1", "Plan", "k1");
    serve.kill();
    reword(&sandbox.spool(), "\"mattermost\"", "\"telegraph\"");

    // To this version the format is one of a later one.
    let endpoint = Endpoint::answering([200]);
    let config = sandbox.path().join(".spec-kit/config.toml");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace(&dead.url(), &endpoint.url()).replace("mattermost", "spec-kit")).unwrap();
    let serve = sandbox.serve_with(&["--no-watch"]);
    let again = sandbox.run(&[
        "emit",
        "--type",
        "spec-auto.stage.completed",
        "--spec",
        "SPEC-1",
        "--key",
        "k1",
        "--json",
    ]);
    assert!(again.stdout.contains("\"duplicate\""), "its event is known: {again:?}");
    sandbox.emit("SPEC-1", "Tasks", "k2");
    endpoint.wait_for(1);
    let status: Value = serde_json::from_str(&sandbox.run(&["--json", "status"]).stdout).unwrap();
    assert!(status["warnings"].to_string().contains("of a later version"), "{status:#}");
    let drain = sandbox.run(&["drain", "--no-watch", "--timeout", "5"]);
    assert!(drain.code == 1 && drain.stderr.contains("of a later version"), "{drain:?}");
    assert_eq!(serve.terminate().0, 0);
    assert!(files(&sandbox).iter().all(|name| !name.starts_with("damaged-")), "{:?}", files(&sandbox));

    // The later version is back.
    reword(&sandbox.spool(), "\"telegraph\"", "\"mattermost\"");
    let _serve = sandbox.serve_with(&["--no-watch"]);
    let body: Value = serde_json::from_slice(endpoint.wait_for(2)[1].body()).unwrap();
    assert!(body["text"].is_string(), "{body:#}");
    sandbox.wait_until_nothing_is_pending();
}

/// An older version reads the end of what was discarded, though it knows neither the word nor the
/// field.
#[test]
fn what_was_discarded_does_not_come_back_with_an_older_version() {
    let endpoint = Endpoint::answering([200]);
    let sandbox = Sandbox::new(&[("one", &endpoint.url(), "active = true")]);
    let config = sandbox.path().join(".spec-kit/config.toml");
    let switch = |from: &str, to: &str| {
        let text = fs::read_to_string(&config).unwrap();
        fs::write(&config, text.replace(from, to)).unwrap();
    };
    assert_eq!(sandbox.run(&["pause", "one"]).code, 0);
    let serve = sandbox.serve_with(&["--no-watch"]);
    let emitted = sandbox.emit("SPEC-1", "Plan", "k1");
    let id = emitted["deliveries"][0]["id"].as_str().unwrap();
    assert_eq!(serve.terminate().0, 0);
    switch("active = true", "active = false");
    let discarded = sandbox.run(&["discard", id, "--yes"]);
    assert_eq!(discarded.code, 0, "{discarded:?}");
    let spool = sandbox.spool_text("SPEC-1");
    assert!(spool.contains(r#""state":"dropped""#) && !spool.contains("discarded\""), "{spool}");
    reword(&sandbox.spool(), "\"discarded_by\"", "\"of_a_later_version\"");
    switch("active = false", "active = true");
    assert_eq!(sandbox.run(&["resume", "one"]).code, 0);
    let _serve = sandbox.serve_with(&["--no-watch"]);
    sandbox.emit("SPEC-1", "Plan", "k2");
    sandbox.wait_for_finals("SPEC-1", 2);
    assert_eq!(endpoint.requests().len(), 1, "only the new one");
}
