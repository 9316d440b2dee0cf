//! Summarises an event for people, without a service's markup.

use jiff::Timestamp;
use serde_json::Value;

use crate::event::{Event, EventKind, SpecId, Stage, Status};
use crate::names::is_deceiving;

/// Most characters of a text that are read: more than any service shows, so a longer text is still
/// marked as cut.
const MOST_SHOWN: usize = 5000;

/// How good the news is; services show it as a colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    /// It went well.
    Success,
    /// It failed.
    Failure,
    /// A person has to look at it.
    Halt,
    /// Neither good nor bad.
    Neutral,
}

impl Tone {
    /// The colour, in the form of Slack and compatible services.
    pub(super) fn hex(self) -> Option<&'static str> {
        match self {
            Self::Success => Some("#2eb67d"),
            Self::Failure => Some("#e01e5a"),
            Self::Halt => Some("#ecb22e"),
            Self::Neutral => None,
        }
    }
}

/// The content of a message. Every text is one line of printable characters.
#[derive(Debug)]
pub(super) struct Summary {
    /// The event in one line.
    pub(super) headline: String,
    /// How good the news is.
    pub(super) tone: Tone,
    /// Short values with their names.
    pub(super) facts: Vec<(&'static str, String)>,
    /// Lists of sentences with their names; none is empty.
    pub(super) lists: Vec<(&'static str, Vec<String>)>,
    /// Paths relative to the repo.
    pub(super) evidence: Vec<String>,
}

impl Summary {
    /// The summary of `event`.
    pub(super) fn of(event: &Event) -> Self {
        let paths = event.evidence.iter().flat_map(|evidence| &evidence.paths);
        Self {
            headline: one_line(&headline(event)),
            tone: tone(event),
            facts: facts(event),
            lists: lists(event),
            evidence: paths.map(|path| one_line(path)).filter(|path| !path.is_empty()).collect(),
        }
    }
}

/// `text` as one line of printable characters.
fn one_line(text: &str) -> String {
    let shown = |c: char| match c {
        '\n' | '\r' | '\t' => ' ',
        c if is_deceiving(c) => '\u{fffd}',
        c => c,
    };
    text.trim().chars().take(MOST_SHOWN).map(shown).collect()
}

fn headline(event: &Event) -> String {
    let spec = name(&event.spec.id);
    let stage = event.event.stage.map_or("Stage", Stage::as_str);
    match event.event.kind {
        EventKind::StageCompleted => format!("{stage} {}: {spec}", verb(event)),
        EventKind::PipelineCompleted => format!("Run {}: {spec}", verb(event)),
        EventKind::PipelineWaiting => match gate(event, "step").and_then(Value::as_str) {
            Some(step) => format!("Waiting at {step}: {spec}"),
            None => format!("Run interrupted: {spec}"),
        },
        EventKind::TaskCompleted => task_headline(event),
        EventKind::TaskListCompleted => list_headline(event, spec),
        EventKind::ConsensusConflict => match event.event.stage {
            Some(stage) => format!("Consensus conflict in {stage}: {spec}"),
            None => format!("Consensus conflict: {spec}"),
        },
        EventKind::CostThreshold => cost_headline(event),
        EventKind::Stalled => stall_headline(event, spec),
        EventKind::Test => "Test from spec-notify".to_owned(),
    }
}

/// The short id, where it is more than a number: of `002-kanban` the number alone is no name.
fn name(spec: &SpecId) -> &str {
    let is_a_number = spec.short().bytes().all(|byte| byte.is_ascii_digit());
    if is_a_number { spec.as_str() } else { spec.short() }
}

fn verb(event: &Event) -> &'static str {
    match event.event.status {
        Some(Status::Success) => "succeeded",
        Some(Status::Failure) => "failed",
        Some(Status::Halt) => "halted",
        None => "ended",
    }
}

fn task_headline(event: &Event) -> String {
    let Some(task) = &event.task else { return format!("Task done: {}", name(&event.spec.id)) };
    match &task.title {
        Some(title) => format!("Task {} done: {title}", task.id),
        None => format!("Task {} done", task.id),
    }
}

fn list_headline(event: &Event, spec: &str) -> String {
    let done = event.extra.get("tasks").and_then(|tasks| tasks.get("done")).and_then(Value::as_u64);
    match done {
        Some(1) => format!("The one task done: {spec}"),
        Some(done) => format!("All {done} tasks done: {spec}"),
        None => format!("All tasks done: {spec}"),
    }
}

fn cost_headline(event: &Event) -> String {
    let amount = |name| anomaly(event, name).and_then(Value::as_f64);
    match (amount("totalUsd"), amount("thresholdUsd")) {
        (Some(total), Some(threshold)) => format!("Cost threshold reached: {total:.2} of {threshold:.2} USD"),
        _ => "Cost threshold reached".to_owned(),
    }
}

fn stall_headline(event: &Event, spec: &str) -> String {
    let since = anomaly(event, "since").and_then(Value::as_str);
    let since = since.map(|since| format!(" since {since}")).unwrap_or_default();
    let after = event.event.stage.map(|stage| format!(" after {stage}")).unwrap_or_default();
    format!("No sign of life{since}{after}: {spec}")
}

fn anomaly<'a>(event: &'a Event, name: &str) -> Option<&'a Value> {
    event.extra.get("anomaly")?.get(name)
}

/// What a gate asks.
fn gate<'a>(event: &'a Event, name: &str) -> Option<&'a Value> {
    event.pipeline.as_ref()?.extra.get("gate")?.get(name)
}

/// How a workflow run that waits goes on.
fn resume(event: &Event) -> Option<Value> {
    let run = event.pipeline.as_ref()?.extra.get("run")?.get("id")?.as_str()?;
    let is_waiting = event.event.kind == EventKind::PipelineWaiting;
    is_waiting.then(|| format!("answer at its terminal, or run: specify workflow resume {run}").into())
}

fn tone(event: &Event) -> Tone {
    match (event.event.status, event.event.kind) {
        (Some(Status::Success), _) | (None, EventKind::TaskCompleted | EventKind::TaskListCompleted) => {
            Tone::Success
        }
        (Some(Status::Failure), _) => Tone::Failure,
        (Some(Status::Halt), _) => Tone::Halt,
        (None, kind) if kind.is_anomaly() => Tone::Halt,
        (None, _) => Tone::Neutral,
    }
}

fn facts(event: &Event) -> Vec<(&'static str, String)> {
    let is_run = event.event.kind == EventKind::PipelineCompleted;
    let consensus = event.consensus.as_ref().and_then(|consensus| consensus.status.clone());
    let named = [
        ("SPEC", Some(event.spec.id.to_string())),
        ("Branch", event.spec.branch.clone()),
        ("Stage", event.event.stage.map(|stage| stage.to_string())),
        ("Status", event.event.status.map(|status| status.to_string())),
        (if is_run { "Run" } else { "Attempt" }, attempt(event)),
        ("Duration", duration(event)),
        ("Cost", cost(event)),
        ("Consensus", consensus),
    ];
    let shown = named.into_iter().filter_map(|(name, value)| Some((name, one_line(&value?))));
    shown.filter(|(_, value)| !value.is_empty()).collect()
}

fn attempt(event: &Event) -> Option<String> {
    let pipeline = event.pipeline.as_ref()?;
    let attempt = pipeline.attempt?;
    // A run has no limit, whatever its stages have.
    match pipeline.max_attempts.filter(|_| event.event.kind != EventKind::PipelineCompleted) {
        Some(most) => Some(format!("{attempt} of {most}")),
        None => Some(attempt.to_string()),
    }
}

fn cost(event: &Event) -> Option<String> {
    let total = event.extra.get("cost")?.get("totalUsd")?.as_f64()?;
    Some(format!("{total:.2} USD"))
}

fn duration(event: &Event) -> Option<String> {
    let pipeline = event.pipeline.as_ref()?;
    let time = |text: &Option<String>| text.as_ref()?.parse::<Timestamp>().ok();
    let told = pipeline.extra.get("durationMs").and_then(Value::as_u64);
    let between = || {
        let (start, end) = (time(&pipeline.started_at)?, time(&pipeline.completed_at)?);
        u64::try_from(end.as_millisecond().checked_sub(start.as_millisecond())?).ok()
    };
    told.or_else(between).map(length)
}

/// A length of time for people.
fn length(milliseconds: u64) -> String {
    let seconds = milliseconds / 1000;
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, 0) => format!("{milliseconds} ms"),
        (0, 0, seconds) => format!("{seconds} s"),
        (0, minutes, seconds) => format!("{minutes} min {seconds} s"),
        (hours, minutes, _) => format!("{hours} h {minutes} min"),
    }
}

fn lists(event: &Event) -> Vec<(&'static str, Vec<String>)> {
    let stages = event.pipeline.as_ref().and_then(|pipeline| pipeline.extra.get("stages"));
    let mut lists = vec![
        ("Stages", items(stages, stage_line)),
        ("Reasons", event.event.reasons.iter().map(|reason| one_line(reason)).collect()),
        ("Disagreements", items(anomaly(event, "disagreements"), sentence)),
        ("What to do", items(anomaly(event, "hint"), sentence)),
        ("Gate", items(gate(event, "message"), sentence)),
        ("Options", items(gate(event, "options"), sentence)),
        ("To review", items(gate(event, "showFile"), sentence)),
        ("To go on", items(resume(event).as_ref(), sentence)),
        ("Follow-ups", items(event.extra.get("followUps"), sentence)),
        (
            "Message",
            items(event.extra.get("message").filter(|_| event.event.kind == EventKind::Test), sentence),
        ),
    ];
    for (_, items) in &mut lists {
        items.retain(|item| !item.is_empty());
    }
    lists.retain(|(_, items)| !items.is_empty());
    lists
}

/// The lines of a list; a single value counts as a list of one.
fn items(value: Option<&Value>, line: fn(&Value) -> String) -> Vec<String> {
    match value {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(list)) => list.iter().map(line).collect(),
        Some(other) => vec![line(other)],
    }
}

/// A host may send any JSON value where a sentence is expected.
fn sentence(value: &Value) -> String {
    one_line(&value.as_str().map_or_else(|| value.to_string(), str::to_owned))
}

/// The line for one attempt of a stage of a run.
fn stage_line(value: &Value) -> String {
    let text = |name| value.get(name).and_then(Value::as_str);
    let Some(stage) = text("stage") else { return sentence(value) };
    let mut line = format!("{stage}: {}", text("status").unwrap_or("ended"));
    if let Some(attempt) = value.get("attempt").and_then(Value::as_u64).filter(|attempt| *attempt > 1) {
        line.push_str(&format!(", attempt {attempt}"));
    }
    if let Some(milliseconds) = value.get("durationMs").and_then(Value::as_u64) {
        line.push_str(&format!(", {}", length(milliseconds)));
    }
    one_line(&line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_told_in_two_parts_at_most() {
        for (milliseconds, told) in [
            (0, "0 ms"),
            (999, "999 ms"),
            (59_999, "59 s"),
            (62_000, "1 min 2 s"),
            (3_720_000, "1 h 2 min"),
            (u64::MAX, "5124095576030 h 25 min"),
        ] {
            assert_eq!(length(milliseconds), told);
        }
    }

    #[test]
    fn a_text_is_one_printable_line() {
        assert_eq!(one_line(" a\r\nb\tc\u{7}\u{202e}d\u{0} "), "a  b c\u{fffd}\u{fffd}d\u{fffd}");
    }
}
