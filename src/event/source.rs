//! Where an event comes from: the `source` part of the payload.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Event;
use super::limits::MAX_NAME;

/// The `source` part of the payload: the checkout in which the event happened.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Source {
    /// `owner/name` as the git remote has it, else the name of the repo's folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repo: Option<String>,
    /// The full id of the commit that is checked out; absent before the first one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// The branch that is checked out; `HEAD` where it is detached, absent outside a repo.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// The name of the machine, where the config shows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Everything else that was given.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Source {
    /// The same without what else was given, and without names longer than a checkout's may be.
    pub(crate) fn in_short(&self) -> Self {
        let short = |name: &Option<String>| name.clone().filter(|name| name.len() <= MAX_NAME);
        Self {
            repo: short(&self.repo),
            commit: short(&self.commit),
            branch: short(&self.branch),
            host: short(&self.host),
            extra: Map::new(),
        }
    }
}

impl Event {
    /// Says where it comes from. What it says of that itself is kept, field by field.
    pub(crate) fn come_from(&mut self, checkout: Source) {
        let fill = |field: &mut Option<String>, found: Option<String>| {
            if field.is_none() {
                *field = found.filter(|text| text.len() <= MAX_NAME);
            }
        };
        fill(&mut self.spec.branch, checkout.branch.clone());
        let source = self.source.get_or_insert_with(Source::default);
        fill(&mut source.repo, checkout.repo);
        fill(&mut source.commit, checkout.commit);
        fill(&mut source.branch, checkout.branch);
    }

    /// Names the machine it comes from, unless it names one itself; with `None` no machine is
    /// named, whatever it says.
    pub(crate) fn name_host(&mut self, host: Option<String>) {
        match host {
            None => self.source.iter_mut().for_each(|source| source.host = None),
            host => {
                let source = self.source.get_or_insert_with(Source::default);
                source.host = source.host.take().or(host);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::EventKind;

    fn checkout() -> Source {
        let text = |text: &str| Some(text.to_owned());
        Source { repo: text("o/n"), commit: text("c0ffee"), branch: text("main"), ..Source::default() }
    }

    #[test]
    fn what_an_event_says_itself_is_kept_field_by_field() {
        let mut event = Event::new(EventKind::Test, "SPEC-1".parse().unwrap(), "k".parse().unwrap());
        event.come_from(checkout());
        assert_eq!((event.source.clone(), event.spec.branch.as_deref()), (Some(checkout()), Some("main")));
        let given = r#"{"event":{"type":"spec-kit.webhook.test"},"spec":{"id":"SPEC-1","branch":"own"},
            "source":{"repo":"mine","commit":null,"build":7}}"#;
        let mut event = Event::from_json(given).unwrap();
        event.come_from(checkout());
        let told = serde_json::to_value(&event).unwrap();
        let expected = serde_json::json!({"repo": "mine", "commit": "c0ffee", "branch": "main", "build": 7});
        assert_eq!((&told["source"], &told["spec"]["branch"]), (&expected, &"own".into()));
    }

    #[test]
    fn a_machine_is_named_only_where_that_is_wished() {
        let given = r#"{"event":{"type":"spec-kit.webhook.test"},"spec":{"id":"SPEC-1"},
            "source":{"host":"theirs"}}"#;
        let host = |event: &Event| event.source.as_ref().and_then(|source| source.host.clone());
        let mut event = Event::from_json(given).unwrap();
        event.name_host(Some("ours".to_owned()));
        assert_eq!(host(&event).as_deref(), Some("theirs"));
        event.name_host(None);
        assert_eq!(host(&event), None);
        event.name_host(Some("ours".to_owned()));
        assert_eq!(host(&event).as_deref(), Some("ours"));
    }
}
