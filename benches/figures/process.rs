//! What a script pays: `emit` as a process, a pipe of many events through one, a guardrail stage
//! with webhooks on, and the program's size.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Instant;

use spec_notify::Event;
use spec_notify::internals::Client;

use super::accept::WITHIN;
use super::machine::{Core, interleaved, median, on_core, quantile, succeeded};
use super::repo::{EVIDENCE, Entry, PROGRAM, Repo, SPEC, event};
use super::table::{Figure, Target};
use super::{Bench, client, latency, port};

pub(super) fn emit(bench: &Bench) -> Vec<Figure> {
    let repo = Repo::new("", &[Entry::new("one", bench.receiver.url(""), "")]);
    // The runtime beside the receiver, the processes that are measured on the other core.
    let _serve = on_core(Core::Last, || repo.serve(&[]));
    let has_curl = repo.command("curl").arg("--version").status().is_ok_and(|status| status.success());
    let (mut ours, mut least, mut curl) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..bench.rounds() {
        let (mut our_times, mut least_times, mut curl_times) = (Vec::new(), Vec::new(), Vec::new());
        for n in 0..bench.count(40, 3) {
            let [mine, its] = ["ours", "least"].map(|who| event_file(&repo, &format!("{who}-{round}-{n}")));
            our_times.push(time(repo.command(PROGRAM).args(["emit", "--event"]).arg(&mine)));
            least_times.push(time(&mut least_client(&repo, &its)));
            if has_curl {
                curl_times.push(time(&mut curl_post(bench, &repo, &mine)));
            }
        }
        ours.push(median(&our_times));
        least.push(median(&least_times));
        curl.extend((!curl_times.is_empty()).then(|| median(&curl_times)));
    }
    let figure = |label, what, target, reference: &[f64]| {
        Figure::new(label, what, "ms", median(&ours), target).over(median(reference))
    };
    let what = "`emit` as a process, p50 / a minimal TCP client process";
    let mut figures = vec![figure("6a", what, Target::RatioAtMost(2.5), &least)];
    if has_curl {
        let what = "`emit` as a process, p50 / curl posting the same body";
        figures.push(figure("6b", what, Target::RatioAtMost(0.6), &curl));
    } else {
        eprintln!("6b is left out: there is no curl");
    }
    figures
}

fn event_file(repo: &Repo, key: &str) -> PathBuf {
    repo.write(&format!("events/{key}.json"), &serde_json::to_string(&event(key)).expect("JSON"))
}

fn least_client(repo: &Repo, event: &Path) -> Command {
    let own = std::env::current_exe().expect("our own path");
    let mut command = repo.command(own.to_str().expect("a path in UTF-8"));
    command.arg(client::ARGUMENT).arg(repo.spool()).arg(event);
    command
}

fn curl_post(bench: &Bench, repo: &Repo, body: &Path) -> Command {
    let mut command = repo.command("curl");
    command.args(["--silent", "--fail", "--header", "content-type: application/json", "--data-binary"]);
    command.arg(format!("@{}", body.display())).arg(bench.receiver.url("curl"));
    command
}

/// From start to end of a process on the first core, in milliseconds.
fn time(command: &mut Command) -> f64 {
    on_core(Core::First, || {
        let started = Instant::now();
        succeeded(command.status().expect("a process"));
        started.elapsed().as_secs_f64() * 1e3
    })
}

/// Connections to the port that hand over as many events as the pipe has lines.
const CONNECTIONS: usize = 16;

pub(super) fn pipe(bench: &Bench) -> Vec<Figure> {
    let count = bench.count(8_000, 32);
    let (ours, reference) = interleaved(
        bench.slow_rounds(),
        || accepted_a_second(count, through_a_pipe),
        || accepted_a_second(count, over_connections),
    );
    let what = "accepted a second from `emit --event -` / over 16 connections to the port";
    vec![Figure::new("17", what, "/s", ours, Target::RatioAtLeast(0.8)).over(reference)]
}

/// In a repo of its own: what one leaves to deliver would slow the next one down.
fn accepted_a_second(count: usize, hand_over: impl FnOnce(&Repo, &[Event]) -> f64) -> f64 {
    let repo = Repo::new("", &[Entry::new("one", "http://127.0.0.1:9/", "dry_run = true")]);
    let _serve = repo.serve(&[]);
    count as f64 / hand_over(&repo, &(0..count).map(event).collect::<Vec<_>>())
}

/// Seconds that a process takes with its start.
fn through_a_pipe(repo: &Repo, events: &[Event]) -> f64 {
    let text: String = events.iter().map(|event| as_line(event) + "\n").collect();
    let input = fs::File::open(repo.write("events.jsonl", &text)).expect("the lines");
    let mut command = repo.command(PROGRAM);
    command.args(["emit", "--event", "-"]).stdin(input);
    let started = Instant::now();
    succeeded(command.status().expect("a process"));
    started.elapsed().as_secs_f64()
}

fn as_line(event: &Event) -> String {
    serde_json::to_string(event).expect("JSON")
}

/// Seconds until each of the connections has its share accepted.
fn over_connections(repo: &Repo, events: &[Event]) -> f64 {
    let share = events.len() / CONNECTIONS;
    let requests = port::requests(events);
    let mut clients: Vec<_> =
        (0..CONNECTIONS).map(|_| Client::connect(&repo.spool(), WITHIN).expect("a connection")).collect();
    let started = Instant::now();
    thread::scope(|scope| {
        for (client, share) in clients.iter_mut().zip(requests.chunks(share)) {
            scope.spawn(move || {
                port::hand_over(client, share, port::is_accepted).expect("they are handed over")
            });
        }
    });
    started.elapsed().as_secs_f64()
}

/// What a guardrail does at a stage's end, as far as we are concerned.
const SCRIPT: &str = "#!/bin/sh
set -eu
cat > \"$1\" <<END
$3
END
\"$2\" emit --telemetry \"$1\"
";

pub(super) fn guardrail(bench: &Bench) -> Vec<Figure> {
    let repo = Repo::new("", &[Entry::new("one", bench.receiver.url(""), "")]);
    let script = repo.write("stage.sh", SCRIPT);
    let folder = repo.write(&format!("{EVIDENCE}/commands/{SPEC}/stage.log"), "").with_file_name("");
    let _serve = on_core(Core::Last, || repo.watch());
    let stage = |enabled: &str, session: String| {
        let telemetry = latency::telemetry(&session).to_string();
        let file = folder.join(format!("spec-plan_{session}.json"));
        let mut command = repo.command("sh");
        command.arg(&script).arg(file).arg(PROGRAM).arg(telemetry).env("SPECKIT_WEBHOOKS_ENABLED", enabled);
        time(&mut command)
    };
    let (mut p99s, mut p50s) = (Vec::new(), Vec::new());
    for round in 0..bench.rounds() {
        let pair = |n| stage("1", format!("on-{round}-{n}")) - stage("0", format!("off-{round}-{n}"));
        let differences: Vec<f64> = (0..bench.count(100, 3)).map(pair).collect();
        p99s.push(quantile(&differences, 0.99));
        p50s.push(median(&differences));
    }
    let what = "a guardrail stage (writes telemetry, calls `emit`) with webhooks on, minus off, p99";
    let figure = Figure::new("12", what, "ms", median(&p99s), Target::Under(10.0));
    vec![figure.note(format!("p50 {:.2} ms", median(&p50s)))]
}

pub(super) fn size(_: &Bench) -> Vec<Figure> {
    let bytes = fs::metadata(PROGRAM).expect("the program").len();
    let figure =
        Figure::new("14", "size of the program, stripped", "MB", bytes as f64 / 1e6, Target::Under(12.0));
    vec![figure.note("the cold build is timed by hand: cargo clean, then time cargo build --release")]
}
