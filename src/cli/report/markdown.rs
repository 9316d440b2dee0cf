//! The report in Markdown, as GitHub, GitLab and Jira's importers read it. What others wrote stands
//! in code, where nothing is a link, a mention or markup.

use super::{Words, money, result, share, took, which};
use crate::cli::status::{of_latency, ways};
use crate::delivery::FinalState;
use crate::inspect::report::{Report, RunReport, StepKind};
use crate::inspect::{grouped, listed};

/// Most runs that are told stage by stage; of others one line is told.
const WHOLE_RUNS: usize = 10;

/// Most runs that are told.
const MAX_RUNS: usize = 60;

/// Most subscriptions that are named beside a failure.
const NAMED: usize = 3;

pub(super) fn page(report: &Report) -> String {
    let words = Words(report);
    let mut page = format!("# {}\n\n{}\n\n", plain(&words.title()), words.span());
    let (is_well, verdict) = words.verdict();
    let sign = if is_well { "✅" } else { "❌" };
    page += &format!("{sign} **{verdict}**\n\n");
    if report.is_empty() {
        page += "In this time nothing was sent, and no run was reported.\n\n";
    }
    let totals: Vec<String> =
        words.totals().into_iter().map(|(name, value)| format!("**{value}** {name}")).collect();
    if !totals.is_empty() {
        page += &format!("{}\n\n", totals.join(" · "));
    }
    unresolved(&mut page, report, &words);
    subscriptions(&mut page, report);
    causes(&mut page, report, &words);
    runs(&mut page, report, &words);
    for gap in words.gaps() {
        page += &format!("_{gap}_\n\n");
    }
    page.truncate(page.trim_end().len());
    page + "\n"
}

fn unresolved(page: &mut String, report: &Report, words: &Words<'_>) {
    if report.troubles.is_empty() && report.warnings.is_empty() {
        return;
    }
    *page += "## Unresolved\n\n";
    for (headline, hint, command) in words.troubles() {
        let hint = if hint.is_empty() { String::new() } else { format!(": {}", plain(hint)) };
        *page += &format!("- {}{hint}\n  ```sh\n  {command}\n  ```\n", code(&headline));
    }
    for warning in &report.warnings {
        *page += &format!("- {}\n", code(warning));
    }
    *page += "\n";
}

fn subscriptions(page: &mut String, report: &Report) {
    if report.subscriptions.is_empty() {
        return;
    }
    *page += "## Subscriptions\n\n";
    row(
        page,
        [
            "subscription",
            "health",
            "arrived",
            "dead letter",
            "waiting",
            "attempts",
            "failed",
            "p50",
            "p95",
            "how",
        ],
    );
    *page += "| :-- | :-- | --: | --: | --: | --: | --: | --: | --: | :-- |\n";
    for one in &report.subscriptions {
        let tally = &one.tally;
        let share = share(tally);
        let share = if share.is_empty() { share } else { format!(" ({share})") };
        row(
            page,
            [
                &code(one.id.as_str()),
                &format!("{}{}", if one.unresolved { "❌ " } else { "" }, one.health),
                &grouped(tally.ended_as(FinalState::Delivered)),
                &grouped(tally.given_up),
                &grouped(one.pending as u64),
                &grouped(tally.attempts),
                &format!("{}{share}", grouped(tally.failed)),
                &of_latency(tally.p50_ms),
                &of_latency(tally.p95_ms),
                &ways(&tally.failures),
            ],
        );
    }
    *page += "\n";
}

fn causes(page: &mut String, report: &Report, words: &Words<'_>) {
    if report.causes.is_empty() {
        return;
    }
    *page += "## What failed\n\n";
    row(page, ["attempts", "failure", "first", "last", "whose", "what to do"]);
    *page += "| --: | :-- | :-- | :-- | :-- | :-- |\n";
    for cause in &report.causes {
        let names: Vec<&str> = cause.subscriptions.iter().map(|id| id.as_str()).collect();
        row(
            page,
            [
                &grouped(cause.count),
                &code(&cause.what),
                &words.time(cause.first),
                &words.time(cause.last),
                &plain(&listed(&names, NAMED, "subscriptions")),
                &plain(&cause.hint),
            ],
        );
    }
    *page += "\n";
}

fn runs(page: &mut String, report: &Report, words: &Words<'_>) {
    if report.runs.is_empty() {
        return;
    }
    *page += "## Runs\n\n";
    for run in report.runs.iter().take(WHOLE_RUNS) {
        whole(page, run, words);
    }
    let others = report.runs.iter().skip(WHOLE_RUNS);
    let left_out = report.runs.len().saturating_sub(MAX_RUNS) + report.earlier_runs;
    if others.len() > 0 {
        *page += "### Earlier runs\n\n";
        row(page, ["SPEC", "run", "result", "last", "took", "cost"]);
        *page += "| :-- | :-- | :-- | :-- | --: | --: |\n";
    }
    for run in others.take(MAX_RUNS - WHOLE_RUNS) {
        row(
            page,
            [
                &code(run.spec.as_str()),
                &plain(&which(run)),
                result(run.status),
                &words.time(run.last_at),
                &run.duration_ms.map(took).unwrap_or_default(),
                &money(run.cost_usd),
            ],
        );
    }
    if report.runs.len() > WHOLE_RUNS {
        *page += "\n";
    }
    if left_out > 0 {
        *page += &format!("_{left_out} runs before these: --format json has more._\n\n");
    }
}

fn whole(page: &mut String, run: &RunReport, words: &Words<'_>) {
    let took = run.duration_ms.map(took);
    let cost = Some(money(run.cost_usd)).filter(|cost| !cost.is_empty());
    let about: Vec<String> =
        [Some(which(run)), Some(result(run.status).to_owned()), took, cost].into_iter().flatten().collect();
    *page += &format!("### {} {}\n\n", code(run.spec.as_str()), plain(&about.join(" · ")));
    let steps = run.steps();
    if !steps.is_empty() {
        row(page, ["ended", "stage", "result", "took", "cost", "why"]);
        *page += "| :-- | :-- | :-- | --: | --: | :-- |\n";
    }
    for step in &steps {
        let said = match step.kind {
            StepKind::Stage(status) => result(status),
            StepKind::Gate => "✋ waits",
            StepKind::Anomaly => "⚠️ reported",
        };
        let took = step.duration_ms.map(super::took).unwrap_or_default();
        let why: Vec<String> = step.why.iter().map(|why| code(why)).collect();
        let (at, cost) = (words.time(step.to), money(step.cost_usd));
        row(page, [&at, &plain(&step.name), said, &took, &cost, &why.join("; ")]);
    }
    if !steps.is_empty() {
        *page += "\n";
    }
    for reason in &run.reasons {
        *page += &format!("- {}\n", code(reason));
    }
    for left in &run.follow_ups {
        *page += &format!("- to do: {}\n", code(left));
    }
    if !(run.reasons.is_empty() && run.follow_ups.is_empty()) {
        *page += "\n";
    }
}

fn row<const N: usize>(page: &mut String, cells: [&str; N]) {
    for cell in cells {
        *page += &format!("| {cell} ");
    }
    *page += "|\n";
}

/// A text as code: within a fence that is longer than any in it, on one line. A bar would end the
/// cell of a table, code or not.
fn code(text: &str) -> String {
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let text = text.trim().replace('|', "\\|");
    if text.is_empty() {
        return String::new();
    }
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest + 1);
    let gap = if text.starts_with('`') || text.ends_with('`') { " " } else { "" };
    format!("{fence}{gap}{text}{gap}{fence}")
}

/// A text of ours, in which names may stand that others gave: as it is read, without markup.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '|' | '~' => plain.extend(['\\', c]),
            // A backslash keeps neither from being a mention or a reference.
            '@' | '#' => plain.extend([c, '\u{200b}']),
            c if c.is_control() => plain.push(' '),
            c => plain.push(c),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_others_wrote_is_markup() {
        for (text, shown) in [
            ("plain", "`plain`"),
            ("a | b\nc", "`a \\| b c`"),
            ("`x` ``y``", "``` `x` ``y`` ```"),
            ("![x](https://evil.example/p.png) @everyone", "`![x](https://evil.example/p.png) @everyone`"),
            ("", ""),
        ] {
            assert_eq!(code(text), shown);
        }
        assert_eq!(plain("<b>@a_b #1 | *"), "\\<b\\>@\u{200b}a\\_b #\u{200b}1 \\| \\*");
    }
}
