//! The branch that events say they happened on: the repo's, read anew a few times a second at
//! most, for every event asks.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::repo::{Glance, current_branch};
use crate::env::Environment;
use crate::event::Event;

/// How long the branch counts as read.
const HOLDS: Duration = Duration::from_millis(250);

/// See the module's first lines. Clones share what was read.
#[derive(Clone, Debug)]
pub(crate) struct Branch {
    repo: Arc<Path>,
    /// Where a CI service may say the branch.
    environment: Environment,
    last: Arc<Mutex<Option<Read>>>,
}

/// What git said, and when.
#[derive(Debug)]
struct Read {
    at: Instant,
    name: Option<String>,
    /// Where git had to be asked: it says the same as long as this is the same.
    glance: Option<Glance>,
}

impl Branch {
    pub(crate) fn new(repo: &Path, environment: Environment) -> Self {
        Self { repo: repo.into(), environment, last: Arc::default() }
    }

    /// The branch now; `None` outside a git repository.
    pub(crate) fn current(&self) -> Option<String> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match &*last {
            Some(Read { at, name, .. }) if at.elapsed() < HOLDS => name.clone(),
            _ => {
                let glance = Glance::at(&self.repo).filter(Glance::is_in_reftables);
                let name = match last.take() {
                    Some(Read { name: Some(name), glance: Some(before), .. })
                        if Some(&before) == glance.as_ref() =>
                    {
                        Some(name)
                    }
                    _ => current_branch(&self.repo, &self.environment),
                };
                *last = Some(Read { at: Instant::now(), name: name.clone(), glance });
                name
            }
        }
    }

    /// Says in an event on which branch it happened, where it does not say so itself.
    pub(crate) fn add_to(&self, event: &mut Event) {
        event.add_branch(|| self.current());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::EventKind;

    #[test]
    fn an_event_keeps_its_own_branch_and_else_gets_the_repos() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join(".git")).unwrap();
        std::fs::write(dir.path().join(".git/HEAD"), "ref: refs/heads/feat/x\n").unwrap();
        let branch = Branch::new(dir.path(), Environment::fixed([]));
        let mut event = Event::new(EventKind::Test, "SPEC-1".parse().unwrap(), "k".parse().unwrap());
        branch.add_to(&mut event);
        assert_eq!(event.spec.branch.as_deref(), Some("feat/x"));
        event.spec.branch = Some("own".to_owned());
        branch.add_to(&mut event);
        assert_eq!(event.spec.branch.as_deref(), Some("own"));
    }
}
