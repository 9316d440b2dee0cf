//! Terminals that go away or stand still under a command.

use crate::harness::{Sandbox, Terminal, kill, wait_for_end};

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
