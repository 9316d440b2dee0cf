//! `spec-notify demo`: a complete run on this machine, explained as it happens, with every claim
//! checked.

use std::collections::BTreeSet;
use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::mpsc::Receiver as Events;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::receive::{self, Received};
use super::render::{Screen, Tone, columns};
use super::{Exit, Failure};
use crate::answer::Receipt;
use crate::config::{self, Config, LoadOptions};
use crate::delivery::DeliveryId;
use crate::env::Environment;
use crate::event::{SpecId, Stage};
use crate::receiver::{Receiver, Refusing};
use crate::rehearsal::{EVIDENCE, StageEnd};
use crate::runtime::{Handle, Runtime};
use crate::secret::Secret;
use crate::sources::place::RepoPaths;
use crate::sources::telemetry::{self};

/// The SPEC of the demo's run.
const SPEC: &str = "SPEC-DEMO-001-first-webhook";

/// Longest time for the whole demo.
const LIMIT: Duration = Duration::from_secs(15);

/// Longest time for one emit.
const EMIT: Duration = Duration::from_secs(2);

pub(super) fn run(screen: &mut Screen) -> Result<Exit, Failure> {
    let started = Instant::now();
    let dir = tempfile::tempdir().map_err(Failure::failed)?;
    let told = Story::begin(dir.path(), screen).and_then(|story| story.tell(started, screen));
    told.map_err(|error| Failure::failed(format!("the demo failed: {error}")))?;
    Ok(Exit::Done)
}

/// The parts of the demo.
struct Story {
    repo: PathBuf,
    config: Config,
    spec: SpecId,
    chatops: Receiver,
    chatops_got: Events<Received>,
    tracker: Refusing,
    tracker_secret: Secret,
    runtime: Runtime,
    deadline: Instant,
}

type Told<T = ()> = Result<T, String>;

impl Story {
    fn begin(repo: &Path, screen: &mut Screen) -> Told<Self> {
        let deadline = Instant::now() + LIMIT;
        // The canonical path, because on some systems the temporary folder is behind a link.
        let repo = repo.canonicalize().map_err(text)?;
        let (chatops_text, tracker_text) = (random_secret(), random_secret());
        let chatops_secret = Secret::parse(&chatops_text).map_err(text)?;
        let tracker_secret = Secret::parse(&tracker_text).map_err(text)?;
        screen.line(
            Tone::Heading,
            "1. A repo, two subscriptions, one endpoint that is flaky and one that is down",
        );
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(text)?;
        let answering =
            receive::Options { secret: Some(chatops_secret), answers: vec![500, 500, 200], body: None };
        let (chatops, chatops_got) = receive::start(listener, answering).map_err(text)?;
        let tracker = Refusing::new().map_err(text)?;
        fs::create_dir_all(repo.join(".spec-kit")).map_err(text)?;
        let file = repo.join(".spec-kit/config.toml");
        fs::write(&file, config_text(chatops.address().port(), tracker.address().port())).map_err(text)?;
        let environment = Environment::fixed([
            ("DEMO_SECRET_CHATOPS", chatops_text.as_str()),
            ("DEMO_SECRET_TRACKER", tracker_text.as_str()),
        ]);
        let options = LoadOptions::in_dir(&repo).repo(&repo);
        let loaded = config::load(&options, &environment);
        let config =
            loaded.config.ok_or_else(|| loaded.errors.iter().map(ToString::to_string).collect::<String>())?;
        for subscription in &config.subscriptions {
            let endpoint = subscription.endpoint.as_ref().map_or(String::new(), ToString::to_string);
            screen.line(Tone::Plain, format_args!("   {:<8} → {endpoint}", subscription.id));
        }
        let runtime = Runtime::start_blocking(config.clone(), environment).map_err(text)?;
        let spec = SPEC.parse().map_err(text)?;
        Ok(Self { repo, config, spec, chatops, chatops_got, tracker, tracker_secret, runtime, deadline })
    }

    fn tell(self, started: Instant, screen: &mut Screen) -> Told {
        screen.line(
            Tone::Heading,
            "\n2. A six-stage run writes telemetry: each file becomes an event, is accepted on disk, then \
             sent",
        );
        let handle = self.runtime.handle();
        let mut arrived = BTreeSet::new();
        for stage in Stage::OF_GUARDRAILS {
            self.emit_stage(stage, &handle, screen)?;
            let id = self.watch_chatops(screen)?;
            expect(arrived.insert(id), "nothing arrives twice")?;
        }
        screen.line(Tone::Plain, "   the run has ended and is sent as a whole, to chatops");
        handle.block(self.left(), handle.idle()).ok_or("the end of the run was not sent in time")?;
        expect(arrived.insert(self.watch_chatops(screen)?), "the end of the run is a delivery of its own")?;
        screen.line(Tone::Heading, "\n3. The tracker stayed down: its delivery becomes a dead letter");
        let (letter_path, letter) = self.dead_letter()?;
        let id: DeliveryId = letter["id"].as_str().unwrap_or_default().parse().map_err(text)?;
        screen.line(Tone::Bad, format_args!("   {}", letter["message"].as_str().unwrap_or_default()));
        for attempt in letter["attempts"].as_array().into_iter().flatten() {
            screen.line(
                Tone::Faint,
                format_args!("   attempt {}: {}", attempt["attempt"], words(&attempt["error"])),
            );
        }
        screen.line(Tone::Plain, format_args!("   to do:  {}", words(&letter["hint"])));
        screen.line(Tone::Plain, format_args!("   again:  {}", words(&letter["replay"])));
        screen.line(
            Tone::Heading,
            "\n4. The tracker is repaired, and the dead letter is replayed under the same id",
        );
        let answering =
            receive::Options { secret: Some(self.tracker_secret.clone()), answers: vec![200], body: None };
        let listener = self.tracker.listen().map_err(text)?;
        let (tracker, tracker_got) = receive::start(listener, answering).map_err(text)?;
        let (asked, spec) = (handle.clone(), self.spec.clone());
        let sent = handle
            .block(self.left(), async move { asked.replay(spec, id).await })
            .ok_or("the replay did not end in time")?
            .map_err(text)?;
        let got = self.next(&tracker_got, "the replayed request")?;
        screen.line(Tone::Good, format_args!("   {got}"));
        expect(sent.outcome == crate::ask::SentOutcome::Delivered, "the replay arrives")?;
        expect(got.id.as_deref() == Some(&id.to_string()), "the replay has the id of the dead letter")?;
        expect(got.is_verified(), "the replay's signatures verify")?;
        expect(!letter_path.exists(), "the dead letter is gone")?;
        drop((tracker, self.chatops));
        screen.line(Tone::Heading, "\n5. What the evidence says");
        let evidence = self.repo.join(EVIDENCE).join("commands").join(SPEC).join("webhooks/deliveries.jsonl");
        let drained = self.runtime.drain_blocking(Duration::from_secs(1));
        expect(drained.pending == 0, "nothing is left pending")?;
        let rows = summarise(&fs::read_to_string(&evidence).map_err(text)?)?;
        expect(rows.len() == arrived.len() + 1, "the evidence has every delivery")?;
        expect(rows.iter().all(|row| row.state == "delivered"), "every delivery ended as delivered")?;
        expect(
            rows.iter().any(|row| row.attempts == 4),
            "the tracker's delivery took three attempts and a replay",
        )?;
        let heading = ["STAGE", "SUBSCRIPTION", "ATTEMPTS", "ANSWERS", "ENDED AS"].map(str::to_owned);
        let rows = rows.into_iter().map(|row| (row.answers(), row)).map(|(answers, row)| {
            [row.stage, row.subscription, row.attempts.to_string(), answers, row.state]
        });
        columns(std::iter::once(heading).chain(rows)).iter().for_each(|text| screen.line(Tone::Plain, text));
        expect(started.elapsed() < LIMIT, "it takes less than 15 seconds")?;
        screen.line(
            Tone::Good,
            format_args!(
                "8 deliveries, 8 delivered, every signature verified, nothing lost: {:.1} s.",
                started.elapsed().as_secs_f64()
            ),
        );
        screen.line(Tone::Plain, "Now in your own repo: spec-notify init.");
        Ok(())
    }

    /// Writes one stage's telemetry and emits it, as `emit --telemetry` does.
    fn emit_stage(&self, stage: Stage, handle: &Handle, screen: &mut Screen) -> Told {
        let path = self.write_telemetry(stage)?;
        let bytes = fs::read(&path).map_err(text)?;
        let paths = RepoPaths::of(&self.config);
        let event = telemetry::read(&path, &bytes, &paths).map_err(text)?;
        let status = event.event.status.map_or(String::new(), |status| status.to_string());
        let receipt = handle.emit_blocking(event, EMIT).map_err(text)?;
        let Receipt::Accepted(deliveries) = receipt else {
            return Err(format!("the {stage} event was not accepted but {receipt:?}"));
        };
        let names: Vec<_> = deliveries.iter().map(|(_, subscription)| subscription.as_str()).collect();
        screen.line(Tone::Plain, format_args!("   accepted {stage} {status}: for {}", names.join(", ")));
        Ok(())
    }

    fn write_telemetry(&self, stage: Stage) -> Told<PathBuf> {
        let end = StageEnd { spec: &self.spec, stage, run: 1, passes: true };
        let path = self.repo.join(end.path());
        fs::create_dir_all(path.with_file_name("")).map_err(text)?;
        fs::write(&path, end.telemetry().to_string()).map_err(text)?;
        Ok(path)
    }

    /// Shows the requests at the flaky endpoint until it accepts a delivery; returns that
    /// delivery's id.
    fn watch_chatops(&self, screen: &mut Screen) -> Told<String> {
        let mut refused: Option<String> = None;
        loop {
            let got = self.next(&self.chatops_got, "the next request")?;
            expect(got.is_verified(), "both signatures verify")?;
            let id = got.id.clone().ok_or("a request had no X-SpecKit-Id")?;
            expect(
                refused.as_ref().is_none_or(|refused| *refused == id),
                "a retry has the id of what was refused",
            )?;
            let tone = if got.status == 200 { Tone::Good } else { Tone::Bad };
            screen.line(tone, format_args!("   {got}"));
            if got.status == 200 {
                return Ok(id);
            }
            refused = Some(id);
        }
    }

    fn dead_letter(&self) -> Told<(PathBuf, Value)> {
        let dir = self.config.spool_dir.join(SPEC).join("dead-letter");
        loop {
            let found = fs::read_dir(&dir).ok().and_then(|mut entries| {
                entries.find_map(|entry| {
                    Some(entry.ok()?.path()).filter(|path| path.extension().is_some_and(|e| e == "json"))
                })
            });
            if let Some(path) = found {
                let letter = serde_json::from_slice(&fs::read(&path).map_err(text)?).map_err(text)?;
                return Ok((path, letter));
            }
            expect(!self.left().is_zero(), "the dead endpoint's delivery becomes a dead letter")?;
            std::thread::park_timeout(Duration::from_millis(10));
        }
    }

    fn next(&self, events: &Events<Received>, what: &str) -> Told<Received> {
        events.recv_timeout(self.left()).map_err(|_| format!("{what} did not come in time"))
    }

    fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }
}

/// One delivery, as recorded in the evidence.
struct Row {
    stage: String,
    subscription: String,
    attempts: u64,
    answers: Vec<String>,
    state: String,
}

impl Row {
    /// The results of its attempts, equal neighbours counted: `connection ×3, 200`.
    fn answers(&self) -> String {
        let alike = self.answers.chunk_by(|one, next| one == next);
        let told = alike.map(|alike| match alike {
            [one] => one.clone(),
            [one, ..] => format!("{one} ×{}", alike.len()),
            [] => String::new(),
        });
        told.collect::<Vec<_>>().join(", ")
    }
}

/// Summarises the evidence by delivery, in the order of their first lines.
fn summarise(evidence: &str) -> Told<Vec<Row>> {
    let mut rows: Vec<(String, Row)> = Vec::new();
    for line in evidence.lines() {
        let line: Value = serde_json::from_str(line).map_err(text)?;
        let id = words(&line["delivery"]);
        let at = rows.iter().position(|(known, _)| *known == id).unwrap_or_else(|| {
            let row = Row {
                stage: words(&line["idempotency_key"]).split(':').nth(1).unwrap_or_default().to_owned(),
                subscription: words(&line["subscription"]),
                attempts: 0,
                answers: Vec::new(),
                state: String::new(),
            };
            rows.push((id, row));
            rows.len() - 1
        });
        let row = &mut rows[at].1;
        if line["record"] == "final" {
            row.attempts = line["attempts"].as_u64().unwrap_or_default();
            row.state = words(&line["state"]);
        } else {
            let answer = if line["error"].is_null() {
                line["response"]["status"].to_string()
            } else {
                words(&line["error"]["class"])
            };
            row.answers.push(answer);
        }
    }
    Ok(rows.into_iter().map(|(_, row)| row).collect())
}

fn config_text(chatops_port: u16, tracker_port: u16) -> String {
    format!(
        r#"[spec_ops.webhooks]
enabled = true

[[spec_ops.webhooks.subscriptions]]
id = "chatops"
url = "http://127.0.0.1:{chatops_port}/hooks/chatops"
secret_env = "DEMO_SECRET_CHATOPS"
initial_backoff_ms = 300
jitter_ms = 50

[[spec_ops.webhooks.subscriptions]]
id = "tracker"
url = "http://127.0.0.1:{tracker_port}/hooks/tracker"
secret_env = "DEMO_SECRET_TRACKER"
include_events = ["spec-auto.stage.completed"]
include_stages = ["Unlock"]
max_attempts = 3
initial_backoff_ms = 200
jitter_ms = 50
"#
    )
}

fn random_secret() -> String {
    format!("{}{}", DeliveryId::random(), DeliveryId::random())
}

fn expect(holds: bool, claim: &str) -> Told {
    if holds { Ok(()) } else { Err(format!("this is not true: {claim}")) }
}

fn words(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
