//! What is told of a run: that it ended, waits for a person, or is silent.

use jiff::Timestamp;
use serde_json::Value;

use super::{OPTION, Story, anomaly, duration, is_bad, stage_name, to_go_on, total_cost, verb};
use crate::event::{Event, Stage, Status};
use crate::payload::cut::PLAIN;
use crate::payload::message::figures::{between, brief, length, moment};
use crate::payload::message::words::{self, Why};
use crate::payload::message::{ITEMS, Tone, one_line};

pub(super) fn run(event: &Event) -> Story {
    let status = event.event.status;
    let stages = Stages::of(event);
    let at = stages.last_bad().filter(|_| is_bad(event));
    // A workflow run says at which step it ended, which may be none of a stage's.
    let step = step(event).filter(|_| is_bad(event));
    let of_step = step.as_deref().map(place_of);
    let at = at.filter(|at| of_step.as_ref().is_none_or(|place| *place == at.name));
    let mut what = format!("Run {}", verb(status));
    if let Some(place) = at.map(|at| &at.name).or(of_step.as_ref()) {
        what = format!("{what} at {place}");
    }
    let try_of_it = at.and_then(|at| at.attempt).filter(|attempt| *attempt > 1);
    let told = Story::ended(status).strong(what);
    let told = told.plain(try_of_it.map(|attempt| format!(" (attempt {attempt})")).unwrap_or_default());
    let told = told.plain(": ").spec(event).and(duration(event)).and(total_cost(event));
    let number = event.pipeline.as_ref().and_then(|pipeline| pipeline.attempt).filter(|number| *number > 1);
    let told = told.aside(number.map(|number| format!("run {number}")));
    let left = words::follow_ups(event);
    let many = match left.len() {
        0 => None,
        1 => Some("1 follow-up".to_owned()),
        count => Some(format!("{count} follow-ups")),
    };
    if !is_bad(event) {
        return told.and(many).line(stages.chain()).items(left);
    }
    let Why { heading, items, remedy } = words::why(event);
    let named = step.filter(|_| event.event.reasons.len() == 1).map(|step| format!("step {step}: "));
    let once = |text: String| match named.as_deref().and_then(|named| text.strip_prefix(named)) {
        Some(text) => text.to_owned(),
        None => text,
    };
    let (heading, items) = (heading.map(once), items.into_iter().map(once).collect());
    let told = told.line(stages.chain()).told_in_a_row(heading.map(|text| words::capital(&text)), items);
    let told = if left.is_empty() { told } else { told.told_in_a_row(many, left) };
    // A workflow run that failed goes on where it failed; one that a person ended does not.
    let resume = resume(event).filter(|_| status == Some(Status::Failure));
    let resume = resume.map(|resume| format!("Look at why, then: {resume}"));
    let is_workflow = event.is_of_a_workflow_run();
    told.next(resume.or_else(|| at.filter(|_| !is_workflow).map(|at| to_go_on(remedy, &at.name))))
}

/// A run that stands at a gate, or was interrupted: what is asked, and how it goes on.
pub(super) fn waiting(event: &Event) -> Story {
    let part = |part: &str, field: &str| event.pipeline.as_ref()?.extra.get(part)?.get(field).cloned();
    let text = |part_of: &str, field: &str| part(part_of, field)?.as_str().map(one_line);
    let resume = resume(event);
    let told = Story::told(Tone::Halt, "✋");
    if part("gate", "step").is_none() {
        let reason = event.event.reasons.first().map(|reason| words::capital(&one_line(reason)));
        return told.strong("Run interrupted").plain(": ").spec(event).line(reason).next(resume);
    }
    let told = told.strong("Approval needed").plain(": ").spec(event);
    let asks = text("gate", "message").filter(|asks| !asks.is_empty());
    let told = told.plain(asks.map(|asks| format!(" \"{asks}\"")).unwrap_or_default());
    let mut options: Vec<String> = match part("gate", "options") {
        Some(Value::Array(options)) => options.iter().filter_map(Value::as_str).map(one_line).collect(),
        _ => Vec::new(),
    };
    let more = options.len().saturating_sub(ITEMS + 1);
    if more > 0 {
        options.truncate(ITEMS);
        options.push(format!("and {} more", more + 1));
    }
    let options = options.iter().map(|option| PLAIN.fit(option, OPTION)).collect::<Vec<_>>().join(", ");
    let options = (!options.is_empty()).then(|| format!("Options: {options}"));
    let read = text("gate", "showFile").map(|file| format!("To read: {file}"));
    told.line(options).line(read).next(resume.map(|resume| format!("Answer at its terminal, or: {resume}")))
}

pub(super) fn stall(event: &Event) -> Story {
    let since = anomaly(event, "since").and_then(Value::as_str);
    let since = since.and_then(|since| since.parse::<Timestamp>().ok());
    let told_at = event.event.time.as_deref().and_then(|time| time.parse::<Timestamp>().ok());
    let silence =
        since.zip(told_at).and_then(|(since, at)| between(since, at)).map(|it| it / 60_000 * 60_000);
    let told = Story::told(Tone::Halt, "⏳").strong("No news").plain(" from ").spec(event);
    let told = told.plain(silence.and_then(length).map(|it| format!(" for {it}")).unwrap_or_default());
    // A workflow run is silent within a step, another one after the stage that was told last.
    let place = match (event.event.stage, step(event)) {
        (Some(stage), _) if event.is_of_a_workflow_run() => Some(format!(", at {stage}")),
        (Some(stage), _) => Some(format!(", after {stage}")),
        (None, step) => step.map(|step| format!(", at {}", place_of(&step))),
    };
    let told = told.plain(place.unwrap_or_default());
    let sign = since.map(|since| format!("Last sign {}", moment(since, told_at.unwrap_or(since))));
    let next = match resume(event) {
        Some(resume) => Some(format!(
            "Look whether it still works. If it hangs: Ctrl-C, then {resume}. If it was killed: first set \
             \"status\" in its state.json to \"paused\"."
        )),
        None => words::next(event, stage_name(event)),
    };
    told.line(sign).next(next)
}

/// The step of a workflow run that its event names.
fn step(event: &Event) -> Option<String> {
    let step = event.pipeline.as_ref()?.extra.get("run")?.get("step")?.as_str().map(one_line);
    step.filter(|step| !step.is_empty())
}

/// What a step is called here: by its stage, where it is named as that is.
fn place_of(step: &str) -> String {
    let mut from_the_end = step.rsplit(':');
    let (last, base, above) = (from_the_end.next(), from_the_end.next(), from_the_end.next());
    let name = last.and(above).and(base).unwrap_or(step);
    name.parse().map_or_else(|_| format!("step {}", PLAIN.fit(step, 60)), |stage: Stage| stage.to_string())
}

/// The command by which a workflow run goes on.
fn resume(event: &Event) -> Option<String> {
    let of_run = event.pipeline.as_ref()?.extra.get("run")?;
    let run = of_run.get("id")?.as_str()?;
    // Somebody may paste it into a shell.
    let is_plain = run.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    let folder = of_run.get("folder").and_then(|folder| folder.as_str());
    let place = folder.map_or(String::new(), |folder| format!(" (in {})", one_line(folder)));
    (is_plain && !run.starts_with('-')).then(|| format!("specify workflow resume {run}{place}"))
}

/// The stages of a run, as its event has them.
struct Stages(Vec<Ended>);

/// One attempt of one of them.
struct Ended {
    name: String,
    status: Option<Status>,
    attempt: Option<u64>,
    length: Option<u64>,
}

impl Stages {
    fn of(event: &Event) -> Self {
        let list = event.pipeline.as_ref().and_then(|pipeline| pipeline.extra.get("stages")?.as_array());
        let ended = list.into_iter().flatten().filter_map(|value| {
            let text = |name: &str| value.get(name).and_then(Value::as_str);
            Some(Ended {
                name: PLAIN.fit(&one_line(text("stage")?), 40),
                status: text("status").and_then(|status| status.parse().ok()),
                attempt: value.get("attempt").and_then(Value::as_u64),
                length: value.get("durationMs").and_then(Value::as_u64),
            })
        });
        Self(ended.collect())
    }

    /// The last one that did not go well, and did not when it was tried again.
    fn last_bad(&self) -> Option<&Ended> {
        let is_last = |at: usize| self.0[at + 1..].iter().all(|later| later.name != self.0[at].name);
        let is_bad = |ended: &Ended| matches!(ended.status, Some(Status::Failure | Status::Halt));
        self.0.iter().enumerate().rev().find(|(at, it)| is_bad(it) && is_last(*at)).map(|(_, it)| it)
    }

    /// `Plan 2m30 → Validate 5m10 ✗, 4m50 ✓`: the attempts of a stage that follow one another
    /// stand together, and a single one that passed has no mark.
    fn chain(&self) -> Option<String> {
        let groups = self.0.chunk_by(|one, next| one.name == next.name);
        let told = groups.map(|group| {
            let is_plain = matches!(group, [Ended { status: Some(Status::Success), .. }]);
            let mark = |ended: &Ended| match ended.status {
                Some(Status::Success) => "✓",
                Some(Status::Failure) => "✗",
                Some(Status::Halt) => "⚠",
                None => "",
            };
            let each = group.iter().map(|ended| {
                let parts =
                    [ended.length.and_then(brief), Some(mark(ended).to_owned()).filter(|_| !is_plain)];
                parts.into_iter().flatten().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
            });
            format!("{} {}", group[0].name, each.filter(|one| !one.is_empty()).collect::<Vec<_>>().join(", "))
                .trim_end()
                .to_owned()
        });
        Some(told.collect::<Vec<_>>().join(" → ")).filter(|chain| !chain.is_empty())
    }
}
