//! The tutorials, followed word for word: each command in its order, and each line of output that
//! a page shows.

use std::fs;
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Child;

use crate::harness::page::{Block, blocks, page};
use crate::harness::{Answer, DeadEndpoint, Endpoint, Sandbox, has_tool, wait_for};

const CONFIG: &str = ".spec-kit/config.toml";

/// A person's place in a page.
struct Reader {
    sandbox: Sandbox,
    /// In the place of the page's port.
    port: String,
    /// In the place of what the page says.
    instead: Vec<(String, String)>,
    at_work: Vec<Child>,
    /// Where what was printed is, beside the repo.
    printed: tempfile::TempDir,
}

impl Drop for Reader {
    fn drop(&mut self) {
        for child in &mut self.at_work {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A line, but for what differs each time: numbers.
fn masked(line: &str) -> String {
    let mut masked = String::new();
    for c in line.trim().chars() {
        match c {
            '0'..='9' if masked.ends_with('#') => {}
            '0'..='9' if masked.ends_with("#.") => {
                masked.pop();
            }
            '0'..='9' => masked.push('#'),
            c => masked.push(c),
        }
    }
    masked
}

impl Reader {
    fn new(sandbox: Sandbox, instead: &[(&str, String)]) -> Self {
        let dead = DeadEndpoint::new().url();
        let port = dead.rsplit(':').next().unwrap().split('/').next().unwrap().to_owned();
        let instead = instead.iter().map(|(from, to)| ((*from).to_owned(), to.clone())).collect();
        Self { sandbox, port, instead, at_work: Vec::new(), printed: tempfile::tempdir().unwrap() }
    }

    fn replaced(&self, text: &str) -> String {
        let text = self.instead.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to));
        text.replace("9000", &self.port)
    }

    /// Everything that was printed so far, in any terminal.
    fn all_printed(&self) -> String {
        let files = fs::read_dir(self.printed.path()).unwrap();
        files.map(|file| fs::read_to_string(file.unwrap().path()).unwrap()).collect()
    }

    fn output(&self) -> (PathBuf, fs::File) {
        let number = fs::read_dir(self.printed.path()).unwrap().count();
        let path = self.printed.path().join(number.to_string());
        (path.clone(), fs::File::create(path).unwrap())
    }

    fn follow(&mut self, block: &Block) {
        match (&*block.kind, &*block.note) {
            ("sh", "") if block.text.starts_with("cargo install ") => {}
            ("sh", "") => self.run(&block.text),
            ("sh", terminal) => self.start(&block.text, terminal),
            ("text", _) => block.text.lines().for_each(|line| {
                let wanted = masked(line);
                let is_there = || self.all_printed().lines().any(|line| masked(line) == wanted).then_some(());
                wait_for(line, is_there);
            }),
            (_, file) if file.contains('.') => {
                self.sandbox.write(file, &self.replaced(&block.text));
            }
            _ => {}
        }
    }

    fn run(&self, script: &str) {
        let (path, file) = self.output();
        let mut shell = self.sandbox.shell(&self.replaced(script));
        let ended = shell.stdout(file.try_clone().unwrap()).stderr(file).status().unwrap();
        assert!(ended.success(), "{script}: {}", fs::read_to_string(path).unwrap());
        // The config that `init` makes has the page's port too.
        let config = self.sandbox.path().join(CONFIG);
        if let Ok(text) = fs::read_to_string(&config) {
            fs::write(config, text.replace("9000", &self.port)).unwrap();
        }
    }

    /// Runs what goes on beside the rest, and waits until it is ready.
    fn start(&mut self, script: &str, terminal: &str) {
        let (path, file) = self.output();
        let (before, last) = script.trim_end().rsplit_once('\n').unwrap_or(("", script.trim_end()));
        let mut shell = self.sandbox.shell(&self.replaced(&format!("{before}\nexec {last}")));
        self.at_work.push(shell.stdout(file.try_clone().unwrap()).stderr(file).spawn().unwrap());
        let said = || fs::read_to_string(&path).unwrap();
        wait_for(terminal, || {
            let is_ready = if last.starts_with("spec-notify serve") {
                said().contains("serving ") && self.sandbox.spool().join("watch.jsonl").exists()
            } else {
                TcpStream::connect(format!("127.0.0.1:{}", self.port)).is_ok()
            };
            is_ready.then_some(())
        });
    }

    /// Follows a page from its top, as far as a heading.
    fn read(&mut self, path: &str, until: &str) {
        let text = page(path);
        let (steps, _) = text.split_once(until).unwrap();
        let steps = blocks(steps);
        assert!(steps.len() >= 5, "{path}: {steps:?}");
        steps.iter().for_each(|block| self.follow(block));
    }
}

#[test]
fn a_repo_is_set_up_and_git_sees_the_config_alone() {
    let sandbox = Sandbox::empty();
    sandbox.git(&["init", "-q"]);
    let mut reader = Reader::new(sandbox, &[]);
    reader.read("docs/start/repo.md", "\n## What next");
    let left = reader.sandbox.git(&["status", "--porcelain", "--untracked-files=all"]);
    assert_eq!(left, format!("?? {CONFIG}\n"));
}

#[test]
fn a_message_arrives_in_slack() {
    let ok = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok";
    let slack = Endpoint::answering(vec![Answer::Raw(ok.as_bytes().to_vec())]);
    let url = ("https://hooks.slack.com/services/T000/B000/XXXX", slack.url());
    let mut reader = Reader::new(Sandbox::empty(), &[url]);
    reader.read("docs/start/slack.md", "\n## What you will see");
    let text = slack.requests()[0].json()["text"].as_str().unwrap().to_owned();
    assert!(text.starts_with("❌ Validate failed (2 of 3): SPEC-KIT-065"), "{text}");
}

#[test]
fn a_receiver_takes_what_is_signed_and_nothing_else() {
    if !has_tool("python3") {
        return;
    }
    let mut reader = Reader::new(Sandbox::empty(), &[]);
    reader.read("docs/start/receive.md", "\nWithout any code");
    let handled = |line: &&str| line.trim() == "spec-kit.webhook.test SPEC-KIT-065";
    let printed = reader.all_printed();
    assert_eq!(printed.lines().filter(handled).count(), 1, "the wrong secret's is not handled: {printed}");
}
