//! A repo in a temporary folder, with a config, and the product at work in it: in this process or
//! as the program.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use spec_notify::LoadOptions;
use spec_notify::internals::RuntimeFile;
use spec_notify::{Environment, Runtime};
use spec_notify::{Event, EventKind, IdempotencyKey};

use super::machine::wait_for;

/// The program, built as this bench is.
pub(super) const PROGRAM: &str = env!("CARGO_BIN_EXE_spec-notify");

/// The SPEC of everything but what waits.
pub(super) const SPEC: &str = "SPEC-BENCH-1";

/// The evidence tree.
pub(super) const EVIDENCE: &str = "docs/SPEC-OPS-004-integrated-coder-hooks/evidence";

/// What everything is signed with.
pub(super) const SECRET: &str = "a secret of the bench, 32 bytes!";

/// How long a drain may take.
const DRAIN: Duration = Duration::from_secs(10);

const BODY_BYTES: usize = 2_048;

/// See the module's first line.
pub(super) struct Repo(tempfile::TempDir);

/// One entry of the config.
pub(super) struct Entry {
    pub(super) id: String,
    pub(super) url: String,
    /// Further lines.
    pub(super) lines: &'static str,
}

impl Entry {
    pub(super) fn new(id: impl Into<String>, url: impl Into<String>, lines: &'static str) -> Self {
        Self { id: id.into(), url: url.into(), lines }
    }

    fn text(&self) -> String {
        let Self { id, url, lines } = self;
        format!(
            "[[spec_ops.webhooks.subscriptions]]\nid = \"{id}\"\nurl = \"{url}\"\nsecret_env = \"SECRET\"\n{lines}\n"
        )
    }
}

impl Repo {
    pub(super) fn new(settings: &str, entries: &[Entry]) -> Self {
        let repo = Self(tempfile::tempdir().expect("a temporary folder"));
        let entries: String = entries.iter().map(Entry::text).collect();
        repo.write(
            ".spec-kit/config.toml",
            &format!("[spec_ops.webhooks]\nenabled = true\nspool_dir = \"spool\"\n{settings}\n{entries}"),
        );
        repo
    }

    pub(super) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(super) fn spool(&self) -> PathBuf {
        self.path().join("spool")
    }

    pub(super) fn write(&self, path: &str, text: &str) -> PathBuf {
        let path = self.path().join(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder that can be made");
        fs::write(&path, text).expect("a file that can be written");
        path
    }

    /// The product in this process.
    pub(super) fn runtime(&self) -> Runtime {
        let environment = Environment::fixed([("SECRET", SECRET)]);
        let loaded = LoadOptions::in_dir(self.path()).repo(self.path()).load(&environment);
        Runtime::start_blocking(loaded.into_config().expect("a good config"), environment).expect("a runtime")
    }

    /// Another program with the environment that the product has.
    pub(super) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.path()).env_clear().env("SECRET", SECRET).env("HOME", self.path());
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    /// The program in the foreground, ready.
    pub(super) fn serve(&self, arguments: &[&str]) -> Serve {
        let started = Instant::now();
        let child = self.command(PROGRAM).arg("serve").args(arguments).spawn().expect("the program starts");
        let spool = self.spool();
        wait_for("serve to be ready", Duration::from_micros(500), || {
            RuntimeFile::read(&spool).ok().filter(|file| file.pid == child.id())
        });
        Serve { child, ready_in: started.elapsed() }
    }

    /// The program in the foreground, ready, and the repo seen as it is.
    pub(super) fn watch(&self) -> Serve {
        let serve = self.serve(&[]);
        let baseline = self.spool().join("watch.jsonl");
        wait_for("the baseline", Duration::from_millis(1), || baseline.exists().then_some(()));
        serve
    }

    /// The final lines of the evidence of [`SPEC`] once there are `count`.
    pub(super) fn finals(&self, count: usize) -> Vec<Value> {
        let path = self.path().join(EVIDENCE).join("commands").join(SPEC).join("webhooks/deliveries.jsonl");
        wait_for("deliveries to end", Duration::from_millis(5), || {
            let text = fs::read_to_string(&path).ok()?;
            let lines = text.lines().filter_map(|line| serde_json::from_str(line).ok());
            let finals: Vec<Value> = lines.filter(|line: &Value| line["record"] == "final").collect();
            (finals.len() >= count).then_some(finals)
        })
    }
}

/// A running `serve`; killed when dropped.
pub(super) struct Serve {
    pub(super) child: Child,
    /// From its start until it took events.
    pub(super) ready_in: Duration,
}

impl Drop for Serve {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Ends a runtime in order, and says how many deliveries are left.
pub(super) fn drain(runtime: Runtime) -> usize {
    runtime.drain_blocking(DRAIN).pending
}

/// A stage event of [`SPEC`] whose body has about [`BODY_BYTES`].
pub(super) fn event(key: impl std::fmt::Display) -> Event {
    event_of(SPEC, EventKind::StageCompleted, key)
}

/// An event of about [`BODY_BYTES`].
pub(super) fn event_of(spec: &str, kind: EventKind, key: impl std::fmt::Display) -> Event {
    let key: IdempotencyKey = format!("{spec}:plan:attempt-1:{key}").parse().expect("a key");
    let mut event = Event::new(kind, spec.parse().expect("a SPEC id"), key);
    let bare = serde_json::to_vec(&event).expect("JSON").len() + r#","message":"""#.len();
    event.extra.insert("message".to_owned(), message(bare).into());
    event
}

/// What makes about [`BODY_BYTES`] of something that has `bare` bytes.
pub(super) fn message(bare: usize) -> String {
    "x".repeat(BODY_BYTES - bare)
}
