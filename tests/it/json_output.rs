//! `docs/reference/json-output.md` and the program say the same: each result has the fields and the
//! types that the page gives, and so have the samples on the page.
//!
//! `REFERENCE=write cargo test --test it json_output::` takes the samples from the program.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::Value;

use crate::harness::{EVIDENCE, Endpoint, Ran, Sandbox, plan_telemetry, wait_for};

/// The commands of a fleet ask a cluster, which this test does not have.
const OF_A_FLEET: [&str; 3] = ["fleet init", "fleet check", "evidence pull"];

fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// What the page says.
#[derive(Default)]
struct Page {
    /// The type and the sample of each command's result.
    results: BTreeMap<String, (String, Value)>,
    /// The fields of each object: its type, and whether it may be absent.
    objects: BTreeMap<String, BTreeMap<String, (String, bool)>>,
}

impl Page {
    fn read(text: &str) -> Self {
        let mut page = Self::default();
        let (mut section, mut object) = (String::new(), String::new());
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            if let Some(name) = line.strip_prefix("## ") {
                section = name.trim_matches('`').to_owned();
            } else if let Some(name) = line.strip_prefix("### ") {
                object = name.to_owned();
            } else if let Some(result) = line.strip_prefix("**Result**: ") {
                let kind = result.trim_end_matches('.').replace(", one on each line", "");
                let sample: Vec<&str> = lines.by_ref().skip(2).take_while(|line| *line != "```").collect();
                let sample = serde_json::from_str(&sample.join("\n")).unwrap();
                page.results.insert(section.clone(), (without_links(&kind), sample));
            } else if let Some(row) = line.strip_prefix("| `") {
                let cells: Vec<&str> = row.split(" | ").collect();
                let (name, rest) = cells[0].split_once('`').unwrap();
                let field = (without_links(cells[1]), rest == " (optional)");
                page.objects.entry(object.clone()).or_default().insert(name.to_owned(), field);
            }
        }
        page
    }

    /// What is wrong with a value of this type.
    fn faults(&self, value: &Value, kind: &str, at: &str) -> Vec<String> {
        if let Some((one, other)) = kind.split_once(" or ") {
            let (one, other) = (self.faults(value, one, at), self.faults(value, other, at));
            return if other.is_empty() { other } else { one };
        }
        let each = |values: &mut dyn Iterator<Item = (String, &Value)>, kind: &str| {
            values.flat_map(|(at, value)| self.faults(value, kind, &at)).collect()
        };
        if let (Some(kind), Some(values)) = (kind.strip_prefix("array of "), value.as_array()) {
            return each(&mut values.iter().map(|value| (format!("{at}[]"), value)), kind);
        }
        if let (Some(kind), Some(values)) = (kind.strip_prefix("map of "), value.as_object()) {
            return each(&mut values.iter().map(|(name, value)| (format!("{at}.{name}"), value)), kind);
        }
        if let (Some(fields), Some(values)) = (self.objects.get(kind), value.as_object()) {
            let unknown = values.keys().filter(|name| !fields.contains_key(*name));
            let mut faults: Vec<String> =
                unknown.map(|name| format!("{at}.{name} is not on the page")).collect();
            for (name, (kind, is_optional)) in fields {
                match values.get(name) {
                    Some(value) => faults.extend(self.faults(value, kind, &format!("{at}.{name}"))),
                    None if *is_optional => {}
                    None => faults.push(format!("{at}.{name} is not there")),
                }
            }
            return faults;
        }
        let is_good = match kind {
            "any" => true,
            "object" => value.is_object(),
            "string" => value.is_string(),
            "time" => value.as_str().is_some_and(|text| text.len() == 24 && text.ends_with('Z')),
            "integer" => value.is_u64() || value.is_i64(),
            "number" => value.is_number(),
            "boolean" => value.is_boolean(),
            "null" => value.is_null(),
            _ => false,
        };
        if is_good { Vec::new() } else { vec![format!("{at} is no {kind}: {value}")] }
    }
}

/// `[Name](#name)` as `Name`.
fn without_links(text: &str) -> String {
    let mut plain = String::new();
    for part in text.split('[') {
        plain += &part.split_once("](").map_or(part.to_owned(), |(name, rest)| {
            format!("{name}{}", rest.split_once(')').map_or("", |(_, rest)| rest))
        });
    }
    plain
}

/// The results of every command; the first one of each is its sample on the page.
#[derive(Default)]
struct Results(Vec<(&'static str, Value)>);

impl Results {
    fn add(&mut self, command: &'static str, ran: &Ran) {
        assert!(!ran.stdout.is_empty(), "{command}: {ran:?}");
        self.0.extend(ran.stdout.lines().map(|line| (command, serde_json::from_str(line).unwrap())));
    }
}

/// Most entries of a list in a sample.
const MOST_IN_A_LIST: usize = 3;

const EVENT: &str = r#"{"event": {"type": "spec-auto.stage.completed", "stage": "Validate", "status": "failure",
    "reasons": ["there is no scenario"], "idempotency_key": "SPEC-KIT-065:Validate:attempt-2"},
    "spec": {"id": "SPEC-KIT-065"}}"#;

fn all_results() -> (Results, PathBuf) {
    let mut results = Results::default();
    let (good, bad) = (Endpoint::replying(&[200]), Endpoint::replying(&[404, 404, 404, 200, 404]));
    let dry = "dry_run = true\ninclude_status = [\"success\"]";
    let sandbox = Sandbox::new(&[
        ("chatops", &good.url(), "format = \"mattermost\"\nnotify = \"failures+runs\""),
        ("tracker", &bad.url(), ""),
        ("audit", &good.url(), dry),
    ]);
    with_a_remote(&sandbox);
    let event = sandbox.write("event.json", EVENT);
    let event = event.to_str().unwrap();
    let telemetry = format!("{EVIDENCE}/commands/SPEC-KIT-065/spec-plan_2025-10-14T10:00:00Z-1.json");
    sandbox.write(&telemetry, &plan_telemetry("SPEC-KIT-065", "2025-10-14T10:00:00Z-1").to_string());
    let run = |arguments: &[&str]| sandbox.run(&[arguments, &["--json"]].concat());

    // Without a runtime.
    results.add("secret new", &run(&["secret", "new"]));
    results.add("check", &run(&["check"]));
    results.add("man --out", &run(&["man", "--out", "man"]));
    results.add("preview", &run(&["preview", "--format", "slack", "--event", event]));
    results.add("explain", &run(&["explain", "--event", event]));
    results.add("explain", &run(&["explain", "--telemetry", &telemetry]));
    results.add("baseline", &run(&["baseline"]));
    let at_rest = [("status", run(&["status"])), ("metrics", run(&["metrics"]))];
    results.add("Failures", &run(&["show", "0193e5a1"]));
    results.add("Failures", &run(&["list", "--limit", "none"]));
    let fresh = Sandbox::empty();
    let init = fresh.run(&["init", "--json"]);
    let init = init.stdout.replace(&*fresh.path().to_string_lossy(), &sandbox.path().to_string_lossy());
    results.0.push(("init", serde_json::from_str(&init).unwrap()));

    let serve = sandbox.serve_with(&["--json"]);
    let printed = || serve.log().lines().find_map(|line| serde_json::from_str(line).ok());
    results.0.push(("serve", wait_for("the line of serve", printed)));
    results.add("emit", &run(&["emit", "--event", event]));
    results.add("emit", &run(&["emit", "--event", event]));
    sandbox.wait_for_finals("SPEC-KIT-065", 2);
    let waited = run(&[
        "emit",
        "--wait",
        "--type",
        "spec-kit.task.completed",
        "--spec",
        "SPEC-KIT-066",
        "--task-id",
        "T7",
    ]);
    let (emitted, rest) = waited.stdout.split_once('\n').unwrap();
    results.0.push(("emit", serde_json::from_str(emitted).unwrap()));
    results.0.push(("emit --wait", serde_json::from_str(rest).unwrap()));
    results.add("test", &run(&["test", "SPEC-KIT-065", "--subscription", "chatops"]));
    results.add("test", &run(&["test", "SPEC-KIT-065", "--subscription", "tracker"]));
    let dead = run(&["list", "--limit", "1", "--state", "dead_letter"]);
    results.add("list", &dead);
    results.add("list", &run(&["list"]));
    let dead: Value = serde_json::from_str(&dead.stdout).unwrap();
    let id = dead[0]["id"].as_str().unwrap();
    results.add("show", &run(&["show", id]));
    results.add("show", &run(&["show", id, "--body"]));
    results.add("pause", &run(&["pause", "chatops"]));
    results.add("explain", &run(&["explain", "--event", event]));
    results.add("test", &run(&["test", "SPEC-KIT-065", "--subscription", "chatops"]));
    sandbox.emit("SPEC-KIT-065", "Audit", "held");
    results.add("list", &run(&["list", "--subscription", "chatops"]));
    results.add("status", &run(&["status"]));
    results.add("drain", &run(&["drain", "--timeout", "0"]));
    results.add("resume", &run(&["resume", "chatops"]));
    results.add("replay", &run(&["replay", "--all", "--dry-run"]));
    results.add("replay", &run(&["replay", id]));
    results.add("discard", &run(&["discard", "--all", "--yes"]));
    results.add("Failures", &run(&["discard", "0193e5a1-7f00-4abc-8def-0123456789ab", "--yes"]));
    results.add("report", &sandbox.run(&["report", "--format", "json"]));
    results.add("metrics", &run(&["metrics"]));
    results.add("reload", &run(&["reload"]));
    serve.terminate();
    at_rest.iter().for_each(|(command, ran)| results.add(command, ran));
    results.add("drain", &run(&["drain"]));
    results.add("receive", &received(&sandbox));
    (results, sandbox.path().to_owned())
}

/// Gives the repo a name that is not the one of its folder.
fn with_a_remote(sandbox: &Sandbox) {
    sandbox.git(&["init", "-q", "-b", "main"]);
    sandbox.git(&["remote", "add", "origin", "https://github.com/octo/shop.git"]);
}

/// What `receive` prints of a request.
fn received(sandbox: &Sandbox) -> Ran {
    let all = ["receive", "--json", "--count", "1", "--secret-env", "TEST_SECRET"];
    let mut child = sandbox.command(&all).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = String::new();
    BufReader::new(child.stderr.take().unwrap()).read_line(&mut said).unwrap();
    let url = said.split(' ').find(|word| word.starts_with("http://")).unwrap();
    let other = Sandbox::new(&[("local", url, "")]);
    with_a_remote(&other);
    assert_eq!(other.run(&["test", "SPEC-KIT-065", "--subscription", "local"]).code, 0);
    let mut stdout = String::new();
    child.stdout.take().unwrap().read_to_string(&mut stdout).unwrap();
    Ran { code: child.wait().unwrap().code().unwrap(), stdout, stderr: said }
}

/// A value as people read it: what is short or deep inside stands on one line, and of a long list
/// its start.
fn pretty(value: &Value, indent: usize) -> String {
    let line = value.to_string().replace("\":", "\": ").replace(",\"", ", \"");
    let is_of_numbers = |values: &Vec<Value>| values.iter().all(Value::is_number);
    let widest = if indent < 6 { 90 } else { 300 };
    if line.len() + indent < widest || value.as_array().is_some_and(is_of_numbers) {
        return line;
    }
    let gap = " ".repeat(indent + 2);
    let inner: Vec<String> = match value {
        Value::Array(values) => {
            let values = values.iter().take(MOST_IN_A_LIST);
            values.map(|value| format!("{gap}{}", pretty(value, indent + 2))).collect()
        }
        Value::Object(fields) => {
            let field = |(name, value): (&String, &Value)| {
                format!("{gap}{}: {}", Value::from(name.as_str()), pretty(value, indent + 2))
            };
            fields.iter().map(field).collect()
        }
        plain => return plain.to_string(),
    };
    let (start, end) = if value.is_array() { ('[', ']') } else { ('{', '}') };
    format!("{start}\n{}\n{}{end}", inner.join(",\n"), " ".repeat(indent))
}

/// The page with the first result of each command as its sample.
fn with_samples(text: &str, results: &Results, repo: &Path) -> String {
    let mut written = text.to_owned();
    let mut seen = BTreeSet::new();
    for (command, value) in results.0.iter().filter(|(command, _)| seen.insert(*command)) {
        let sample = pretty(value, 0).replace(&*repo.to_string_lossy(), "/home/you/repo");
        let heading =
            if *command == "Failures" { "\n## Failures\n".to_owned() } else { format!("\n## `{command}`\n") };
        let section = written.find(&heading).unwrap();
        let start = section + written[section..].find("```json\n").unwrap() + "```json\n".len();
        let end = start + written[start..].find("\n```\n").unwrap();
        written.replace_range(start..end, &sample);
    }
    written
}

#[test]
fn the_page_of_json_output_is_what_the_program_prints() {
    let path = root("docs/reference/json-output.md");
    let (results, repo) = all_results();
    if std::env::var_os("REFERENCE").is_some_and(|value| value == "write") {
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, with_samples(&text, &results, &repo)).unwrap();
    }
    let page = Page::read(&fs::read_to_string(&path).unwrap());
    let mut faults = Vec::new();
    for (command, value) in &results.0 {
        let (kind, _) = &page.results[*command];
        faults.extend(page.faults(value, kind, command));
    }
    for (command, (kind, sample)) in &page.results {
        faults.extend(page.faults(sample, kind, &format!("the sample of {command}")));
    }
    faults.sort();
    faults.dedup();
    assert!(faults.is_empty(), "{faults:#?}");
    let printed: BTreeSet<&str> = results.0.iter().map(|(command, _)| *command).chain(OF_A_FLEET).collect();
    let on_the_page: BTreeSet<&str> = page.results.keys().map(String::as_str).collect();
    assert_eq!(printed, on_the_page);
}

#[test]
fn every_command_is_on_the_page_of_json_output() {
    let [commands, json] = ["docs/reference/cli.md", "docs/reference/json-output.md"]
        .map(|page| fs::read_to_string(root(page)).unwrap());
    let without = json.lines().find(|line| line.contains(" print no JSON.")).unwrap();
    for command in commands.lines().filter_map(|line| line.strip_prefix("## `")?.strip_suffix('`')) {
        let is_named = json.lines().any(|line| line.starts_with(&format!("## `{command}")));
        assert!(is_named || without.contains(&format!("`{command}`")), "{command}");
    }
}
