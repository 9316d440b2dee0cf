//! Terminals that go away or stand still under a command.

use crate::harness::{DeadEndpoint, EVIDENCE, Endpoint, Sandbox, Terminal, kill, wait_for, wait_for_end};

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
fn top_stops_at_ctrl_z_with_the_terminal_as_it_was_and_goes_on_after_it() {
    const LEFT: &str = "\u{1b}[?1049l";
    const ENTERED: &str = "\u{1b}[?1049h";
    let sandbox = sandbox();
    for way in ["Ctrl-Z", "SIGTSTP"] {
        let mut terminal = Terminal::open();
        let mut top = terminal.start(&mut sandbox.command(&["top"]));
        terminal.wait_for_text("Subscriptions");
        let times = |text: &str, what: &str| text.matches(what).count();
        assert_eq!((times(terminal.shown(), ENTERED), times(terminal.shown(), LEFT)), (1, 0));
        match way {
            "Ctrl-Z" => terminal.type_in("\u{1a}"),
            _ => kill("TSTP", &top),
        }
        wait_for("top to stop", || {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", top.id())).ok()?;
            stat.rsplit(')').next()?.trim_start().starts_with('T').then_some(())
        });
        terminal.wait_for_text(LEFT);
        kill("CONT", &top);
        wait_for("top to take the terminal again", || {
            terminal.read_on();
            (times(terminal.shown(), ENTERED) >= 2).then_some(())
        });
        let again = terminal.shown().rfind(ENTERED).unwrap();
        wait_for("all of it to be drawn again", || {
            terminal.read_on();
            terminal.shown()[again..].contains("Subscriptions").then_some(())
        });
        terminal.type_in("q");
        assert_eq!(wait_for_end("top", &mut top), Some(0), "{way}");
    }
}

#[test]
fn top_replays_all_that_failed_alike_and_nothing_else() {
    let (down, refuses) = (DeadEndpoint::new(), Endpoint::replying(&[404, 404, 404, 200]));
    let once = "max_attempts = 1";
    let sandbox =
        Sandbox::new(&[("down", &down.url(), once), ("refuses", &refuses.url(), once)]).env("TERM", "xterm");
    let serve = sandbox.serve();
    for n in 0..3 {
        sandbox.emit("SPEC-1", "Plan", &format!("k{n}"));
    }
    sandbox.wait_for_finals("SPEC-1", 6);
    let mended = down.mend(&[200]);
    let mut terminal = Terminal::open();
    let mut top = terminal.start(&mut sandbox.command(&["top"]));
    terminal.wait_for_text("3 dead");
    // The filter leaves one cause and its dead letters: "refused" would be a word of both. What is
    // drawn is only what changes: the question is looked at in the unit tests.
    terminal.type_in("/connection\rR");
    terminal.type_in("y");
    wait_for("three to arrive", || (sandbox.dead_letters("SPEC-1").len() == 3).then_some(()));
    assert_eq!((mended.requests().len(), refuses.requests().len()), (3, 3));
    let left = sandbox.dead_letters("SPEC-1");
    assert!(left.iter().all(|letter| letter["subscription"] == "refuses"), "{left:?}");
    terminal.type_in("q");
    assert_eq!(wait_for_end("top", &mut top), Some(0));
    serve.terminate();
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
        (&["serve", "-vv", "--from-start"][..], "ignored: plan_"),
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
