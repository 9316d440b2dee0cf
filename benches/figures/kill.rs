//! What `kill -9` under load costs an endpoint: requests that come once more after the next start.

use std::collections::HashSet;
use std::thread;

use spec_notify::internals::Client;

use super::Bench;
use super::accept::WITHIN;
use super::machine::succeeded;
use super::port;
use super::receiver::Arrival;
use super::repo::{Entry, PROGRAM, Repo, event};
use super::table::{Figure, Target};

const SUBSCRIPTIONS: usize = 3;

const MAX_IN_FLIGHT: usize = 4;
const LINES: &str = "max_in_flight = 4";

/// Each may have all its requests under way.
const SETTINGS: &str = "max_concurrency = 12";

/// Requests that ended and are not on disk yet may come again, besides those under way: this many.
const UNWRITTEN: usize = 4;

pub(super) fn duplicates(bench: &Bench) -> Vec<Figure> {
    let (kills, count) = (bench.count(10, 1), bench.count(3_000, 60));
    // Early ones while events are still being accepted, late ones while only the queue is left.
    let at = |kill: usize| (kill + 1) * count * SUBSCRIPTIONS / (kills + 1);
    let came_again: Vec<usize> = (0..kills).map(|kill| killed(bench, count, at(kill))).collect();
    let worst = came_again.iter().copied().max().unwrap_or_default();
    let what =
        "requests of one subscription that come twice after `kill -9` under load, the most of all kills";
    let target = Target::AtMost((MAX_IN_FLIGHT + UNWRITTEN) as f64);
    let figure = Figure::new("16", what, "requests", worst as f64, target);
    vec![figure.note(format!(
        "{SUBSCRIPTIONS} subscriptions, max_in_flight = {MAX_IN_FLIGHT}, {count} events; nothing was lost; \
         the most of each kill: {came_again:?}"
    ))]
}

/// Kills a `serve` once `at` requests have come, has the rest delivered, and counts what came
/// twice: of the subscription with the most.
fn killed(bench: &Bench, count: usize, at: usize) -> usize {
    let entries =
        (0..SUBSCRIPTIONS).map(|n| Entry::new(format!("s{n}"), bench.receiver.url(&format!("s{n}")), LINES));
    let repo = Repo::new(SETTINGS, &entries.collect::<Vec<_>>());
    let requests = port::requests(&(0..count).map(event).collect::<Vec<_>>());
    let serve = repo.serve(&["--no-watch"]);
    let mut client = Client::connect(&repo.spool(), WITHIN).expect("a connection");
    bench.receiver.take();
    let (accepted, mut arrivals) = thread::scope(|scope| {
        let emitting = scope.spawn(move || {
            let mut accepted = Vec::new();
            // Until all is handed over or the program is gone: whatever it has answered, it keeps.
            let _ = port::hand_over(&mut client, &requests, |emitted| {
                accepted.extend(emitted.deliveries.iter().map(|delivery| delivery.id.to_string()));
            });
            accepted
        });
        let arrivals = bench.receiver.wait_for(at);
        drop(serve);
        (emitting.join().expect("it emits"), arrivals)
    });
    succeeded(repo.command(PROGRAM).args(["drain", "--no-watch"]).status().expect("the program starts"));
    arrivals.extend(bench.receiver.take());
    let came: HashSet<&str> = arrivals.iter().map(|arrival| arrival.id.as_str()).collect();
    assert!(!accepted.is_empty(), "something was accepted");
    for id in &accepted {
        assert!(came.contains(id.as_str()), "{id} was accepted and is lost");
    }
    (0..SUBSCRIPTIONS).map(|n| came_again(&arrivals, &format!("/s{n}"))).max().unwrap_or_default()
}

/// Requests to `path` beyond the first of each delivery.
fn came_again(arrivals: &[Arrival], path: &str) -> usize {
    let ids: Vec<&str> =
        arrivals.iter().filter(|arrival| arrival.path == path).map(|arrival| arrival.id.as_str()).collect();
    ids.len() - ids.iter().collect::<HashSet<_>>().len()
}
