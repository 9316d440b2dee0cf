//! The checkout that events say they come from: read anew a few times a second at most, for every
//! event asks.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::repo;
use super::standpoint::Glance;
use crate::env::Environment;
use crate::event::{Event, Source};
use crate::payload::pages::{LinkTemplate, Pages};

/// How long what was read counts.
const HOLDS: Duration = Duration::from_millis(250);

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
        let read = || repo::pages(&self.repo, &self.environment, &source, template);
        match &mut *last {
            Some(last) => {
                let is_same = |pages: &Pages| pages.template.as_ref() == template;
                let held = last.pages.take().filter(is_same);
                last.pages.insert(held.unwrap_or_else(read)).clone()
            }
            None => read(),
        }
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
