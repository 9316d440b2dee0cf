//! A repo in a temporary folder, endpoints on loopback, and the real binary between them.

pub(crate) mod certificate;
mod endpoint;
pub(crate) mod page;
pub(crate) mod port;
mod terminal;

pub(crate) use endpoint::{Answer, DeadEndpoint, Endpoint, Request, read_request};
pub(crate) use terminal::{Terminal, kill, wait_for_end};

use std::fs;
use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// Longest any condition is waited for. Far above what is needed: a test that gets here has
/// failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// The evidence tree, in a repo.
pub(crate) const EVIDENCE: &str = "docs/SPEC-OPS-004-integrated-coder-hooks/evidence";

/// No user of any machine, we hope.
pub(crate) const STRANGER: u32 = 12345;

/// The secret every test subscription signs with, unless it says otherwise.
pub(crate) const SECRET: &str = "a-secret-of-the-tests";

/// The published schema of our payload.
pub(crate) fn payload_schema() -> &'static jsonschema::Validator {
    static SCHEMA: OnceLock<jsonschema::Validator> = OnceLock::new();
    SCHEMA.get_or_init(|| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reference/payload.schema.json");
        let schema: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
        jsonschema::validator_for(&schema).unwrap()
    })
}

/// Waits until `condition` gives something.
pub(crate) fn wait_for<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

/// Whether a program is there that a test drives. Where it is not, the test says that it skips; in
/// the gate, which installs it (`SPEC_NOTIFY_TOOLS`, see `.ci/run`), that is a failure.
pub(crate) fn has_tool(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    if std::env::split_paths(&path).any(|dir| dir.join(name).is_file()) {
        return true;
    }
    let needed = std::env::var("SPEC_NOTIFY_TOOLS").unwrap_or_default();
    assert!(!needed.split(' ').any(|tool| tool == name), "{name} is not installed");
    eprintln!("skipped: {name} is not installed");
    false
}

/// The library that shifts a process's clock, built by the C compiler that OpenSSL needs anyway.
pub(crate) fn shift_library() -> Option<PathBuf> {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/shift_clock.c");
    let library = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("shift_clock.so");
    let built = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(source).status();
    built.is_ok_and(|status| status.success()).then_some(library)
}

/// Statuses of which six in ten are 503, the same ones each time.
pub(crate) fn flaky(requests: usize) -> Vec<u16> {
    let mut dice = 7_u64;
    let mut roll = || {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (dice >> 33) % 10
    };
    (0..requests).map(|_| if roll() < 6 { 503 } else { 200 }).collect()
}

/// A repo with a config, and what the processes in it find in their environment.
pub(crate) struct Sandbox {
    dir: tempfile::TempDir,
    environment: Vec<(String, String)>,
    /// In the repo.
    spool: PathBuf,
}

impl Sandbox {
    /// A repo whose config has these subscriptions: `(id, url, further lines)`.
    pub(crate) fn new(subscriptions: &[(&str, &str, &str)]) -> Self {
        Self::with_settings("", subscriptions)
    }

    /// A folder with nothing in it.
    pub(crate) fn empty() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            environment: Vec::new(),
            spool: Path::new(EVIDENCE).join("webhooks"),
        }
    }

    pub(crate) fn with_settings(settings: &str, subscriptions: &[(&str, &str, &str)]) -> Self {
        let sandbox = Self::empty().env("TEST_SECRET", SECRET);
        let mut text = format!("[spec_ops.webhooks]\nenabled = true\n{settings}\n");
        for (id, url, lines) in subscriptions {
            text += &format!("[[spec_ops.webhooks.subscriptions]]\nid = \"{id}\"\nurl = \"{url}\"\n");
            if !lines.contains("secret_env") {
                text += "secret_env = \"TEST_SECRET\"\n";
            }
            text += &format!("{lines}\n");
        }
        sandbox.write(".spec-kit/config.toml", &text);
        sandbox
    }

    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Whose config says that the spool is there.
    pub(crate) fn spool_at(mut self, spool: &str) -> Self {
        self.spool = spool.into();
        self
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn write(&self, path: &str, text: &str) -> PathBuf {
        let path = self.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    pub(crate) fn spool(&self) -> PathBuf {
        self.path().join(&self.spool)
    }

    /// Waits until the inbox is empty and the spool says that every delivery has ended.
    pub(crate) fn wait_until_nothing_is_pending(&self) {
        let mut unfinished = usize::MAX;
        wait_for("deliveries to go on ending", || {
            let now = self.inbox().len() + self.unfinished().len();
            // As long as it goes on, it may take its time.
            let goes_on = now < std::mem::replace(&mut unfinished, now);
            (now == 0 || goes_on).then_some(now)
        });
        if unfinished > 0 {
            self.wait_until_nothing_is_pending();
        }
    }

    /// The ids of the deliveries that the spool says are not finished.
    fn unfinished(&self) -> std::collections::BTreeSet<String> {
        let mut unfinished = std::collections::BTreeSet::new();
        for dir in fs::read_dir(self.spool()).unwrap().map(|entry| entry.unwrap().path()) {
            let files = fs::read_dir(&dir).into_iter().flatten().map(|entry| entry.unwrap().path());
            let mut files: Vec<PathBuf> = files
                .filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("spool-"))
                .collect();
            files.sort();
            for line in files.iter().flat_map(|path| lines(path)) {
                let Ok(record) = serde_json::from_str::<Value>(line.get(18..).unwrap_or_default()) else {
                    continue;
                };
                for delivery in record["accepted"]["deliveries"].as_array().into_iter().flatten() {
                    unfinished.insert(delivery["id"].to_string());
                }
                unfinished.remove(&record["finished"]["id"].to_string());
            }
        }
        unfinished
    }

    /// The names of the events in the inbox.
    pub(crate) fn inbox(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.spool().join("inbox")) else { return Vec::new() };
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.ends_with(".event.json") || name.ends_with(".events.jsonl")).collect()
    }

    /// A command of the program, in this repo, with nothing of the tester's own environment that
    /// it would read.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_spec-notify"));
        command.args(arguments).current_dir(self.path()).env_clear().env("HOME", self.path().join("home"));
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("RUST_BACKTRACE", "1");
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null());
        command
    }

    /// Runs git in this repo.
    pub(crate) fn git(&self, arguments: &[&str]) -> String {
        let mut git = Command::new("git");
        git.args(["-c", "user.email=a@example.com", "-c", "user.name=a"]).args(arguments);
        let output = git.current_dir(self.path()).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// A script for `sh`, in this repo, with the program on its `PATH`.
    pub(crate) fn shell(&self, script: &str) -> Command {
        self.program("sh", &["-euc", script])
    }

    /// Another program, in this repo, with ours on its `PATH`.
    pub(crate) fn program(&self, name: &str, arguments: &[&str]) -> Command {
        let programs = Path::new(env!("CARGO_BIN_EXE_spec-notify")).parent().unwrap().to_owned();
        let usual = std::env::var_os("PATH").unwrap_or_default();
        let all = [programs].into_iter().chain(std::env::split_paths(&usual));
        let like = self.command(&[]);
        let mut command = Command::new(name);
        command.args(arguments).current_dir(self.path()).env_clear().stdin(Stdio::null());
        command.envs(like.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.env("PATH", std::env::join_paths(all).unwrap());
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Ran {
        Ran::from(self.command(arguments).output().unwrap())
    }

    /// Runs the program as a user who owns nothing here; `None` where this user cannot become
    /// another. The caller says which folders that one may use.
    pub(crate) fn run_as_stranger(&self, arguments: &[&str]) -> Option<Ran> {
        let probe = self.write("probe", "");
        let became = chown(&probe, Some(STRANGER), None);
        fs::remove_file(probe).unwrap();
        if became.is_err() {
            eprintln!("skipped: only root can become another user");
            return None;
        }
        fs::set_permissions(self.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let program = self.path().join("spec-notify");
        fs::copy(env!("CARGO_BIN_EXE_spec-notify"), &program).unwrap();
        let usual = self.command(arguments);
        let mut command = Command::new(&program);
        command.args(arguments).current_dir(self.path()).env_clear().uid(STRANGER).gid(STRANGER);
        command.envs(usual.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.stdin(Stdio::null());
        // Another test may have forked while the copy was being written: until its child has
        // begun, the file counts as open for writing.
        let ran = wait_for("the program to be free", || match command.output() {
            Err(error) if error.kind() == ErrorKind::ExecutableFileBusy => None,
            ran => Some(Ran::from(ran.unwrap())),
        });
        fs::remove_file(program).unwrap();
        Some(ran)
    }

    /// Starts `serve` and waits until its control port is announced.
    pub(crate) fn serve(&self) -> Serve {
        self.serve_with(&[])
    }

    pub(crate) fn serve_with(&self, arguments: &[&str]) -> Serve {
        let all: Vec<&str> = ["serve"].into_iter().chain(arguments.iter().copied()).collect();
        let log = self.path().join("serve.log");
        let open = || fs::OpenOptions::new().create(true).append(true).open(&log).unwrap();
        let mut child = self.command(&all).stdout(open()).stderr(open()).spawn().unwrap();
        let runtime_file = self.spool().join("runtime.json");
        wait_for("serve to be ready", || {
            if let Some(status) = child.try_wait().unwrap() {
                panic!("serve ended with {status}: {}", fs::read_to_string(&log).unwrap());
            }
            let text = fs::read(&runtime_file).ok()?;
            let file: Value = serde_json::from_slice(&text).ok()?;
            (file["pid"] == child.id()).then_some(())
        });
        Serve { child, log }
    }

    /// Starts a second `serve`, which says that it stands by.
    pub(crate) fn standby(&self) -> Serve {
        let log = self.path().join("standby.log");
        let open = || fs::OpenOptions::new().create(true).append(true).open(&log).unwrap();
        let child = self.command(&["serve"]).stdout(open()).stderr(open()).spawn().unwrap();
        let serve = Serve { child, log };
        wait_for("the second to stand by", || serve.log().contains("standing by: process").then_some(()));
        serve
    }

    /// Waits until this `serve` owns the spool.
    pub(crate) fn wait_for_owner(&self, serve: &Serve) {
        wait_for("the owner to change", || {
            let text = fs::read(self.spool().join("runtime.json")).ok()?;
            let file: Value = serde_json::from_slice(&text).ok()?;
            (file["pid"] == serve.child.id()).then_some(())
        });
    }

    /// Emits one stage event as flags and returns what `--json` said.
    pub(crate) fn emit(&self, spec: &str, stage: &str, key: &str) -> Value {
        let ran = self.run(&[
            "--json",
            "emit",
            "--type",
            "spec-auto.stage.completed",
            "--spec",
            spec,
            "--stage",
            stage,
            "--status",
            "success",
            "--key",
            key,
        ]);
        assert_eq!(ran.code, 0, "{ran:?}");
        serde_json::from_str(&ran.stdout).unwrap()
    }

    /// The evidence of a SPEC, line by line.
    pub(crate) fn evidence(&self, spec: &str) -> Vec<Value> {
        let path = self.path().join(EVIDENCE).join("commands").join(spec).join("webhooks/deliveries.jsonl");
        let text = fs::read_to_string(path).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Waits until the evidence says that `count` deliveries of a SPEC have ended, and the spool
    /// too, whose word comes last; returns the lines of the evidence.
    pub(crate) fn wait_for_finals(&self, spec: &str, count: usize) -> Vec<Value> {
        let finals = self.wait_for_evidence_of(spec, count);
        wait_for("the spool to say so too", || {
            let spool = self.spool_text(spec);
            let has_ended = |line: &Value| {
                let id = line["delivery"].as_str().unwrap();
                !spool.contains(id) || spool.contains(&format!(r#"{{"finished":{{"id":"{id}""#))
            };
            finals.iter().all(has_ended).then_some(())
        });
        finals
    }

    /// All journal files of a SPEC.
    pub(crate) fn spool_text(&self, spec: &str) -> String {
        let files = fs::read_dir(self.spool().join(spec)).into_iter().flatten().flatten();
        let journals = files.filter(|file| file.file_name().to_string_lossy().starts_with("spool-"));
        journals.map(|file| fs::read_to_string(file.path()).unwrap_or_default()).collect()
    }

    fn wait_for_evidence_of(&self, spec: &str, count: usize) -> Vec<Value> {
        wait_for("deliveries to end", || {
            let path =
                self.path().join(EVIDENCE).join("commands").join(spec).join("webhooks/deliveries.jsonl");
            let text = fs::read_to_string(path).unwrap_or_default();
            // A line that is being written now is not whole yet.
            let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
            let finals: Vec<Value> = whole
                .lines()
                .map(|line| serde_json::from_str(line).unwrap())
                .filter(|line: &Value| line["record"] == "final")
                .collect();
            (finals.len() >= count).then_some(finals)
        })
    }

    /// The dead letters of a SPEC.
    pub(crate) fn dead_letters(&self, spec: &str) -> Vec<Value> {
        let Ok(entries) = fs::read_dir(self.spool().join(spec).join("dead-letter")) else {
            return Vec::new();
        };
        let paths = entries
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|e| e == "json"));
        // One that a replay delivers goes between the look at the folder and the look at the file.
        let texts = paths.filter_map(|path| match fs::read(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            text => Some(text.unwrap()),
        });
        texts.map(|text| serde_json::from_slice(&text).unwrap()).collect()
    }
}

fn lines(path: &Path) -> Vec<String> {
    fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect()
}

/// A command that ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let ran = Self {
            code: output.status.code().unwrap_or(-1),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        };
        assert!(!ran.stderr.contains("panicked") && ran.code != 101, "a panic: {ran:?}");
        ran
    }
}

/// A running `serve`; killed when dropped.
pub(crate) struct Serve {
    child: Child,
    log: PathBuf,
}

impl Serve {
    /// The most memory it ever had, in KiB; `None` where the system does not tell.
    pub(crate) fn peak_memory(&self) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?;
        status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?.trim().strip_suffix(" kB")?.parse().ok()
    }

    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &id]).status().unwrap().success());
    }

    /// SIGTERM, and what came of it: the exit code and the log.
    pub(crate) fn terminate(mut self) -> (i32, String) {
        self.signal("TERM");
        let status = self.child.wait().unwrap();
        (status.code().unwrap_or(-1), self.log())
    }

    pub(crate) fn log(&self) -> String {
        let mut text = String::new();
        fs::File::open(&self.log).unwrap().read_to_string(&mut text).unwrap();
        text
    }
}

impl Drop for Serve {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A Plan stage's telemetry, good unless changed.
pub(crate) fn plan_telemetry(spec: &str, session: &str) -> Value {
    json!({
        "schemaVersion": 1, "command": "spec-ops-plan", "specId": spec, "sessionId": session,
        "timestamp": "2025-10-14T10:00:00Z",
        "baseline": {"mode": "full", "artifact": "b.md", "status": "passed"}, "hooks": {"session.start": "ok"},
        "artifacts": [{"path": format!("/elsewhere/{EVIDENCE}/commands/{spec}/spec-plan_{session}.log")}],
    })
}
