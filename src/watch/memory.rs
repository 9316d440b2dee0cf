//! What the watcher has seen, kept across restarts. It is written after the spool has accepted what follows from it, so it
//! may lag behind after a kill, and then an event comes twice and is known; it is never ahead.

use std::collections::HashMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::event::IdempotencyKey;
use crate::intake::tasks::TaskStates;
use crate::store::write_atomic;

const VERSION: u32 = 1;

/// Most files that are remembered; beyond it those are forgotten that no longer exist.
const MAX_FILES: usize = 200_000;

/// Lines that say nothing any more and are not worth writing the file anew.
const SLACK: usize = 2_000;

/// One line of `watch.jsonl`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    /// The first one.
    Watch { version: u32 },
    /// A telemetry file whose event was accepted; without a key, one that was there at the very first start.
    Telemetry {
        path: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        key: Option<IdempotencyKey>,
    },
    /// What a file's tasks were.
    Tasks { path: String, states: TaskStates },
}

/// See the module's first lines.
#[derive(Debug)]
pub(super) struct Memory {
    file: PathBuf,
    telemetry: HashMap<String, Option<IdempotencyKey>>,
    tasks: HashMap<String, TaskStates>,
    lines: usize,
    /// What is on disk is not to be appended to: the file is written anew.
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
        let (telemetry, tasks) = (HashMap::new(), HashMap::new());
        let (lines, is_stale, most) = (0, false, MAX_FILES);
        let mut memory = Self { file, telemetry, tasks, lines, is_stale, most, batch: Vec::new() };
        let text = match fs::read(&memory.file) {
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
                Ok(Line::Telemetry { path, key }) => drop(memory.telemetry.insert(path, key)),
                Ok(Line::Tasks { path, states }) => drop(memory.tasks.insert(path, states)),
                // What it said is seen again, and is known.
                Err(_) => damaged += 1,
            }
        }
        if damaged > 0 {
            log::warn!(
                "{}: {damaged} lines cannot be read; what they said is looked at again",
                memory.file.display()
            );
        }
        // Its last line may be torn. Whether that can be mended now is no condition for watching.
        memory.is_stale = !is_first;
        Ok((memory, is_first))
    }

    /// Whether a telemetry file is known, and the key of its event, where one was sent.
    pub(super) fn telemetry(&self, path: &str) -> Option<Option<&IdempotencyKey>> {
        self.telemetry.get(path).map(Option::as_ref)
    }

    /// What a file's tasks were; `None` where it was never seen.
    pub(super) fn tasks(&self, path: &str) -> Option<&TaskStates> {
        self.tasks.get(path)
    }

    pub(super) fn remember_telemetry(&mut self, path: &str, key: Option<IdempotencyKey>) {
        self.add(&Line::Telemetry { path: path.to_owned(), key: key.clone() });
        self.telemetry.insert(path.to_owned(), key);
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
        if self.telemetry.len() > self.most {
            self.telemetry.retain(|path, _| root.join(path).exists());
            // Where they all exist, looking again at each turn would find nothing.
            self.most = MAX_FILES.max(self.telemetry.len() + self.telemetry.len() / 4);
            self.is_stale = true;
        }
        let is_there = self.file.exists();
        if !is_there && !self.file.parent().is_some_and(Path::is_dir) {
            // It is not ours to make again; once it is there, all of this is written.
            return Err(io::Error::new(io::ErrorKind::NotFound, "the spool's folder is gone"));
        }
        let is_long = self.lines > 2 * (self.telemetry.len() + self.tasks.len()) + SLACK;
        if self.is_stale || is_long || !is_there {
            return self.write_anew();
        }
        if self.batch.is_empty() {
            return Ok(());
        }
        let file = OpenOptions::new().append(true).open(&self.file);
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
        let telemetry: Vec<Line> = self
            .telemetry
            .iter()
            .map(|(path, key)| Line::Telemetry { path: path.clone(), key: key.clone() })
            .collect();
        let tasks = self.tasks.iter();
        let tasks: Vec<Line> =
            tasks.map(|(path, states)| Line::Tasks { path: path.clone(), states: states.clone() }).collect();
        telemetry.iter().chain(&tasks).for_each(|line| self.add(line));
        let content = std::mem::take(&mut self.batch);
        write_atomic(&self.file, &content)?;
        self.is_stale = false;
        Ok(())
    }
}

/// What is known of a file whose event has this key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    New,
    Told,
    Baseline,
    /// It says something else than what was told of it.
    Changed,
}

impl Standing {
    /// `remembered` is the file's entry in the memory: the key that was sent, none for one of the
    /// very first start, which stands for the session that the file's name has.
    pub(super) fn of(remembered: Option<Option<&IdempotencyKey>>, key: &IdempotencyKey, path: &Path) -> Self {
        match remembered {
            None => Self::New,
            Some(Some(sent)) if sent == key => Self::Told,
            Some(Some(_)) => Self::Changed,
            Some(None) => {
                let named = path.file_stem().and_then(|stem| stem.to_str()?.split_once('_'));
                let is_its = named.is_some_and(|(_, session)| key.as_str().ends_with(&format!(":{session}")));
                if is_its { Self::Baseline } else { Self::Changed }
            }
        }
    }

    /// Whether nothing is to be sent for it.
    pub(super) fn is_known(self) -> bool {
        matches!(self, Self::Told | Self::Baseline)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_survives_restarts_and_torn_lines_and_stays_in_proportion() {
        let dir = tempfile::tempdir().unwrap();
        let (mut memory, is_first) = Memory::open(dir.path()).unwrap();
        assert!(is_first);
        let key: IdempotencyKey = "k1".parse().unwrap();
        memory.remember_telemetry("a b\n:.json", Some(key.clone()));
        memory.remember_telemetry("old.json", None);
        memory.flush(dir.path()).unwrap();
        fs::OpenOptions::new()
            .append(true)
            .open(dir.path().join("watch.jsonl"))
            .unwrap()
            .write_all(b"{\"tele")
            .unwrap();
        let (mut memory, is_first) = Memory::open(dir.path()).unwrap();
        assert!(!is_first);
        assert_eq!(memory.telemetry("a b\n:.json"), Some(Some(&key)));
        assert_eq!(memory.telemetry("old.json"), Some(None));
        assert_eq!(memory.telemetry("new.json"), None);
        for _ in 0..3 * SLACK {
            memory.remember_telemetry("old.json", Some(key.clone()));
            memory.flush(dir.path()).unwrap();
        }
        let size = fs::metadata(dir.path().join("watch.jsonl")).unwrap().len();
        assert!(size < 2 * SLACK as u64 * 60, "{size}");
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
        memory.remember_telemetry("b", Some(key.clone()));
        assert!(memory.flush(dir.path()).is_err());
        memory.remember_telemetry("c", Some(key.clone()));
        assert!(memory.flush(dir.path()).is_err());
        fs::remove_dir_all(&file).unwrap();
        memory.flush(dir.path()).unwrap();
        let (memory, is_first) = Memory::open(dir.path()).unwrap();
        assert!(!is_first);
        assert_eq!(memory.telemetry("a"), Some(None));
        for path in ["b", "c"] {
            assert_eq!(memory.telemetry(path), Some(Some(&key)));
        }
    }

    #[test]
    fn what_is_known_of_a_file() {
        let key: IdempotencyKey = serde_json::from_str("\"SPEC-1:plan:attempt-1:s-1\"").unwrap();
        let other: IdempotencyKey = serde_json::from_str("\"SPEC-1:plan:attempt-1:s-2\"").unwrap();
        let path = Path::new("ev/commands/SPEC-1/spec-plan_s-1.json");
        for (remembered, standing, is_known) in [
            (None, Standing::New, false),
            (Some(Some(&key)), Standing::Told, true),
            (Some(Some(&other)), Standing::Changed, false),
            (Some(None), Standing::Baseline, true),
        ] {
            let found = Standing::of(remembered, &key, path);
            assert_eq!((found, found.is_known()), (standing, is_known));
        }
        assert_eq!(Standing::of(Some(None), &other, path), Standing::Changed);
    }
}
