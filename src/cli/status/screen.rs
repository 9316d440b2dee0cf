//! What `status` shows to people: the subscriptions, what fails and since when, the figures.

use std::collections::{BTreeMap, HashSet};

use jiff::{SignedDuration, Timestamp};

use super::Since;
use crate::cli::render::{Line, Tone, fitted, wrap};
use crate::cli::status::fleet_lines;
use crate::clock;
use crate::delivery::{HealthState, Incident};
use crate::figures::{Minutes, Window};
use crate::inspect::{StatusReport, SubscriptionStatus, Trouble, ago, grouped, latency, short};
use crate::run::AwaitedStage;

/// Most subscriptions whose figures are told in words.
const MOST_FIGURES: usize = 5;

/// A column beside the name.
type Column = (&'static str, fn(&SubscriptionStatus, &View) -> String);

/// How the report is shown.
pub(in crate::cli) struct View {
    pub(in crate::cli) now: Timestamp,
    pub(in crate::cli) width: usize,
    pub(in crate::cli) since: Since,
}

impl View {
    fn time(&self, at: Timestamp) -> String {
        clock::local(at, self.now)
    }
}

/// The columns after the name, in their order.
const COLUMNS: [Column; 10] = [
    ("HEALTH", |one, _| one.health.to_string()),
    ("SINCE", |one, view| since(one.since, view)),
    ("PENDING", |one, _| grouped((one.pending + one.in_flight) as u64)),
    ("OLDEST", |one, view| since(one.oldest_pending_at, view)),
    ("DEAD", |one, _| grouped(one.dead_letters as u64)),
    ("TRIED", |one, view| grouped(one.figures.window(view.since.0).attempts)),
    ("FAILED", |one, view| share(one.figures.window(view.since.0))),
    ("P50", |one, view| of_latency(one.figures.window(view.since.0).p50_ms)),
    ("P95", |one, view| of_latency(one.figures.window(view.since.0).p95_ms)),
    ("LAST HOUR (▁ ok, █ failed)", |one, _| sparkline(one, 2)),
];

/// Those that a narrow terminal has no room for, the first to go first; names are cut last.
const DROPPED: [usize; 7] = [10, 8, 4, 9, 6, 7, 2];

fn since(at: Option<Timestamp>, view: &View) -> String {
    at.map_or("-".to_owned(), |at| ago(view.now, at))
}

/// A latency, or a dash.
pub(in crate::cli) fn of_latency(ms: Option<f64>) -> String {
    ms.map_or("-".to_owned(), latency)
}

/// The share of attempts that failed.
pub(in crate::cli) fn share(window: &Window) -> String {
    match (window.failed, window.attempts) {
        (_, 0) => "-".to_owned(),
        (0, _) => "0".to_owned(),
        (failed, attempts) if failed * 200 < attempts => "<1 %".to_owned(),
        (failed, attempts) => format!("{} %", (failed * 200 / attempts).div_ceil(2)),
    }
}

/// So many minutes of the last hour a character: blank without attempts, and the higher the more of
/// them failed.
pub(in crate::cli) fn sparkline(one: &SubscriptionStatus, minutes: usize) -> String {
    const HEIGHTS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let Minutes { delivered, failed, .. } = &one.figures.minutes;
    let sums = |counts: &[u64]| counts.iter().sum::<u64>();
    let pairs = delivered.chunks(minutes).zip(failed.chunks(minutes)).map(|(ok, bad)| (sums(ok), sums(bad)));
    let heights = pairs.map(|(ok, bad)| match usize::try_from((bad * 7).div_ceil((ok + bad).max(1))) {
        _ if ok + bad == 0 => ' ',
        Ok(height) => HEIGHTS[height.min(7)],
        Err(_) => HEIGHTS[7],
    });
    heights.collect()
}

/// The lines for people.
pub(in crate::cli) fn lines(report: &StatusReport, view: &View) -> Vec<Line> {
    let mut lines = above(report, view);
    lines.push(Line::new(Tone::Plain, ""));
    if report.subscriptions.is_empty() {
        let what = "no subscriptions: add a [[spec_ops.webhooks.subscriptions]] entry";
        lines.push(Line::new(Tone::Plain, what));
    } else {
        lines.extend(table(report, view));
    }
    let said: Vec<String> = report.trouble_sentences().collect();
    what_fails(&mut lines, &report.troubles, view);
    let failed = report.subscriptions.iter().filter(|one| one.figures.window(view.since.0).failed > 0);
    let mut failed: Vec<_> = failed.collect();
    // Of one that always fails the causes say all; what comes and goes is told by its figures.
    failed.sort_by_key(|one| {
        let window = one.figures.window(view.since.0);
        (!one.unresolved, window.delivered == 0, std::cmp::Reverse(window.failed))
    });
    let more = failed.len().saturating_sub(MOST_FIGURES);
    let figures = failed.iter().take(MOST_FIGURES).map(|one| figures(one, report.runtime.is_some(), view));
    let have = if more == 1 { "has" } else { "have" };
    let more = (more > 0).then(|| format!("{more} more {have} failed attempts: status --json has them"));
    section(&mut lines, &format!("FIGURES OF THE LAST {}", view.since), figures.chain(more), view.width);
    let over = report.subscriptions.iter().flat_map(|one| one.incidents.iter().map(move |over| (one, over)));
    section(&mut lines, "OVER", over.map(|(one, over)| incident(one, over, view)), view.width);
    let others = report.warnings.iter().filter(|warning| !said.contains(warning)).cloned();
    section(&mut lines, "WARNINGS", others, view.width);
    lines
}

/// What stands above the table.
fn above(report: &StatusReport, view: &View) -> Vec<Line> {
    let now = view.now;
    let mut lines = vec![match &report.runtime {
        Some(runtime) => {
            let uptime = SignedDuration::from_secs(i64::try_from(runtime.uptime_s).unwrap_or(0));
            let watches = if runtime.watches { "" } else { ", does not watch the repo" };
            let text = format!(
                "runtime  process {}, up {}, {}, version {}{watches}",
                runtime.pid,
                ago(now, now - uptime),
                runtime.address,
                runtime.version
            );
            Line::new(Tone::Plain, text)
        }
        None if report.silent.is_some() => Line::new(Tone::Bad, "runtime  does not answer"),
        None if report.fleet.as_ref().is_some_and(|fleet| !fleet.members.is_empty()) => {
            Line::new(Tone::Plain, "runtime  none on this machine; the fleet delivers")
        }
        None => Line::new(Tone::Warning, "runtime  none is running"),
    }];
    lines.push(Line::new(Tone::Plain, format!("at       {}", clock::stamp(now))));
    if let Some(from) = report.figures_from.filter(|from| now.duration_since(*from) < view.since.length()) {
        let text = format!("figures  from {} on: the evidence has nothing older", view.time(from));
        lines.push(Line::new(Tone::Plain, text));
    }
    if report.inbox > 0 {
        lines.push(Line::new(Tone::Plain, format!("inbox    {} waiting", report.inbox)));
    }
    lines.extend(report.fleet.iter().flat_map(fleet_lines));
    for AwaitedStage { spec, stage, since, .. } in &report.awaited {
        let since = ago(now, *since);
        lines.push(Line::new(Tone::Plain, format!("waits    {stage} of {spec} for its agents, {since}")));
    }
    lines
}

/// The subscriptions, a line each: as many columns as the names leave room for.
fn table(report: &StatusReport, view: &View) -> Vec<Line> {
    let heading = std::iter::once("SUBSCRIPTION").chain(COLUMNS.iter().map(|(heading, _)| *heading));
    let row = |one: &SubscriptionStatus| {
        let cells = COLUMNS.iter().map(|(_, cell)| cell(one, view));
        std::iter::once(one.id.to_string()).chain(cells).collect()
    };
    let heading = heading.map(str::to_owned).collect();
    let rows = std::iter::once(heading).chain(report.subscriptions.iter().map(row));
    let table = fitted(rows.collect(), view.width, &DROPPED, 0);
    let tones = report.subscriptions.iter().map(|subscription| tone(subscription.health));
    let tones = std::iter::once(Tone::Heading).chain(tones);
    tones.zip(table).map(|(tone, text)| Line::new(tone, text)).collect()
}

fn section(lines: &mut Vec<Line>, heading: &str, texts: impl Iterator<Item = String>, width: usize) {
    let mut texts = texts.peekable();
    if texts.peek().is_none() {
        return;
    }
    lines.push(Line::new(Tone::Plain, ""));
    lines.push(Line::new(Tone::Heading, heading));
    for text in texts {
        let mut wrapped = wrap(&text, "    ", width).into_iter();
        let first = wrapped.next().map(|first| format!("  {}", first.trim_start()));
        lines.extend(first.into_iter().chain(wrapped).map(|text| Line::new(Tone::Plain, text)));
    }
}

/// What fails, with what to do; the command stands on a line of its own, whole, to be copied.
fn what_fails(lines: &mut Vec<Line>, troubles: &[Trouble], view: &View) {
    if !troubles.is_empty() {
        lines.extend([Line::new(Tone::Plain, ""), Line::new(Tone::Heading, "WHAT FAILS")]);
    }
    let mut said = HashSet::new();
    for trouble in troubles {
        let headline = trouble.headline(|at| view.time(at));
        let mut headline = wrap(&headline, "    ", view.width).into_iter();
        lines
            .extend(headline.next().map(|first| Line::new(Tone::Plain, format!("  {}", first.trim_start()))));
        lines.extend(headline.map(|text| Line::new(Tone::Plain, text)));
        // What was said above is not said again.
        if said.insert(&trouble.hint) {
            lines.extend(
                wrap(&trouble.hint, "    ", view.width).into_iter().map(|text| Line::new(Tone::Plain, text)),
            );
        }
        lines.push(Line::new(Tone::Plain, format!("    {}", trouble.command)));
    }
}

/// How often and how attempts failed, the most frequent first: `503 × 295, timeout × 6`.
pub(in crate::cli) fn ways(failures: &BTreeMap<String, u64>) -> String {
    let mut ways: Vec<_> = failures.iter().collect();
    ways.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    let ways: Vec<_> = ways.into_iter().map(|(way, count)| format!("{way} × {}", grouped(*count))).collect();
    ways.join(", ")
}

/// What is asked for in a ticket.
fn figures(one: &SubscriptionStatus, is_sent: bool, view: &View) -> String {
    let window = one.figures.window(view.since.0);
    let attempts = if window.attempts == 1 { "attempt" } else { "attempts" };
    let mut text = format!(
        "{}: {} {attempts}, {} failed ({})",
        one.id,
        grouped(window.attempts),
        grouped(window.failed),
        ways(&window.failures)
    );
    if window.given_up > 0 {
        text += &format!(", {} moved to dead letter", grouped(window.given_up));
    }
    for (name, ms) in [("p50", window.p50_ms), ("p95", window.p95_ms), ("max", window.max_ms)] {
        text.extend(ms.map(|ms| format!(", {name} {}", latency(ms))));
    }
    text.extend(window.first_bad_at.map(|at| format!("; first bad {}", view.time(at))));
    text.extend(window.last_good_at.map(|at| format!(", last good {}", view.time(at))));
    if is_sent && !one.is_parked() && one.pending + one.in_flight > 0 {
        let empty = one.empty_in_s.map(|left| {
            #[allow(clippy::cast_possible_truncation, reason = "saturates")]
            let left = short(SignedDuration::from_secs(left.ceil() as i64));
            format!("; nothing waits any more in {left} at this rate")
        });
        text += empty.as_deref().unwrap_or("; at this rate the queue does not get shorter");
    }
    text
}

/// A spell of failures that is over.
fn incident(one: &SubscriptionStatus, over: &Incident, view: &View) -> String {
    let given_up = match over.given_up {
        0 => String::new(),
        count => format!(", {} moved to dead letter", grouped(count.into())),
    };
    let attempts = if over.failures == 1 { "attempt" } else { "attempts" };
    format!(
        "{}: failed {} to {}, {} {attempts}{given_up}, {}",
        one.id,
        view.time(over.from),
        view.time(over.to),
        grouped(over.failures.into()),
        over.what
    )
}

pub(in crate::cli) fn tone(health: HealthState) -> Tone {
    match health {
        HealthState::Healthy => Tone::Good,
        HealthState::Degraded | HealthState::Failing | HealthState::Paused => Tone::Warning,
        HealthState::Open => Tone::Bad,
        HealthState::Untried | HealthState::Inactive | HealthState::DryRun => Tone::Faint,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use textwrap::core::display_width;

    use super::*;
    use crate::cli::render::text;
    use crate::figures::Windows;

    const NOW: &str = "2025-10-14T10:00:00Z";

    fn window(attempts: u64, failures: &Value) -> Value {
        let failed: u64 = failures.as_object().unwrap().values().map(|count| count.as_u64().unwrap()).sum();
        let first = (failed > 0).then_some("2025-10-14T02:14:07.000Z");
        json!({"attempts": attempts, "delivered": attempts - failed, "failed": failed, "failures": failures,
            "given_up": failed / 10, "accepted": 0, "p50_ms": 40.2, "p95_ms": 210.4, "max_ms": 1210.0,
            "first_bad_at": first, "last_good_at": "2025-10-14T09:59:57.000Z", "delivered_per_s": 0.8})
    }

    fn subscription(id: &str, health: &str, pending: u64, figures: &Value) -> Value {
        let fails = ["degraded", "failing", "open"].contains(&health);
        let since = if fails { "2025-10-14T02:14:07.000Z" } else { "2025-10-12T09:00:00.000Z" };
        let minutes = |bad: bool| -> Vec<u64> {
            (0..60)
                .map(|minute| {
                    if minute % 7 == 0 {
                        0
                    } else if bad {
                        minute / 10
                    } else {
                        5
                    }
                })
                .collect()
        };
        json!({"id": id, "health": health, "since": since, "unresolved": fails, "pending": pending,
            "in_flight": 1, "dead_letters": pending / 4, "consecutive_failures": 17,
            "failing_since": since, "last_success_at": "2025-10-14T09:59:57.000Z",
            "oldest_pending_at": "2025-10-14T08:30:00.000Z", "last_error": "status 503",
            "empty_in_s": if pending == 12 { json!(190.0) } else { json!(null) },
            "figures": {"minute": figures, "ten_minutes": figures, "hour": figures, "day": figures,
                "minutes": {"delivered": minutes(false), "failed": minutes(fails)}},
            "incidents": []})
    }

    fn trouble(kind: &str, what: &str, count: u64, subscriptions: &[&str], command: &str) -> Value {
        json!({"kind": kind, "what": what, "count": count, "since": "2025-10-14T02:14:07.000Z",
            "last": "2025-10-14T09:59:00.000Z",
            "hint": "a gateway answered, and what is behind it is down, slow or being deployed: see that the \
                endpoint runs",
            "subscriptions": subscriptions, "command": command})
    }

    fn report(subscriptions: &[Value], troubles: &[Value]) -> StatusReport {
        let mut report: StatusReport = serde_json::from_value(json!({
            "runtime": {"pid": 4711, "address": "127.0.0.1:40123", "version": "0.1.0", "uptime_s": 7384,
                "watches": true},
            "subscriptions": subscriptions, "troubles": troubles, "pending": 15, "inbox": 1, "warnings": [],
        }))
        .unwrap();
        report.warnings = report.trouble_sentences().collect();
        report.warnings.push("the config file was edited since it was read: spec-notify reload".to_owned());
        report
    }

    fn one_that_is_flaky() -> StatusReport {
        let figures = window(3229, &json!({"503": 295, "timeout": 6}));
        let mut flaky = subscription("chatops-slack", "degraded", 12, &figures);
        flaky["incidents"] = json!([{"from": "2025-10-13T23:10:00.000Z", "to": "2025-10-14T00:02:00.000Z",
            "failures": 212, "given_up": 31, "what": "status 503"}]);
        let well = subscription("audit", "healthy", 0, &window(40, &json!({})));
        let parked = subscription("next-quarter", "inactive", 2, &window(0, &json!({})));
        report(
            &[flaky, well, parked],
            &[
                trouble(
                    "attempts",
                    "status 503",
                    295,
                    &["chatops-slack"],
                    "spec-notify test SPEC-KIT-065 --subscription chatops-slack",
                ),
                trouble(
                    "dead_letters",
                    "status 503",
                    31,
                    &["chatops-slack"],
                    "spec-notify replay --all --subscription chatops-slack",
                ),
            ],
        )
    }

    fn fifteen() -> StatusReport {
        let names: Vec<String> = (1..=15).map(|n| format!("team-{n:02}-with-a-long-name")).collect();
        let subscriptions = names.iter().enumerate().map(|(n, name)| {
            let figures = window(900, &if n < 12 { json!({"connection": 40 + n}) } else { json!({}) });
            subscription(name, if n < 12 { "open" } else { "healthy" }, 40, &figures)
        });
        let failing: Vec<&str> = names[..12].iter().map(String::as_str).collect();
        let troubles = vec![
            trouble(
                "attempts",
                "cannot connect: connection refused",
                546,
                &failing,
                "spec-notify test SPEC-KIT-065 --subscription team-01-with-a-long-name",
            ),
            trouble(
                "dead_letters",
                "cannot connect: connection refused",
                120,
                &failing,
                "spec-notify replay --all",
            ),
        ];
        report(&subscriptions.collect::<Vec<_>>(), &troubles)
    }

    fn view(width: usize) -> View {
        View { now: NOW.parse().unwrap(), width, since: Since(Windows::Hour) }
    }

    #[test]
    fn what_people_read_fits_the_terminal_and_names_are_whole() {
        for (what, report) in [("flaky", one_that_is_flaky()), ("fifteen", fifteen())] {
            for width in [60, 80, 120, 160] {
                let text = text(&lines(&report, &view(width)));
                let is_command = |line: &str| line.starts_with("    spec-notify ");
                assert!(text.lines().all(|line| display_width(line) <= width || is_command(line)), "{text}");
                let of = |one: &SubscriptionStatus| text.contains(&format!("{}  ", one.id));
                assert!(report.subscriptions.iter().all(of), "{text}");
                insta::assert_snapshot!(format!("status_{what}_{width}"), text);
            }
        }
    }

    #[test]
    fn a_machine_of_a_fleet_needs_no_runtime_of_its_own() {
        let mut report = one_that_is_flaky();
        report.runtime = None;
        let says = |report: &StatusReport| {
            let screen = text(&lines(report, &view(120)));
            (screen.lines().next().unwrap().to_owned(), report.banner(NOW.parse().unwrap()).unwrap())
        };
        let (alone, banner) = says(&report);
        assert!(alone.contains("none is running") && banner.contains("no runtime runs"), "{alone} {banner}");
        let fleet = |members: &[Value]| {
            let fleet = json!({"namespace": "f", "members": members, "unrouted": 0, "oldest_unrouted_s": 0,
                "refused": 0, "streaming": 2, "nodes": 3, "is_seen": true});
            serde_json::from_value(fleet).unwrap()
        };
        let member = json!({"id": "m", "host": "h", "pid": 1, "version": "0.1.0", "config": "c",
            "routes": true, "subscriptions": []});
        report.fleet = Some(fleet(&[member]));
        let (one, banner) = says(&report);
        assert_eq!(one, "runtime  none on this machine; the fleet delivers");
        assert!(!banner.contains("runtime"), "{banner}");
        report.fleet = Some(fleet(&[]));
        let (nobody, banner) = says(&report);
        assert!(nobody.contains("none is running") && banner.contains("nobody delivers"), "{banner}");
    }

    #[test]
    fn the_banner_is_one_line_and_only_while_something_is_unresolved() {
        let now = NOW.parse().unwrap();
        let mut report = one_that_is_flaky();
        assert_eq!(
            report.banner(now).unwrap(),
            "spec-notify: chatops-slack degraded for 7h, 3 dead letters, 15 pending \
             (see spec-notify status)"
        );
        report.subscriptions.remove(0);
        report.warnings.clear();
        assert_eq!(report.banner(now), None);
        report.warnings.push("something is damaged".to_owned());
        assert_eq!(
            report.banner(now).unwrap(),
            "spec-notify: 1 warning, 15 pending (see spec-notify status)"
        );
        let banner = fifteen().banner(now).unwrap();
        assert_eq!(
            banner,
            "spec-notify: 12 of 15 subscriptions failing for 7h, 150 dead letters, 15 pending \
            (see spec-notify status)"
        );
        let long = "n".repeat(64);
        let both = vec![subscription(&long, "open", 4, &window(1, &json!({}))); 2];
        let banner = self::report(&both, &[]).banner(now).unwrap();
        assert!(banner.chars().count() == 120 && banner.ends_with("(see spec-notify status)"), "{banner}");
    }
}
