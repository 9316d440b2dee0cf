//! A machine of a fleet: a repo with its config, and what runs in it.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::cluster::Cluster;
use crate::harness::{EVIDENCE, Endpoint, Ran, Request, RequestExt as _, Sandbox, Serve};

/// Shortest lease there is: tests wait for some to run out.
pub(crate) const LEASE_S: u64 = 5;

pub(crate) struct Machine(Sandbox);

/// What a run said.
pub(crate) fn said(ran: &Ran) -> String {
    format!("{}{}", ran.stdout, ran.stderr)
}

impl Machine {
    /// One that hands over, with these lines in its fleet's table.
    pub(crate) fn new(url: &str, more: &str) -> Self {
        Self::with(url, more, &[])
    }

    /// One that delivers to these subscriptions: `(id, url, further lines)`.
    pub(crate) fn deliverer(cluster: &Cluster, subscriptions: &[(&str, &str, &str)]) -> Self {
        let more = format!("role = \"deliver\"\nlease_s = {LEASE_S}");
        Self::with(&cluster.url("postgres"), &more, subscriptions)
    }

    pub(crate) fn with(url: &str, more: &str, subscriptions: &[(&str, &str, &str)]) -> Self {
        let table = format!(
            "[spec_ops.webhooks.fleet]\nurl_env = \"ENGINE_URL\"\nnamespace = \"payments\"\n{more}\n"
        );
        Self(Sandbox::with_settings(&table, subscriptions).env("ENGINE_URL", url))
    }

    /// One that delivers, with these settings beside the fleet's table.
    pub(crate) fn bounded(cluster: &Cluster, settings: &str, subscriptions: &[(&str, &str, &str)]) -> Self {
        let table = format!(
            "{settings}\n[spec_ops.webhooks.fleet]\nurl_env = \"ENGINE_URL\"\nnamespace = \"payments\"\n\
             role = \"deliver\"\nlease_s = {LEASE_S}\n"
        );
        Self(Sandbox::with_settings(&table, subscriptions).env("ENGINE_URL", &cluster.url("postgres")))
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn spool(&self) -> PathBuf {
        self.0.spool()
    }

    pub(crate) fn sandbox(&self) -> &Sandbox {
        &self.0
    }

    pub(crate) fn with_env(self, name: &str, value: &str) -> Self {
        Self(self.0.env(name, value))
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Ran {
        self.0.run(arguments)
    }

    #[track_caller]
    pub(crate) fn json(&self, code: i32, arguments: &[&str]) -> Value {
        let ran = self.run(&[&["--json"], arguments].concat());
        assert_eq!(ran.code, code, "{ran:?}");
        serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:?}"))
    }

    pub(crate) fn serve(&self) -> Serve {
        self.0.serve()
    }

    pub(crate) fn emit(&self, spec: &str, key: &str) -> Value {
        self.emit_with(0, spec, key, &[])
    }

    #[track_caller]
    pub(crate) fn emit_with(&self, code: i32, spec: &str, key: &str, more: &[&str]) -> Value {
        let event = ["emit", "--type", "spec-auto.stage.completed", "--spec", spec, "--stage", "Plan"];
        let rest = ["--status", "success", "--key", key];
        self.json(code, &[&event[..], &rest, more].concat())
    }

    /// The lines of a SPEC's evidence in this repo.
    pub(crate) fn lines(&self, spec: &str) -> Vec<String> {
        let file = self.path().join(EVIDENCE).join("commands").join(spec).join("webhooks/deliveries.jsonl");
        let text = fs::read_to_string(file).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    pub(crate) fn inbox(&self) -> usize {
        fs::read_dir(self.spool().join("inbox")).map_or(0, |files| files.count())
    }
}

/// A cluster that is made ready.
pub(crate) fn ready() -> Cluster {
    let cluster = Cluster::start();
    let machine = Machine::new(&cluster.url("postgres"), "");
    machine.json(0, &["fleet", "init"]);
    cluster
}

/// The keys of a SPEC's events, in the order in which the cluster has them.
pub(crate) fn keys_of(cluster: &Cluster, spec: &str) -> Vec<String> {
    let keys = format!(
        "SELECT event::jsonb #>> '{{event,idempotency_key}}' FROM spec_notify.event WHERE spec = '{spec}' \
         ORDER BY seq"
    );
    cluster.sql(&keys).lines().map(str::to_owned).collect()
}

/// The key of a request's event.
pub(crate) fn key(request: &Request) -> String {
    let body: Value = serde_json::from_slice(request.body()).unwrap();
    body["event"]["idempotency_key"].as_str().unwrap().to_owned()
}

/// The keys that came to an endpoint, in their order; each request's signature is verified.
pub(crate) fn arrived(endpoint: &Endpoint) -> Vec<(String, String)> {
    let verify = |request: &Request| {
        let secret = crate::harness::SECRET.as_bytes();
        let webhook = standardwebhooks::Webhook::from_bytes(secret.to_vec()).unwrap();
        // Not `verify`: a storm is longer than a signature is good for.
        let (id, at) = (request.text_of("webhook-id"), request.text_of("webhook-timestamp"));
        let signature = webhook.sign(id, at.parse().unwrap(), request.body()).unwrap();
        assert_eq!(signature, request.text_of("webhook-signature"));
        (request.text_of("x-speckit-id").to_owned(), key(request))
    };
    endpoint.requests().iter().map(verify).collect()
}
