//! Terminals that go away or stand still under a command.

use crate::harness::{EVIDENCE, Sandbox, Terminal, kill, wait_for_end};

fn sandbox() -> Sandbox {
    Sandbox::new(&[("one", "http://127.0.0.1:9/x", "")]).env("TERM", "xterm")
}

#[test]
fn what_reads_a_terminal_ends_with_it() {
    let sandbox = sandbox();
    let mut terminal = Terminal::open();
    let mut top = terminal.start(&mut sandbox.command(&["top"]));
    terminal.wait_for_text("Subscriptions");
    // It is in no session of this terminal: no signal tells it.
    drop(terminal);
    assert_eq!(wait_for_end("top", &mut top), Some(0));

    let terminal = Terminal::open();
    let mut emit = terminal.start(&mut sandbox.command(&["emit", "--event", "-"]));
    drop(terminal);
    assert!(wait_for_end("emit", &mut emit).is_some());
}

#[test]
fn top_ends_at_a_signal_though_its_terminal_stands_still() {
    let sandbox = sandbox();
    let mut terminal = Terminal::open();
    let mut top = terminal.start(&mut sandbox.command(&["top"]));
    terminal.wait_for_text("Subscriptions");
    terminal.stand_still();
    kill("TERM", &top);
    assert_eq!(wait_for_end("top", &mut top), Some(0));
}

#[test]
fn what_others_wrote_does_nothing_to_the_terminal() {
    let hostile = "\u{1b}]0;title\u{7}\u{9b}31m\u{202e}";
    let sandbox = sandbox();
    let evidence = format!("{EVIDENCE}/commands/SPEC-1/spec-plan_{hostile}.json");
    sandbox.write(&evidence, "{");
    sandbox.write(&format!("{EVIDENCE}/commands/SPEC-1/plan_{hostile}.json"), "{}");
    sandbox.write(&format!("{EVIDENCE}/webhooks/inbox/0-1.event.json"), &format!("{{\"{hostile}\": 1}}"));
    for (arguments, words) in [
        (&["serve", "-vv", "--from-start"][..], "passed over: plan_"),
        (&["emit", "--type", hostile, "--spec", "S"], "invalid value"),
        (&["explain", "--telemetry", &evidence], "reason: "),
        (&["--json", "explain", "--telemetry", &evidence], "watcher"),
        (&["top"], "Deliveries"),
    ] {
        let mut terminal = Terminal::open();
        let mut child = terminal.start(&mut sandbox.command(arguments));
        terminal.wait_for_text(words);
        for deceiving in ["\u{1b}]0;", "\u{7}", "\u{9b}", "\u{202e}"] {
            assert!(!terminal.shown().contains(deceiving), "{arguments:?}: {}", terminal.shown());
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
