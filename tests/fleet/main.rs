//! A fleet for real: three nodes of PostgreSQL, real processes, real kills. Needs PostgreSQL's
//! programs; `.ci/run` fails where they are missing.

mod cluster;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use cluster::Cluster;
use serde_json::Value;

/// A repo with a fleet's config.
struct Machine {
    dir: tempfile::TempDir,
    url: String,
}

impl Machine {
    fn new(url: &str, more: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join(".spec-kit")).unwrap();
        let text = format!(
            "[spec_ops.webhooks]\nenabled = true\nspool_dir = \"spool\"\n\n\
             [spec_ops.webhooks.fleet]\nurl_env = \"ENGINE_URL\"\nnamespace = \"payments\"\n{more}\n"
        );
        fs::write(dir.path().join(".spec-kit/config.toml"), text).unwrap();
        Self { dir, url: url.to_owned() }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_spec-notify"));
        command.args(arguments).arg("--repo").arg(self.path()).env("ENGINE_URL", &self.url);
        command.current_dir(self.path()).env_remove("SPECKIT_WEBHOOKS_CONFIG").output().unwrap()
    }

    #[track_caller]
    fn json(&self, code: i32, arguments: &[&str]) -> Value {
        let ran = self.run(&[&["--json"], arguments].concat());
        assert_eq!(ran.status.code(), Some(code), "{ran:?}");
        serde_json::from_slice(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:?}"))
    }
}

/// What a run said.
fn said(ran: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr))
}

#[test]
fn a_cluster_is_made_ready_and_asked_what_it_keeps() {
    let mut cluster = Cluster::start();
    let machine = Machine::new(&cluster.url("postgres"), "");
    let missing = machine.run(&["fleet", "check"]);
    assert!(missing.status.code() == Some(1) && said(&missing).contains("fleet init"), "{missing:?}");
    assert_eq!(machine.json(0, &["fleet", "init"])["outcome"], "made");
    assert_eq!(machine.json(0, &["fleet", "init"])["outcome"], "there already");
    let well = machine.json(0, &["fleet", "check"]);
    assert_eq!((&well["ok"], &well["streaming"]), (&Value::from(true), &Value::from(2)));

    // A program that is older than the schema says so by name.
    cluster.sql("UPDATE spec_notify.meta SET version = 7, oldest = 6");
    let newer = machine.run(&["fleet", "check"]);
    assert!(newer.status.code() == Some(1) && said(&newer).contains("version 7"), "{newer:?}");
    cluster.sql("UPDATE spec_notify.meta SET version = 1, oldest = 1");

    // What is promised is looked at.
    cluster.kill((cluster.primary() + 1) % 3);
    cluster.kill((cluster.primary() + 2) % 3);
    let alone = cluster::wait_for("nobody streams", || {
        let ran = machine.run(&["fleet", "check"]);
        (ran.status.code() == Some(1)).then_some(ran)
    });
    assert!(said(&alone).contains("no standby streams"), "{alone:?}");

    // Nobody is there, and who is there is no cluster.
    cluster.kill(cluster.primary());
    let down = machine.run(&["fleet", "check"]);
    assert!(down.status.code() == Some(1) && said(&down).contains("no node is read-write"), "{down:?}");
    assert!(!said(&down).contains("postgresql://"), "the URL is a secret: {down:?}");
}
