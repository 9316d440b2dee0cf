//! Turns the text of a config file into a checked config, or reports everything that is wrong
//! with it at once.

mod credential;
mod fleet;
mod folders;
mod names;
mod network;
mod roots;
mod subscription;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::fmt::Display;
use std::fs;
use std::ops::Range;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use toml::de::DeTable;

use super::loaded::Loaded;
use super::table::{At, Findings, Table};
use super::{Config, FleetRole, Origin, PathGlob, Problem, StageEndsWith, Switch};
use crate::env::{EnvFileError, Environment};
use crate::event::SpecId;
use crate::names::printable;
use crate::run::RunPolicy;
use crate::secret::{NOT_SHOWN, may_be_shown};

const GIB: u64 = 1 << 30;

const EVIDENCE_DIR: &str = "docs/SPEC-OPS-004-integrated-coder-hooks/evidence";

/// Checks the text of `file`. With `secrets` false, variables missing from the environment are no
/// errors; `role` counts instead of the one in the file.
pub(super) fn check(
    file: Option<PathBuf>,
    text: &str,
    repo: &Path,
    environment: &Environment,
    (secrets, role): (bool, Option<FleetRole>),
) -> Loaded {
    let mut findings =
        Findings { file: file.clone(), text, errors: Vec::new(), warnings: Vec::new(), to_live_with: 0 };
    let (document, syntax) = DeTable::parse_recoverable(text);
    let is_whole = syntax.is_empty();
    for error in syntax {
        findings.error(error.span(), error.message().trim().replace('\n', ", "), "fix the TOML there");
    }
    let misnamed = names::refuse_misnamed(document.get_ref(), &mut findings);
    let root = Table::new(document.get_ref(), document.span());
    let webhooks =
        root.table("spec_ops", &mut findings).and_then(|table| table.table("webhooks", &mut findings));
    let empty = DeTable::new();
    let has_table = webhooks.is_some();
    let webhooks = webhooks.unwrap_or_else(|| Table::new(&empty, 0..0));
    let mut checker = Checker {
        repo,
        environment: environment.clone(),
        secrets,
        role,
        delivers: true,
        absent_env_file: None,
        is_variable_missing: false,
        findings: &mut findings,
    };
    let (said, is_of_environment) = checker.enabled(&webhooks);
    let switch = match (said, &file) {
        (Some(true), _) => Switch::On,
        (Some(false), _) if is_of_environment => Switch::Environment,
        (_, None) => Switch::NoFile(Vec::new()),
        (Some(false), Some(file)) => Switch::SaidOff(file.clone()),
        (None, Some(file)) if has_table => Switch::NotSaid(file.clone()),
        (None, Some(file)) => Switch::NoTable(file.clone()),
    };
    let mut config = checker.settings(&webhooks, said == Some(true));
    // Only a runtime needs the origin; an emitter saves the second parse.
    config.origin = file.as_deref().filter(|_| secrets).map(|file| Origin::new(file, text));
    if said.is_none() && has_table {
        let what = match config.subscriptions.len() {
            0 => "[spec_ops.webhooks] exists",
            _ => "subscriptions are configured",
        };
        findings.warn(
            Some(webhooks.span.clone()),
            format_args!("{what}, and webhooks are off, because `enabled` is missing"),
            "set enabled = true under [spec_ops.webhooks]; or enabled = false, if you want them off",
        );
    }
    // If `spool_dir` is present and could not be read, the default is the wrong spool.
    let spool_is_known = match webhooks.has("spool_dir") {
        true => webhooks.is_filled("spool_dir"),
        false => is_whole || !text.contains("spool_dir"),
    };
    // A spool that contains the repo must not be used.
    let spool_is_known = spool_is_known && !folders::is_in(repo, &config.spool_dir);
    let Findings { mut errors, warnings, to_live_with, .. } = findings;
    errors.sort_by_key(|problem| (problem.line, problem.column));
    let only_misnamed = misnamed > 0 && errors.len() == misnamed;
    let (config, salvaged) = match errors.len() == to_live_with {
        true => (Some(config), None),
        false => (None, spool_is_known.then_some(config)),
    };
    Loaded { file, switch, config, salvaged, only_misnamed, errors, warnings }
}

fn is_readable_by_others(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| found.permissions().mode() & 0o044 != 0)
}

/// A text of the config in the form for a message.
fn shown(text: &str) -> String {
    if may_be_shown(text) { printable(text, 60) } else { NOT_SHOWN.to_owned() }
}

/// A message about a wrong value; the error may repeat the value.
fn wrong_value(key: &str, value: &str, error: &dyn Display) -> String {
    if may_be_shown(value) { format!("`{key}`: {error}") } else { format!("`{key}`: {NOT_SHOWN}") }
}

/// `stall_after_s` where it is not given.
const DEFAULT_STALL_S: u64 = 1800;

struct Checker<'a, 'f> {
    repo: &'a Path,
    environment: Environment,
    secrets: bool,
    /// The role that counts instead of the table's.
    role: Option<FleetRole>,
    /// Where an `env_file` is named that does not exist.
    absent_env_file: Option<(Range<usize>, String)>,
    /// Whether this machine sends: one that hands over needs neither URLs nor secrets.
    delivers: bool,
    /// A variable that is needed is nowhere set.
    is_variable_missing: bool,
    findings: &'a mut Findings<'f>,
}

impl Checker<'_, '_> {
    /// Reads every key, in the order of `docs/reference/config.md`: the message about an unknown
    /// key lists them in this order.
    fn settings(&mut self, table: &Table<'_, '_>, enabled: bool) -> Config {
        let env_file = self.env_file(table, enabled);
        let max_concurrency = table.integer("max_concurrency", 4, 1..=1024, self.findings);
        let evidence_dir = self.dir(table, "evidence_dir", EVIDENCE_DIR);
        let spool_dir = self.dir(table, "spool_dir", &format!("{EVIDENCE_DIR}/webhooks"));
        self.has_its_own_folder(table, &spool_dir, &evidence_dir);
        let max_pending = table.integer("max_pending", 10_000, 1..=10_000_000, self.findings);
        let max_pending = usize::try_from(max_pending).unwrap_or(usize::MAX);
        let dedupe_window_s = table.integer("dedupe_window_s", 86_400, 1..=30 * 86_400, self.findings);
        let bytes = 64 * 1024..=64 * GIB;
        let max_evidence_bytes = table.integer("max_evidence_bytes", 3_000_000, bytes.clone(), self.findings);
        let max_dead_letter_bytes = table.integer("max_dead_letter_bytes", 2_000_000, bytes, self.findings);
        let git_ignore = table.boolean("git_ignore", self.findings).unwrap_or(true);
        let allow_insecure_http = table.boolean("allow_insecure_http", self.findings).unwrap_or(false);
        let stage_ends_with = table.string("stage_ends_with", self.findings).and_then(|end| {
            let help = "guardrail; or consensus, if a guardrail runs before the agents of its stage";
            self.parsed("stage_ends_with", &end, help)
        });
        let consensus_wait_ms = table.integer("consensus_wait_ms", 2000, 0..=60_000, self.findings);
        let gate_notice_s = table.integer("gate_notice_s", 5, 0..=86_400, self.findings);
        let source_roots = self.source_roots(table);
        let task_files = self.task_files(table);
        let task_done_statuses = table.strings("task_done_statuses", self.findings).unwrap_or_default();
        let task_tracker_spec = self.tracker(table);
        let link_template = table.string("link_template", self.findings).and_then(|template| {
            let help = "github, gitlab, bitbucket or gitea; or https://host/{repo}/tree/{branch}";
            self.parsed("link_template", &template, help)
        });
        let show_host = table.boolean("show_host", self.findings).unwrap_or(false);
        let runs = self.runs(table);
        let fleet = self.fleet(table, enabled);
        self.delivers = fleet.as_ref().is_none_or(|fleet| fleet.role == FleetRole::Deliver);
        let mut subscriptions = Vec::new();
        let mut ids = HashSet::new();
        for entry in table.tables("subscriptions", self.findings) {
            let Some(subscription) = self.subscription(&entry, enabled, allow_insecure_http, max_concurrency)
            else {
                continue;
            };
            if !ids.insert(subscription.id.clone()) {
                self.findings.error(
                    Some(entry.span.clone()),
                    format_args!("two subscriptions have the id `{}`", subscription.id),
                    "give each its own: deliveries and evidence are kept by it",
                );
            }
            subscriptions.push(subscription);
        }
        table.refuse_unknown(self.findings);
        self.needs_its_env_file();
        if enabled && self.delivers && !subscriptions.iter().any(|subscription| subscription.active) {
            self.findings.warn(
                None,
                "webhooks are on, but no subscription is active: nothing will be sent",
                "add a [[spec_ops.webhooks.subscriptions]] entry",
            );
        }
        Config {
            repo: self.repo.to_owned(),
            enabled,
            max_concurrency: usize::try_from(max_concurrency).unwrap_or(usize::MAX),
            spool_dir,
            evidence_dir,
            max_evidence_bytes,
            max_dead_letter_bytes,
            max_pending,
            git_ignore,
            dedupe_window: SignedDuration::from_secs(i64::try_from(dedupe_window_s).unwrap_or(i64::MAX)),
            stage_ends_with: stage_ends_with.unwrap_or(StageEndsWith::Guardrail),
            consensus_wait: Duration::from_millis(consensus_wait_ms),
            gate_notice: Duration::from_secs(gate_notice_s),
            source_roots,
            task_files,
            task_done_statuses: task_done_statuses.into_iter().map(|status| status.value).collect(),
            task_tracker_spec,
            link_template,
            show_host,
            runs,
            fleet,
            env_file,
            takes_part: true,
            watch: None,
            control_port: 0,
            source: None,
            origin: None,
            subscriptions,
        }
    }

    /// `enabled`, if it is set anywhere, and whether the environment sets it. The environment
    /// takes precedence.
    fn enabled(&mut self, table: &Table<'_, '_>) -> (Option<bool>, bool) {
        const OVERRIDE: &str = "SPECKIT_WEBHOOKS_ENABLED";
        let in_file = table.boolean("enabled", self.findings);
        let Some(word) = self.environment.get(OVERRIDE) else { return (in_file, false) };
        match word.to_ascii_lowercase().as_str() {
            "1" | "true" => (Some(true), true),
            "0" | "false" => (Some(false), true),
            _ => {
                let message = format!("the environment variable {OVERRIDE} is `{}`", shown(&word));
                self.findings.errors.push(Problem::general(message, "set it to 1 or 0, or unset it"));
                (in_file, false)
            }
        }
    }

    /// `env_file`; its variables are used from here on.
    fn env_file(&mut self, table: &Table<'_, '_>, enabled: bool) -> Option<PathBuf> {
        let At { value, span } = table.string("env_file", self.findings)?;
        let path = self.repo.join(value);
        self.environment = self.environment.with_file(Some(&path));
        let read = self.environment.refresh();
        if !(enabled && self.secrets) {
            return Some(path);
        }
        let shown = path.display();
        match read {
            Ok(()) => {}
            Err(error) if error.is_absent() => {
                self.absent_env_file = Some((span.clone(), format!("`env_file`: {shown}: {error}")));
            }
            Err(EnvFileError::Unreadable(error)) => self.findings.error(
                Some(span.clone()),
                format_args!("`env_file`: {shown}: {error}"),
                "it holds lines of NAME=value; make it readable for the user who runs spec-notify",
            ),
            Err(error @ EnvFileError::Lines(_)) => self.findings.error_to_live_with(
                Some(span.clone()),
                format_args!("`env_file`: {shown}: {error}"),
                "write NAME=value there; if it is a comment, begin the line with #",
            ),
        }
        if is_readable_by_others(&path) {
            self.findings.warn(
                Some(span),
                format_args!("`env_file`: {shown} can be read by other users of this machine"),
                format_args!("chmod 600 {shown}"),
            );
        }
        Some(path)
    }

    /// An `env_file` that does not exist is an error where a variable is missing: a checkout, such
    /// as one in CI, may have them all in its environment.
    fn needs_its_env_file(&mut self) {
        let Some((span, what)) = self.absent_env_file.take() else { return };
        match self.is_variable_missing {
            true => self.findings.error(
                Some(span),
                what,
                "it holds lines of NAME=value; spec-notify init makes the one that a config of its own names",
            ),
            false => self.findings.warn(
                Some(span),
                format_args!("{what}; the environment has every variable that is needed"),
                "if that is meant, as in CI, do nothing",
            ),
        }
    }

    /// `task_files`.
    fn task_files(&mut self, table: &Table<'_, '_>) -> Arc<[PathGlob]> {
        let globs = table.strings("task_files", self.findings).unwrap_or_default();
        let help = "write a path relative to the repo root, such as \"plans/**/todo-?.md\"";
        globs.iter().filter_map(|glob| self.parsed("task_files", glob, help)).collect()
    }

    /// `task_tracker_spec`, or the default.
    fn tracker(&mut self, table: &Table<'_, '_>) -> SpecId {
        let given = table.string("task_tracker_spec", self.findings);
        given
            .and_then(|text| self.parsed("task_tracker_spec", &text, "for example \"SPEC-TRACKER\""))
            .unwrap_or_else(SpecId::tracker)
    }

    /// `max_stage_attempts`, and the keys in `alerts`.
    fn runs(&mut self, table: &Table<'_, '_>) -> RunPolicy {
        let attempts = table.integer("max_stage_attempts", 3, 1..=1000, self.findings);
        let alerts = table.table("alerts", self.findings);
        let (mut cost_threshold_usd, mut stall_after_s) = (None, DEFAULT_STALL_S);
        if let Some(alerts) = alerts {
            cost_threshold_usd = alerts.optional_float("cost_threshold_usd", 0.01..=1e9, self.findings);
            let seconds = 0..=30 * 86_400;
            stall_after_s = alerts.integer("stall_after_s", DEFAULT_STALL_S, seconds, self.findings);
            alerts.refuse_unknown(self.findings);
        }
        let stall_after = i64::try_from(stall_after_s).ok().filter(|seconds| *seconds > 0);
        RunPolicy {
            max_stage_attempts: u32::try_from(attempts).unwrap_or(u32::MAX),
            cost_threshold_usd,
            stall_after: stall_after.map(SignedDuration::from_secs),
        }
    }

    fn parsed<T: FromStr<Err: Display>>(&mut self, key: &str, text: &At<String>, help: &str) -> Option<T> {
        let parsed = text.value.parse::<T>();
        parsed
            .map_err(|error| {
                let message = wrong_value(key, &text.value, &error);
                self.findings.error(Some(text.span.clone()), message, help);
            })
            .ok()
    }
}
