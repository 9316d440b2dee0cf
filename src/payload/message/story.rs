//! What is told of each type of event: a new type is one more arm of `Story::of`.

mod run;

use jiff::Timestamp;
use serde_json::Value;

use super::figures::{between, length, money};
use super::words::{self, Remedy, Why};
use super::{LINE, Line, Part, Reader, Tone, file_name, listed, one_line};
use crate::event::{Event, EventKind, Stage, Status};
use crate::payload::cut::PLAIN;
use run::{run, stall, waiting};

/// Most characters of a title in the headline.
const TITLE: usize = 160;

/// Most characters of what a SPEC's id says beside its number: why comes after it in the headline.
const SLUG: usize = 40;

/// Most characters of an option at a gate.
const OPTION: usize = 40;

/// Most characters of items that stand in a row.
const ROW: usize = 120;

/// A message without where and when.
#[derive(Debug)]
pub(super) struct Story {
    pub(super) tone: Tone,
    pub(super) glyph: &'static str,
    pub(super) head: Vec<Part>,
    pub(super) lines: Vec<Line>,
    /// What is good to know besides, for the footer.
    pub(super) aside: Vec<String>,
}

/// Whether somebody has to do something now: a failure, a halt, a gate, a stall.
pub(crate) fn is_a_call(event: &Event) -> bool {
    match event.event.kind {
        EventKind::StageCompleted | EventKind::PipelineCompleted => is_bad(event),
        EventKind::PipelineWaiting | EventKind::Stalled => true,
        EventKind::TaskCompleted
        | EventKind::TaskListCompleted
        | EventKind::ConsensusConflict
        | EventKind::CostThreshold
        | EventKind::Test => false,
    }
}

impl Story {
    pub(super) fn of(event: &Event, reader: &Reader<'_>) -> Self {
        match event.event.kind {
            EventKind::StageCompleted => stage(event),
            EventKind::PipelineCompleted => run(event),
            EventKind::PipelineWaiting => waiting(event),
            EventKind::TaskCompleted => task(event),
            EventKind::TaskListCompleted => task_list(event),
            EventKind::ConsensusConflict => conflict(event),
            EventKind::CostThreshold => cost(event),
            EventKind::Stalled => stall(event),
            EventKind::Test => test(event, reader),
        }
    }

    /// A story that is told with this glyph.
    fn told(tone: Tone, glyph: &'static str) -> Self {
        Self { tone, glyph, head: Vec::new(), lines: Vec::new(), aside: Vec::new() }
    }

    /// A story of something that ended so.
    fn ended(status: Option<Status>) -> Self {
        let (tone, glyph) = match status {
            Some(Status::Success) => (Tone::Success, "✅"),
            Some(Status::Failure) => (Tone::Failure, "❌"),
            Some(Status::Halt) => (Tone::Halt, "⚠️"),
            None => (Tone::Neutral, "ℹ️"),
        };
        Self::told(tone, glyph)
    }

    fn strong(mut self, text: impl Into<String>) -> Self {
        self.head.push(Part::Strong(text.into()));
        self
    }

    fn plain(mut self, text: impl AsRef<str>) -> Self {
        let text = PLAIN.fit(&one_line_within(text.as_ref()), TITLE);
        self.head.extend((!text.is_empty()).then_some(Part::Plain(text)));
        self
    }

    /// The SPEC's short id, and the rest of its id as words of their own.
    fn spec(self, event: &Event) -> Self {
        let slug = event.spec.id.as_str().strip_prefix(event.spec.id.short()).unwrap_or_default();
        let slug = slug.trim_start_matches('-');
        let told = self.short(event);
        let told = if slug.is_empty() { told } else { told.plain(format!(" {}", PLAIN.fit(slug, SLUG))) };
        told.folder(event)
    }

    /// The short id alone.
    fn short(mut self, event: &Event) -> Self {
        self.head.push(Part::Spec(event.spec.id.short().to_owned()));
        self
    }

    /// The folder of a monorepo, where another one may have a SPEC of the same name.
    fn folder(self, event: &Event) -> Self {
        match folder(event) {
            Some(folder) if folder.chars().count() > SLUG => {
                self.plain(format!(" (…/{})", file_name(&folder)))
            }
            Some(folder) => self.plain(format!(" ({folder})")),
            None => self,
        }
    }

    /// Adds what is known of a figure.
    fn and(self, figure: Option<String>) -> Self {
        match figure.filter(|figure| !figure.trim().is_empty()) {
            Some(figure) => self.plain(format!(" · {figure}")),
            None => self,
        }
    }

    fn line(mut self, text: Option<String>) -> Self {
        let text = text.map(|text| PLAIN.fit(&text, LINE)).filter(|text| !text.is_empty());
        self.lines.extend(text.map(Line::Text));
        self
    }

    fn items(mut self, items: Vec<String>) -> Self {
        listed(items, &mut self.lines);
        self
    }

    /// A line with the items behind the heading, where they are few and short, else one below it
    /// for each.
    fn told_in_a_row(self, heading: Option<String>, items: Vec<String>) -> Self {
        let row = items.join(" · ");
        match heading {
            Some(heading) if items.is_empty() => self.line(Some(heading)),
            Some(heading) if !heading.contains(": ") && row.chars().count() <= ROW => {
                self.line(Some(format!("{heading}: {row}")))
            }
            Some(heading) => self.line(Some(format!("{heading}:"))).items(items),
            None => self.items(items),
        }
    }

    fn next(mut self, text: Option<String>) -> Self {
        self.lines.extend(text.map(|text| Line::Next(PLAIN.fit(&text, LINE))));
        self
    }

    fn aside(mut self, text: Option<String>) -> Self {
        self.aside.extend(text);
        self
    }
}

/// As [`one_line`], with the spaces that part it from what stands around it.
fn one_line_within(text: &str) -> String {
    let space = |is_there: bool| if is_there { " " } else { "" };
    format!("{}{}{}", space(text.starts_with(' ')), one_line(text), space(text.ends_with(' ')))
}

/// The folder that holds the sources of a workflow run, or of a task list: none for the repo's
/// root.
fn folder(event: &Event) -> Option<String> {
    let of_run = || event.pipeline.as_ref()?.extra.get("run")?.get("folder")?.as_str();
    let is_of_a_list = matches!(event.event.kind, EventKind::TaskCompleted | EventKind::TaskListCompleted);
    let of_list = || {
        let path = event.evidence.as_ref().filter(|_| is_of_a_list)?.paths.first()?;
        ["/specs/", "/docs/"].iter().find_map(|within| Some(path.split_once(within)?.0))
    };
    let folder = of_run().or_else(of_list).map(one_line)?;
    (!folder.is_empty()).then_some(folder)
}

/// Whether somebody has to look at it.
pub(super) fn is_bad(event: &Event) -> bool {
    matches!(event.event.status, Some(Status::Failure | Status::Halt))
}

fn verb(status: Option<Status>) -> &'static str {
    match status {
        Some(Status::Success) => "passed",
        Some(Status::Failure) => "failed",
        Some(Status::Halt) => "halted",
        None => "ended",
    }
}

fn stage_name(event: &Event) -> &'static str {
    event.event.stage.map_or("the stage", Stage::as_str)
}

fn stage(event: &Event) -> Story {
    let status = event.event.status;
    let name = event.event.stage.map_or("Stage", Stage::as_str);
    let told = Story::ended(status).strong(format!("{name} {}", verb(status)));
    let told = told.plain(tries(event).unwrap_or_default()).plain(": ").spec(event);
    let again = event.event.amends.as_ref().map(|_| "This corrects what was told before.".to_owned());
    if !is_bad(event) {
        let verdict = event.consensus.as_ref().and_then(|consensus| consensus.status.as_deref());
        let verdict = match verdict {
            Some("degraded") => Some("The agents agreed only in part.".to_owned()),
            Some("hold") => Some("The agents have not decided.".to_owned()),
            _ => None,
        };
        return told.and(duration(event)).line(verdict).line(again);
    }
    let Why { heading, items, remedy } = words::why(event);
    let next = match status {
        Some(Status::Halt) => Some(format!("The run has stopped. {}", to_go_on(remedy, name))),
        _ => tries_left(event),
    };
    let (heading, items) = match (heading, &items[..]) {
        (None, [only]) => match words::parted(only) {
            Some((start, rest)) => (Some(start), vec![rest]),
            None => (None, items),
        },
        (heading, _) => (heading, items),
    };
    told.and(heading).line(again).items(items).next(next).aside(duration(event))
}

/// ` (2 of 3)`: which try it was, where that is worth a word.
fn tries(event: &Event) -> Option<String> {
    let pipeline = event.pipeline.as_ref()?;
    let attempt = pipeline.attempt?;
    let is_failure = event.event.status == Some(Status::Failure);
    match pipeline.max_attempts {
        Some(most) if is_failure || attempt > 1 => Some(format!(" ({attempt} of {most})")),
        None if attempt > 1 => Some(format!(" (attempt {attempt})")),
        _ => None,
    }
}

fn tries_left(event: &Event) -> Option<String> {
    let pipeline = event.pipeline.as_ref()?;
    Some(match pipeline.max_attempts?.saturating_sub(pipeline.attempt?) {
        0 => "That was the last attempt: the run ends.".to_owned(),
        1 => "One attempt left, then the run ends.".to_owned(),
        left => format!("{left} attempts left."),
    })
}

fn to_go_on(remedy: Remedy, stage: &str) -> String {
    match remedy {
        Remedy::Work => format!("Look at why, then run {stage} again."),
        Remedy::Telemetry => format!("Fix the file or run {stage} again."),
        Remedy::Decision => format!("Decide in the PRD, then run {stage} again."),
    }
}

fn total_cost(event: &Event) -> Option<String> {
    Some(money(event.extra.get("cost")?.get("totalUsd")?.as_f64()?))
}

fn duration(event: &Event) -> Option<String> {
    let pipeline = event.pipeline.as_ref()?;
    let time = |text: &Option<String>| text.as_ref()?.parse::<Timestamp>().ok();
    let told = pipeline.extra.get("durationMs").and_then(Value::as_u64);
    told.or_else(|| between(time(&pipeline.started_at)?, time(&pipeline.completed_at)?)).and_then(length)
}

fn task(event: &Event) -> Story {
    let told = Story::told(Tone::Success, "☑️").short(event).folder(event);
    let Some(task) = &event.task else { return told.strong(" task done") };
    // A table may have its SPECs as its tasks.
    let is_the_spec = [event.spec.id.short(), event.spec.id.as_str()].contains(&task.id.as_str());
    let told = if is_the_spec {
        Story::told(Tone::Success, "☑️").spec(event).strong(" done")
    } else {
        told.strong(format!(" {} done", PLAIN.fit(&one_line(&task.id), 80)))
    };
    let count = event.extra.get("tasks").and_then(|tasks| {
        let number = |name: &str| tasks.get(name).and_then(Value::as_u64);
        Some(format!("{} of {}", number("done")?, number("total")?))
    });
    match task.title.as_deref().map(one_line).filter(|title| !title.is_empty()) {
        Some(title) => told.plain(": ").plain(title).and(count),
        None => told.and(count),
    }
}

fn task_list(event: &Event) -> Story {
    let done = event.extra.get("tasks").and_then(|tasks| tasks.get("done")?.as_u64());
    let what = match done {
        Some(1) => " its one task is done".to_owned(),
        Some(done) => format!(" all {done} tasks are done"),
        None => " all tasks are done".to_owned(),
    };
    Story::told(Tone::Success, "☑️").short(event).folder(event).strong(what)
}

fn conflict(event: &Event) -> Story {
    let told = Story::told(Tone::Halt, "⚠️").strong(format!("Agents disagree on {}", stage_name(event)));
    let points = words::disagreements(event);
    let count = match points.len() {
        0 => None,
        1 => Some("1 point".to_owned()),
        count => Some(format!("{count} points")),
    };
    told.plain(": ").spec(event).and(count).items(points).next(words::next(event, stage_name(event)))
}

fn anomaly<'a>(event: &'a Event, name: &str) -> Option<&'a Value> {
    event.extra.get("anomaly")?.get(name)
}

fn cost(event: &Event) -> Story {
    let amount = |name| anomaly(event, name).and_then(Value::as_f64).map(money);
    let told = Story::told(Tone::Halt, "💸").short(event);
    let told = match amount("totalUsd").or_else(|| total_cost(event)) {
        Some(total) => told.strong(format!(" cost {total}")),
        None => told.strong(" cost too much"),
    };
    let told =
        told.plain(amount("thresholdUsd").map(|it| format!(", over the {it} limit")).unwrap_or_default());
    let run = anomaly(event, "run").and_then(Value::as_u64).map(|run| format!("run {run}"));
    let place: Vec<String> =
        run.into_iter().chain(event.event.stage.map(|stage| stage.to_string())).collect();
    let place = if place.is_empty() { String::new() } else { format!(" ({})", place.join(", ")) };
    let next = words::next(event, stage_name(event));
    told.plain(place).line(cost_by_stage(event)).next(next)
}

/// `Implement $4.80 · Plan $0.90`, the dearest first.
fn cost_by_stage(event: &Event) -> Option<String> {
    let by_stage = event.extra.get("cost")?.get("perStage")?.as_object()?;
    let mut each: Vec<(f64, String)> =
        by_stage.iter().filter_map(|(name, usd)| Some((usd.as_f64()?, one_line(name)))).collect();
    each.sort_by(|one, other| other.0.total_cmp(&one.0));
    let name = |name: String| name.parse().map_or(PLAIN.fit(&name, 40), |stage: Stage| stage.to_string());
    let told = each.into_iter().map(|(usd, of)| format!("{} {}", name(of), money(usd)));
    Some(told.collect::<Vec<_>>().join(" · "))
}

fn test(event: &Event, reader: &Reader<'_>) -> Story {
    let told = Story::told(Tone::Neutral, "🔔").strong("Test");
    let repo = event.source.as_ref().and_then(|source| source.repo.as_deref());
    let told = match reader.subscription {
        Some(id) => {
            let repo = repo.map(|repo| format!(" of {repo}")).unwrap_or_default();
            told.plain(format!(": subscription \"{id}\"{repo} works"))
        }
        None => told.plain(" from spec-notify: ").spec(event),
    };
    if let Some(gets) = reader.gets {
        return told.line(Some(format!("Gets: {gets}. No stage ran.")));
    }
    let message = event.extra.get("message").map(|message| match message.as_str() {
        Some(text) => one_line(text),
        None => one_line(&message.to_string()),
    });
    told.line(message)
}
