//! The report as one HTML page: pictures inline, light and dark, at a desk and on a phone, without
//! scripts. Labels are text beside the pictures, so that they stay readable however narrow it is.

use std::fmt::{self, Write as _};

use jiff::Timestamp;

use super::{Words, money, result, share, took, which};
use crate::cli::status::{of_latency, ways};
use crate::delivery::FinalState;
use crate::event::Status;
use crate::inspect::report::{Report, RunReport, Slot, StepKind, SubscriptionReport};
use crate::inspect::{grouped, latency, listed};
use crate::names::is_deceiving;

/// Most runs that are shown.
const MAX_RUNS: usize = 40;

/// Most subscriptions that are named beside a failure.
const NAMED: usize = 3;

const STYLE: &str = include_str!("style.css");

/// A text of others, as a text in a page.
fn safe(text: &dyn fmt::Display) -> String {
    let text = text.to_string();
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe += "&amp;",
            '<' => safe += "&lt;",
            '>' => safe += "&gt;",
            '"' => safe += "&quot;",
            '\'' => safe += "&#39;",
            c if is_deceiving(c) && c != '\n' => safe.push('\u{fffd}'),
            c => safe.push(c),
        }
    }
    safe
}

pub(super) fn page(report: &Report) -> String {
    let words = Words(report);
    let title = words.title();
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" \
         content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <title>{0}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n\
         <h1>{0}</h1>\n<p class=\"faint\">{1}</p>\n",
        safe(&title),
        safe(&words.span())
    );
    let (is_well, verdict) = words.verdict();
    let class = if is_well { "well" } else { "unwell" };
    add(&mut page, format_args!("<p class=\"verdict {class}\">{}</p>\n", safe(&verdict)));
    if report.is_empty() {
        page += "<p>In this time nothing was sent, and no run was reported.</p>\n";
    }
    let totals = words.totals();
    if !totals.is_empty() {
        page += "<dl class=\"tiles\">\n";
        for (name, value) in totals {
            add(&mut page, format_args!("<div><dt>{}</dt><dd>{}</dd></div>\n", safe(&name), safe(&value)));
        }
        page += "</dl>\n";
    }
    over_time(&mut page, report, &words);
    unresolved(&mut page, report, &words);
    causes(&mut page, report, &words);
    subscriptions(&mut page, report);
    runs(&mut page, report, &words);
    for gap in words.gaps() {
        add(&mut page, format_args!("<p class=\"faint\">{}</p>\n", safe(&gap)));
    }
    page += "</main>\n</body>\n</html>\n";
    page
}

/// Adds to a text; that never fails.
fn add(page: &mut String, text: fmt::Arguments<'_>) {
    let written = page.write_fmt(text);
    debug_assert!(written.is_ok());
}

fn unresolved(page: &mut String, report: &Report, words: &Words<'_>) {
    if report.troubles.is_empty() && report.warnings.is_empty() {
        return;
    }
    *page += "<section>\n<h2>Unresolved</h2>\n<ul class=\"unresolved\">\n";
    for (headline, hint, command) in words.troubles() {
        add(page, format_args!("<li><strong>{}</strong>", safe(&headline)));
        if !hint.is_empty() {
            add(page, format_args!("<br>{}", safe(&hint)));
        }
        // It breaks between words alone, and is copied as it stands.
        let words: Vec<String> =
            command.split(' ').map(|word| format!("<span>{}</span>", safe(&word))).collect();
        add(page, format_args!("<pre>{}</pre></li>\n", words.join(" ")));
    }
    for warning in &report.warnings {
        add(page, format_args!("<li>{}</li>\n", safe(&warning)));
    }
    *page += "</ul>\n</section>\n";
}

/// Two pictures over the same time: how many attempts, and how long they took.
fn over_time(page: &mut String, report: &Report, words: &Words<'_>) {
    let (Some(first), Some(last)) = (report.over_time.first(), report.over_time.last()) else { return };
    let step = report.over_time.get(1).map_or(0, |next| next.at.as_millisecond() - first.at.as_millisecond());
    let end = last.at.checked_add(jiff::SignedDuration::from_millis(step)).unwrap_or(last.at);
    let axis = format!(
        "<div class=\"axis\"><span>{}</span><span>{}</span></div>\n",
        safe(&words.time(first.at)),
        safe(&words.time(end))
    );
    let most = report.over_time.iter().map(|slot| slot.delivered + slot.failed).max().unwrap_or(0).max(1);
    add(
        page,
        format_args!(
            "<section class=\"pictures\">\n<figure>\n<figcaption>\
             Attempts: <i class=\"key ok\"></i> succeeded, \
             <i class=\"key bad\"></i> failed; up to {} in {}</figcaption>\n",
            grouped(most),
            safe(&took(step))
        ),
    );
    *page += &attempts(&report.over_time, most, words);
    *page += &axis;
    let slowest = report.over_time.iter().filter_map(|slot| slot.p95_ms).fold(0.0, f64::max);
    add(
        page,
        format_args!(
            "</figure>\n<figure>\n<figcaption>Latency: <i class=\"key half\"></i> p50, \
             <i class=\"key most\"></i> p95; up to {}</figcaption>\n",
            safe(&latency(slowest))
        ),
    );
    *page += &latencies(&report.over_time, slowest, words);
    *page += &axis;
    *page += "</figure>\n</section>\n";
}

/// Units of a part of the time in a picture, and the height of a picture.
const PART: usize = 10;
const HEIGHT: f64 = 100.0;

fn attempts(slots: &[Slot], most: u64, words: &Words<'_>) -> String {
    let mut svg = picture(slots.len() * PART, "attempts over time");
    #[allow(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    let high = |count: u64| count as f64 * HEIGHT / most as f64;
    for (place, slot) in slots.iter().enumerate().filter(|(_, slot)| slot.delivered + slot.failed > 0) {
        let (ok, bad) = (high(slot.delivered), high(slot.failed));
        // What is there is seen, however little it is.
        let (ok, bad) = (
            if slot.delivered > 0 { ok.max(1.5) } else { 0.0 },
            if slot.failed > 0 { bad.max(1.5) } else { 0.0 },
        );
        let x = place * PART;
        add(
            &mut svg,
            format_args!(
                "<g><title>{}: {} ok, {} failed</title>",
                safe(&words.time(slot.at)),
                slot.delivered,
                slot.failed
            ),
        );
        for (class, from, height) in [("ok", HEIGHT - ok, ok), ("bad", HEIGHT - ok - bad, bad)] {
            if height > 0.0 {
                add(
                    &mut svg,
                    format_args!(
                        "<rect class=\"{class}\" x=\"{x}\" y=\"{from:.1}\" width=\"8\" \
                         height=\"{height:.1}\"/>"
                    ),
                );
            }
        }
        svg += "</g>\n";
    }
    svg + "</svg>\n"
}

fn latencies(slots: &[Slot], slowest: f64, words: &Words<'_>) -> String {
    let mut svg = picture(slots.len() * PART, "latency over time");
    let y = |ms: f64| HEIGHT - 1.0 - ms * (HEIGHT - 4.0) / slowest.max(0.1);
    for (class, of) in
        [("most", (|slot: &Slot| slot.p95_ms) as fn(&Slot) -> Option<f64>), ("half", |slot| slot.p50_ms)]
    {
        // Over parts without attempts too; a single one is a dash.
        let there =
            slots.iter().enumerate().filter_map(|(place, slot)| Some((place * PART + 4, y(of(slot)?))));
        let step = |(n, (x, y)): (usize, (usize, f64))| match n {
            0 => format!("M{} {y:.1}L{x} {y:.1}", x - 4),
            _ => format!("L{x} {y:.1}"),
        };
        let path: String = there.enumerate().map(step).collect();
        add(&mut svg, format_args!("<path class=\"{class}\" d=\"{path}\"/>\n"));
    }
    for (place, slot) in slots.iter().enumerate() {
        if let (Some(half), Some(most)) = (slot.p50_ms, slot.p95_ms) {
            add(
                &mut svg,
                format_args!(
                    "<rect class=\"hover\" x=\"{}\" y=\"0\" width=\"{PART}\" height=\"{HEIGHT}\">\
                     <title>{}: p50 {}, p95 {}</title></rect>\n",
                    place * PART,
                    safe(&words.time(slot.at)),
                    latency(half),
                    latency(most)
                ),
            );
        }
    }
    svg + "</svg>\n"
}

fn picture(width: usize, label: &str) -> String {
    format!(
        "<svg class=\"picture\" role=\"img\" aria-label=\"{label}\" viewBox=\"0 0 {width} {HEIGHT}\" \
         preserveAspectRatio=\"none\">\n"
    )
}

/// A bar that takes this part of its row.
fn bar(class: &str, from: f64, part: f64) -> String {
    let (from, part) = (from.clamp(0.0, 1.0) * 1000.0, (part.clamp(0.0, 1.0) * 1000.0).max(4.0));
    let from = from.min(1000.0 - part);
    format!(
        "<svg class=\"bar\" aria-hidden=\"true\" viewBox=\"0 0 1000 10\" preserveAspectRatio=\"none\">\
         <rect class=\"{class}\" x=\"{from:.0}\" y=\"0\" width=\"{part:.0}\" height=\"10\"/></svg>"
    )
}

fn causes(page: &mut String, report: &Report, words: &Words<'_>) {
    let Some(most) = report.causes.first().map(|cause| cause.count) else { return };
    *page += "<section>\n<h2>What failed</h2>\n<ul class=\"causes\">\n";
    for cause in &report.causes {
        let names: Vec<&str> = cause.subscriptions.iter().map(|id| id.as_str()).collect();
        let (first, last) = (words.time(cause.first), words.time(cause.last));
        let when = if first == last { first } else { format!("{first} to {last}") };
        #[allow(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
        let part = cause.count as f64 / most as f64;
        add(
            page,
            format_args!(
                "<li><div class=\"row\"><span class=\"count\">{} ×</span><span>{}</span></div>{}\
                 <p class=\"faint\">{}; {}</p>",
                grouped(cause.count),
                safe(&cause.what),
                bar("bad", 0.0, part),
                safe(&listed(&names, NAMED, "subscriptions")),
                safe(&when)
            ),
        );
        if !cause.hint.is_empty() {
            add(page, format_args!("<p>{}</p>", safe(&cause.hint)));
        }
        *page += "</li>\n";
    }
    *page += "</ul>\n</section>\n";
}

type Cell = (&'static str, fn(&SubscriptionReport) -> String);

/// The columns of numbers.
const COLUMNS: [Cell; 8] = [
    ("arrived", |one| grouped(one.tally.ended_as(FinalState::Delivered))),
    ("dead letter", |one| grouped(one.tally.given_up)),
    ("dead letters", |one| grouped(one.dead_letters as u64)),
    ("waiting", |one| grouped(one.pending as u64)),
    ("attempts", |one| grouped(one.tally.attempts)),
    ("failed", |one| {
        let share = share(&one.tally);
        let share = if share.is_empty() { share } else { format!(" ({share})") };
        format!("{}{share}", grouped(one.tally.failed))
    }),
    ("p50", |one| of_latency(one.tally.p50_ms)),
    ("p95", |one| of_latency(one.tally.p95_ms)),
];

fn subscriptions(page: &mut String, report: &Report) {
    if report.subscriptions.is_empty() {
        return;
    }
    *page += "<section>\n<h2>Subscriptions</h2>\n<div class=\"scroll\"><table>\n\
              <thead><tr><th>subscription</th><th>health</th>";
    for (name, _) in COLUMNS {
        add(page, format_args!("<th class=\"number\">{name}</th>"));
    }
    *page += "<th>how it failed</th></tr></thead>\n<tbody>\n";
    for one in &report.subscriptions {
        let class = if one.unresolved { "unwell" } else { "" };
        add(
            page,
            format_args!(
                "<tr><th scope=\"row\">{}</th><td class=\"{class}\">{}</td>",
                safe(&one.id),
                one.health
            ),
        );
        for (_, cell) in COLUMNS {
            add(page, format_args!("<td class=\"number\">{}</td>", safe(&cell(one))));
        }
        add(page, format_args!("<td>{}</td></tr>\n", safe(&ways(&one.tally.failures))));
    }
    *page += "</tbody>\n</table></div>\n</section>\n";
}

fn runs(page: &mut String, report: &Report, words: &Words<'_>) {
    if report.runs.is_empty() {
        return;
    }
    *page += "<section>\n<h2>Runs</h2>\n";
    for run in report.runs.iter().take(MAX_RUNS) {
        one_run(page, run, words);
    }
    let left_out = report.runs.len().saturating_sub(MAX_RUNS) + report.earlier_runs;
    if left_out > 0 {
        add(
            page,
            format_args!("<p class=\"faint\">{left_out} runs before these: --format json has more.</p>\n"),
        );
    }
    *page += "</section>\n";
}

fn one_run(page: &mut String, run: &RunReport, words: &Words<'_>) {
    let took_all = run.duration_ms.map(took);
    let cost = Some(money(run.cost_usd)).filter(|cost| !cost.is_empty());
    let about: Vec<String> = [Some(which(run)), Some(result(run.status).to_owned()), took_all, cost]
        .into_iter()
        .flatten()
        .collect();
    add(
        page,
        format_args!(
            "<article>\n<h3>{} <span class=\"faint\">{}</span></h3>\n",
            safe(&run.spec),
            safe(&about.join(" · "))
        ),
    );
    let steps = run.steps();
    let (Some(first), Some(last)) =
        (steps.iter().map(|step| step.from).min(), steps.iter().map(|step| step.to).max())
    else {
        *page += "</article>\n";
        return;
    };
    let seconds = |from: Timestamp, to: Timestamp| to.duration_since(from).as_secs_f64();
    let all = seconds(first, last).max(0.001);
    *page += "<ol class=\"steps\">\n";
    for step in &steps {
        let (from, part) = (seconds(first, step.from) / all, seconds(step.from, step.to) / all);
        let class = match step.kind {
            StepKind::Stage(status) => class_of(status),
            StepKind::Gate | StepKind::Anomaly => "halt",
        };
        let said = step.duration_ms.map_or_else(|| words.time(step.to), took);
        let cost = money(step.cost_usd);
        let said = if cost.is_empty() { said } else { format!("{said} · {cost}") };
        add(
            page,
            format_args!(
                "<li><span class=\"name\">{}</span>{}<span class=\"said\">{}</span>",
                safe(&step.name),
                bar(class, from, part),
                safe(&said)
            ),
        );
        if !step.why.is_empty() {
            add(page, format_args!("<p class=\"why\">{}</p>", safe(&step.why.join("; "))));
        }
        *page += "</li>\n";
    }
    add(
        page,
        format_args!(
            "</ol>\n<div class=\"axis of-steps\"><span>{}</span><span>{}</span></div>\n",
            safe(&words.time(first)),
            safe(&words.time(last))
        ),
    );
    let left = run.reasons.iter().cloned().chain(run.follow_ups.iter().map(|left| format!("to do: {left}")));
    let left: Vec<String> = left.map(|text| format!("<li>{}</li>", safe(&text))).collect();
    if !left.is_empty() {
        add(page, format_args!("<ul>{}</ul>\n", left.join("")));
    }
    *page += "</article>\n";
}

fn class_of(status: Option<Status>) -> &'static str {
    match status {
        Some(Status::Success) => "ok",
        Some(Status::Failure) => "bad",
        Some(Status::Halt) | None => "halt",
    }
}
