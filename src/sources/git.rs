//! Asks git about its objects: within a bound of time and bytes, and so that no program that a
//! repo's config can name is run.

use std::ffi::OsStr;
use std::io::{self, Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

/// How long one question may take, the start of git included.
pub(crate) const PATIENCE: Duration = Duration::from_millis(300);

/// Bytes that one question reads.
const MAX_READ: usize = 32 * 1024 * 1024;

/// Longest first line of an answer: a path with what git says of it.
const MAX_LINE: usize = 16 * 1024;

/// Commits that are looked at, along first parents.
pub(crate) const MAX_COMMITS: usize = 32;

/// Variables that would lead git to another repo: those that `git rev-parse --local-env-vars`
/// lists but for the user's own settings, such as which folders are safe.
const OF_ANOTHER_REPO: [&str; 13] = [
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_DIR",
    "GIT_GRAFT_FILE",
    "GIT_IMPLICIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_NAMESPACE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_PREFIX",
    "GIT_QUARANTINE_PATH",
    "GIT_REPLACE_REF_BASE",
    "GIT_SHALLOW_FILE",
    "GIT_WORK_TREE",
];

/// One commit of HEAD's first parents, with what was read out of its version of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Version<T> {
    /// When it was authored, in seconds since the epoch: a rebase does not change it.
    pub(crate) authored: i64,
    /// It has more than one parent.
    pub(crate) is_merge: bool,
    /// What was read out of the file; `None` where it has no such file, or nothing asked for it.
    pub(crate) file: Option<T>,
}

/// HEAD and its first parents, newest first, with the file `name` of `folder` in HEAD, in those
/// that were authored at `since` or later, and in the parents of these. None where HEAD has no
/// commit.
///
/// # Errors
/// Git is not installed, refuses, or takes longer than `patience`.
pub(crate) fn history<T: Clone>(
    folder: &Path,
    name: &OsStr,
    since: i64,
    patience: Duration,
    mut read: impl FnMut(&[u8]) -> T,
) -> io::Result<Vec<Version<T>>> {
    let mut git = Git::start(folder, &["cat-file", "--batch"], patience)?;
    let mut versions: Vec<Version<T>> = Vec::new();
    let mut last: Option<(String, T)> = None;
    let mut is_parent_of_interest = true;
    // The last one is only the parent of the one before it.
    for back in 0..=MAX_COMMITS {
        let commit = if back == 0 { "HEAD".to_owned() } else { format!("HEAD~{back}") };
        let Some(found) = git.ask(commit.as_bytes())? else { break };
        let (authored, parents) = authored_and_parents(&found.content);
        let mut version = Version { authored, is_merge: parents > 1, file: None };
        if is_parent_of_interest || authored >= since {
            let path = [commit.as_bytes(), b":./", name.as_bytes()].concat();
            if let Some(found) = git.ask(&path)?.filter(|found| found.kind == "blob") {
                // Most commits leave the file as it is.
                let file = match last.take() {
                    Some((id, file)) if id == found.id => file,
                    _ => read(&found.content),
                };
                last = Some((found.id, file.clone()));
                version.file = Some(file);
            }
        }
        is_parent_of_interest = authored >= since;
        versions.push(version);
        if parents == 0 {
            break;
        }
    }
    Ok(versions)
}

/// The ids of what these names stand for; `None` for a name that stands for nothing.
///
/// # Errors
/// As [`history`].
pub(crate) fn ids<const N: usize>(
    folder: &Path,
    names: [&str; N],
    patience: Duration,
) -> io::Result<[Option<String>; N]> {
    let mut git = Git::start(folder, &["cat-file", "--batch"], patience)?;
    let mut ids = [const { None }; N];
    for (id, name) in ids.iter_mut().zip(names) {
        *id = git.ask(name.as_bytes())?.map(|found| found.id);
    }
    Ok(ids)
}

/// Which of these names stand for something; of objects nothing is read.
///
/// # Errors
/// As [`history`].
pub(crate) fn are_there(folder: &Path, names: &[String], patience: Duration) -> io::Result<Vec<bool>> {
    let mut git = Git::start(folder, &["cat-file", "--batch-check"], patience)?;
    names
        .iter()
        .map(|name| {
            git.put(name.as_bytes())?;
            Ok(!git.line()?.ends_with(" missing"))
        })
        .collect()
}

/// The branch that HEAD is on; `None` where it is detached.
///
/// # Errors
/// As [`history`].
pub(crate) fn branch(folder: &Path, patience: Duration) -> io::Result<Option<String>> {
    let mut git = Git::start(folder, &["symbolic-ref", "--quiet", "--short", "HEAD"], patience)?;
    match git.line() {
        Ok(branch) => Ok(Some(branch)),
        // It is about to end: git-symbolic-ref(1) says with which status.
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            if git.child.wait()?.code() == Some(1) {
                Ok(None)
            } else {
                Err(error)
            }
        }
        Err(error) => Err(error),
    }
}

/// When a commit was authored, and how many parents it has.
fn authored_and_parents(commit: &[u8]) -> (i64, usize) {
    let text = String::from_utf8_lossy(commit);
    let head = text.lines().take_while(|line| !line.is_empty());
    let (mut authored, mut parents) = (0, 0);
    for line in head {
        if line.starts_with("parent ") {
            parents += 1;
        } else if line.starts_with("author ") {
            authored = line.rsplit(' ').nth(1).and_then(|seconds| seconds.parse().ok()).unwrap_or_default();
        }
    }
    (authored, parents)
}

/// An object.
struct Found {
    id: String,
    kind: String,
    content: Vec<u8>,
}

/// A git that answers. Dropping it ends it.
struct Git {
    child: Child,
    questions: Option<ChildStdin>,
    answers: ChildStdout,
    /// What was read and not used yet.
    buffer: Vec<u8>,
    read: usize,
    until: Instant,
}

impl Git {
    fn start(folder: &Path, arguments: &[&str], patience: Duration) -> io::Result<Self> {
        let until = Instant::now() + patience;
        let mut command = Command::new("git");
        // No option here and no variable below is unknown to any git that is in use: an unknown
        // variable does nothing.
        command
            .args(["--no-replace-objects", "--no-optional-locks", "-c", "core.fsmonitor=false"])
            .args(["-c", "core.hooksPath=/dev/null"])
            .args(arguments)
            .current_dir(folder)
            .env("LC_ALL", "C")
            .env("GIT_OPTIONAL_LOCKS", "0")
            .env("GIT_TERMINAL_PROMPT", "0")
            // In a partial clone a missing object would be fetched, by a program of its config.
            .env("GIT_NO_LAZY_FETCH", "1")
            .env("GIT_ALLOW_PROTOCOL", "none")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        for name in OF_ANOTHER_REPO {
            command.env_remove(name);
        }
        let mut child = command.spawn()?;
        let (questions, answers) = (child.stdin.take(), child.stdout.take());
        let Some(answers) = answers else {
            return Err(io::Error::other("git has no output"));
        };
        Ok(Self { child, questions, answers, buffer: Vec::new(), read: 0, until })
    }

    fn put(&mut self, name: &[u8]) -> io::Result<()> {
        if name.contains(&b'\n') {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a name has a line break in it"));
        }
        // One question at a time, and shorter than what a pipe holds: this never waits.
        if let Some(questions) = &mut self.questions {
            questions.write_all(&[name, b"\n"].concat())?;
        }
        Ok(())
    }

    /// The object that a name stands for; `None` where it stands for none.
    fn ask(&mut self, name: &[u8]) -> io::Result<Option<Found>> {
        self.put(name)?;
        let line = self.line()?;
        if line.ends_with(" missing") {
            return Ok(None);
        }
        let mut words = line.split(' ');
        let (Some(id), Some(kind), Some(Ok(size)), None) =
            (words.next(), words.next(), words.next().map(str::parse::<usize>), words.next())
        else {
            return Err(io::Error::other(format!("git said {:?}", line.get(..60).unwrap_or(&line))));
        };
        // A line break ends the content.
        while self.buffer.len() <= size {
            self.read_more()?;
        }
        let content = self.buffer.drain(..=size).take(size).collect();
        Ok(Some(Found { id: id.to_owned(), kind: kind.to_owned(), content }))
    }

    fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line = self.buffer.drain(..=end).take(end).collect();
                return String::from_utf8(line).map_err(io::Error::other);
            }
            if self.buffer.len() > MAX_LINE {
                return Err(io::Error::other("git's answer has no end"));
            }
            self.read_more()?;
        }
    }

    fn read_more(&mut self) -> io::Result<()> {
        let left = self.until.saturating_duration_since(Instant::now());
        let wait = Timespec::try_from(left).map_err(io::Error::other)?;
        match poll(&mut [PollFd::new(&self.answers, PollFlags::IN)], Some(&wait)) {
            Err(Errno::INTR) => return Ok(()),
            Ok(ready) if ready > 0 && !left.is_zero() => {}
            Ok(_) => return Err(io::Error::new(io::ErrorKind::TimedOut, "git takes too long")),
            Err(error) => return Err(error.into()),
        }
        let mut part = [0; 16 * 1024];
        let count = self.answers.read(&mut part)?;
        self.read += count;
        if count == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "git gives no answer"));
        }
        if self.read > MAX_READ {
            return Err(io::Error::other("git's answer is too large"));
        }
        self.buffer.extend_from_slice(&part[..count]);
        Ok(())
    }
}

impl Drop for Git {
    fn drop(&mut self) {
        // It has nothing to write: it can be ended at any moment.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const LONG: Duration = Duration::from_secs(60);

    /// A repo, and what runs git in it; `None` where git is not installed.
    fn repo() -> Option<(tempfile::TempDir, impl Fn(&[&str]))> {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().to_owned();
        if Command::new("git").args(["init", "-q", "-b", "main"]).arg(&root).output().is_err() {
            eprintln!("skipped: git is not installed");
            return None;
        }
        let run = move |arguments: &[&str]| {
            let mut git = Command::new("git");
            git.args(["-c", "user.name=a", "-c", "user.email=a@b"]).arg("-C").arg(&root).args(arguments);
            let ran = git.output().unwrap();
            assert!(ran.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&ran.stderr));
        };
        Some((dir, run))
    }

    fn versions(folder: &Path, name: &str, since: i64) -> Vec<(i64, bool, Option<String>)> {
        let read = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let found = history(folder, OsStr::new(name), since, LONG, read).unwrap();
        found.into_iter().map(|version| (version.authored, version.is_merge, version.file)).collect()
    }

    #[test]
    fn history_is_what_was_committed_and_no_more_is_read_than_counts() {
        let Some((dir, git)) = repo() else { return };
        let folder = dir.path().join("below it");
        fs::create_dir(&folder).unwrap();
        assert_eq!(versions(&folder, "a list.md", 0), [], "nothing is committed");
        let commit = |text: &str, at: u32| {
            fs::write(folder.join("a list.md"), text).unwrap();
            git(&["add", "-A"]);
            git(&[
                "commit",
                "-q",
                "--allow-empty",
                "-m",
                "x\n\nauthor b <b> 1 +0000",
                &format!("--date=@{at} +0200"),
            ]);
        };
        git(&["commit", "-q", "--allow-empty", "-m", "none", "--date=@1000000 +0000"]);
        for (text, at) in [("one", 1_000_010), ("two", 1_000_020), ("two", 1_000_030), ("", 1_000_040)] {
            commit(text, at);
        }
        let version = |at, text: Option<&str>| (at, false, text.map(str::to_owned));
        let all = [
            version(1_000_040, Some("")),
            version(1_000_030, Some("two")),
            version(1_000_020, Some("two")),
            version(1_000_010, Some("one")),
            version(1_000_000, None),
        ];
        assert_eq!(versions(&folder, "a list.md", 0), all);
        let mut late = all.clone();
        late[3].2 = None;
        assert_eq!(versions(&folder, "a list.md", 1_000_030), late);
        assert!(versions(&folder, "another.md", 0).iter().all(|(.., text)| text.is_none()));
        assert!(versions(dir.path(), "below it", 0).iter().all(|(.., text)| text.is_none()), "a folder");
        git(&["checkout", "-q", "-b", "side", "HEAD~1"]);
        git(&["commit", "-q", "--allow-empty", "-m", "side"]);
        git(&["checkout", "-q", "main"]);
        git(&["merge", "-q", "--no-edit", "side"]);
        let merged = versions(&folder, "a list.md", 0);
        assert!(merged[0].1 && merged[1] == all[0] && merged.len() == 6, "{merged:?}");
        for n in 0..MAX_COMMITS {
            commit(&n.to_string(), 1_000_100);
        }
        assert_eq!(versions(&folder, "a list.md", 0).len(), MAX_COMMITS + 1);
    }

    #[test]
    fn what_git_cannot_say_in_time_or_at_all_is_an_error() {
        let Some((dir, git)) = repo() else { return };
        let ask = |folder: &Path, name: &str, patience| {
            history(folder, OsStr::new(name), 0, patience, <[u8]>::len).map_err(|error| error.kind())
        };
        assert_eq!(ask(dir.path(), "a\nb", LONG).map(|found| found.len()), Ok(0), "no commit has it");
        git(&["commit", "-q", "--allow-empty", "-m", "one"]);
        assert_eq!(ask(dir.path(), "a\nb", LONG), Err(io::ErrorKind::InvalidInput));
        assert_eq!(ask(dir.path(), "a", Duration::ZERO), Err(io::ErrorKind::TimedOut));
        assert_eq!(ask(&dir.path().join("none"), "a", LONG), Err(io::ErrorKind::NotFound));
        let elsewhere = tempfile::tempdir().unwrap();
        assert!(ask(elsewhere.path(), "a", LONG).is_err(), "no repo");
        fs::File::create(dir.path().join("large")).unwrap().set_len(MAX_READ as u64 + 1).unwrap();
        git(&["add", "-A"]);
        git(&["commit", "-q", "-m", "two"]);
        assert_eq!(ask(dir.path(), "large", LONG), Err(io::ErrorKind::Other));
        assert!(
            ids(dir.path(), ["HEAD", "refs/stash"], LONG)
                .is_ok_and(|ids| ids[0].is_some() && ids[1].is_none())
        );
        assert_eq!(branch(dir.path(), LONG).unwrap().as_deref(), Some("main"));
        git(&["checkout", "-q", "--detach"]);
        assert_eq!(branch(dir.path(), LONG).unwrap(), None);
    }
}
