//! The applications of `docs/start/receive.md` that stand on a framework, where that is installed:
//! the program's own `test` is answered 204, and 401 with another secret.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::{secret_new, snippet, works};

/// Longest that an application may take to listen. Far above what is needed.
const PATIENCE: Duration = Duration::from_secs(60);

/// Ended when dropped.
struct Application(Child);

impl Drop for Application {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts what a page has under these words, and sends it a sample with each secret.
fn receives(info: &str, file: &str, command: &[&str]) {
    let dir = tempfile::tempdir().unwrap();
    let page = include_str!("../../docs/start/receive.md");
    fs::write(dir.path().join(file), snippet(page, info)).unwrap();
    // Free a moment ago.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let config = format!(
        "[spec_ops.webhooks]\nenabled = true\n[[spec_ops.webhooks.subscriptions]]\nid = \"one\"\n\
         url = \"http://127.0.0.1:{port}/spec-kit\"\nsecret_env = \"SPECKIT_WEBHOOK_SECRET\"\n"
    );
    fs::write(dir.path().join("config.toml"), config).unwrap();
    let secret = secret_new();
    let arguments = command[1..].iter().map(|argument| argument.replace("PORT", &port));
    let mut process = Command::new(command[0]);
    process.args(arguments).current_dir(dir.path()).env("PORT", &port).stdin(Stdio::null());
    process.env("SPECKIT_WEBHOOK_SECRET", &secret).stdout(Stdio::null()).stderr(Stdio::null());
    let mut application = Application(process.spawn().unwrap());
    let begun = Instant::now();
    while TcpStream::connect(format!("127.0.0.1:{port}")).is_err() {
        assert!(begun.elapsed() < PATIENCE && application.0.try_wait().unwrap().is_none(), "{info}");
        std::thread::park_timeout(Duration::from_millis(20));
    }
    let status = |secret: &str| {
        let mut test = Command::new(env!("CARGO_BIN_EXE_spec-notify"));
        test.args(["--config", "config.toml", "--json", "test", "SPEC-1", "--subscription", "one"]);
        test.current_dir(dir.path()).env("SPECKIT_WEBHOOK_SECRET", secret).env_remove("HTTP_PROXY");
        let output = test.output().unwrap();
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        report[0]["status"].clone()
    };
    assert_eq!(status(&secret), 204, "{info}");
    assert_eq!(status(&secret_new()), 401, "{info}");
}

#[test]
fn flask() {
    if works("python3", &["-c", "import flask, standardwebhooks"]) {
        let run = ["python3", "-m", "flask", "--app", "receiver", "run", "--port", "PORT"];
        receives("python flask", "receiver.py", &run);
    }
}

#[test]
fn fastapi() {
    if works("python3", &["-c", "import fastapi, uvicorn, standardwebhooks"]) {
        receives(
            "python fastapi",
            "receiver.py",
            &["python3", "-m", "uvicorn", "receiver:app", "--port", "PORT"],
        );
    }
}

#[test]
fn express() {
    if works("node", &["-e", "require('express'), require('standardwebhooks')"]) {
        receives("js express", "receiver.js", &["node", "receiver.js"]);
    }
}

#[test]
fn go() {
    if !works("go", &["version"]) {
        return;
    }
    // What `go run` starts would outlive it.
    let dir = tempfile::tempdir().unwrap();
    let page = include_str!("../../docs/start/receive.md");
    fs::write(dir.path().join("receiver.go"), snippet(page, "go receiver")).unwrap();
    let mut build = Command::new("go");
    build.args(["build", "-o", "receiver", "receiver.go"]).current_dir(dir.path());
    let built = build.env("GOCACHE", dir.path().join("cache")).env("GOFLAGS", "").output().unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    receives("go receiver", "receiver.go", &[dir.path().join("receiver").to_str().unwrap()]);
}
