//! The programs of `docs/reference/verifying.md`, run as they stand there on real and on tampered
//! requests; the applications of `docs/start/receive.md` with the frameworks that are there; the
//! types with pydantic.
#![allow(clippy::unwrap_used, reason = "helpers of tests; clippy exempts only the test functions themselves")]

#[allow(unreachable_pub, reason = "it stands in the docs as a reader would paste it")]
mod library;
mod receivers;
#[allow(unreachable_pub, reason = "it stands in the docs as a reader would paste it")]
mod verify;

use std::path::Path;
use std::process::Command;
use std::time::SystemTime;

use spec_notify::internals::Secret;
use spec_notify::internals::sign;

const BODY: &[u8] = "{\"event\":{\"type\":\"spec-auto.stage.completed\"},\"word\":\"ü\"}".as_bytes();
const ID: &str = "3f2ec6fa-d950-4e58-a793-29c4509f7704";

/// A verifier: secret, body and the four headers in the order the docs say.
type Verifier<'a> = &'a dyn Fn(&str, &[u8], [&str; 4]) -> bool;

/// Which of the two signatures a program checks.
#[derive(Clone, Copy, PartialEq)]
enum Checks {
    Both,
    /// As a library of Standard Webhooks does, which takes a secret of that form alone.
    Standard,
}

/// A fresh secret, as a reader makes it.
fn secret_new() -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_spec-notify")).args(["secret", "new"]).output().unwrap();
    let secret = String::from_utf8(output.stdout).unwrap().trim().to_owned();
    assert!(secret.starts_with("whsec_"), "{secret}");
    secret
}

/// What stands between fences with these words.
fn snippet(page: &str, info: &str) -> String {
    let start = format!("```{info}\n");
    page.split_once(&start).unwrap().1.split_once("```").unwrap().0.to_owned()
}

fn on_verifying(info: &str) -> String {
    snippet(include_str!("../../docs/reference/verifying.md"), info)
}

/// Accepts what is right; refuses another body, id, time, secret, or either signature alone.
fn assert_verifies(checks: Checks, verify: Verifier<'_>) {
    let mut secrets = vec![secret_new(), "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD".to_owned()];
    if checks == Checks::Both {
        secrets.push("a plain secret".to_owned());
    }
    let other = secret_new();
    for text in &secrets {
        let secret = Secret::parse(text).unwrap();
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        let timestamp = now.to_string();
        let ours = sign::spec_kit(&secret, BODY);
        let at = |time: u64| sign::standard(&secret, ID, i64::try_from(time).unwrap(), BODY);
        let standard = at(now);
        let rotated = format!("v1,b3RoZXI= {standard}");
        let (later, old) = ((now + 1).to_string(), (now - 600).to_string());
        assert!(verify(text, BODY, [&ours, ID, &timestamp, &standard]), "{text}");
        assert!(verify(text, BODY, [&ours, ID, &timestamp, &rotated]), "{text}: two signatures");
        let tampered = [BODY, b" "].concat();
        assert!(!verify(text, &tampered, [&ours, ID, &timestamp, &standard]), "body");
        assert!(!verify(text, BODY, [&ours, "other", &timestamp, &standard]), "id");
        assert!(!verify(text, BODY, [&ours, ID, &later, &standard]), "timestamp");
        assert!(!verify(&other, BODY, [&ours, ID, &timestamp, &standard]), "secret");
        assert!(!verify(text, BODY, [&ours, ID, &timestamp, "v1,b3RoZXI="]), "webhook-signature");
        assert!(!verify(text, BODY, [&ours, ID, &old, &at(now - 600)]), "ten minutes old");
        if checks == Checks::Both {
            assert!(!verify(text, BODY, ["sha256=00", ID, &timestamp, &standard]), "X-SpecKit-Signature");
        }
    }
}

/// Whether a program can be started so, and ends well; says so where not.
fn works(program: &str, arguments: &[&str]) -> bool {
    let output = Command::new(program).args(arguments).output();
    let works = output.is_ok_and(|output| output.status.success());
    if !works {
        eprintln!("skipped: {program} {} does not work here", arguments.join(" "));
    }
    works
}

/// Runs a program on files in a folder of its own.
fn run_with(checks: Checks, command: &[&str], code: &str, file: &str) {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join(file);
    std::fs::write(&program, code).unwrap();
    run(checks, dir.path(), &[command, &[program.to_str().unwrap()]].concat());
}

fn run(checks: Checks, dir: &Path, command: &[&str]) {
    assert_verifies(checks, &|secret, body, headers| {
        let file = dir.join("body");
        std::fs::write(&file, body).unwrap();
        let mut process = Command::new(command[0]);
        process.args(&command[1..]).arg(file).args(headers).env("SECRET", secret);
        let output = process.output().unwrap();
        assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
        output.status.success()
    });
}

#[test]
fn python() {
    if works("python3", &["--version"]) {
        run_with(Checks::Both, &["python3"], &on_verifying("python"), "verify.py");
    }
}

#[test]
fn python_with_the_library() {
    if works("python3", &["-c", "import standardwebhooks"]) {
        run_with(Checks::Standard, &["python3"], &on_verifying("python library"), "verify.py");
    }
}

#[test]
fn node() {
    if works("node", &["--version"]) {
        run_with(Checks::Both, &["node"], &on_verifying("js"), "verify.js");
    }
}

#[test]
fn node_with_the_library() {
    if works("node", &["-e", "require('standardwebhooks')"]) {
        run_with(Checks::Standard, &["node"], &on_verifying("js library"), "verify.js");
    }
}

#[test]
fn go() {
    if !works("go", &["version"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("verify.go"), on_verifying("go")).unwrap();
    let mut build = Command::new("go");
    build.args(["build", "-o", "verify", "verify.go"]).current_dir(dir.path());
    let built = build.env("GOCACHE", dir.path().join("cache")).env("GOFLAGS", "").output().unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    run(Checks::Both, dir.path(), &[dir.path().join("verify").to_str().unwrap()]);
}

#[test]
fn bash_and_openssl() {
    if works("bash", &["--version"]) && works("openssl", &["version"]) {
        run_with(Checks::Both, &["bash"], &on_verifying("bash"), "verify.sh");
    }
}

#[test]
fn rust() {
    assert_eq!(
        on_verifying("rust"),
        include_str!("verify.rs"),
        "the docs and the compiled code are the same"
    );
    // Who calls it compares the timestamp with the clock, as the page says.
    assert_verifies(Checks::Both, &|secret, body, headers| {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        let is_now = now.abs_diff(headers[2].parse().unwrap()) < 300;
        is_now && verify::verify(secret, body, headers).unwrap()
    });
}

#[test]
fn rust_with_the_library() {
    let code = include_str!("library.rs");
    assert_eq!(on_verifying("rust library"), code, "the docs and the compiled code are the same");
    assert_verifies(Checks::Standard, &|secret, body, [_, id, timestamp, signature]| {
        let mut headers = http::HeaderMap::new();
        for (name, value) in
            [("webhook-id", id), ("webhook-timestamp", timestamp), ("webhook-signature", signature)]
        {
            headers.insert(name, value.parse().unwrap());
        }
        library::verify(secret, body, &headers).is_ok()
    });
}

#[test]
fn python_with_pydantic() {
    const CHECK: &str = r#"
import json, sys
from receiver import read
for path in sys.argv[1:]:
    body = json.load(open(path, "rb"))
    assert read(json.dumps(body).encode()) == body, path
body["later"], body["event"]["status"] = True, "paused"
assert read(json.dumps(body).encode())["event"]["status"] == "paused", "of a later version"
del body["source"]
try:
    read(json.dumps(body).encode())
except ValueError:
    sys.exit(0)
sys.exit("a body without its source is no payload")
"#;
    if !works("python3", &["-c", "import pydantic, sys; assert sys.version_info >= (3, 11)"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let types = include_str!("../../docs/reference/types/spec_notify.py");
    // As the page says for Python 3.11.
    let types = types.replacen("from typing import", "from typing_extensions import", 1);
    std::fs::write(dir.path().join("spec_notify.py"), types).unwrap();
    let page = include_str!("../../docs/reference/receiving.md");
    std::fs::write(dir.path().join("receiver.py"), snippet(page, "python pydantic")).unwrap();
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reference/samples");
    let samples = std::fs::read_dir(samples).unwrap().map(|sample| sample.unwrap().path());
    let mut process = Command::new("python3");
    let output = process.args(["-c", CHECK]).args(samples).current_dir(dir.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
