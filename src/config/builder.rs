//! A config made in code. It is written as the table of a file and checked as one: there is one
//! reader of keys, one set of bounds, and one wording of what is wrong.

mod subscription;
mod toml;

use std::path::{Path, PathBuf};
use std::time::Duration;

pub use subscription::Subscription;

use self::toml::{Keys, list, seconds, text};
use super::{Config, ConfigError, LoadOptions, Loaded, Problem};
use crate::env::Environment;
use crate::event::SpecId;

/// A [`Config`] in the making; [`build`](Self::build) checks and ends it.
///
/// What is not said is as in a file that does not say it, but that webhooks are on. The variable
/// `SPECKIT_WEBHOOKS_ENABLED` has the last word here too.
#[derive(Clone, Debug, Default)]
#[must_use = "a config in the making does nothing: build it"]
pub struct ConfigBuilder {
    repo: Option<PathBuf>,
    without_secrets: bool,
    keys: Keys,
    alerts: Keys,
    subscriptions: Vec<Subscription>,
}

/// A setter for each key that is written as it is given.
macro_rules! keys {
    ($($(#[$doc:meta])* $name:ident($given:ty) = $key:literal in $table:ident, $as:expr;)+) => {
        impl ConfigBuilder {$(
            $(#[$doc])*
            pub fn $name(mut self, $name: $given) -> Self {
                let written: fn($given) -> String = $as;
                self.$table.set($key, written($name));
                self
            }
        )+}
    };
}

keys! {
    /// Whether webhooks are on.
    enabled(bool) = "enabled" in keys, |on| on.to_string();
    /// Requests at a time over all subscriptions; from 1 to 1024.
    max_concurrency(u32) = "max_concurrency" in keys, |most| most.to_string();
    /// Waiting deliveries of one subscription; above it the oldest is dropped.
    max_pending(u32) = "max_pending" in keys, |most| most.to_string();
    /// How long an idempotency key is remembered; whole seconds.
    dedupe_window(Duration) = "dedupe_window_s" in keys, seconds;
    /// Bytes of evidence of one SPEC; the oldest rotate out.
    max_evidence_bytes(u64) = "max_evidence_bytes" in keys, |most| most.to_string();
    /// Bytes of dead letters of one SPEC; the oldest are removed.
    max_dead_letter_bytes(u64) = "max_dead_letter_bytes" in keys, |most| most.to_string();
    /// Whether evidence gets a `.gitignore`.
    git_ignore(bool) = "git_ignore" in keys, |on| on.to_string();
    /// Whether `http://` is allowed beyond loopback.
    allow_insecure_http(bool) = "allow_insecure_http" in keys, |on| on.to_string();
    /// How long a stage waits for consensus files that come later; whole milliseconds.
    consensus_wait(Duration) = "consensus_wait_ms" in keys, toml::milliseconds;
    /// A gate that a person at the terminal answers sooner is not told; whole seconds.
    gate_notice(Duration) = "gate_notice_s" in keys, seconds;
    /// How the pages of the repo are laid out, where its host does not show it.
    link_template(&str) = "link_template" in keys, text;
    /// Whether payloads and messages may name this machine.
    show_host(bool) = "show_host" in keys, |on| on.to_string();
    /// Tries of a stage after which its run has ended.
    max_stage_attempts(u32) = "max_stage_attempts" in keys, |most| most.to_string();
    /// The SPEC of tasks that name none.
    task_tracker_spec(&SpecId) = "task_tracker_spec" in keys, |spec| text(spec.as_str());
    /// What a run may cost before it is told, in dollars.
    cost_threshold_usd(f64) = "cost_threshold_usd" in alerts, toml::number;
    /// How long a run may show no sign of life before it is told; 0 for ever; whole seconds.
    stall_after(Duration) = "stall_after_s" in alerts, seconds;
}

impl Config {
    /// A config made in code instead of a file.
    ///
    /// ```
    /// use spec_notify::{Config, Environment, Stage, Status, Subscription};
    ///
    /// # let repo = std::env::temp_dir();
    /// let environment = Environment::fixed([
    ///     ("CHATOPS_URL", "https://hooks.example.com/T0/B0/x"),
    ///     ("CHATOPS_SECRET", "a secret of some length"),
    /// ]);
    /// let config = Config::builder()
    ///     .repo(&repo)
    ///     .subscription(
    ///         Subscription::new("chatops", "CHATOPS_SECRET")
    ///             .url_env("CHATOPS_URL")
    ///             .include_stages([Stage::Plan, Stage::Validate])
    ///             .include_status([Status::Failure, Status::Halt])
    ///             .max_attempts(5),
    ///     )
    ///     .build(&environment)?;
    /// assert!(config.is_enabled());
    ///
    /// // What is wrong is said all at once, in the words that a file would get.
    /// let error = Config::builder()
    ///     .repo(&repo)
    ///     .max_concurrency(0)
    ///     .subscription(Subscription::new("chatops", "CHATOPS_SECRET"))
    ///     .build(&environment)
    ///     .unwrap_err();
    /// assert_eq!(error.problems().len(), 2, "{error}");
    /// # Ok::<(), spec_notify::ConfigError>(())
    /// ```
    pub fn builder() -> ConfigBuilder {
        ConfigBuilder { keys: Keys::with("enabled", "true"), ..ConfigBuilder::default() }
    }
}

impl ConfigBuilder {
    /// The repo's root, instead of the one found by git above the working directory.
    pub fn repo(mut self, root: impl AsRef<Path>) -> Self {
        self.repo = Some(root.as_ref().to_owned());
        self
    }

    /// Allows secrets and URLs to be missing from the environment. Such a config can be inspected
    /// but not run.
    pub fn without_secrets(mut self) -> Self {
        self.without_secrets = true;
        self
    }

    /// The root of the evidence tree; relative to the repo.
    pub fn evidence_dir(mut self, dir: impl AsRef<Path>) -> Self {
        self.keys.set_path("evidence_dir", dir.as_ref());
        self
    }

    /// The spool's folder; relative to the repo.
    pub fn spool_dir(mut self, dir: impl AsRef<Path>) -> Self {
        self.keys.set_path("spool_dir", dir.as_ref());
        self
    }

    /// A dotenv file, read anew when it changes, under the environment; relative to the repo.
    pub fn env_file(mut self, file: impl AsRef<Path>) -> Self {
        self.keys.set_path("env_file", file.as_ref());
        self
    }

    /// A stage ends with its consensus and not with its guardrail, which runs before the agents.
    pub fn stage_ends_with_consensus(mut self) -> Self {
        self.keys.set("stage_ends_with", text("consensus"));
        self
    }

    /// The folders of a monorepo that hold sources of their own; relative to the repo.
    pub fn source_roots<'a>(mut self, roots: impl IntoIterator<Item = &'a str>) -> Self {
        self.keys.set("source_roots", list(roots.into_iter().map(text)));
        self
    }

    /// Globs of further task lists; relative to the repo.
    pub fn task_files<'a>(mut self, globs: impl IntoIterator<Item = &'a str>) -> Self {
        self.keys.set("task_files", list(globs.into_iter().map(text)));
        self
    }

    /// Further statuses that mean Done.
    pub fn task_done_statuses<'a>(mut self, statuses: impl IntoIterator<Item = &'a str>) -> Self {
        self.keys.set("task_done_statuses", list(statuses.into_iter().map(text)));
        self
    }

    /// Adds a subscription.
    pub fn subscription(mut self, subscription: Subscription) -> Self {
        self.subscriptions.push(subscription);
        self
    }

    /// Checks everything, with the variables of `environment`, and ends the making.
    ///
    /// # Errors
    /// Everything that must be corrected, each with what to do. A problem of a subscription names
    /// it; there are no lines.
    pub fn build(self, environment: &Environment) -> Result<Config, ConfigError> {
        self.check(environment).into_config()
    }

    /// As [`build`](Self::build), with what may not be as intended.
    pub fn check(&self, environment: &Environment) -> Loaded {
        let options = match std::env::current_dir() {
            Ok(here) => LoadOptions::in_dir(here),
            // An absolute repo needs none.
            Err(_) => LoadOptions::in_dir("/"),
        };
        let options = LoadOptions { repo: self.repo.clone(), secrets: !self.without_secrets, ..options };
        let (document, places) = self.written();
        let mut loaded = options.parse(&document, environment);
        let named = |problem: &mut Problem| {
            let line = problem.line.take().unwrap_or_default();
            problem.column = None;
            if let Some((_, id)) = places.iter().rev().find(|(from, _)| *from <= line) {
                problem.message = format!("subscription {id}: {}", problem.message);
            }
        };
        loaded.errors.iter_mut().chain(&mut loaded.warnings).for_each(named);
        let subscriptions = self.subscriptions.iter().map(|one| &one.keys);
        let unwritten = subscriptions.chain([&self.keys]).flat_map(Keys::unwritten);
        loaded.errors.extend(unwritten.map(|what| Problem::general(what, "name one whose path is UTF-8")));
        loaded.config = loaded.config.filter(|_| loaded.errors.is_empty());
        loaded
    }

    /// The table, and at which line each subscription begins.
    fn written(&self) -> (String, Vec<(usize, String)>) {
        let mut document = "[spec_ops.webhooks]\n".to_owned();
        self.keys.write(&mut document);
        if !self.alerts.is_empty() {
            document += "[spec_ops.webhooks.alerts]\n";
            self.alerts.write(&mut document);
        }
        let mut places = Vec::new();
        for one in &self.subscriptions {
            places.push((document.matches('\n').count() + 1, one.name()));
            document += "[[spec_ops.webhooks.subscriptions]]\n";
            one.keys.write(&mut document);
            one.write_headers(&mut document);
        }
        (document, places)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Stage, Status};

    fn environment() -> Environment {
        Environment::fixed([("S", "a secret of the tests"), ("U", "https://example.com/hook")])
    }

    #[test]
    fn it_is_the_config_of_a_file_that_says_the_same() {
        let repo = tempfile::tempdir().unwrap();
        let built = Config::builder()
            .repo(repo.path())
            .max_concurrency(3)
            .spool_dir("a \"quoted\\ spool")
            .stall_after(Duration::from_secs(60))
            .subscription(
                Subscription::new("one", "S")
                    .url_env("U")
                    .include_stages([Stage::Plan])
                    .include_status([Status::Failure])
                    .initial_backoff(Duration::from_millis(250))
                    .backoff_factor(3.0)
                    .header("X-Team", "a \\ b"),
            )
            .build(&environment());
        let text = "[spec_ops.webhooks]\nenabled = true\nmax_concurrency = 3\n\
            spool_dir = 'a \"quoted\\ spool'\n[spec_ops.webhooks.alerts]\nstall_after_s = 60\n\
            [[spec_ops.webhooks.subscriptions]]\nid = \"one\"\nsecret_env = \"S\"\nurl_env = \"U\"\n\
            include_stages = [\"Plan\"]\ninclude_status = [\"failure\"]\ninitial_backoff_ms = 250\n\
            backoff_factor = 3.0\nheaders = { X-Team = 'a \\ b' }\n";
        let options = LoadOptions::in_dir(repo.path()).repo(repo.path());
        let read = options.parse(text, &environment()).into_config();
        assert!(built.is_ok());
        assert_eq!(format!("{built:?}"), format!("{read:?}"));
    }

    #[test]
    fn each_problem_is_said_with_the_name_of_its_subscription_and_no_line() {
        let repo = tempfile::tempdir().unwrap();
        let loaded = Config::builder()
            .repo(repo.path())
            .max_pending(0)
            .subscription(Subscription::new("one", "S").url_env("U").max_attempts(0))
            .subscription(Subscription::new("two", "NOT_SET").url("not a url"))
            .subscription(Subscription::new("one", "S").url_env("U"))
            .check(&environment());
        let said: Vec<String> = loaded.errors.iter().map(|problem| problem.message.clone()).collect();
        assert!(said[0].starts_with("`max_pending` is 0"), "{said:?}");
        assert!(said[1].starts_with("subscription one: `max_attempts` is 0"), "{said:?}");
        assert_eq!(said.iter().filter(|what| what.starts_with("subscription two: ")).count(), 2, "{said:?}");
        assert!(said.last().unwrap().contains("two subscriptions have the id `one`"), "{said:?}");
        assert!(loaded.errors.iter().all(|problem| problem.line.is_none() && problem.column.is_none()));
    }

    #[test]
    fn what_is_given_can_say_nothing_but_itself() {
        let repo = tempfile::tempdir().unwrap();
        let evil = "x\"\nenabled = false\n[[spec_ops.webhooks.subscriptions]]\u{7f}";
        let built = Config::builder().repo(repo.path()).spool_dir(evil).build(&environment()).unwrap();
        assert!(built.is_enabled() && built.spool_dir().ends_with(evil), "{built:?}");
        let error = Config::builder()
            .repo(repo.path())
            .subscription(Subscription::new(evil, "S").url_env("U"))
            .build(&environment())
            .unwrap_err();
        assert_eq!(error.problems().len(), 1, "{error}");
        assert!(!error.to_string().contains('\u{7f}'), "{error}");
    }
}
