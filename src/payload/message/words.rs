//! The reasons, follow-ups and hints that sources and the runtime write, in a reader's words. What
//! nobody here wrote is left as it is.

use serde_json::Value;

use super::{file_name, one_line};
use crate::event::{Event, Stage};
use crate::names::printable;
use crate::payload::cut::{MARK, PLAIN};
use crate::payload::one_line::says_something;

/// Longest reasons that stand in the headline together.
const SHORT: usize = 72;

/// Longest single reason that stands there whole: of a longer one, [`SHORT`] stands there.
const WHOLE: usize = 120;

/// Most characters of a reason that a run keeps of a stage.
const KEPT: usize = 300;

/// Fields of telemetry whose status is a reason, and what they stand for.
const PARTS: [(&str, &str); 6] = [
    ("baseline.status", "the baseline"),
    ("hooks[\"session.start\"]", "the session.start hook"),
    ("tool.status", "the tool for tasks"),
    ("lock_status", "the lock"),
    ("hook_status", "the hook"),
    ("unlock_status", "the unlock"),
];

/// Why something did not go well.
#[derive(Debug, Default)]
pub(super) struct Why {
    /// All in a few words, where that can be said.
    pub(super) heading: Option<String>,
    /// One by one, as far as the heading does not say it.
    pub(super) items: Vec<String>,
    /// What it takes to go on.
    pub(super) remedy: Remedy,
}

/// What it takes to go on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Remedy {
    /// Something in the repo is to be corrected.
    #[default]
    Work,
    /// The telemetry cannot be read.
    Telemetry,
    /// The agents disagree.
    Decision,
}

/// Why the event's status is what it is.
pub(super) fn why(event: &Event) -> Why {
    let reasons = event.event.reasons.iter();
    let reasons: Vec<&String> = reasons.filter(|reason| says_something(&one_line(reason))).collect();
    if event.telemetry.as_ref().is_some_and(|fields| fields.contains_key("error")) {
        let items = reasons.iter().map(|reason| unreadable(event, reason)).collect();
        let heading = Some("its telemetry can't be read".to_owned());
        return Why { heading, items, remedy: Remedy::Telemetry };
    }
    let (mut scenarios, mut others) = (Vec::new(), Vec::new());
    for reason in reasons {
        match scenario(reason) {
            Some(found) => scenarios.push(found),
            None => others.push(plain(reason)),
        }
    }
    let disagree = event.event.reasons.iter().any(|reason| reason.starts_with(CONFLICT));
    let remedy = if disagree { Remedy::Decision } else { Remedy::Work };
    let mut why = Why { heading: None, items: Vec::new(), remedy };
    let count = (!scenarios.is_empty()).then(|| counted(&scenarios, all_scenarios(event)));
    let all: Vec<&str> = count.iter().chain(&others).map(String::as_str).collect();
    let most = if all.len() == 1 { WHOLE } else { SHORT };
    let all = Some(all.join(", ")).filter(|all| !all.is_empty() && all.chars().count() <= most);
    if all.is_some() {
        (why.heading, others) = (all, Vec::new());
    } else {
        let many = (others.len() > 1).then(|| format!("{} reasons", others.len()));
        why.heading = count.or(many);
    }
    let is_list = others.len() + scenarios.len() > 1;
    let as_item = |text: String| if is_list && text.starts_with("the ") { capital(&text) } else { text };
    why.items.extend(others.into_iter().map(as_item));
    let of_one = |(name, word): (String, String)| match word.as_str() {
        "failed" => name,
        word => format!("{name} ({word})"),
    };
    why.items.extend(scenarios.into_iter().map(of_one));
    why.items.extend(if disagree { disagreements(event) } else { Vec::new() });
    why
}

/// A long reason in two: as much of it as the headline has room for, and the rest, each with a mark
/// where the other is. `None` where there is no place to part it.
pub(super) fn parted(reason: &str) -> Option<(String, String)> {
    let start = PLAIN.fit(reason, SHORT);
    let rest = reason.strip_prefix(start.strip_suffix(MARK)?)?.trim_start();
    (start != MARK && rest != reason).then(|| (start, format!("{MARK}{rest}")))
}

/// As the first word of a sentence.
pub(in crate::payload) fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

/// `3 of 12 scenarios failed`.
fn counted(scenarios: &[(String, String)], of: Option<usize>) -> String {
    let count = scenarios.len();
    let of = of.filter(|all| *all > count).map(|all| format!(" of {all}")).unwrap_or_default();
    let noun = if count == 1 && of.is_empty() { "scenario" } else { "scenarios" };
    let verb = if scenarios.iter().all(|(_, word)| word == "failed") { "failed" } else { "did not pass" };
    format!("{count}{of} {noun} {verb}")
}

fn all_scenarios(event: &Event) -> Option<usize> {
    Some(event.telemetry.as_ref()?.get("scenarios")?.as_array()?.len())
}

/// A scenario that did not pass, with its status.
fn scenario(reason: &str) -> Option<(String, String)> {
    let (name, is) = reason.strip_prefix("scenario `")?.rsplit_once("` is ")?;
    let word = is.split(", not ").next().unwrap_or(is);
    Some((one_line(name), one_line(word)))
}

/// How the reason of a conflict begins.
const CONFLICT: &str = "the consensus is a conflict";

/// One reason.
pub(super) fn plain(reason: &str) -> String {
    for (field, part) in PARTS {
        if let Some(is) = reason.strip_prefix(field).and_then(|rest| rest.strip_prefix(" is ")) {
            return match one_line(is.split(", not ").next().unwrap_or(is)).as_str() {
                "failed" => format!("{part} failed"),
                "missing" => format!("{part} has no status"),
                "empty or not a text" => format!("{part} has no readable status"),
                word => format!("{part} is {word}"),
            };
        }
    }
    if let Some(checks) = reason.strip_prefix("hal.summary.status is failed") {
        let checks = one_line(checks.trim_start_matches(':'));
        return match checks.split(", ").count() {
            _ if checks.is_empty() => "the HAL checks failed".to_owned(),
            1 => format!("HAL check failed: {checks}"),
            count => format!("{count} HAL checks failed: {checks}"),
        };
    }
    if let Some(points) = reason.strip_prefix(CONFLICT) {
        let count = points.trim_start_matches(": ").split(' ').next().filter(|count| !count.is_empty());
        return match count {
            Some("1") => "the agents disagree on a point".to_owned(),
            Some(count) => format!("the agents disagree on {} points", one_line(count)),
            None => "the agents disagree".to_owned(),
        };
    }
    if let Some((name, word)) = scenario(reason) {
        return format!("{name} {}", if word == "failed" { word } else { format!("is {word}") });
    }
    match reason {
        "there is no scenario" => "no scenario was run".to_owned(),
        "the guardrail does not say why: `success` is false" => "the guardrail does not say why".to_owned(),
        "the consensus is degraded" => "the agents agreed only in part".to_owned(),
        "the consensus is hold" => "the agents have not decided".to_owned(),
        reason => one_line(reason),
    }
}

/// Why telemetry cannot be read: the file, and where in it.
fn unreadable(event: &Event, reason: &str) -> String {
    let file = event.evidence.as_ref().and_then(|evidence| evidence.paths.first());
    let file = file.map(|path| file_name(path)).unwrap_or_default();
    let what = reason.strip_prefix("the file is not valid JSON: ").unwrap_or(reason);
    let place = what.rsplit_once(" at line ").and_then(|(what, at)| {
        let (line, column) = at.split_once(" column ")?;
        Some((what, format!("line {line}, column {column}")))
    });
    let (what, place) = place.map_or((what, None), |(what, place)| (what, Some(place)));
    let parts = [Some(file).filter(|file| !file.is_empty()), place];
    let before: Vec<String> = parts.into_iter().flatten().collect();
    match before.is_empty() {
        true => one_line(what),
        false => one_line(&format!("{}: {}", before.join(", "), what.replace('`', "'"))),
    }
}

/// What remains to be done after a run; nothing that its reasons say already.
pub(super) fn follow_ups(event: &Event) -> Vec<String> {
    // The reasons of a workflow run name the step.
    let bare = |reason: &String| match reason.strip_prefix("step ").and_then(|it| it.split_once(": ")) {
        Some((_, rest)) if event.is_of_a_workflow_run() => printable(rest, KEPT),
        _ => printable(reason, KEPT),
    };
    let reasons: Vec<String> = event.event.reasons.iter().map(bare).collect();
    let told = event.extra.get("followUps").and_then(Value::as_array).into_iter().flatten();
    let told = told.filter_map(|one| {
        let text = one.as_str().map_or_else(|| one.to_string(), str::to_owned);
        let of_stage = text.split_once(": ").filter(|(stage, _)| stage.parse::<Stage>().is_ok());
        match of_stage {
            Some((_, reason)) if reasons.iter().any(|known| known == reason) => None,
            Some((stage, reason)) => Some(format!("{stage}: {}", plain(reason))),
            None => Some(open_task(&text).unwrap_or_else(|| one_line(&text))),
        }
    });
    told.filter(|text| !text.is_empty()).collect()
}

/// `T7 open: Retries`.
fn open_task(follow_up: &str) -> Option<String> {
    let (task, _) = follow_up.strip_prefix("task ")?.strip_suffix(", not Done")?.rsplit_once(" is ")?;
    Some(one_line(&match task.split_once(" (") {
        Some((id, title)) => format!("{id} open: {}", title.strip_suffix(')').unwrap_or(title)),
        None => format!("{task} open"),
    }))
}

/// The points on which the agents disagree.
pub(super) fn disagreements(event: &Event) -> Vec<String> {
    let of_anomaly = event.extra.get("anomaly").and_then(|anomaly| anomaly.get("disagreements"));
    let of_stage = || event.consensus.as_ref()?.extra.get("conflicts");
    let points = of_anomaly.or_else(of_stage).and_then(Value::as_array).into_iter().flatten();
    points.map(point).filter(|point| !point.is_empty()).collect()
}

/// One of them: a sentence, or an object with the point and who takes which position.
fn point(value: &Value) -> String {
    const NAMES: [&str; 6] = ["point", "topic", "issue", "question", "title", "summary"];
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let fields = match value {
        Value::Object(fields) => fields,
        Value::Null => return String::new(),
        value => return one_line(&text(value)),
    };
    let named = NAMES.iter().find_map(|name| fields.get_key_value(*name));
    let positions = fields.iter().filter(|(name, _)| named.is_none_or(|(known, _)| known != *name));
    let positions: Vec<String> = positions
        .map(|(name, value)| match value.as_object() {
            Some(inner) => {
                let each = inner.iter().map(|(who, what)| format!("{who}: {}", text(what)));
                each.collect::<Vec<_>>().join(" / ")
            }
            None => format!("{name}: {}", text(value)),
        })
        .collect();
    let point = named.map(|(_, point)| text(point)).into_iter();
    let positions = Some(positions.join(" / ")).filter(|positions| !positions.is_empty());
    one_line(&point.chain(positions).collect::<Vec<_>>().join(" – "))
}

/// What to do, by an event's hint; `stage` is the one that is to run again.
pub(super) fn next(event: &Event, stage: &str) -> Option<String> {
    let hint = event.extra.get("anomaly")?.get("hint")?.as_str()?;
    Some(match hint {
        hint if hint.starts_with("read the synthesis, settle the points") => {
            format!("Decide in the PRD, then run {stage} again.")
        }
        hint if hint.starts_with("look at what the run's stages cost") => {
            "It goes on; stop it if that isn't meant.".to_owned()
        }
        hint if hint.starts_with("look whether what follows") => {
            format!("See whether what follows {stage} still works; start it again if not.")
        }
        hint => one_line(hint),
    })
    .filter(|hint| !hint.is_empty())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_reasons_of_the_sources_are_told_in_plain_words() {
        for (reason, words) in [
            ("baseline.status is failed, not passed or skipped", "the baseline failed"),
            ("hooks[\"session.start\"] is missing, not ok", "the session.start hook has no status"),
            ("tool.status is empty or not a text, not ok", "the tool for tasks has no readable status"),
            ("lock_status is unlocked, not locked", "the lock is unlocked"),
            ("hal.summary.status is failed", "the HAL checks failed"),
            ("hal.summary.status is failed: graphql_ping", "HAL check failed: graphql_ping"),
            ("hal.summary.status is failed: a, b", "2 HAL checks failed: a, b"),
            ("the consensus is a conflict", "the agents disagree"),
            ("the consensus is a conflict: 1 point of disagreement", "the agents disagree on a point"),
            ("the consensus is a conflict: 2 points of disagreement", "the agents disagree on 2 points"),
            ("scenario `a` is failed, not passed or skipped", "a failed"),
            ("scenario `a` is missing, not passed or skipped", "a is missing"),
            ("there is no scenario", "no scenario was run"),
            ("schema: the\nfield `x` is missing", "schema: the field `x` is missing"),
        ] {
            assert_eq!(plain(reason), words);
        }
    }

    #[test]
    fn a_point_says_who_takes_which_position() {
        for (value, words) in [
            (json!("queue or file"), "queue or file"),
            (
                json!({"point": "retries", "positions": {"claude": "a queue", "gpt": 2}}),
                "retries – claude: a queue / gpt: 2",
            ),
            (json!({"claude": "a", "gpt": "b"}), "claude: a / gpt: b"),
            (json!({"topic": "x"}), "x"),
            (json!([1]), "[1]"),
        ] {
            assert_eq!(point(&value), words);
        }
    }

    #[test]
    fn open_tasks_are_short() {
        assert_eq!(
            open_task("task T7 (Retries (all)) is In Progress, not Done").unwrap(),
            "T7 open: Retries (all)"
        );
        assert_eq!(open_task("task T7 is Open, not Done").unwrap(), "T7 open");
        assert_eq!(open_task("task T7 is late"), None);
    }
}
