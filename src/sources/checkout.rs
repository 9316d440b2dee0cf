//! The checkout that events say they come from: read anew a few times a second at most, for every
//! event asks.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::standpoint::Glance;
use super::{git, repo};
use crate::env::Environment;
use crate::event::{Event, Source};
use crate::payload::pages::{LinkTemplate, Pages};

/// How long what was read counts.
const HOLDS: Duration = Duration::from_millis(250);

/// Files of an event's evidence that git is asked for: a few more than are shown.
const MOST_ASKED: usize = 8;

/// See the module's first lines. Clones share what was read.
#[derive(Clone, Debug)]
pub(crate) struct Checkout {
    repo: Arc<Path>,
    /// Where a CI service may say the branch.
    environment: Environment,
    last: Arc<Mutex<Option<Read>>>,
}

/// What git's files said, and when.
#[derive(Debug)]
struct Read {
    at: Instant,
    source: Source,
    /// Where git had to be asked: it says the same as long as this is the same.
    glance: Option<Glance>,
    /// The pages, where somebody asked for them since.
    pages: Option<Pages>,
}

impl Checkout {
    pub(crate) fn new(repo: &Path, environment: Environment) -> Self {
        Self { repo: repo.into(), environment, last: Arc::default() }
    }

    /// Repo, commit and branch now.
    pub(crate) fn current(&self) -> Source {
        self.read(&mut self.last.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The pages that messages may lead to, now.
    pub(crate) fn pages(&self, template: Option<&LinkTemplate>) -> Pages {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let source = self.read(&mut last);
        let read = || repo::pages(&self.repo, &self.environment, &source);
        let pages = match &mut *last {
            Some(last) => last.pages.get_or_insert_with(read).clone(),
            None => read(),
        };
        Pages { template: template.cloned(), ..pages }
    }

    /// Which files of an event's evidence have a page: those that are in its commit, where a
    /// remote has that. Asks git, which answers within a bound or not at all.
    pub(crate) fn published(&self, event: &Event) -> Vec<String> {
        let paths = event.evidence.as_ref().map_or(&[][..], |evidence| &evidence.paths);
        let own = event.source.as_ref().and_then(|source| source.commit.clone());
        let Some(commit) = own.filter(|_| !paths.is_empty()) else { return Vec::new() };
        if self.pages(None).commit.as_ref() != Some(&commit) {
            return Vec::new();
        }
        // Git ends at a path that leads out of the repo.
        let is_plain = |path: &str| {
            let mut parts = path.split('/');
            !path.contains('\n') && parts.all(|part| !part.is_empty() && part != "." && part != "..")
        };
        let paths = || paths.iter().filter(|path| is_plain(path)).take(MOST_ASKED);
        let names: Vec<String> = paths().map(|path| format!("{commit}:{path}")).collect();
        let there = git::are_there(&self.repo, &names, git::PATIENCE).unwrap_or_else(|error| {
            log::debug!("evidence has no links: {error}");
            Vec::new()
        });
        paths().zip(there).filter(|(_, is_there)| *is_there).map(|(path, _)| path.clone()).collect()
    }

    fn read(&self, last: &mut Option<Read>) -> Source {
        match last {
            Some(Read { at, source, .. }) if at.elapsed() < HOLDS => source.clone(),
            _ => {
                let glance = Glance::at(&self.repo).filter(Glance::is_in_reftables);
                let source = match last.take() {
                    Some(Read { source, glance: Some(before), .. }) if Some(&before) == glance.as_ref() => {
                        source
                    }
                    _ => repo::source(&self.repo, &self.environment),
                };
                *last = Some(Read { at: Instant::now(), source: source.clone(), glance, pages: None });
                source
            }
        }
    }

    /// Says in an event where it comes from, as far as it does not say so itself.
    pub(crate) fn add_to(&self, event: &mut Event) {
        event.come_from(self.current());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::EventKind;

    #[test]
    fn evidence_has_a_page_where_it_is_in_a_commit_that_a_remote_has() {
        let dir = tempfile::tempdir().unwrap();
        let git = |arguments: &[&str]| {
            let mut git = std::process::Command::new("git");
            git.args(["-c", "user.name=a", "-c", "user.email=a@b", "-C"]).arg(dir.path()).args(arguments);
            git.output().is_ok_and(|ran| ran.status.success())
        };
        if !git(&["init", "-q", "-b", "main"]) {
            eprintln!("skipped: git is not installed");
            return;
        }
        std::fs::write(dir.path().join("a b.json"), "{}").unwrap();
        assert!(git(&["add", "-A"]) && git(&["commit", "-q", "-m", "one"]));
        std::fs::write(dir.path().join("new.json"), "{}").unwrap();
        assert!(git(&["remote", "add", "origin", "git@github.com:o/n.git"]));
        let published = || {
            let text = r#"{"event": {"type": "spec-auto.stage.completed"}, "spec": {"id": "SPEC-1"},
                "evidence": {"paths": ["new.json", "a b.json", "../x", "a\nb"]}}"#;
            let mut event = Event::from_json(text).unwrap();
            let checkout = Checkout::new(dir.path(), Environment::fixed([]));
            checkout.add_to(&mut event);
            checkout.published(&event)
        };
        assert_eq!(published(), Vec::<String>::new(), "nothing was pushed");
        assert!(git(&["update-ref", "refs/remotes/origin/main", "HEAD"]));
        assert_eq!(published(), ["a b.json"]);
    }

    #[test]
    fn an_event_keeps_its_own_branch_and_else_gets_the_repos() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join(".git")).unwrap();
        std::fs::write(dir.path().join(".git/HEAD"), "ref: refs/heads/feat/x\n").unwrap();
        let checkout = Checkout::new(dir.path(), Environment::fixed([]));
        let mut event = Event::new(EventKind::Test, "SPEC-1".parse().unwrap(), "k".parse().unwrap());
        checkout.add_to(&mut event);
        assert_eq!(event.spec.branch.as_deref(), Some("feat/x"));
        let source = event.source.clone().unwrap();
        assert_eq!((source.branch.as_deref(), source.commit), (Some("feat/x"), None));
        event.spec.branch = Some("own".to_owned());
        checkout.add_to(&mut event);
        assert_eq!(event.spec.branch.as_deref(), Some("own"));
    }
}
