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
    /// Everything else that was given.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::EventKind;

    fn checkout() -> Source {
        let text = |text: &str| Some(text.to_owned());
        Source { repo: text("o/n"), commit: text("c0ffee"), branch: text("main"), extra: Map::new() }
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
}
