//! The hosts in `examples/`, each as a process against an endpoint on loopback; and what a host
//! keeps to itself with a runtime inside.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Once;

use crate::harness::{Endpoint, Ran, SECRET, Sandbox, Terminal, wait_for, wait_for_end};

/// An example as a program, built as it stands.
pub(crate) fn example(name: &str) -> PathBuf {
    static BUILT: Once = Once::new();
    let folder = Path::new(env!("CARGO_BIN_EXE_spec-notify")).parent().unwrap();
    // All at once, for whichever test comes first.
    BUILT.call_once(|| {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--quiet", "--locked", "--offline", "--examples"]);
        if folder.ends_with("release") {
            cargo.arg("--release");
        }
        cargo.current_dir(env!("CARGO_MANIFEST_DIR"));
        assert!(cargo.status().unwrap().success());
    });
    folder.join("examples").join(name)
}

/// A command that finds in its environment what one of the sandbox's would.
pub(crate) fn command(sandbox: &Sandbox, name: &str) -> Command {
    let like = sandbox.command(&[]);
    let mut command = Command::new(example(name));
    command.current_dir(sandbox.path()).env_clear();
    command.envs(like.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command
}

fn stages(endpoint: &Endpoint, count: usize) -> Vec<String> {
    let got = endpoint.wait_for(count);
    let stage = |body: serde_json::Value| body["event"]["stage"].as_str().unwrap().to_owned();
    let mut stages: Vec<String> = got.iter().map(|request| stage(request.json())).collect();
    stages.sort();
    stages
}

#[test]
fn a_host_on_threads_on_tokio_and_on_actix_tells_its_stages_and_says_nothing_of_its_own() {
    for name in ["thread_host", "tokio_host", "actix_host"] {
        let endpoint = Endpoint::answering([200]);
        let sandbox = Sandbox::new(&[("one", &endpoint.url(), "")]);
        let ran = Ran::from(command(&sandbox, name).output().unwrap());
        assert_eq!((ran.code, &*ran.stderr), (0, ""), "{name}: {ran:?}");
        assert!(ran.stdout.contains("0 deliveries pending"), "{name}: {ran:?}");
        assert_eq!(stages(&endpoint, 3), ["Implement", "Plan", "Tasks"], "{name}");
        assert_eq!(endpoint.requests().len(), 3, "{name}");
    }
}

#[test]
fn a_host_on_tokio_hears_what_was_given_up() {
    let endpoint = Endpoint::answering([400]);
    let sandbox = Sandbox::new(&[("one", &endpoint.url(), "")]);
    let ran = Ran::from(command(&sandbox, "tokio_host").output().unwrap());
    assert_eq!(ran.code, 0, "{ran:?}");
    for stage in ["Plan", "Tasks", "Implement"] {
        assert!(
            ran.stderr.contains(&format!("one was not told of Some({stage}) of SPEC-KIT-065")),
            "{ran:?}"
        );
    }
}

#[test]
fn a_host_that_only_emits_leaves_the_rest_to_whoever_owns_the_spool() {
    let endpoint = Endpoint::answering([200]);
    let sandbox = Sandbox::new(&[("hook", &endpoint.url(), "active = false")])
        .env("HOOK_URL", &endpoint.url())
        .env("HOOK_SECRET", SECRET);
    // Nobody owns the spool.
    let ran = Ran::from(command(&sandbox, "emit_only").output().unwrap());
    assert!(ran.code == 0 && ran.stdout.starts_with("Accepted"), "{ran:?}");
    let config = std::fs::read_to_string(sandbox.path().join(".spec-kit/config.toml")).unwrap();
    sandbox.write(".spec-kit/config.toml", &config.replace("active = false", ""));
    let _serve = sandbox.serve_with(&["--no-watch"]);
    let got = endpoint.wait_for(1);
    // The host may have ended in the middle of an attempt: the same delivery comes again then.
    assert!(got.iter().all(|request| request.delivery_id() == got[0].delivery_id()), "{got:?}");
    assert!(stages(&endpoint, 1).iter().all(|stage| stage == "Plan"));
    // A `serve` owns it, and knows this event by now.
    let ran = Ran::from(command(&sandbox, "emit_only").output().unwrap());
    assert_eq!((ran.code, &*ran.stdout), (0, "Duplicate\n"), "{ran:?}");
}

/// What a terminal is sent of a screen are the cells that changed, so only texts are waited for
/// where nothing was before.
#[test]
fn a_draw_loop_shows_what_ended_and_the_headline() {
    for (answer, shown) in [(200, "delivered"), (400, "dead_letter")] {
        let endpoint = Endpoint::answering([answer]);
        let sandbox = Sandbox::new(&[("one", &endpoint.url(), "")]);
        let mut terminal = Terminal::of_columns(100);
        let mut host = terminal.start(&mut command(&sandbox, "ratatui_host"));
        terminal.wait_for_text("running");
        terminal.type_in("e");
        for text in ["SPEC-KIT-065", "Plan", "success", shown] {
            terminal.wait_for_text(text);
        }
        if answer == 400 {
            terminal.wait_for_text("(see spec-notify status)");
        }
        terminal.type_in("q");
        assert_eq!(wait_for_end("the host to end", &mut host), Some(0));
    }
}

/// The two signals that the C library keeps for itself.
const OF_LIBC: u64 = 0b11 << 31;

/// The signals that a process catches and ignores, as bits.
fn signals(process: u32) -> (u64, u64) {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let mask = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        u64::from_str_radix(line.trim(), 16).unwrap() & !OF_LIBC
    };
    (mask("SigCgt:"), mask("SigIgn:"))
}

/// A runtime at work sets no handler and ignores no signal: what is there is of Rust's own start
/// of every program (SIGSEGV and SIGBUS caught, SIGPIPE ignored), and inherited, as is what a job
/// in the background ignores.
#[cfg(target_os = "linux")]
#[test]
fn the_signals_of_a_host_stay_the_hosts() {
    const SIGBUS: u64 = 1 << 6;
    const SIGSEGV: u64 = 1 << 10;
    // Its only request is never answered, so that the host is at work while it is looked at.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let sandbox = Sandbox::new(&[("one", &url, "per_request_timeout_ms = 600000")]);
    let mut host = command(&sandbox, "tokio_host").stdout(Stdio::null()).spawn().unwrap();
    let _under_way = listener.accept().unwrap();
    let (_, ignored) = signals(std::process::id());
    assert_eq!(signals(host.id()), (SIGBUS | SIGSEGV, ignored));
    host.kill().unwrap();
    host.wait().unwrap();
    // What a signal of the host's choice does is up to the host: it ends at SIGTERM.
    let mut host = command(&sandbox, "thread_host").stdout(Stdio::null()).spawn().unwrap();
    let _again = listener.accept().unwrap();
    crate::harness::kill("TERM", &host);
    let ended = wait_for("the end", || host.try_wait().unwrap());
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&ended), Some(15));
}

/// What cargo would build for a host without the program.
#[test]
fn a_host_gets_no_crate_that_handles_signals() {
    let tree = |features: &[&str]| {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["tree", "--locked", "--offline", "--edges", "normal,features", "--prefix", "none"]);
        let output = cargo.args(features).current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let of_signals = |tree: &str| -> Vec<String> {
        let is_one = |line: &&str| line.contains("signal-hook") || line.contains("feature \"signal\"");
        tree.lines().filter(is_one).map(str::to_owned).collect()
    };
    assert_eq!(of_signals(&tree(&["--no-default-features"])), Vec::<String>::new());
    assert_eq!(of_signals(&tree(&["--no-default-features", "--features", "fleet"])), Vec::<String>::new());
    assert!(!of_signals(&tree(&[])).is_empty(), "the program has one");
}
