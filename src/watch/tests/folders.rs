//! Folders that go, come, come back and are replaced, and the file of what was seen: nothing of it
//! costs an event or a minute.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// What can become of a folder.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Removed,
    MovedAway,
    MovedAwayAndBack,
    Replaced,
}

const FATES: [Fate; 4] = [Fate::Removed, Fate::MovedAway, Fate::MovedAwayAndBack, Fate::Replaced];

impl Repo {
    fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    /// Removes a folder in which the watcher may be writing what it has seen.
    fn remove_all(&self, folder: &Path) {
        self.wait("a folder to be removed", || {
            (fs::remove_dir_all(folder).is_ok() || !folder.exists()).then_some(())
        });
    }

    /// Lets it happen to a folder. `meanwhile` runs while there is none.
    fn befall(&self, folder: &str, fate: Fate, meanwhile: impl FnOnce()) {
        let elsewhere = tempfile::tempdir_in(self.dir.path()).unwrap().keep();
        let (path, away, other) = (self.path(folder), elsewhere.join("away"), elsewhere.join("other"));
        match fate {
            Fate::Removed => self.remove_all(&path),
            Fate::MovedAway | Fate::MovedAwayAndBack => fs::rename(&path, &away).unwrap(),
            Fate::Replaced => {
                fs::create_dir(&other).unwrap();
                copy(&path, &other);
                fs::rename(&path, &away).unwrap();
            }
        }
        meanwhile();
        match fate {
            Fate::Removed | Fate::MovedAway => {}
            Fate::MovedAwayAndBack => fs::rename(&away, &path).unwrap(),
            Fate::Replaced => fs::rename(&other, &path).unwrap(),
        }
    }

    /// Waits until the watcher has dealt with everything up to now: it tells of a task in the
    /// repo's own root.
    fn wait_for_the_watcher(&self, mark: &str) {
        self.write("SPEC.md", &format!("| ID | Status |\n|---|---|\n| {mark} | Done |\n"));
        let key = format!("SPEC-TRACKER:SPEC.md#{mark}:done-1");
        self.wait(mark, || self.keys().contains(&key).then_some(()));
    }

    /// Waits for these, and that nothing was told twice.
    #[track_caller]
    fn expect_each_once(&self, keys: &[String]) {
        self.wait("each", || keys.iter().all(|key| self.keys().contains(key)).then_some(()));
        let mut told = self.keys();
        told.sort();
        let count = told.len();
        told.dedup();
        assert_eq!(told.len(), count, "each once: {:?}", self.keys());
    }
}

/// Whether any watcher of this process still watches this inode.
#[cfg(target_os = "linux")]
fn is_watched(inode: u64) -> bool {
    let files = fs::read_dir("/proc/self/fdinfo").unwrap();
    let texts = files.filter_map(|file| fs::read_to_string(file.ok()?.path()).ok());
    let all: Vec<String> = texts.collect();
    let word = format!(" ino:{inode:x} ");
    all.iter().flat_map(|text| text.lines()).any(|line| line.starts_with("inotify ") && line.contains(&word))
}

#[test]
fn a_folder_that_goes_and_comes_back_is_told_of_at_once_at_every_depth() {
    let repo = Repo::new();
    let _watch = repo.watch();
    let mut all = vec![repo.plan("SPEC-1", "first")];
    repo.expect_each_once(&all);
    for folder in ["evidence/commands/SPEC-1", "evidence/commands", "evidence"] {
        for (n, fate) in FATES.into_iter().enumerate() {
            for is_seen in [true, false] {
                let mark = format!("{}-{n}-{is_seen}", folder.len());
                // Whether the watcher sees that it is gone before it is back, or not.
                repo.befall(folder, fate, || {
                    if is_seen {
                        repo.wait_for_the_watcher(&mark)
                    }
                });
                all.push(repo.plan("SPEC-1", &mark));
                all.push(repo.plan("SPEC-2", &mark));
                repo.expect_each_once(&all);
            }
        }
    }
}

#[test]
fn what_is_moved_away_is_not_watched_any_more() {
    let repo = Repo::new();
    let _watch = repo.watch();
    let first = repo.plan("SPEC-1", "first");
    repo.expect(&[&first]);
    let inode = |path: &Path| std::os::unix::fs::MetadataExt::ino(&fs::metadata(path).unwrap());
    let folders = ["evidence", "evidence/commands", "evidence/commands/SPEC-1"].map(|path| repo.path(path));
    let old = folders.each_ref().map(|path| inode(path));
    for inode in old {
        repo.wait("to be watched", || is_watched(inode).then_some(()));
    }
    repo.befall("evidence", Fate::Replaced, || {});
    for (old, path) in old.into_iter().zip(&folders) {
        repo.wait("the new one to be watched", || is_watched(inode(path)).then_some(()));
        repo.wait("the old one to be left", || (!is_watched(old)).then_some(()));
    }
    // What happens in the old one is nothing to us.
    let second = repo.plan("SPEC-1", "second");
    repo.expect(&[&first, &second]);
}

#[test]
fn the_repo_itself_and_its_docs_may_go_and_come_back() {
    let repo = Repo::new();
    let tasks = |done: &str| format!("| Order | Task | Status |\n|---|---|---|\n{done}");
    repo.write("docs/SPEC-7-x/tasks.md", &tasks(""));
    let _watch = repo.watch();
    let mut all = vec![repo.plan("SPEC-1", "first")];
    repo.expect_each_once(&all);
    let mut rows = String::new();
    let root = repo.dir.path().to_owned();
    let away = root.with_extension("away");
    for (n, folder) in ["docs/SPEC-7-x", "docs", "", "", ""].into_iter().enumerate() {
        match n {
            3 => fs::rename(&root, &away).unwrap(),
            _ => repo.remove_all(&repo.path(folder)),
        }
        if n == 4 {
            // Another one is moved in.
            fs::rename(&away, &root).unwrap();
        }
        rows += &format!("| {n} | a | Done |\n");
        repo.write("docs/SPEC-7-x/tasks.md", &tasks(&rows));
        all.push(format!("SPEC-7-x:docs/SPEC-7-x/tasks.md#{n}:done-1"));
        all.push(repo.plan("SPEC-1", &format!("s-{n}")));
        repo.expect_each_once(&all);
    }
}

#[test]
fn what_is_made_deep_down_later_is_told_of() {
    let repo = Repo::new();
    let outside = tempfile::tempdir().unwrap();
    let at = |path: &str| outside.path().join(path).to_str().unwrap().to_owned();
    let folders = ["deep/down/evidence".to_owned(), at("evidence"), at("far/away/evidence")];
    for (n, evidence) in folders.iter().enumerate() {
        let text = format!("[spec_ops.webhooks]\nspool_dir = \"spool\"\nevidence_dir = \"{evidence}\"\n");
        repo.write("config.toml", &text);
        let watch = repo.watch_as_configured(true);
        repo.wait_for_the_watcher(&format!("start-{n}"));
        let key = repo.plan_in(evidence, "SPEC-1", &format!("s-{n}"));
        repo.expect_each_once(&[key]);
        watch.stop();
    }
}

#[derive(Clone, Debug)]
enum Step {
    Befall(usize, Fate, bool),
    Write(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..5usize, prop::sample::select(FATES.to_vec()), any::<bool>())
            .prop_map(|(folder, fate, at_once)| Step::Befall(folder, fate, at_once)),
        (1..4u8).prop_map(Step::Write),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    /// Whatever becomes of the folders, a file that is there in the end was told of, and none
    /// twice.
    #[test]
    fn whatever_becomes_of_folders_what_is_there_was_told_once(
        steps in prop::collection::vec(step(), 1..12),
    ) {
        let repo = Repo::new();
        let _watch = repo.watch();
        let mut written = BTreeMap::new();
        let folders = [
            "evidence", "evidence/commands", "evidence/commands/SPEC-1", "evidence/commands/SPEC-2",
            "evidence/commands/SPEC-3",
        ];
        for (n, step) in steps.into_iter().enumerate() {
            match step {
                Step::Write(spec) => {
                    let (spec, session) = (format!("SPEC-{spec}"), format!("s-{n}"));
                    let key = repo.plan(&spec, &session);
                    written.insert(key, format!("evidence/commands/{spec}/spec-plan_{session}.json"));
                }
                Step::Befall(folder, ..) if !repo.path(folders[folder]).exists() => {}
                Step::Befall(folder, fate, at_once) => {
                    let mark = format!("mark-{n}");
                    repo.befall(folders[folder], fate, || if !at_once { repo.wait_for_the_watcher(&mark) });
                }
            }
        }
        let last = repo.plan("SPEC-1", "last");
        written.retain(|_, path| repo.path(path).exists());
        let there: Vec<String> = written.into_keys().chain([last]).collect();
        repo.expect_each_once(&there);
    }
}

#[test]
fn the_file_of_what_was_seen_is_made_again_wherever_it_went() {
    let repo = Repo::new();
    let old = repo.plan("SPEC-1", "old");
    let watch = repo.watch();
    let first = repo.plan("SPEC-1", "first");
    repo.expect(&[&first]);
    let file = repo.path("spool/watch.jsonl");
    let knows = |words: &[&str]| {
        let text = fs::read_to_string(&file).ok()?;
        words.iter().all(|word| text.contains(word)).then_some(())
    };
    repo.wait("what was seen", || knows(&["spec-plan_old", "spec-plan_first"]));
    fs::remove_file(&file).unwrap();
    repo.wait("the file again", || knows(&["spec-plan_old", "spec-plan_first"]));
    // The spool is not the watcher's to make.
    repo.remove_all(&repo.path("spool"));
    let second = repo.plan("SPEC-1", "second");
    repo.expect(&[&first, &second]);
    assert!(!repo.path("spool").exists());
    fs::create_dir(repo.path("spool")).unwrap();
    repo.wait("the file in the new spool", || {
        knows(&["spec-plan_old", "spec-plan_first", "spec-plan_second"])
    });
    // What cannot be written now is written later.
    fs::remove_file(&file).unwrap();
    fs::create_dir_all(file.join("in-the-way")).unwrap();
    let third = repo.plan("SPEC-1", "third");
    repo.expect(&[&first, &second, &third]);
    fs::remove_dir_all(&file).unwrap();
    repo.wait("the file at last", || knows(&["spec-plan_old", "spec-plan_third"]));
    watch.stop();
    // So that the next start knows what is new.
    let fourth = repo.plan("SPEC-1", "fourth");
    let _watch = repo.watch();
    repo.expect_nothing_but(&[&first, &second, &third, &fourth], "m-1");
    assert!(!repo.keys().contains(&old));
}

#[test]
fn a_memory_that_cannot_be_read_yet_is_read_later() {
    let repo = Repo::new();
    let file = repo.path("spool/watch.jsonl");
    fs::create_dir(&file).unwrap();
    let old = repo.plan("SPEC-1", "old");
    let watch = repo.watch_with(false, "");
    fs::remove_dir(&file).unwrap();
    fs::write(&file, "{\"watch\":{\"version\":1}}\n").unwrap();
    repo.expect(&[&old]);
    watch.stop();
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    // Nor does it keep a watcher from stopping.
    repo.watch_with(false, "").stop();
}
