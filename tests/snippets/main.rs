//! The verification snippets of `docs/signing.md`, run as they stand there on real and on tampered
//! requests.
#![allow(clippy::unwrap_used, reason = "helpers of tests; clippy exempts only the test functions themselves")]

#[allow(unreachable_pub, reason = "it stands in the docs as a reader would paste it")]
mod verify;

use std::process::Command;
use std::time::SystemTime;

use spec_notify::internals::Secret;
use spec_notify::internals::sign;

const BODY: &[u8] = "{\"event\":{\"type\":\"spec-auto.stage.completed\"},\"word\":\"ü\"}".as_bytes();
const ID: &str = "3f2ec6fa-d950-4e58-a793-29c4509f7704";
const SECRETS: [&str; 2] = ["a plain secret", "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"];

/// A verifier: secret, body and the four headers in the order the docs say.
type Verifier<'a> = &'a dyn Fn(&str, &[u8], [&str; 4]) -> bool;

fn snippet(language: &str) -> String {
    let docs = include_str!("../../docs/signing.md");
    let start = format!("```{language}\n");
    docs.split_once(&start).unwrap().1.split_once("```").unwrap().0.to_owned()
}

/// Accepts what is right; refuses another body, id, time, secret, or either signature alone.
fn assert_verifies(verify: Verifier<'_>) {
    for text in SECRETS {
        let secret = Secret::parse(text).unwrap();
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        let timestamp = now.to_string();
        let ours = sign::spec_kit(&secret, BODY);
        let standard = sign::standard(&secret, ID, i64::try_from(now).unwrap(), BODY);
        let rotated = format!("v1,b3RoZXI= {standard}");
        let later = (now + 1).to_string();
        assert!(verify(text, BODY, [&ours, ID, &timestamp, &standard]), "{text}");
        assert!(verify(text, BODY, [&ours, ID, &timestamp, &rotated]), "{text}: two signatures");
        let tampered = [BODY, b" "].concat();
        assert!(!verify(text, &tampered, [&ours, ID, &timestamp, &standard]), "body");
        assert!(!verify(text, BODY, [&ours, "other", &timestamp, &standard]), "id");
        assert!(!verify(text, BODY, [&ours, ID, &later, &standard]), "timestamp");
        assert!(!verify("another secret", BODY, [&ours, ID, &timestamp, &standard]), "secret");
        assert!(!verify(text, BODY, ["sha256=00", ID, &timestamp, &standard]), "X-SpecKit-Signature");
        assert!(!verify(text, BODY, [&ours, ID, &timestamp, "v1,b3RoZXI="]), "webhook-signature");
    }
}

fn run_with(interpreter: &str, language: &str, extension: &str) {
    if Command::new(interpreter).arg("--version").output().is_err() {
        eprintln!("skipped: {interpreter} is not installed");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join(format!("verify.{extension}"));
    std::fs::write(&program, snippet(language)).unwrap();
    assert_verifies(&|secret, body, headers| {
        let file = dir.path().join("body");
        std::fs::write(&file, body).unwrap();
        let output = Command::new(interpreter)
            .arg(&program)
            .arg(file)
            .args(headers)
            .env("SECRET", secret)
            .output()
            .unwrap();
        assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
        output.status.success()
    });
}

#[test]
fn python() {
    run_with("python3", "python", "py");
}

#[test]
fn node() {
    run_with("node", "js", "js");
}

#[test]
fn rust() {
    assert_eq!(snippet("rust"), include_str!("verify.rs"), "the docs and the compiled code are the same");
    assert_verifies(&|secret, body, headers| verify::verify(secret, body, headers).unwrap());
}
