//! What the watcher has seen, kept across restarts. It is written after the spool has accepted
//! what follows from it, so it may lag behind after a kill, and then an event comes twice and is
//! known; it is never ahead.

use std::collections::{BTreeSet, HashMap};
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::settle::Stamp;
use crate::clock;
use crate::event::{IdempotencyKey, SpecId, Status};
use crate::files::open::{self, Links};
use crate::files::write_atomic;
use crate::names::counted;
use crate::sources::consensus::{Identity, folder_of_spec};
use crate::sources::done::TaskStates;
use crate::sources::workflow_run::Mark;

const VERSION: u32 = 1;

/// Most files that are remembered; beyond it those are forgotten that no longer exist.
const MAX_FILES: usize = 200_000;

/// The same of consensus: some ten for each run of a SPEC.
const MAX_AGREED: usize = 50_000;

/// Largest `watch.jsonl` that is read; one of ours has some 300 bytes for each file.
const MAX_BYTES: u64 = 256 * 1024 * 1024;

/// Lines that say nothing any more and are not worth writing the file anew.
const SLACK: usize = 2_000;

/// One line of `watch.jsonl`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    /// The first one.
    Watch { version: u32 },
    /// The sources of which a first look was taken: what another one holds then is its baseline.
    Sources(BTreeSet<String>),
    /// A file of telemetry, consensus or costs, and what is [known](Seen) of it.
    Telemetry {
        path: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        key: Option<IdempotencyKey>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        status: Option<Status>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        version: Option<Stamp>,
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        baseline: bool,
        #[serde(default, skip_serializing_if = "Option::is_none", with = "clock::maybe_millis")]
        reached: Option<Timestamp>,
    },
    /// To which stage a consensus belongs.
    Agreed {
        of: String,
        #[serde(flatten)]
        agreed: Agreed,
    },
    /// How far the log of a workflow run was told: up to which byte, the checksum of what is
    /// before it, which version of the file that was; and the run's SPEC, once it is fixed.
    Run {
        path: String,
        told: u64,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        crc: Option<u32>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        version: Option<Stamp>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        spec: Option<SpecId>,
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        goes_on: bool,
    },
    /// What a file's tasks were.
    Tasks {
        path: String,
        #[serde(flatten)]
        states: TaskStates,
    },
}

/// To which stage a consensus belongs, whatever becomes of its file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Agreed {
    /// The stage's key; none where it belongs to none that was told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) key: Option<IdempotencyKey>,
    /// It is a conflict, and told as one where it is not of the baseline.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) conflict: bool,
    /// It came after its stage was told: what is told of the stage's own file is without it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) late: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) baseline: bool,
}

impl Agreed {
    /// Whether it may be part of what is told of the stage with this key.
    pub(super) fn is_free_for(&self, stage: &IdempotencyKey) -> bool {
        match &self.key {
            Some(key) => key == stage && !self.late,
            None => !self.baseline,
        }
    }
}

/// Sources that were watched before memories said which.
const FIRST_SOURCES: [&str; 2] = ["bash guardrails", "task list"];

/// What is known of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    /// The key of its event; none for what tells nothing by itself, and for what an earlier
    /// version found at the very first start.
    pub(super) key: Option<IdempotencyKey>,
    /// The verdict.
    pub(super) status: Option<Status>,
    /// Which version of the file was read; none where an earlier version of this program read it.
    pub(super) version: Option<Stamp>,
    /// It was there at the very first start, and is not sent.
    pub(super) baseline: bool,
    /// When the consensus was reached that its stage was told with.
    pub(super) reached: Option<Timestamp>,
}

impl Seen {
    fn line(&self, path: &str) -> Line {
        let Self { key, status, version, baseline, reached } = self.clone();
        Line::Telemetry { path: path.to_owned(), key, status, version, baseline, reached }
    }
}

/// What is known of a workflow run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct SeenRun {
    /// How far its log was told; without a checksum it is the baseline, which was never read.
    pub(super) told: Mark,
    /// Which version of the log that was.
    pub(super) version: Option<Stamp>,
    /// Its SPEC, once it is fixed.
    pub(super) spec: Option<SpecId>,
    /// It has neither ended nor paused.
    pub(super) goes_on: bool,
}

impl SeenRun {
    fn line(&self, path: &str) -> Line {
        let Self { told: Mark { at: told, crc }, version, spec, goes_on } = self.clone();
        Line::Run { path: path.to_owned(), told, crc, version, spec, goes_on }
    }

    /// Whether nothing of this version of the log is still to be told.
    pub(super) fn is_all_of(&self, version: Stamp) -> bool {
        self.version == Some(version) && self.told.at == version.0
    }
}

/// See the module's first lines.
#[derive(Debug, Default)]
pub(super) struct Memory {
    file: PathBuf,
    sources: BTreeSet<String>,
    files: HashMap<String, Seen>,
    agreed: HashMap<String, Agreed>,
    tasks: HashMap<String, TaskStates>,
    runs: HashMap<String, SeenRun>,
    lines: usize,
    /// What is on disk is not to be appended to: the file is written again.
    is_stale: bool,
    /// Beyond this many files those are forgotten that no longer exist.
    most: usize,
    /// Lines that are not written yet.
    batch: Vec<u8>,
}

impl Memory {
    /// Reads what there is; whether there was nothing: the very first start. Nothing is written
    /// before the first [`flush`](Self::flush).
    pub(super) fn open(spool_dir: &Path) -> io::Result<(Self, bool)> {
        let file = spool_dir.join("watch.jsonl");
        let mut memory = Self { file, most: MAX_FILES, ..Self::default() };
        let text = match open::whole(&memory.file, Links::Refused, MAX_BYTES) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => {
                let file = memory.file.display();
                return Err(io::Error::new(error.kind(), format!("{file} cannot be read: {error}")));
            }
        };
        let is_first = text.is_empty();
        let mut damaged = 0;
        for line in text.lines() {
            match serde_json::from_str(line) {
                Ok(Line::Watch { version }) if version > VERSION => {
                    let file = memory.file.display();
                    return Err(io::Error::new(
                        io::ErrorKind::Unsupported,
                        format!("{file} was written by a later version (format {version})"),
                    ));
                }
                Ok(Line::Watch { .. }) => {}
                Ok(Line::Sources(sources)) => memory.sources = sources,
                Ok(Line::Telemetry { path, key, status, version, baseline, reached }) => {
                    memory.files.insert(path, Seen { key, status, version, baseline, reached });
                }
                Ok(Line::Agreed { of, agreed }) => drop(memory.agreed.insert(of, agreed)),
                Ok(Line::Run { path, told, crc, version, spec, goes_on }) => {
                    let told = Mark { at: told, crc };
                    memory.runs.insert(path, SeenRun { told, version, spec, goes_on });
                }
                Ok(Line::Tasks { path, states }) => drop(memory.tasks.insert(path, states)),
                // What it said is seen again, and is known.
                Err(_) => damaged += 1,
            }
        }
        if damaged > 0 {
            log::warn!(
                "{}: {} cannot be read; what was said there is looked at again",
                memory.file.display(),
                counted(damaged, "line", "lines")
            );
        }
        if !is_first && memory.sources.is_empty() {
            memory.sources = FIRST_SOURCES.map(str::to_owned).into();
        }
        // Its last line may be torn. Whether that can be mended now is no condition for watching.
        memory.is_stale = !is_first;
        Ok((memory, is_first))
    }

    /// Whether a source was looked at before.
    pub(super) fn knows_source(&self, source: &str) -> bool {
        self.sources.contains(source)
    }

    pub(super) fn remember_source(&mut self, source: &str) {
        if self.sources.insert(source.to_owned()) {
            self.add(&Line::Sources(self.sources.clone()));
        }
    }

    /// What is known of a file.
    pub(super) fn file(&self, path: &str) -> Option<&Seen> {
        self.files.get(path)
    }

    /// What is known of what a consensus file says.
    pub(super) fn agreed(&self, file: &Path, identity: &Identity) -> Option<&Agreed> {
        identity.names().find_map(|name| self.agreed.get(&named_agreed(file, name)))
    }

    pub(super) fn remember_agreed(&mut self, file: &Path, identity: &Identity, agreed: Agreed) {
        let of = named_agreed(file, identity.name());
        if self.agreed.get(&of) != Some(&agreed) {
            self.add(&Line::Agreed { of: of.clone(), agreed: agreed.clone() });
            self.agreed.insert(of, agreed);
        }
    }

    /// Whether a summary of costs still says what it said at the first look.
    pub(super) fn is_baseline_cost(&self, path: &str, says: [u8; 32]) -> bool {
        self.agreed.contains_key(&named_cost(path, says))
    }

    pub(super) fn remember_cost(&mut self, path: &str, says: [u8; 32]) {
        let (of, agreed) = (named_cost(path, says), Agreed { baseline: true, ..Agreed::default() });
        self.add(&Line::Agreed { of: of.clone(), agreed: agreed.clone() });
        self.agreed.insert(of, agreed);
    }

    /// What a file's tasks were; `None` where it was never seen.
    pub(super) fn tasks(&self, path: &str) -> Option<&TaskStates> {
        self.tasks.get(path)
    }

    pub(super) fn remember(&mut self, path: &str, seen: Seen) {
        if self.files.get(path) != Some(&seen) {
            self.add(&seen.line(path));
            self.files.insert(path.to_owned(), seen);
        }
    }

    /// What is known of the run with this log.
    pub(super) fn run(&self, path: &str) -> Option<&SeenRun> {
        self.runs.get(path)
    }

    pub(super) fn remember_run(&mut self, path: &str, seen: SeenRun) {
        if self.runs.get(path) != Some(&seen) {
            self.add(&seen.line(path));
            self.runs.insert(path.to_owned(), seen);
        }
    }

    pub(super) fn remember_tasks(&mut self, path: &str, states: TaskStates) {
        if self.tasks.get(path) != Some(&states) {
            self.add(&Line::Tasks { path: path.to_owned(), states: states.clone() });
            self.tasks.insert(path.to_owned(), states);
        }
    }

    fn add(&mut self, line: &Line) {
        if let Ok(mut json) = serde_json::to_vec(line) {
            json.push(b'\n');
            self.batch.append(&mut json);
            self.lines += 1;
        }
    }

    /// Writes what was remembered and is not on disk, however that came about. `root` is where the
    /// paths begin. An error forgets nothing: the next time it is written all the same.
    pub(super) fn flush(&mut self, root: &Path) -> io::Result<()> {
        if self.agreed.len() > MAX_AGREED {
            // What none but the baseline had is known by nothing else.
            self.agreed.retain(|_, agreed| agreed.baseline);
            self.is_stale = true;
        }
        if self.files.len() + self.runs.len() > self.most {
            self.files.retain(|path, _| root.join(path).exists());
            self.runs.retain(|path, _| root.join(path).exists());
            // Where they all exist, looking again at each turn would find nothing.
            let left = self.files.len() + self.runs.len();
            self.most = MAX_FILES.max(left + left / 4);
            self.is_stale = true;
        }
        let is_there = self.file.exists();
        if !is_there && !self.file.parent().is_some_and(Path::is_dir) {
            // It is not ours to make again; once it is there, all of this is written.
            return Err(io::Error::new(io::ErrorKind::NotFound, "the spool's folder is gone"));
        }
        let known = self.files.len() + self.agreed.len() + self.tasks.len() + self.runs.len();
        let is_long = self.lines > 2 * known + SLACK;
        if self.is_stale || is_long || !is_there {
            return self.write_anew();
        }
        if self.batch.is_empty() {
            return Ok(());
        }
        let file = open::with(&self.file, Links::Refused, OpenOptions::new().append(true));
        let appended = file.and_then(|mut file| file.write_all(&self.batch));
        // A part of it may be there, up to within a line.
        self.is_stale = appended.is_err();
        appended?;
        self.batch.clear();
        Ok(())
    }

    fn write_anew(&mut self) -> io::Result<()> {
        self.batch.clear();
        self.lines = 0;
        self.is_stale = true;
        self.add(&Line::Watch { version: VERSION });
        self.add(&Line::Sources(self.sources.clone()));
        let agreed = self.agreed.iter();
        let agreed: Vec<Line> =
            agreed.map(|(of, agreed)| Line::Agreed { of: of.clone(), agreed: agreed.clone() }).collect();
        let files: Vec<Line> = self.files.iter().map(|(path, seen)| seen.line(path)).collect();
        let tasks = self.tasks.iter();
        let tasks: Vec<Line> =
            tasks.map(|(path, states)| Line::Tasks { path: path.clone(), states: states.clone() }).collect();
        let runs: Vec<Line> = self.runs.iter().map(|(path, seen)| seen.line(path)).collect();
        files.iter().chain(&agreed).chain(&tasks).chain(&runs).for_each(|line| self.add(line));
        let content = std::mem::take(&mut self.batch);
        write_atomic(&self.file, &content)?;
        self.is_stale = false;
        Ok(())
    }
}

/// The name of what a consensus file says, among those of its SPEC.
fn named_agreed(file: &Path, name: &str) -> String {
    format!("{}/{name}", folder_of_spec(file).unwrap_or_default())
}

/// The name of what a summary of costs says.
fn named_cost(path: &str, says: [u8; 32]) -> String {
    format!("{path}#{}", hex::encode(&says[..8]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn told(key: &IdempotencyKey) -> Seen {
        Seen {
            key: Some(key.clone()),
            status: Some(Status::Success),
            version: Some((100, 1_760_000_000_000_000_000)),
            baseline: false,
            reached: None,
        }
    }

    #[test]
    fn it_survives_restarts_and_torn_lines_and_stays_in_proportion() {
        let dir = tempfile::tempdir().unwrap();
        let (mut memory, is_first) = Memory::open(dir.path()).unwrap();
        assert!(is_first);
        let key: IdempotencyKey = "k1".parse().unwrap();
        memory.remember("a b\n:.json", told(&key));
        memory.remember("old.json", Seen::default());
        memory.flush(dir.path()).unwrap();
        fs::OpenOptions::new()
            .append(true)
            .open(dir.path().join("watch.jsonl"))
            .unwrap()
            .write_all(b"{\"tele")
            .unwrap();
        let (mut memory, is_first) = Memory::open(dir.path()).unwrap();
        assert!(!is_first);
        assert_eq!(memory.file("a b\n:.json"), Some(&told(&key)));
        assert_eq!(memory.file("old.json"), Some(&Seen::default()));
        assert_eq!(memory.file("new.json"), None);
        for n in 0..3 * SLACK {
            memory.remember("old.json", Seen { version: Some((1, n as u64)), ..told(&key) });
            memory.flush(dir.path()).unwrap();
        }
        let size = fs::metadata(dir.path().join("watch.jsonl")).unwrap().len();
        assert!(size < 2 * SLACK as u64 * 100, "{size}");
        fs::write(dir.path().join("watch.jsonl"), "{\"watch\":{\"version\":2}}\n").unwrap();
        assert!(Memory::open(dir.path()).unwrap_err().to_string().contains("format 2"));
    }

    #[test]
    fn reading_changes_nothing_and_what_could_not_be_written_is_written_later() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("watch.jsonl");
        let key: IdempotencyKey = "k1".parse().unwrap();
        let torn = "{\"watch\":{\"version\":1}}\n{\"telemetry\":{\"path\":\"a\"}}\n{\"tele";
        fs::write(&file, torn).unwrap();
        // Not even a full disk keeps it from being read.
        let (mut memory, _) = Memory::open(dir.path()).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), torn);
        memory.flush(dir.path()).unwrap();
        assert!(!fs::read_to_string(&file).unwrap().contains("{\"tele\n"));
        // Neither to be appended to nor to be replaced.
        fs::remove_file(&file).unwrap();
        fs::create_dir_all(file.join("in-the-way")).unwrap();
        memory.remember("b", told(&key));
        assert!(memory.flush(dir.path()).is_err());
        memory.remember("c", told(&key));
        assert!(memory.flush(dir.path()).is_err());
        fs::remove_dir_all(&file).unwrap();
        memory.flush(dir.path()).unwrap();
        let (memory, is_first) = Memory::open(dir.path()).unwrap();
        assert!(!is_first);
        assert_eq!(memory.file("a"), Some(&Seen::default()));
        for path in ["b", "c"] {
            assert_eq!(memory.file(path), Some(&told(&key)));
        }
    }
}
