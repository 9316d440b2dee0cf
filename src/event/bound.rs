//! How large and how deep an event's JSON is at most, worked out without a look at its texts: most
//! events are so far from the limits that nothing need be measured.

use serde_json::{Map, Value};

use super::{Consensus, Envelope, Event, EvidencePaths, Pipeline, Source, Spec, Task};

/// A byte of a text is written as six at most (RFC 8259, section 7), between quotation marks and
/// before a comma or a colon.
const ESCAPED: usize = 6;
const AROUND: usize = 3;

/// Whatever has no length of its own: a number, `true`, brackets.
const ATOM: usize = 32;

/// The names of all fields that are known, with what is in them and has no length of its own.
const KNOWN: usize = 4096;

/// The levels of what is known: the event, its part, a list in it and an object in that.
const LEVELS: usize = 4;

/// What an event comes to at most.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Bound {
    /// Bytes of its JSON.
    pub bytes: usize,
    /// Levels of its nesting.
    pub levels: usize,
}

impl Bound {
    /// Names every field, so that the compiler asks about one that is added.
    pub(super) fn of(event: &Event) -> Self {
        let mut bound = Self { bytes: KNOWN, levels: LEVELS };
        let Event {
            schema_version,
            event: envelope,
            spec: Spec { id, branch, extra: of_spec },
            source,
            pipeline,
            telemetry,
            consensus,
            task,
            evidence,
            extra,
        } = event;
        let Envelope {
            kind: _,
            status: _,
            stage: _,
            idempotency_key,
            amends,
            is_followed: _,
            ends_run: _,
            key_origin: _,
            time,
            sequence: _,
            reasons,
            extra: of_envelope,
        } = envelope;
        bound.texts([schema_version.as_str(), idempotency_key.as_str(), id.as_str()]);
        bound.texts(amends.iter().map(|key| key.as_str()));
        bound.texts(time.iter().chain(branch).chain(reasons));
        bound.objects([extra, of_envelope, of_spec]);
        if let Some(Source { repo, commit, branch, host, extra }) = source {
            bound.texts(repo.iter().chain(commit).chain(branch).chain(host));
            bound.objects([extra]);
        }
        if let Some(Pipeline { attempt: _, max_attempts: _, started_at, completed_at, extra }) = pipeline {
            bound.texts(started_at.iter().chain(completed_at));
            bound.objects([extra]);
        }
        if let Some(telemetry) = telemetry {
            bound.objects([&**telemetry]);
            bound.bytes += telemetry.exact_text().map_or(0, str::len);
        }
        if let Some(Consensus { status, agents, extra }) = consensus {
            bound.texts(status);
            bound.objects(agents);
            bound.objects([extra]);
        }
        if let Some(Task { id, title, status, markers, extra }) = task {
            bound.texts([id].into_iter().chain(title).chain(status).chain(markers));
            bound.objects([extra]);
        }
        if let Some(EvidencePaths { paths, extra }) = evidence {
            bound.texts(paths);
            bound.objects([extra]);
        }
        bound
    }

    fn texts<T: AsRef<str>>(&mut self, texts: impl IntoIterator<Item = T>) {
        texts.into_iter().for_each(|text| self.text(text.as_ref()));
    }

    fn objects<'a>(&mut self, objects: impl IntoIterator<Item = &'a Map<String, Value>>) {
        objects.into_iter().for_each(|fields| self.fields(fields, LEVELS));
    }

    fn text(&mut self, text: &str) {
        self.bytes += ESCAPED * text.len() + AROUND;
    }

    fn fields(&mut self, fields: &Map<String, Value>, level: usize) {
        self.bytes += ATOM;
        for (name, value) in fields {
            self.text(name);
            self.value(value, level);
        }
    }

    fn value(&mut self, value: &Value, level: usize) {
        match value {
            Value::String(text) => self.text(text),
            Value::Null | Value::Bool(_) | Value::Number(_) => self.bytes += ATOM,
            Value::Array(items) => {
                self.bytes += ATOM;
                self.levels = self.levels.max(level + 1);
                items.iter().for_each(|item| self.value(item, level + 1));
            }
            Value::Object(fields) => {
                self.levels = self.levels.max(level + 1);
                self.fields(fields, level + 1);
            }
        }
    }
}
