//! Guardrail telemetry: what the files of all guardrails have in common, and the event that one
//! becomes. Given bytes and a path, opens nothing.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::GUARDRAILS;
use super::consensus;
use super::fields::{filled, text};
use super::place::{Place, RepoPaths};
use crate::clock;
use crate::decode;
use crate::event::{
    Carried, Event, EventKind, EvidencePaths, IdempotencyKey, MAX_EVENT_DEPTH, Pipeline, SpecId, Stage,
    Status, depth,
};
use crate::names::printable;

/// Largest telemetry file that is embedded; a larger one cannot be judged and is a `halt`.
pub(crate) const MAX_TELEMETRY_BYTES: usize = 256 * 1024;

/// How hosts name the time at which a stage began.
const STARTS: [&str; 3] = ["startedAt", "started_at", "start_time"];

/// Why a file is not taken as telemetry. Nothing is emitted for it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file} is not guardrail telemetry: {reason}")]
pub(crate) struct NotTelemetry {
    file: String,
    reason: String,
}

impl NotTelemetry {
    /// Why, without which file it is.
    pub(crate) fn reason(&self) -> &str {
        &self.reason
    }
}

/// A kind of guardrail: how its files are named, where they lie, and how it judges a stage.
#[derive(Debug)]
pub(crate) struct Guardrail {
    /// For people.
    pub(crate) name: &'static str,
    /// How its files are named, for people.
    pub(crate) pattern: &'static str,
    /// What stands before the stage in `command`.
    pub(super) commands: &'static [&'static str],
    /// It ends before its stage's agents begin, whatever the host's setting.
    pub(crate) is_before_agents: bool,
    /// Where its files lie.
    pub(crate) places: fn(&RepoPaths<'_>) -> Vec<Place>,
    /// What a file's name says, without its ending; `None` where it is not named so.
    pub(super) named: fn(&str) -> Option<Named>,
    /// What tells one run of a stage from another, by the fields and the session in a name that
    /// this guardrail gave.
    pub(super) session: fn(&Map<String, Value>, Option<&str>) -> Option<String>,
    /// Why a whole file cannot be judged.
    pub(super) defect: fn(&Map<String, Value>) -> Option<String>,
    /// Why the stage did not pass; empty where it did.
    pub(super) failures: fn(Stage, &Map<String, Value>) -> Vec<String>,
}

/// What a file's name says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) stage: Stage,
    /// What tells this run of the stage from others.
    pub(crate) session: String,
    /// When the stage ended.
    pub(crate) at: Option<Timestamp>,
    /// It may be an agent's output, which is no telemetry.
    pub(super) is_of_an_agent: bool,
}

/// How the files of all guardrails are named, for people.
pub(crate) fn patterns() -> String {
    GUARDRAILS.map(|guardrail| guardrail.pattern).join(" or ")
}

/// How the commands of all guardrails are named, for people.
fn commands() -> String {
    let prefixes = GUARDRAILS.iter().flat_map(|guardrail| guardrail.commands);
    prefixes.map(|prefix| format!("{prefix}<stage>")).collect::<Vec<_>>().join(", ")
}

/// Which guardrail's a file is by its name, and what the name says.
pub(crate) fn named(path: &Path) -> Option<(&'static Guardrail, Named)> {
    let stem = path.file_name()?.to_str()?.strip_suffix(".json")?;
    GUARDRAILS.into_iter().find_map(|guardrail| Some((guardrail, (guardrail.named)(stem)?)))
}

/// Which guardrail's a file is by its command, and of which stage.
fn of_command(command: &str) -> Option<(&'static Guardrail, Stage)> {
    let of = |guardrail: &'static Guardrail| {
        let named = |prefix: &&str| Stage::of_guardrail(command.strip_prefix(*prefix)?);
        Some((guardrail, guardrail.commands.iter().find_map(named)?))
    };
    GUARDRAILS.into_iter().find_map(of)
}

/// The name of the folder of a SPEC in which a file lies.
pub(crate) fn folder_of_spec(path: &Path) -> Option<&str> {
    let folders: Vec<&str> = path.components().filter_map(|part| part.as_os_str().to_str()).collect();
    match folders.as_slice() {
        [.., "commands", spec, _] | [.., "docs", spec, "evidence", _] => Some(spec),
        _ => None,
    }
}

/// What could be had of a file's content.
struct Content {
    fields: Carried,
    /// Why it cannot be judged.
    defect: Option<String>,
}

/// Reads one telemetry file as an event. A file that is broken, or lacks what every telemetry file
/// must have, is an event too: status `halt`, and `telemetry.error` says what is wrong.
///
/// # Errors
/// The file is no telemetry (an agent's output, say), or neither it nor its path says which SPEC
/// and stage it is of.
pub(crate) fn read(path: &Path, bytes: &[u8], repo: &RepoPaths<'_>) -> Result<Event, NotTelemetry> {
    let not = |reason: String| NotTelemetry { file: path.display().to_string(), reason };
    let (by_name, named) = named(path).unzip();
    let Content { mut fields, mut defect } = content(bytes);
    let by_command = text(&fields, "command").and_then(of_command);
    let is_agent_output = named.as_ref().is_some_and(|named| named.is_of_an_agent)
        && !(by_command.is_some()
            && text(&fields, "sessionId") == named.as_ref().map(|named| &*named.session));
    if is_agent_output {
        return Err(not("by its name it is an agent's output (spec-<stage>_<agent>_<session>.json); \
                        emit spec-<stage>_<session>.json"
            .to_owned()));
    }
    let stage = named.as_ref().map(|named| named.stage).or(by_command.map(|(_, stage)| stage));
    let stage = stage.ok_or_else(|| {
        not(format!("neither its name ({}) nor its `command` says which stage it is of", patterns()))
    })?;
    // The command's, unless only the name's can judge what is there.
    let of_command = by_command.map(|(guardrail, _)| guardrail);
    let can_judge = |one: &&Guardrail| by_name.is_none() || (one.defect)(&fields).is_none();
    let guardrail = of_command.filter(can_judge).or(by_name).unwrap_or(GUARDRAILS[0]);
    let given_spec = text(&fields, "specId").map(str::parse::<SpecId>);
    let spec = match (&given_spec, folder_of_spec(path).and_then(|spec| spec.parse().ok())) {
        (Some(Ok(spec)), _) => spec.clone(),
        (_, Some(spec)) => spec,
        (Some(Err(error)), None) => return Err(not(error.to_string())),
        (None, None) => {
            return Err(not(
                "neither `specId` nor its folder (commands/<SPEC-ID>/, docs/<SPEC-ID>/evidence/) \
                 says which SPEC it is of"
                    .to_owned(),
            ));
        }
    };
    if defect.is_none() {
        let of_command = by_command.map(|(_, stage)| stage);
        defect =
            envelope_defect(&fields, stage, of_command, given_spec).or_else(|| (guardrail.defect)(&fields));
    }
    let in_name = named.map(|named| named.session);
    let is_its_name = by_name.is_some_and(|by_name| std::ptr::eq(by_name, guardrail));
    let session = (guardrail.session)(&fields, in_name.as_deref().filter(|_| is_its_name)).or(in_name);
    let attempt =
        fields.get("attempt").and_then(Value::as_u64).and_then(|n| u32::try_from(n).ok()).filter(|n| *n > 0);
    let key = IdempotencyKey::of_step(&spec, &stage.slug(), attempt.unwrap_or(1), session.as_deref());
    let mut event = Event::new(EventKind::StageCompleted, spec, key);
    event.event.stage = Some(stage);
    event.pipeline = Some(Pipeline {
        // What the telemetry does not say is counted when the event is accepted.
        attempt,
        started_at: STARTS.iter().find_map(|name| clock::in_rfc3339(text(&fields, name)?)),
        completed_at: text(&fields, "timestamp").and_then(clock::in_rfc3339),
        ..Pipeline::default()
    });
    event.evidence = Some(EvidencePaths { paths: evidence_paths(path, &fields, repo), extra: Map::new() });
    event.consensus = fields.get("consensus").and_then(Value::as_object).map(consensus::embedded);
    let reasons = match defect {
        Some(defect) => {
            fields.fields_mut().insert("error".to_owned(), defect.as_str().into());
            event.event.status = Some(Status::Halt);
            vec![defect]
        }
        None => {
            let reasons = (guardrail.failures)(stage, &fields);
            event.event.status = Some(if reasons.is_empty() { Status::Success } else { Status::Failure });
            reasons
        }
    };
    event.event.reasons = reasons;
    event.telemetry = Some(fields);
    Ok(event)
}

/// The fields of a JSON object; of anything else, what can be read and why that is not all.
fn content(bytes: &[u8]) -> Content {
    if bytes.len() > MAX_TELEMETRY_BYTES {
        let fields = salvage(&String::from_utf8_lossy(&bytes[..MAX_TELEMETRY_BYTES]));
        return Content {
            fields,
            defect: Some(format!("the file is larger than {MAX_TELEMETRY_BYTES} bytes")),
        };
    }
    let levels = depth(bytes);
    if levels >= MAX_EVENT_DEPTH {
        let defect = format!("the file is nested {levels} levels deep, {} at most", MAX_EVENT_DEPTH - 1);
        return Content { fields: salvage(&String::from_utf8_lossy(bytes)), defect: Some(defect) };
    }
    match decode::json(bytes) {
        Ok((Value::Object(fields), notes)) if notes.is_empty() => {
            Content { fields: Carried::new(fields, &decode::text(bytes)), defect: None }
        }
        Ok((Value::Object(mut fields), notes)) => {
            note(&mut fields, notes);
            Content { fields: fields.into(), defect: None }
        }
        Ok(_) => Content {
            fields: Carried::default(),
            defect: Some("the file holds JSON, but not an object".to_owned()),
        },
        Err(_) if decode::text(bytes).trim().is_empty() => {
            Content { fields: Carried::default(), defect: Some("the file is empty".to_owned()) }
        }
        Err(error) => Content {
            fields: salvage(&decode::text(bytes)),
            defect: Some(format!("the file is not valid JSON: {error}")),
        },
    }
}

/// Adds what had to be changed to `notes`, which a host may have itself.
fn note(fields: &mut Map<String, Value>, notes: decode::Notes) {
    match fields.entry("notes").or_insert_with(|| Value::Array(Vec::new())) {
        Value::Array(there) => there.extend(notes.into_iter().map(Value::from)),
        _ => log::debug!("telemetry has notes of its own; what was changed in it: {}", notes.join("; ")),
    }
}

/// The identifying fields of a text that is not JSON as a whole: each `"name": "value"` that still
/// stands in it.
fn salvage(text: &str) -> Carried {
    let mut fields = Map::new();
    for name in ["command", "specId", "sessionId", "timestamp"] {
        let value = text.split_once(&format!("\"{name}\"")).and_then(|(_, after)| {
            let after = after.trim_start().strip_prefix(':')?.trim_start().strip_prefix('"')?;
            let (value, _) = after.split_once('"')?;
            (value.len() <= 256 && !value.contains(['\\', '\n'])).then_some(value)
        });
        if let Some(value) = value {
            fields.insert(name.to_owned(), value.into());
        }
    }
    fields.into()
}

/// What every telemetry file must have, whatever its stage.
fn envelope_defect(
    fields: &Map<String, Value>,
    stage: Stage,
    command_stage: Option<Stage>,
    spec: Option<Result<SpecId, crate::event::InvalidSpecId>>,
) -> Option<String> {
    let missing: Vec<&str> = ["command", "specId", "sessionId", "timestamp"]
        .into_iter()
        .filter(|name| text(fields, name).is_none())
        .collect();
    if !missing.is_empty() {
        return Some(format!("required fields are missing or empty: {}", missing.join(", ")));
    }
    if let Some(Err(error)) = spec {
        return Some(format!("specId: {error}"));
    }
    let command = printable(text(fields, "command").unwrap_or_default(), 80);
    match command_stage {
        None => Some(format!("command `{command}` is not a guardrail's ({})", commands())),
        Some(of_command) if of_command != stage => {
            Some(format!("the file's name says {stage}, its command `{command}` says {of_command}"))
        }
        Some(_) => None,
    }
}

/// The file itself and its artifacts, relative to the repo, each once.
fn evidence_paths(path: &Path, fields: &Map<String, Value>, repo: &RepoPaths<'_>) -> Vec<String> {
    let artifacts = fields.get("artifacts").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let named = artifacts.iter().filter_map(|artifact| filled(artifact.get("path").unwrap_or(artifact)));
    let own = path.to_str();
    let mut seen = BTreeSet::new();
    own.into_iter()
        .chain(named)
        .filter_map(|path| relative(path, repo))
        .filter(|path| seen.insert(path.clone()))
        .collect()
}

/// A path relative to the repo. One from another machine is known by the evidence tree's place in
/// it; of any other absolute path, and of one that climbs, nothing is said.
fn relative(path: &str, repo: &RepoPaths<'_>) -> Option<String> {
    let plain = |path: &Path| {
        let stays = path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        path.to_str().filter(|path| stays && !path.is_empty()).map(str::to_owned)
    };
    let given = Path::new(path);
    if given.is_relative() {
        return plain(given);
    }
    if let Ok(inside) = given.strip_prefix(repo.root) {
        return plain(inside);
    }
    let tree = repo.evidence_dir.strip_prefix(repo.root).ok()?;
    let parts: Vec<_> = given.components().collect();
    let tree_parts: Vec<_> = tree.components().collect();
    let at = parts.windows(tree_parts.len().max(1)).rposition(|window| window == tree_parts)?;
    plain(&parts[at..].iter().collect::<PathBuf>())
}

#[cfg(test)]
mod tests;
