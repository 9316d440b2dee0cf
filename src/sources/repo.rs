//! What git says of the checkout: its repo, commit and branch, and which of them a remote has,
//! from a few small files. Git itself is asked where only it can say (reftables).

use std::path::Path;

use super::git_dir::{GitDir, id, reference_in};
use super::{git, remote};
use crate::env::Environment;
use crate::event::Source;
use crate::files::open::{self, Links};
use crate::names::printable;
use crate::payload::pages::{self, Forge, Pages};

/// Where a CI service says which branch it checked out, where the checkout itself has none.
const OF_CI: [&str; 2] = ["GITHUB_HEAD_REF", "CI_COMMIT_REF_NAME"];

/// Where a CI service says which commit it checked out: one that the service itself has.
const OF_JOB: [&str; 2] = ["GITHUB_SHA", "CI_COMMIT_SHA"];

/// Longest name that is kept, in characters.
const LONGEST: usize = 255;

/// Bytes that are read of a config.
const MAX_CONFIG: u64 = 256 * 1024;

/// References that may lead to one another before one has a commit.
const MAX_HOPS: usize = 5;

/// What a repo is called whose folder has no name.
const UNNAMED: &str = "unnamed";

/// The checkout in this folder. Outside a repo it has the folder's name, and no more.
pub(crate) fn source(root: &Path, environment: &Environment) -> Source {
    let git = GitDir::of(root);
    let folder = || {
        let name = root.file_name().map(|name| printable(&name.to_string_lossy(), LONGEST));
        name.unwrap_or_else(|| UNNAMED.to_owned())
    };
    Source {
        repo: Some(git.as_ref().and_then(remote).unwrap_or_else(folder)),
        commit: git.as_ref().and_then(|git| commit(git, root)),
        branch: git.as_ref().and_then(|git| branch(git, root, environment)),
        ..Source::default()
    }
}

/// The pages that messages of the checkout in this folder may lead to: those of what its remote
/// has, as far as git's files or the CI job say so.
pub(crate) fn pages(root: &Path, environment: &Environment, source: &Source) -> Pages {
    let git = GitDir::of(root);
    let home = git.as_ref().and_then(config).and_then(|config| remote::home(&config));
    let (branch, commit) = (source.branch.clone(), source.commit.clone());
    let get = |name: &str| environment.get(name).map(|value| value.to_string());
    let is_of_job = commit.is_some() && OF_JOB.iter().any(|name| get(name) == commit);
    let tip = git.zip(home.as_ref()).zip(branch.as_ref()).and_then(|((git, home), branch)| {
        let reference = format!("refs/remotes/{}/{branch}", home.remote);
        git.loose(&reference).and_then(|text| id(text.trim())).or_else(|| git.packed(&reference))
    });
    Pages {
        repo: source.repo.clone().unwrap_or_default(),
        forge: home.as_ref().and_then(|home| Forge::of_host(&home.host)),
        home: home.map(|home| home.url),
        branch: branch.filter(|_| is_of_job || tip.is_some()),
        commit: commit.filter(|commit| is_of_job || tip.as_ref() == Some(commit)),
        job: pages::job(get),
        request: pages::request(get).filter(|_| is_of_job),
        template: None,
        files: Vec::new(),
    }
}

fn config(git: &GitDir) -> Option<String> {
    let config = open::start(&git.shared.join("config"), Links::Followed, MAX_CONFIG).ok()?;
    Some(String::from_utf8_lossy(&config).into_owned())
}

fn remote(git: &GitDir) -> Option<String> {
    remote::repo(&config(git)?)
}

/// The current branch; where it is detached the one that a CI service names, else `HEAD`.
fn branch(git: &GitDir, root: &Path, environment: &Environment) -> Option<String> {
    let detached = || {
        let named = OF_CI.iter().find_map(|name| environment.get(name));
        Some(named.map_or("HEAD".to_owned(), |name| printable(&name, LONGEST)))
    };
    let Some(reference) = git.reference() else { return detached() };
    if git.is_in_reftables() {
        return match git::branch(root, git::PATIENCE) {
            Ok(Some(branch)) => Some(printable(&branch, LONGEST)),
            Ok(None) => detached(),
            Err(error) => {
                log::debug!("the branch is not known: {error}");
                None
            }
        };
    }
    Some(printable(reference.strip_prefix("refs/heads/").unwrap_or(reference), LONGEST))
}

/// The commit that is checked out; `None` before the first one.
fn commit(git: &GitDir, root: &Path) -> Option<String> {
    if git.is_in_reftables() {
        let [head] = git::ids(root, ["HEAD"], git::PATIENCE).ok()?;
        return head;
    }
    let mut text = git.head.clone();
    for _ in 0..MAX_HOPS {
        let Some(reference) = reference_in(&text) else { return id(text.trim()) };
        match git.loose(reference) {
            Some(found) => text = found,
            None => return git.packed(reference),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn current_branch(root: &Path, environment: &Environment) -> Option<String> {
        source(root, environment).branch
    }

    #[test]
    fn branches_worktrees_detached_heads_and_no_repo() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        let none = Environment::fixed([]);
        let branch = |root: &Path| current_branch(root, &none);
        assert_eq!(branch(root), None);
        fs::create_dir_all(root.join(".git/worktrees/w")).unwrap();
        fs::write(root.join(".git/HEAD"), "ref: refs/heads/feat/x\n").unwrap();
        assert_eq!(branch(root).as_deref(), Some("feat/x"));
        let of_ci = Environment::fixed([("GITHUB_HEAD_REF", ""), ("CI_COMMIT_REF_NAME", "feat/ci")]);
        assert_eq!(current_branch(root, &of_ci).as_deref(), Some("feat/x"), "the checkout's own word");
        fs::write(root.join(".git/HEAD"), "0123456789abcdef0123456789abcdef01234567\n").unwrap();
        assert_eq!(branch(root).as_deref(), Some("HEAD"));
        assert_eq!(current_branch(root, &of_ci).as_deref(), Some("feat/ci"));
        fs::write(root.join(".git/worktrees/w/HEAD"), "ref: refs/heads/w\n").unwrap();
        fs::create_dir(root.join("w")).unwrap();
        fs::write(root.join("w/.git"), "gitdir: ../.git/worktrees/w\n").unwrap();
        assert_eq!(branch(&root.join("w")).as_deref(), Some("w"));
        fs::write(root.join(".git/HEAD"), "ref: refs/heads/.invalid\n").unwrap();
        assert_eq!(branch(root), None, "in reftables of which git knows nothing");
    }

    #[test]
    fn what_git_itself_makes_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let git = |arguments: &[&str]| {
            let mut git = std::process::Command::new("git");
            git.args(["-c", "user.name=a", "-c", "user.email=a@b", "-C"]).arg(dir.path()).args(arguments);
            git.output().is_ok_and(|ran| ran.status.success())
        };
        if !git(&["init", "-q", "-b", "main", "a"]) {
            eprintln!("skipped: git is not installed");
            return;
        }
        let none = Environment::fixed([]);
        let branch = |name: &str| current_branch(&dir.path().join(name), &none);
        assert_eq!(branch("a").as_deref(), Some("main"));
        assert!(git(&["-C", "a", "commit", "-q", "--allow-empty", "-m", "one"]));
        assert!(git(&["-C", "a", "worktree", "add", "-q", "-b", "feat/w", "../w"]));
        assert_eq!(branch("w").as_deref(), Some("feat/w"));
        assert!(git(&["-C", "a", "checkout", "-q", "--detach"]));
        assert_eq!(branch("a").as_deref(), Some("HEAD"));
        assert!(git(&[
            "-C",
            "a",
            "-c",
            "protocol.file.allow=always",
            "submodule",
            "--quiet",
            "add",
            "../w",
            "sub"
        ]));
        assert_eq!(branch("a/sub").as_deref(), Some("feat/w"));
        // Git 2.45 and later.
        if git(&["init", "-q", "-b", "feat/r", "--ref-format=reftable", "r"]) {
            assert_eq!(branch("r").as_deref(), Some("feat/r"));
            assert!(git(&["-C", "r", "commit", "-q", "--allow-empty", "-m", "one"]));
            assert!(git(&["-C", "r", "checkout", "-q", "--detach"]));
            assert_eq!(branch("r").as_deref(), Some("HEAD"));
            assert_eq!(source(&dir.path().join("r"), &none).commit.map(|id| id.len()), Some(40));
        }
        let head = |name: &str| {
            let mut git = std::process::Command::new("git");
            let ran = git.arg("-C").arg(dir.path().join(name)).args(["rev-parse", "HEAD"]).output().unwrap();
            String::from_utf8(ran.stdout).unwrap().trim().to_owned()
        };
        let commit = |name: &str| source(&dir.path().join(name), &none).commit;
        for name in ["a", "w", "a/sub"] {
            assert_eq!(commit(name), Some(head(name)), "{name}");
        }
        assert!(git(&["-C", "w", "commit", "-q", "--allow-empty", "-m", "two"]));
        assert!(git(&["-C", "w", "pack-refs", "--all"]));
        assert!(!dir.path().join("a/.git/refs/heads/feat/w").exists());
        assert_eq!((commit("w"), head("w") == head("a")), (Some(head("w")), false));
        assert!(git(&["-C", "a", "remote", "add", "fork", "https://user:s3cret@host/me/fork.git"]));
        assert!(git(&["-C", "w", "remote", "add", "origin", "git@host:owner/name.git"]));
        for name in ["a", "w"] {
            assert_eq!(source(&dir.path().join(name), &none).repo.as_deref(), Some("owner/name"));
        }
        assert_eq!(source(&dir.path().join("a/sub"), &none).repo.as_deref(), Some("sub"), "a local remote");
    }

    #[test]
    fn only_what_a_remote_has_has_a_page() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        let write = |path: &str, text: &str| {
            let path = root.join(".git").join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let (one, two) = ("a".repeat(40), "b".repeat(40));
        let config = "[remote \"origin\"]\nurl = https://user:s3cret@git.corp.example/o/n.git\n";
        write("HEAD", "ref: refs/heads/feat/x\n");
        write("config", config);
        write("refs/heads/feat/x", &one);
        let pages = |environment: &Environment| {
            let pages = pages(root, environment, &source(root, environment));
            assert!(!format!("{pages:?}").contains("s3cret"));
            pages
        };
        let none = Environment::fixed([]);
        let found = pages(&none);
        assert_eq!(
            (found.repo.as_str(), found.home.as_deref()),
            ("o/n", Some("https://git.corp.example/o/n"))
        );
        assert_eq!((found.forge, found.branch, found.commit), (None, None, None), "nothing was pushed");
        write("refs/remotes/origin/feat/x", &two);
        let found = pages(&none);
        assert_eq!((found.branch.as_deref(), found.commit), (Some("feat/x"), None), "the commit was not");
        write("refs/remotes/origin/feat/x", &one);
        assert_eq!(pages(&none).commit, Some(one.clone()));
        fs::remove_file(root.join(".git/refs/remotes/origin/feat/x")).unwrap();
        write("packed-refs", &format!("{one} refs/remotes/origin/feat/x\n"));
        assert_eq!(pages(&none).commit, Some(one.clone()));
        fs::remove_file(root.join(".git/packed-refs")).unwrap();
        let job = Environment::fixed([
            ("GITHUB_SHA", one.as_str()),
            ("GITHUB_SERVER_URL", "https://github.com"),
            ("GITHUB_REPOSITORY", "o/n"),
            ("GITHUB_RUN_ID", "47"),
        ]);
        let found = pages(&job);
        assert_eq!((found.branch.as_deref(), found.commit), (Some("feat/x"), Some(one)));
        assert_eq!(found.job.as_deref(), Some("https://github.com/o/n/actions/runs/47"));
    }

    #[test]
    fn outside_a_repo_it_is_the_folders_name_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let none = Environment::fixed([("GITHUB_HEAD_REF", "feat/ci")]);
        let root = dir.path().join("name");
        let named = |name: &str| Source { repo: Some(name.to_owned()), ..Source::default() };
        assert_eq!(source(&root, &none), named("name"));
        assert_eq!(source(Path::new("/"), &none), named(UNNAMED));
    }

    #[test]
    fn before_the_first_commit_there_is_none_and_a_reference_leads_nowhere_else() {
        let dir = tempfile::tempdir().unwrap();
        let (root, none) = (dir.path(), Environment::fixed([]));
        let write = |path: &str, text: &str| {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let commit = || source(root, &none).commit;
        let (one, two) = ("0123456789abcdef0123456789abcdef01234567", "ab".repeat(32));
        write(".git/HEAD", "ref: refs/heads/main\n");
        assert_eq!(commit(), None);
        write(".git/packed-refs", &format!("# pack-refs\n{two} refs/heads/main\n^{one}\n"));
        assert_eq!(commit(), Some(two.clone()));
        write(".git/refs/heads/main", "ref: refs/heads/other\n");
        write(".git/refs/heads/other", &format!("{one}\n"));
        assert_eq!(commit().as_deref(), Some(one));
        write(".git/refs/heads/other", "ref: refs/heads/main\n");
        assert_eq!(commit(), None, "a circle");
        write("outside", one);
        for head in ["ref: refs/../../outside", "ref: /etc/hostname", "ref: outside", "0123", "", "ref: "] {
            write(".git/HEAD", head);
            assert_eq!(commit(), None, "{head}");
        }
    }

    #[test]
    fn whatever_stands_in_their_place_no_file_hangs_or_stops_it() {
        let (none, fifo) = (Environment::fixed([]), rustix::fs::Mode::from_raw_mode(0o600));
        let files = ["HEAD", "config", "packed-refs", "commondir", "refs/heads/main"];
        for odd in files {
            for kind in ["fifo", "folder", "zero", "loop", "endless", "binary"] {
                let dir = tempfile::tempdir().unwrap();
                let git = dir.path().join(".git");
                fs::create_dir_all(git.join("refs/heads")).unwrap();
                fs::write(git.join("HEAD"), "ref: refs/heads/main\n").unwrap();
                let path = git.join(odd);
                let _ = fs::remove_file(&path);
                match kind {
                    "fifo" => {
                        let kind = rustix::fs::FileType::Fifo;
                        rustix::fs::mknodat(rustix::fs::CWD, &path, kind, fifo, 0).unwrap();
                    }
                    "folder" => fs::create_dir(&path).unwrap(),
                    "zero" => std::os::unix::fs::symlink("/dev/zero", &path).unwrap(),
                    "loop" => std::os::unix::fs::symlink(&path, &path).unwrap(),
                    "endless" => fs::File::create(&path).unwrap().set_len(1 << 40).unwrap(),
                    _ => fs::write(&path, [0xff, 0, b'[', b'"', 0xfe].repeat(99_999)).unwrap(),
                }
                let found = source(dir.path(), &none);
                let folder = dir.path().file_name().unwrap().to_str();
                assert_eq!((found.repo.as_deref(), found.commit), (folder, None), "{kind} for {odd}");
            }
        }
    }
}
