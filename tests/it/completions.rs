//! Completion, in the shells themselves.

use std::fs;
use std::time::{Duration, SystemTime};

use crate::harness::{EVIDENCE, Endpoint, Ran, Sandbox, Terminal, has_tool, wait_for_end};

/// A repo with two subscriptions, a dead letter of SPEC-BAD-1, and a delivery of SPEC-GOOD-1 that
/// arrived; the ids of both.
struct Repo {
    sandbox: Sandbox,
    dead: String,
    delivered: String,
}

fn repo() -> Repo {
    let (refuses, takes) = (Endpoint::answering([400]), Endpoint::answering([200]));
    let only = |spec: &str, more: &str| format!("include_specs = [\"{spec}\"]\n{more}");
    let sandbox = Sandbox::new(&[
        ("chatops", &refuses.url(), &only("SPEC-BAD-*", "")),
        ("audit", &takes.url(), &only("SPEC-GOOD-*", "")),
    ])
    .env("TERM", "dumb");
    let serve = sandbox.serve();
    let id = |emitted: serde_json::Value| emitted["deliveries"][0]["id"].as_str().unwrap().to_owned();
    let delivered = id(sandbox.emit("SPEC-GOOD-1", "Plan", "k1"));
    let dead = id(sandbox.emit("SPEC-BAD-1", "Plan", "k2"));
    sandbox.wait_for_finals("SPEC-BAD-1", 1);
    sandbox.wait_for_finals("SPEC-GOOD-1", 1);
    serve.terminate();
    fs::write(sandbox.path().join("event one.json"), "{}").unwrap();
    Repo { sandbox, dead, delivered }
}

impl Repo {
    /// What the program offers for a line, the kind of thing first.
    fn offers(&self, line: &str) -> Vec<String> {
        let words: Vec<&str> = line.split(' ').collect();
        let ran = self.sandbox.run(&[&["complete", "bash", "--"], &words[..]].concat());
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{line}");
        ran.stdout.lines().map(str::to_owned).collect()
    }

    fn script(&self, shell: &str, name: &str) -> String {
        let script = self.sandbox.run(&["completions", shell]);
        assert_eq!(script.code, 0, "{script:?}");
        self.sandbox.write(name, &script.stdout).to_str().unwrap().to_owned()
    }
}

/// Lines that end under the cursor, with some of what is offered there, and all of it where there
/// is an end.
fn lines(repo: &Repo) -> Vec<(String, Vec<String>)> {
    let words = |words: &str| words.split(' ').map(str::to_owned).collect::<Vec<_>>();
    vec![
        ("spec-notify li".to_owned(), words("list")),
        ("spec-notify list --sta".to_owned(), words("--state")),
        (
            "spec-notify list --state de".to_owned(),
            words("delivered").into_iter().chain(words("dead_letter")).collect(),
        ),
        ("spec-notify list SPEC-B".to_owned(), words("SPEC-BAD-1")),
        ("spec-notify test S --subscription ".to_owned(), words("chatops audit")),
        ("spec-notify replay SPEC-BAD-1 --delivery-id ".to_owned(), vec![repo.dead.clone()]),
        ("spec-notify emit --stage Pl".to_owned(), words("Plan")),
        ("spec-notify secret n".to_owned(), words("new")),
        ("spec-notify --js".to_owned(), words("--json")),
    ]
}

#[test]
fn the_program_knows_what_could_stand_there() {
    let repo = repo();
    for (line, mut expected) in lines(&repo) {
        let offered = repo.offers(&line);
        assert_eq!(offered[0], "values", "{line}");
        let mut offered = offered[1..].to_vec();
        if line.ends_with("--state de") {
            offered.sort();
            expected.sort();
        }
        assert_eq!(offered, expected, "{line}");
    }
    let all = repo.offers("spec-notify list ");
    assert_eq!(all, ["values", "SPEC-BAD-1", "SPEC-GOOD-1"], "the one that changed last first");
    // Own options before those of all, and none twice.
    let options = repo.offers("spec-notify list --limit 5 --json -");
    assert_eq!(options[1..4], ["--state", "--subscription", "--since"]);
    assert!(
        !options.contains(&"--json".to_owned()) && options.contains(&"--config".to_owned()),
        "{options:?}"
    );
    assert_eq!(repo.offers("spec-notify test S ")[1], "--subscription", "what is required comes first");
    let of_replay = repo.offers("spec-notify replay --all --");
    assert!(!of_replay.contains(&"--delivery-id".to_owned()), "{of_replay:?}");
    for (line, kind) in [
        ("spec-notify emit --event ", "files"),
        ("spec-notify --config ", "files"),
        ("spec-notify --repo ", "folders"),
        ("spec-notify list --repo=", "folders"),
    ] {
        assert_eq!(repo.offers(line), [kind], "{line}");
    }
    for (line, offered) in [
        ("spec-notify --list SPEC-G", "SPEC-GOOD-1"),
        ("spec-notify list --subscription=a", "--subscription=audit"),
        ("spec-notify list --subscription = a", "audit"),
        ("spec-notify -q list SPEC-G", "SPEC-GOOD-1"),
        ("spec-notify preview --format sl", "slack"),
        ("spec-notify list --format j", "json"),
        ("spec-notify emit --type spec-kit.webh", "spec-kit.webhook.test"),
    ] {
        assert_eq!(repo.offers(line)[1..], [offered], "{line}");
    }
    // There is nothing to send again of what arrived.
    assert_eq!(repo.offers("spec-notify replay SPEC-GOOD-1 --delivery-id "), ["values"]);
    for hidden in ["complete", "keep"] {
        assert!(!repo.offers(&format!("spec-notify {hidden}")).contains(&hidden.to_owned()));
    }
    assert_ne!(repo.dead, repo.delivered);
}

#[test]
fn of_many_deliveries_the_newest_are_offered() {
    let repo = repo();
    let letters = repo.sandbox.spool().join("SPEC-BAD-1/dead-letter");
    let letter = fs::read_to_string(letters.join(format!("{}.json", repo.dead))).unwrap();
    let id = |n: usize| format!("00000000-0000-4000-8000-{n:012}");
    for n in 0..60 {
        fs::write(letters.join(format!("{}.json", id(n))), letter.replace(&repo.dead, &id(n))).unwrap();
        let written = SystemTime::now() + Duration::from_secs(n as u64);
        let file = fs::File::options().write(true).open(letters.join(format!("{}.json", id(n)))).unwrap();
        file.set_modified(written).unwrap();
    }
    let newest: Vec<String> = (10..60).rev().map(id).collect();
    for line in ["replay --delivery-id ", "replay SPEC-BAD-1 --delivery-id 0"] {
        assert_eq!(repo.offers(&format!("spec-notify {line}"))[1..], newest, "{line}");
    }
}

#[test]
fn nothing_is_offered_and_nothing_said_where_nothing_is_to_be_had() {
    let sandbox = Sandbox::empty();
    sandbox.write(".spec-kit/config.toml", "[spec_ops.webhooks\nenabled = maybe");
    let before = fs::read_dir(sandbox.path()).unwrap().count();
    for line in [
        "list ",
        "test S --subscription ",
        "replay S --delivery-id ",
        "lst ",
        "lst --wrong x ",
        "list --wrong=",
        "--config nowhere.toml test S --subscription ",
        "--repo nowhere list ",
        "",
    ] {
        let words: Vec<&str> = line.split(' ').collect();
        let ran = sandbox.run(&[&["complete", "zsh", "--", "spec-notify"], &words[..]].concat());
        assert!(
            ran.code == 0 && ran.stderr.is_empty() && ran.stdout.starts_with("values\n"),
            "{line}: {ran:?}"
        );
    }
    assert_eq!(sandbox.run(&["complete", "fish"]).stdout, "values\n");
    assert_eq!(fs::read_dir(sandbox.path()).unwrap().count(), before, "nothing is made");

    // A spool of another user is none to look into, and no reason to speak.
    let repo = repo();
    let spool = repo.sandbox.path().join(EVIDENCE).join("webhooks");
    if let Some(ran) = repo.sandbox.run_as_stranger(&[
        "complete",
        "bash",
        "--",
        "spec-notify",
        "replay",
        "--delivery-id",
        "",
    ]) {
        assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.as_str()), (0, "values\n", ""));
    }
    assert!(spool.is_dir());
}

#[test]
fn bash_completes() {
    if !has_tool("bash") {
        return;
    }
    let repo = repo();
    let script = repo.script("bash", "completion.bash");
    let ask = |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        let (current, previous) = (words[words.len() - 1], words[words.len().saturating_sub(2)]);
        // As readline cuts a line.
        let asked = format!(
            "source '{script}'; COMP_WORDS=({}'{current}'); COMP_CWORD={}; _spec_notify spec-notify '{current}' \
             '{previous}'; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
            words[..words.len() - 1].iter().map(|word| format!("'{word}' ")).collect::<String>(),
            words.len() - 1
        );
        let ran = Ran::from(repo.sandbox.program("bash", &["--norc", "-c", &asked]).output().unwrap());
        assert_eq!(ran.stderr, "", "{line}");
        ran.stdout.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    for (line, expected) in lines(&repo) {
        let offered = ask(&line);
        assert!(
            offered.len() == expected.len() && expected.iter().all(|word| offered.contains(word)),
            "{line}: {offered:?}"
        );
    }
    assert_eq!(ask("spec-notify emit --event even"), ["event one.json"]);
    assert_eq!(ask("spec-notify list --subscription = au"), ["audit"]);
    assert_eq!(ask("spec-notify list --subscription ="), ["chatops", "audit"]);
    assert!(ask("spec-notify --repo ").contains(&"docs".to_owned()));

    // And at its prompt, with keys.
    let mut terminal = Terminal::open();
    let mut bash = terminal.start(&mut repo.sandbox.program("bash", &["--norc", "--noprofile", "-i"]));
    terminal.type_in(&format!("source '{script}'; PS1='ready> '\n"));
    terminal.wait_for_text("ready> ");
    terminal.type_in("echo [ ; spec-notify replay SPEC-BAD-1 --deliv\t\t");
    terminal.wait_for_text(&format!("--delivery-id {}", repo.dead));
    terminal.type_in("\u{15}exit\n");
    assert_eq!(wait_for_end("bash", &mut bash), Some(0));
}

#[test]
fn zsh_completes() {
    if !has_tool("zsh") {
        return;
    }
    let repo = repo();
    let script = repo.script("zsh", "functions/_spec-notify");
    let functions = script.strip_suffix("/_spec-notify").unwrap();
    for (how, prepare) in [
        ("from fpath", format!("fpath=('{functions}' $fpath); autoload -Uz compinit; compinit -u -D")),
        ("sourced", format!("autoload -Uz compinit; compinit -u -D; source '{script}'")),
    ] {
        let mut terminal = Terminal::of_columns(200);
        let mut zsh = terminal.start(&mut repo.sandbox.program("zsh", &["-f", "-i"]));
        terminal.type_in(&format!("PS1='ready''> '; setopt no_beep; {prepare}\n"));
        terminal.wait_for_text("ready> ");
        for (n, (line, expected)) in lines(&repo).into_iter().enumerate() {
            // What is alone is put in; several are listed.
            let shown = match &expected[..] {
                [only] => format!("{}{only}", &line[..=line.rfind(' ').unwrap()]),
                several => several[several.len() - 1].clone(),
            };
            terminal.type_in(&format!(": {n};{line}\t"));
            if expected.len() > 1 {
                terminal.type_in("\t");
            }
            terminal.wait_for_text(&shown);
            terminal.type_in("\u{15}");
        }
        // With what is said of it.
        terminal.type_in("spec-notify test S --subscription \t");
        terminal.wait_for_text("-- active");
        terminal.type_in("\u{15}spec-notify emit --event=even\t");
        terminal.wait_for_text("--event=event\\ one.json");
        terminal.type_in("\u{15}exit\n");
        assert_eq!(wait_for_end("zsh", &mut zsh), Some(0), "{how}");
    }
}

#[test]
fn fish_completes() {
    if !has_tool("fish") {
        return;
    }
    let repo = repo();
    let script = repo.script("fish", "completion.fish");
    let ask = |line: &str| {
        let asked = format!("source '{script}'; complete --do-complete '{line}'");
        let ran = Ran::from(repo.sandbox.program("fish", &["--no-config", "-c", &asked]).output().unwrap());
        assert_eq!(ran.stderr, "", "{line}");
        ran.stdout.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    for (line, expected) in lines(&repo) {
        let offered = ask(&line);
        let words: Vec<&str> = offered.iter().map(|line| line.split('\t').next().unwrap()).collect();
        assert!(
            words.len() == expected.len() && expected.iter().all(|word| words.contains(&word.as_str())),
            "{line}: {offered:?}"
        );
    }
    assert_eq!(ask("spec-notify test S --subscription "), ["chatops\tactive", "audit\tactive"]);
    assert_eq!(ask("spec-notify list --subscription=au"), ["--subscription=audit\tactive"]);
    assert!(ask("spec-notify emit --event even").iter().any(|line| line.starts_with("event one.json")));
    assert!(
        ask("spec-notify emit --event=even").iter().any(|line| line.starts_with("--event=event one.json"))
    );
    assert!(ask("spec-notify --repo do").iter().any(|line| line.starts_with("docs/")));
}

#[test]
fn other_shells_have_scripts_of_their_own() {
    let sandbox = Sandbox::empty();
    for (shell, words) in [("powershell", "Register-ArgumentCompleter"), ("elvish", "edit:completion")] {
        let ran = sandbox.run(&["completions", shell]);
        assert!(ran.code == 0 && ran.stdout.contains(words) && !ran.stdout.contains("complete;"), "{ran:?}");
    }
}
