//! A run that never happened, as events or as the telemetry of its stages, and what has to be told
//! of it.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::endpoint::list;
use super::{Endpoint, Request, Sandbox, needed};
use crate::answer::Receipt;
use crate::event::{Event, EventKind, SpecId, Stage, Status};
use crate::rehearsal::{EVIDENCE, StageEnd};
use crate::runtime::Handle;
use crate::sources::place::RepoPaths;
use crate::sources::telemetry;

/// How long one emit may take: the disk of a test machine may be slow.
const EMIT: Duration = Duration::from_secs(20);

/// A run of a SPEC through the stages that guardrails judge: Plan, Tasks, Implement, Validate,
/// Audit, Unlock. All pass, unless one is said to fail.
///
/// ```
/// use spec_notify::Stage;
/// use spec_notify::testing::{Endpoint, Run, Sandbox};
///
/// let endpoint = Endpoint::start();
/// let sandbox = Sandbox::new().subscribe("chatops", &endpoint.url());
/// let runtime = sandbox.runtime();
///
/// let run = Run::of("SPEC-KIT-065").failing_at(Stage::Validate);
/// run.emit(&runtime.handle());
/// run.assert_told_to(&endpoint);
/// ```
#[derive(Clone, Debug)]
pub struct Run {
    spec: SpecId,
    number: u16,
    last: Stage,
    passes: bool,
}

/// What an endpoint is told of: a stage, or the run's end.
type Told = (Option<Stage>, Option<Status>);

impl Run {
    /// The first run of a SPEC.
    ///
    /// # Panics
    /// That is no SPEC's id.
    #[track_caller]
    pub fn of(spec: &str) -> Self {
        Self { spec: needed("a SPEC's id", spec.parse()), number: 1, last: Stage::Unlock, passes: true }
    }

    /// Another run of the SPEC: its events are none that were told already.
    #[must_use]
    pub fn numbered(self, number: u16) -> Self {
        Self { number, ..self }
    }

    /// Fails at this stage; none comes after it. A stage that guardrails do not judge counts as
    /// Unlock.
    #[must_use]
    pub fn failing_at(self, stage: Stage) -> Self {
        Self { last: stage, passes: false, ..self }
    }

    /// Has got no further than this stage, which passed.
    #[must_use]
    pub fn up_to(self, stage: Stage) -> Self {
        Self { last: stage, passes: true, ..self }
    }

    /// Its stages, and how each ended.
    pub fn stages(&self) -> Vec<(Stage, Status)> {
        let all = Stage::OF_GUARDRAILS;
        let last = all.iter().position(|stage| *stage == self.last).unwrap_or(all.len() - 1);
        let status = |at: usize| if at < last || self.passes { Status::Success } else { Status::Failure };
        all.iter().take(last + 1).enumerate().map(|(at, stage)| (*stage, status(at))).collect()
    }

    /// Whether spec-notify tells that the run has ended: Unlock has passed.
    fn is_whole(&self) -> bool {
        self.stages().last() == Some(&(Stage::Unlock, Status::Success))
    }

    fn ends(&self) -> impl Iterator<Item = StageEnd<'_>> {
        let end = |(stage, status)| StageEnd {
            spec: &self.spec,
            stage,
            run: self.number,
            passes: status == Status::Success,
        };
        self.stages().into_iter().map(end)
    }

    /// Its stages as events, as they are read from telemetry.
    ///
    /// # Panics
    /// Never: what is rehearsed is telemetry.
    #[track_caller]
    pub fn events(&self) -> Vec<Event> {
        let root = Path::new("/repo");
        let evidence_dir = root.join(EVIDENCE);
        let repo = RepoPaths { root, evidence_dir: &evidence_dir, source_roots: &[] };
        let read = |end: StageEnd<'_>| {
            let bytes = end.telemetry().to_string();
            needed("telemetry", telemetry::read(&root.join(end.path()), bytes.as_bytes(), &repo))
        };
        self.ends().map(read).collect()
    }

    /// Writes the telemetry of its stages into a repo, as guardrails would; returns the files. A
    /// runtime that watches tells of them by itself.
    ///
    /// # Panics
    /// They cannot be written.
    #[track_caller]
    pub fn write_telemetry(&self, sandbox: &Sandbox) -> Vec<PathBuf> {
        let write = |end: StageEnd<'_>| {
            let path = sandbox.path().join(end.path());
            needed("a folder for telemetry", fs::create_dir_all(path.with_file_name("")));
            needed("telemetry", fs::write(&path, end.telemetry().to_string()));
            path
        };
        self.ends().map(write).collect()
    }

    /// Emits its stages one after the other, and waits for each to be accepted.
    ///
    /// # Panics
    /// One of them is not accepted: it was before, it went to the inbox, or webhooks are off.
    #[track_caller]
    pub fn emit(&self, handle: &Handle) {
        for event in self.events() {
            let key = event.event.idempotency_key.clone();
            let receipt = needed("to emit", handle.emit_blocking(event, EMIT));
            assert!(matches!(receipt, Receipt::Accepted(_)), "{key} was not accepted but {receipt:?}");
        }
    }

    /// Waits until an endpoint has been told of every stage of the run, and of the run's end where
    /// Unlock has passed. Returns the first request of each, in the order of their sequence: a
    /// delivery may overtake another.
    ///
    /// The endpoint's subscription has to want these events, in the format `spec-kit`.
    ///
    /// # Panics
    /// A stage ended otherwise or was told out of order, or not all came within the endpoint's
    /// patience. The message shows what came.
    #[track_caller]
    pub fn assert_told_to(&self, endpoint: &Endpoint) -> Vec<Request> {
        let mut expected: Vec<Told> =
            self.stages().into_iter().map(|(stage, status)| (Some(stage), Some(status))).collect();
        if self.is_whole() {
            expected.push((None, Some(Status::Success)));
        }
        let all = endpoint.wait_until(|requests| self.told(requests).len() >= expected.len());
        let told = self.told(&all);
        let found: Vec<Told> = told.iter().map(|(_, told, _)| *told).collect();
        assert_eq!(found, expected, "of {}: {}", self.spec, list(&all));
        told.into_iter().map(|(_, _, request)| request).collect()
    }

    /// What was told of the run, each event once, in the order of their sequence.
    fn told(&self, requests: &[Request]) -> Vec<(u64, Told, Request)> {
        let sessions: Vec<String> = self.ends().map(|end| format!(":{}", end.session())).collect();
        let mut seen = HashSet::new();
        let (mut stages, mut ends) = (Vec::new(), Vec::new());
        for request in requests {
            let Ok(Event { event, spec, .. }) = request.event() else { continue };
            if spec.id != self.spec || !seen.insert(event.idempotency_key.clone()) {
                continue;
            }
            let is_own = sessions.iter().any(|session| event.idempotency_key.as_str().ends_with(session));
            let told = (event.sequence.unwrap_or_default(), (event.stage, event.status), request.clone());
            match event.kind {
                EventKind::StageCompleted if is_own => stages.push(told),
                EventKind::PipelineCompleted => ends.push(told),
                _ => {}
            }
        }
        stages.sort_by_key(|(sequence, ..)| *sequence);
        ends.sort_by_key(|(sequence, ..)| *sequence);
        // An end that comes before the last stage is that of an earlier run, and one of a run that
        // does not end is a later one's.
        let last = stages.last().map_or(0, |(sequence, ..)| *sequence);
        let end = ends.into_iter().find(|(sequence, ..)| self.is_whole() && *sequence > last);
        stages.into_iter().chain(end).collect()
    }
}
