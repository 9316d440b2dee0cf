//! What a stage's agents agreed on: where its files lie, and the consensus of one run of a stage.

mod agents;
mod content;
mod identity;
mod name;
mod ownership;
mod verdict;

use std::cmp::Reverse;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use jiff::Timestamp;

use super::place::{Level, Place, RepoPaths, entries};
use crate::clock;
use crate::event::{Consensus, SpecId, Stage};
use crate::files::open::{self, Links};
use content::Content;
pub(crate) use content::embedded;
pub(crate) use identity::Identity;
use name::Part;
pub(crate) use name::{Named, folder_of_spec};
use ownership::Order;
pub(crate) use verdict::{apply, correction};

/// Largest consensus file that is read, and most of a stage and part.
pub(crate) const MAX_BYTES: u64 = 1024 * 1024;
const MOST_READ: usize = 32;

/// How much earlier than its synthesis a verdict may have been written that belongs to it.
const TOGETHER: Duration = Duration::from_secs(2);

/// Where consensus files lie.
pub(crate) fn places(repo: &RepoPaths<'_>) -> Vec<Place> {
    let below_docs = &[Level::Spec, Level::Named("evidence"), Level::Named("consensus")];
    repo.places(("consensus", &[Level::Spec]), below_docs)
}

/// The consensus of a run of a stage.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Reached {
    pub(crate) at: Timestamp,
    /// That as the host wrote it.
    pub(crate) time: String,
    /// Which run of the agents it was, where that is known.
    pub(crate) run: Option<String>,
    pub(crate) consensus: Consensus,
    /// There is a verdict, and not only a list of agents.
    pub(crate) is_synthesis: bool,
    /// The files that say so, and what each says.
    pub(crate) files: Vec<(PathBuf, Identity)>,
}

impl Reached {
    /// Whether it is one that halts its stage.
    pub(crate) fn is_conflict(&self) -> bool {
        verdict::is_conflict(&self.consensus)
    }
}

/// One file that was read.
struct File {
    path: PathBuf,
    named: Named,
    at: Timestamp,
    time: String,
    content: Content,
    identity: Identity,
}

/// The runs of a stage, as far as they are known.
#[derive(Clone, Debug, Default)]
pub(crate) struct Runs {
    /// When each one's guardrail ended, in order.
    pub(crate) ended: Vec<Timestamp>,
    /// When a consensus was reached that is not there any more.
    pub(crate) reached: Vec<Timestamp>,
    /// Agents begin once the guardrail has ended.
    pub(crate) are_guardrail_first: bool,
}

impl Runs {
    /// What ends first, as `reached` and what is known of the runs tell.
    fn order(&self, reached: impl IntoIterator<Item = Timestamp>) -> Order {
        if self.are_guardrail_first {
            return Order::GuardrailFirst;
        }
        Order::of(&self.ended, self.reached.iter().copied().chain(reached))
    }
}

/// The folders that may hold a SPEC's consensus and that are there.
pub(crate) fn folders_of(spec: &SpecId, repo: &RepoPaths<'_>) -> Vec<PathBuf> {
    let folders = places(repo).into_iter().map(|place| place.folder_of(spec));
    folders.filter(|folder| folder.is_dir()).collect()
}

/// The consensus of one run of a stage, from what the files in `folders` say and `is_free` lets
/// through. `runs` is asked once there is some. Of many files those are read that are newest by
/// their names.
pub(crate) fn of_run(
    folders: &[PathBuf],
    stage: Stage,
    is_free: impl Fn(&Path, &Identity) -> bool,
    runs: impl FnOnce() -> Option<(Runs, usize)>,
) -> Option<Reached> {
    let inside = folders.iter().flat_map(|folder| entries(folder));
    let named = inside.filter_map(|path| Some((Named::of(&path)?, path)));
    let mut named: Vec<_> = named.filter(|(named, _)| named.stage == stage).collect();
    if named.is_empty() {
        return None;
    }
    named.sort_by_cached_key(|(named, path)| Reverse(named.at().or_else(|| written(path))));
    let newest = |part| {
        let of_part = named.iter().filter(move |(named, _)| named.part == part).take(MOST_READ);
        of_part.filter_map(|(named, path)| File::read(named, path))
    };
    let verdicts: Vec<File> = newest(Part::Verdict).collect();
    let mut files: Vec<File> = newest(Part::Synthesis).map(|file| file.with(&verdicts)).collect();
    files.extend(newest(Part::Telemetry));
    files.extend(verdicts);
    files.retain(|file| is_free(&file.path, &file.identity));
    if files.is_empty() {
        return None;
    }
    let (runs, run) = runs()?;
    let order = runs.order(files.iter().map(|file| file.at));
    files.retain(|file| order.owner(&runs.ended, file.at) == Some(run));
    Reached::of(&files)
}

/// Which run of a stage a file belongs to that came later, by the times alone.
pub(crate) fn owner(file: &Reached, runs: &Runs) -> Option<usize> {
    runs.order([file.at]).owner(&runs.ended, file.at)
}

/// What one file says, with the verdict beside it; `None` where it cannot be read, or says
/// nothing.
pub(crate) fn of_file(path: &Path) -> Option<Reached> {
    let named = Named::of(path)?;
    let file = File::read(&named, path)?;
    let beside = entries(path.parent()?).filter_map(|beside| Some((Named::of(&beside)?, beside)));
    let verdicts = beside.filter(|(beside, _)| beside.part == Part::Verdict && beside.stage == named.stage);
    let verdicts: Vec<File> = match named.part {
        Part::Synthesis => verdicts.filter_map(|(named, path)| File::read(&named, &path)).collect(),
        Part::Verdict | Part::Telemetry => Vec::new(),
    };
    Reached::of(&[file.with(&verdicts)])
}

impl File {
    fn read(named: &Named, path: &Path) -> Option<Self> {
        let bytes = open::whole(path, Links::Refused, MAX_BYTES).ok()?;
        let content = Content::of(named.part, &bytes)?;
        let by_name = || Some((named.at()?, named.session.clone()?));
        let by_file = || written(path).map(|at| (at, clock::rfc3339(at)));
        let (at, time) = content.at.clone().or_else(by_name).or_else(by_file)?;
        let identity = Identity::of(named.stage, content.run.as_deref(), &bytes);
        Some(Self { path: path.to_owned(), named: named.clone(), at, time, content, identity })
    }

    /// A synthesis with what the verdict that was exported with it adds: the run's id, and its
    /// time where neither content nor name say one.
    fn with(mut self, verdicts: &[Self]) -> Self {
        let is_exported_with = |verdict: &&Self| {
            verdict.named.session == self.named.session
                && modified(&verdict.path)
                    .zip(modified(&self.path))
                    .is_some_and(|(verdict, own)| verdict + TOGETHER >= own)
        };
        if let Some(verdict) = verdicts.iter().find(is_exported_with) {
            if self.content.at.is_none() && self.named.at().is_none() {
                self.at = verdict.at;
                self.time.clone_from(&verdict.time);
            }
            if let (None, Some(run)) = (&self.content.run, &verdict.content.run) {
                self.identity.name_run(self.named.stage, run);
                self.content.run = Some(run.clone());
            }
        }
        self
    }
}

impl Reached {
    /// The newest of each part: a synthesis has the verdict, the others may have its agents.
    fn of(files: &[File]) -> Option<Self> {
        let newest = |part| {
            let of_part = files.iter().filter(move |file| file.named.part == part);
            of_part.max_by_key(|file| file.at)
        };
        let parts = [Part::Synthesis, Part::Verdict, Part::Telemetry].map(newest);
        let has_verdict = |file: &&File| file.content.consensus.status.is_some();
        let said = parts.into_iter().flatten();
        let said = said.clone().find(has_verdict).or_else(|| said.clone().next())?;
        let mut consensus = said.content.consensus.clone();
        if consensus.agents.is_empty() {
            let mut others = parts.into_iter().flatten().map(|file| &file.content.consensus.agents);
            consensus.agents = others.find(|agents| !agents.is_empty()).cloned().unwrap_or_default();
        }
        Some(Self {
            at: said.at,
            time: said.time.clone(),
            run: said.content.run.clone(),
            is_synthesis: consensus.status.is_some() || parts[0].is_some(),
            consensus,
            files: files.iter().map(|file| (file.path.clone(), file.identity.clone())).collect(),
        })
    }
}

fn modified(path: &Path) -> Option<SystemTime> {
    fs::symlink_metadata(path).and_then(|found| found.modified()).ok()
}

/// When a file was written, without opening it.
fn written(path: &Path) -> Option<Timestamp> {
    modified(path)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn time(at: &str) -> Timestamp {
        at.parse().unwrap()
    }

    /// The consensus of the last of a stage's runs that ended at these times.
    fn of_plan(dir: &Path, ended: &[&str]) -> Option<Reached> {
        let runs = Runs { ended: ended.iter().map(|at| time(at)).collect(), ..Runs::default() };
        let last = ended.len() - 1;
        of_run(&[dir.to_owned()], Stage::Plan, |_, _| true, || Some((runs, last)))
    }

    #[test]
    fn the_newest_of_the_run_counts_and_agents_may_come_from_the_telemetry() {
        let dir = tempfile::tempdir().unwrap();
        let write =
            |name: &str, content: &Value| fs::write(dir.path().join(name), content.to_string()).unwrap();
        assert_eq!(of_plan(dir.path(), &["2025-10-06T00:00:00Z"]), None);
        let synthesis = |at: &str, status: &str| {
            json!({"stage": "plan", "timestamp": at, "status": status, "agents": [],
                "consensus": {"agreements": ["a"], "conflicts": []}})
        };
        write(
            "spec-plan_2025-10-06T00:00:00Z_synthesis.json",
            &synthesis("2025-10-06T00:00:00Z", "degraded"),
        );
        write("spec-plan_2025-10-07T00:00:00Z_synthesis.json", &synthesis("${timestamp_run}", "ok"));
        write("spec-plan_2025-10-08T00:00:00Z_claude.json", &synthesis("2025-10-08T00:00:00Z", "conflict"));
        write(
            "spec-tasks_2025-10-08T00:00:00Z_synthesis.json",
            &synthesis("2025-10-08T00:00:00Z", "conflict"),
        );
        fs::write(dir.path().join("spec-plan_2025-10-09T00:00:00Z_synthesis.json"), "{\"status\": \"confl")
            .unwrap();
        let agent = json!({"agent": "claude", "model_id": "claude-4.5", "model_release": "2025-09-29",
            "reasoning_mode": "auto", "cost_usd": null});
        write(
            "spec-plan_2025-10-07T00:00:00Z_telemetry.jsonl",
            &json!({"timestamp": "2025-10-07T00:00:00Z", "consensus": {"status": "ok", "agents": [agent]}}),
        );
        let found = of_plan(dir.path(), &["2025-10-05T00:00:00Z"]).unwrap();
        assert_eq!((found.consensus.status.as_deref(), found.is_synthesis), (Some("ok"), true));
        assert_eq!(
            Value::from(found.consensus.agents[0].clone()),
            json!({"agent": "claude", "model": "claude-4.5", "model_release": "2025-09-29",
                "reasoning_mode": "auto"})
        );
        assert_eq!(found.consensus.extra["agreements"], json!(["a"]));
        let twice = ["2025-10-05T00:00:00Z", "2025-10-07T12:00:00Z"];
        assert_eq!(of_plan(dir.path(), &twice), None, "it belongs to the run before");
        let active = json!({"timestamp": "2025-10-10T00:00:00Z", "status": "hold",
            "agents": {"active": [{"model": "gpt-5", "role": "x"}], "degraded": ["gpt"]}});
        write("spec-plan_synthesis.json", &active);
        let found = of_plan(dir.path(), &twice).unwrap().consensus;
        assert_eq!(
            (found.status.as_deref(), Value::from(found.agents[0].clone())),
            (Some("hold"), json!({"model": "gpt-5"}))
        );
    }

    #[test]
    fn a_verdict_of_an_earlier_export_lends_nothing_to_a_synthesis() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, content: &Value, second: u64| {
            let path = dir.path().join(name);
            fs::write(&path, content.to_string()).unwrap();
            let modified = SystemTime::UNIX_EPOCH + Duration::from_secs(1_766_000_000 + second);
            fs::File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
            path
        };
        let verdict = json!({"run_id": "run_1", "exported_at": "2025-12-26T10:00:00Z"});
        write("plan_verdict.json", &verdict, 0);
        for (second, run) in [(0, Some("run_1")), (1, Some("run_1")), (600, None)] {
            let path = write("plan_synthesis.json", &json!({"status": "conflict"}), second);
            let found = of_file(&path).unwrap();
            assert_eq!(found.run.as_deref(), run, "{second}");
            assert_eq!(found.at == time("2025-12-26T10:00:00Z"), run.is_some());
        }
    }
}
