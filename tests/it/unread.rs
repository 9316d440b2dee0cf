//! A `serve` whose output is a pipe that nobody reads: it delivers, answers and ends as any other.

use std::io::{PipeReader, Read as _, Write as _};
use std::process::Child;

use rustix::fs::{OFlags, fcntl_setfl};
use serde_json::Value;

use crate::harness::{Answer, Endpoint, Sandbox, kill, wait_for, wait_for_end};

/// A `serve` into a pipe that is full before it starts.
fn serve(sandbox: &Sandbox, arguments: &[&str]) -> (Child, PipeReader) {
    let (reader, mut writer) = std::io::pipe().unwrap();
    fcntl_setfl(&writer, OFlags::NONBLOCK).unwrap();
    while writer.write(&[b'.'; 512]).is_ok() {}
    fcntl_setfl(&writer, OFlags::empty()).unwrap();
    let mut command = sandbox.command(&[&["serve", "-vv"], arguments].concat());
    let child = command.stdout(writer.try_clone().unwrap()).stderr(writer).spawn().unwrap();
    wait_for("serve to own the spool", || {
        let text = std::fs::read(sandbox.spool().join("runtime.json")).ok()?;
        let file: Value = serde_json::from_slice(&text).ok()?;
        (file["pid"] == child.id()).then_some(())
    });
    (child, reader)
}

#[test]
fn a_serve_that_nobody_listens_to_works_and_stops() {
    let endpoint = Endpoint::answering([400]);
    let sandbox = Sandbox::new(&[("one", &endpoint.url(), "")]);
    let (mut serve, mut reader) = serve(&sandbox, &[]);
    for number in 0..20 {
        assert_eq!(sandbox.emit("SPEC-1", "Plan", &format!("key-{number}"))["outcome"], "accepted");
    }
    sandbox.wait_for_finals("SPEC-1", 20);
    assert!(sandbox.run(&["status"]).stdout.contains("one"));
    kill("TERM", &serve);
    assert_eq!(wait_for_end("serve", &mut serve), Some(0));
    let mut kept = String::new();
    reader.read_to_string(&mut kept).unwrap();
    assert!(kept.trim_start_matches('.').is_empty(), "there was no room for a word of it: {kept}");
}

#[test]
fn what_was_said_meanwhile_is_there_for_a_late_reader() {
    let endpoint = Endpoint::answering([400]);
    let sandbox = Sandbox::new(&[("one", &endpoint.url(), "")]);
    let (mut serve, mut reader) = serve(&sandbox, &[]);
    sandbox.emit("SPEC-1", "Plan", "key");
    sandbox.wait_for_finals("SPEC-1", 1);
    let reading = std::thread::spawn(move || {
        let mut text = String::new();
        reader.read_to_string(&mut text).map(|_| text)
    });
    kill("TERM", &serve);
    assert_eq!(wait_for_end("serve", &mut serve), Some(0));
    let text = reading.join().unwrap().unwrap();
    for words in ["serving ", "refused it with status 400", "stopped; 0 deliveries pending on disk\n"] {
        assert!(text.contains(words), "{words}: {text}");
    }
}

#[test]
fn a_second_signal_ends_it_whatever_stands_still() {
    let endpoint = Endpoint::answering([Answer::hang()]);
    let sandbox = Sandbox::new(&[("one", &endpoint.url(), "per_request_timeout_ms = 60000")]);
    let (mut serve, _reader) = serve(&sandbox, &["--drain-deadline", "600000"]);
    sandbox.emit("SPEC-1", "Plan", "key");
    endpoint.wait_for(1);
    // Those that come together with the first are one with it.
    let ended = wait_for("serve to end", || {
        kill("TERM", &serve);
        serve.try_wait().unwrap()
    });
    assert_eq!(ended.code(), Some(1));
    endpoint.release();
}
