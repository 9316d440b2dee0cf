//! The applications of `docs/start/receive.md` that stand on a framework, where that is installed:
//! the program's own `test` is answered 204, 401 with another secret, and a body that is too large
//! 413. And what the page has for those who do not have the program.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use spec_notify::internals::{Secret, sign};

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

const PAGE: &str = include_str!("../../docs/start/receive.md");

/// The status of the answer to a body of 3 MiB.
fn status_of_too_large(port: &str) -> u16 {
    let mut stream = TcpStream::connect(format!("127.0.0.1:{port}")).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let body = vec![b' '; 3 * 1024 * 1024];
    let head = format!(
        "POST /spec-kit HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n",
        body.len()
    );
    // Who refuses it by its length need not read it.
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).unwrap();
    str::from_utf8(&answer[9..]).unwrap().parse().unwrap()
}

/// An application, and what it listens on.
struct Started {
    dir: tempfile::TempDir,
    port: String,
    secret: String,
    _application: Application,
}

/// Starts a program, and waits until it listens.
fn start(text: &str, file: &str, command: &[&str]) -> Started {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join(file), text).unwrap();
    // Free a moment ago.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let secret = secret_new();
    let arguments = command[1..].iter().map(|argument| argument.replace("PORT", &port));
    let mut process = Command::new(command[0]);
    process.args(arguments).current_dir(dir.path()).env("PORT", &port).stdin(Stdio::null());
    process.env("SPECKIT_WEBHOOK_SECRET", &secret).stdout(Stdio::null()).stderr(Stdio::null());
    let mut application = Application(process.spawn().unwrap());
    let begun = Instant::now();
    while TcpStream::connect(format!("127.0.0.1:{port}")).is_err() {
        assert!(begun.elapsed() < PATIENCE && application.0.try_wait().unwrap().is_none(), "{file}");
        std::thread::park_timeout(Duration::from_millis(20));
    }
    Started { dir, port, secret, _application: application }
}

/// Starts what a page has under these words, and sends it a sample with each secret.
fn receives(info: &str, file: &str, command: &[&str]) {
    let Started { dir, port, secret, .. } = &start(&snippet(PAGE, info), file, command);
    let config = format!(
        "[spec_ops.webhooks]\nenabled = true\n[[spec_ops.webhooks.subscriptions]]\nid = \"one\"\n\
         url = \"http://127.0.0.1:{port}/spec-kit\"\nsecret_env = \"SPECKIT_WEBHOOK_SECRET\"\n"
    );
    fs::write(dir.path().join("config.toml"), config).unwrap();
    let status = |secret: &str| {
        let mut test = Command::new(env!("CARGO_BIN_EXE_spec-notify"));
        test.args(["--config", "config.toml", "--json", "test", "SPEC-1", "--subscription", "one"]);
        test.current_dir(dir.path()).env("SPECKIT_WEBHOOK_SECRET", secret).env_remove("HTTP_PROXY");
        let output = test.output().unwrap();
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        report[0]["status"].clone()
    };
    assert_eq!(status(secret), 204, "{info}");
    assert_eq!(status(&secret_new()), 401, "{info}");
    assert_eq!(status_of_too_large(port), 413, "{info}");
}

#[test]
fn the_fixed_request_has_the_programs_own_signatures() {
    let vector = snippet(PAGE, "text vector");
    let parts: BTreeMap<&str, &str> = vector.lines().filter_map(|line| line.split_once(": ")).collect();
    let (secret, body) = (Secret::parse(parts["secret"]).unwrap(), parts["body"].as_bytes());
    let timestamp = parts["webhook-timestamp"].parse().unwrap();
    assert_eq!(sign::spec_kit(&secret, body), parts["X-SpecKit-Signature"]);
    assert_eq!(sign::standard(&secret, parts["webhook-id"], timestamp, body), parts["webhook-signature"]);
}

#[test]
fn what_openssl_signs_and_curl_posts_is_received() {
    if !(works("python3", &["--version"]) && works("openssl", &["version"]) && works("curl", &["--version"]))
    {
        return;
    }
    let own = snippet(PAGE, "python receiver.py");
    let own: Vec<&str> = own.lines().map(|line| line.strip_prefix("   ").unwrap_or(line)).collect();
    let receiver = start(&own.join("\n"), "receiver.py", &["python3", "receiver.py"]);
    let post = |secret: &str| {
        let mut shell = Command::new("bash");
        shell.args(["-c", &snippet(PAGE, "bash sample")]).env("PORT", &receiver.port);
        let output = shell.env("SPECKIT_WEBHOOK_SECRET", secret).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(post(&receiver.secret), "204\n204\n");
    assert_eq!(post(&secret_new()), "401\n401\n");
    assert_eq!(status_of_too_large(&receiver.port), 413);
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
    fs::write(dir.path().join("receiver.go"), snippet(PAGE, "go receiver")).unwrap();
    let mut build = Command::new("go");
    build.args(["build", "-o", "receiver", "receiver.go"]).current_dir(dir.path());
    let built = build.env("GOCACHE", dir.path().join("cache")).env("GOFLAGS", "").output().unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    receives("go receiver", "receiver.go", &[dir.path().join("receiver").to_str().unwrap()]);
}
