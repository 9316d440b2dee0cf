//! Several users on one machine: a spool is read and used by its owner; root may look at all, and
//! changes nothing.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::{Endpoint, Ran, STRANGER, Sandbox};

/// Everything in a folder but the program itself: whose it is, its mode, its content.
fn everything(dir: &Path) -> BTreeMap<PathBuf, (u32, u32, Vec<u8>)> {
    let mut found = BTreeMap::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let about = fs::symlink_metadata(&path).unwrap();
            let content = if about.is_file() { fs::read(&path).unwrap() } else { Vec::new() };
            if about.is_dir() {
                folders.push(path.clone());
            }
            found.insert(path, (about.uid(), about.mode(), content));
        }
    }
    found
}

/// One pending event and one dead letter; `None` where this user cannot become another.
fn sandbox() -> Option<Sandbox> {
    let down = Endpoint::down();
    let sandbox = Sandbox::new(&[("one", &down.url(), "max_attempts = 1")]);
    sandbox.emit("SPEC-1", "Plan", "k1");
    assert_eq!(sandbox.run(&["drain"]).code, 1);
    sandbox.emit("SPEC-1", "Tasks", "k2");
    let probe = sandbox.path().join("probe");
    fs::write(&probe, "").unwrap();
    if chown(&probe, Some(STRANGER), None).is_err() {
        eprintln!("skipped: only root can become another user");
        return None;
    }
    Some(sandbox)
}

fn as_stranger(sandbox: &Sandbox, arguments: &[&str]) -> Ran {
    let usual = sandbox.command(arguments);
    let mut command = Command::new(sandbox.path().join("spec-notify"));
    command.args(arguments).current_dir(sandbox.path()).env_clear().uid(STRANGER).gid(STRANGER);
    command.envs(usual.get_envs().filter_map(|(name, value)| Some((name, value?))));
    Ran::from(command.output().unwrap())
}

#[test]
fn a_spool_of_another_user_is_never_said_to_be_well_or_empty() {
    let Some(sandbox) = sandbox() else { return };
    fs::copy(env!("CARGO_BIN_EXE_spec-notify"), sandbox.path().join("spec-notify")).unwrap();
    fs::set_permissions(sandbox.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let before = everything(sandbox.path());
    let event = ["emit", "--type", "spec-auto.stage.completed", "--spec", "SPEC-1", "--key", "k3"];
    let commands: [&[&str]; 13] = [
        &["status"],
        &["status", "--banner"],
        &["status", "--json"],
        &["list"],
        &["list", "--json"],
        &["check"],
        &["check", "--json"],
        &["drain"],
        &["baseline"],
        &["replay", "--all"],
        &["reload"],
        &["test", "SPEC-1", "--subscription", "one"],
        &["serve"],
    ];
    for arguments in commands {
        let ran = as_stranger(&sandbox, arguments);
        assert_eq!(ran.code, 1, "{arguments:?}: {ran:?}");
        assert!(ran.stderr.contains("another user (root, this is 12345)"), "{arguments:?}: {ran:?}");
        assert!(!ran.stderr.contains("check that"), "{arguments:?}: {ran:?}");
        let says_no_more = ran.stdout.is_empty() || ran.stdout.starts_with(r#"{"error":{"message":""#);
        assert!(says_no_more, "{arguments:?}: {ran:?}");
    }
    let ran = as_stranger(&sandbox, &event);
    assert!(ran.code == 1 && ran.stderr.contains("another user (root, this is 12345)"), "{ran:?}");
    assert_eq!(everything(sandbox.path()), before, "nothing was touched");
}

#[test]
fn root_sees_all_of_a_users_spool_and_leaves_no_trace_in_it() {
    let Some(sandbox) = sandbox() else { return };
    for path in everything(sandbox.path()).into_keys().chain([sandbox.path().to_owned()]) {
        chown(path, Some(STRANGER), Some(STRANGER)).unwrap();
    }
    let before = everything(sandbox.path());
    let status = sandbox.run(&["status"]);
    assert!(status.code == 1 && status.stdout.contains("inbox    1 waiting"), "{status:?}");
    let dead = sandbox.run(&["list"]);
    assert!(dead.code == 0 && dead.stdout.contains("SPEC-1"), "{dead:?}");
    assert_eq!(sandbox.run(&["check"]).code, 0);
    let commands: [&[&str]; 5] = [
        &["drain"],
        &["baseline"],
        &["replay", "--all"],
        &["reload"],
        &["test", "SPEC-1", "--subscription", "one"],
    ];
    for arguments in commands {
        let ran = sandbox.run(arguments);
        assert_eq!(ran.code, 1, "{arguments:?}: {ran:?}");
        assert!(ran.stderr.contains("another user (12345, this is root): run this as 12345"), "{ran:?}");
    }
    assert_eq!(everything(sandbox.path()), before, "nothing was touched");
}
