//! A limit on the size of files (`ulimit -f`): an error like a full disk, no death.

use std::collections::BTreeSet;
use std::fs;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::harness::{Endpoint, Ran, RequestExt as _, Sandbox, kill, wait_for, wait_for_end};

/// The command in a shell that lets no file grow beyond so many blocks of 512 bytes.
fn limited(command: &Command, blocks: usize) -> Command {
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(format!("ulimit -f {blocks}; exec \"$@\"")).arg("sh");
    shell.arg(command.get_program()).args(command.get_args());
    shell.env_clear().envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    shell.current_dir(command.get_current_dir().unwrap()).stdin(Stdio::null());
    shell
}

#[test]
fn a_serve_whose_files_may_not_grow_lives_and_loses_nothing_that_it_took() {
    let endpoint = Endpoint::answering([200]);
    let sandbox = Sandbox::new(&[("one", &endpoint.url(), "")]);
    let log = fs::File::create(sandbox.path().join("limited.log")).unwrap();
    let mut serve =
        limited(&sandbox.command(&["serve"]), 64).stdout(Stdio::null()).stderr(log).spawn().unwrap();
    let announced = || sandbox.spool().join("runtime.json").exists().then_some(());
    wait_for("serve to be ready", announced);
    let (mut taken, key_of) = (BTreeSet::new(), |number: usize| format!("{number}-{}", "k".repeat(400)));
    for number in 0..60 {
        let said = sandbox.emit("SPEC-1", "Plan", &key_of(number));
        assert!(["accepted", "queued"].contains(&said["outcome"].as_str().unwrap()), "{said}");
        taken.insert(key_of(number));
    }
    assert_eq!(serve.try_wait().unwrap(), None);
    wait_for("the word about it", || {
        let log = fs::read_to_string(sandbox.path().join("limited.log")).unwrap();
        log.contains("a limit on the size of files is set").then_some(())
    });
    kill("TERM", &serve);
    assert!(wait_for_end("serve", &mut serve).is_some());
    // What a killed write left is removed at the next start.
    let left = sandbox.spool().join("inbox/.tmpAb12zZ");
    fs::create_dir_all(left.parent().unwrap()).unwrap();
    fs::write(&left, "half").unwrap();
    let _serve = sandbox.serve();
    sandbox.wait_until_nothing_is_pending();
    assert!(!left.exists());
    let key = |body: Value| body["event"]["idempotency_key"].as_str().unwrap().to_owned();
    let got: BTreeSet<String> = endpoint
        .requests()
        .iter()
        .map(|request| key(request.told()))
        .filter(|key| taken.contains(key))
        .collect();
    assert_eq!(got.len(), taken.len());
}

#[test]
fn an_emit_that_may_not_write_a_byte_says_so() {
    let sandbox = Sandbox::new(&[("one", "http://127.0.0.1:9/x", "")]);
    let emit = [
        "emit",
        "--type",
        "spec-auto.stage.completed",
        "--spec",
        "SPEC-1",
        "--stage",
        "Plan",
        "--status",
        "success",
    ];
    let ran = Ran::from(limited(&sandbox.command(&emit), 0).output().unwrap());
    assert!(ran.code == 1 && ran.stderr.contains("File too large"), "{ran:?}");
}
