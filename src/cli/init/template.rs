//! The config that `init` writes: one subscription that works on this machine at once, and examples
//! of others as comments.

/// The variable with the secret of the first subscription.
pub(super) const VARIABLE: &str = "SPECKIT_WEBHOOK_SECRET";

/// The id of the first subscription.
pub(super) const LOCAL: &str = "local";

/// The port of the receiver that it sends to.
pub(super) const PORT: u16 = 9000;

/// The folder of the secrets, in the repo: it hides itself from git.
pub(super) const SECRETS_DIR: &str = ".spec-kit/webhooks";

/// The file of the secrets, in the repo.
pub(super) const ENV_FILE: &str = ".spec-kit/webhooks/secrets.env";

/// The text of the config. `evidence_dir` is given where the repo's evidence tree is not the usual
/// one.
pub(super) fn config(evidence_dir: Option<&str>) -> String {
    let evidence = evidence_dir.map_or_else(String::new, |dir| {
        format!("evidence_dir = \"{dir}\"\nspool_dir = \"{dir}/webhooks\"\n")
    });
    format!(
        r##"# Which endpoints get which events. After an edit: spec-notify check, then spec-notify reload.
# This file may be committed: secrets are in the environment or in env_file, and never here.

[spec_ops.webhooks]
enabled = true       # false: nothing is sent, and nothing runs
env_file = "{ENV_FILE}"   # of this checkout alone: git does not see it
{evidence}
# A receiver on this machine, to see what arrives. While none listens, a delivery is retried for some
# eight minutes and then becomes a dead letter: once another subscription takes its place, remove it.
#   spec-notify receive --port {PORT} --secret-env {VARIABLE}
[[spec_ops.webhooks.subscriptions]]
id = "{LOCAL}"
url = "http://127.0.0.1:{PORT}/spec-kit"
secret_env = "{VARIABLE}"

# Your own endpoint, which verifies the signature with the same secret. To use an example, take the #
# off each of its lines.
#[[spec_ops.webhooks.subscriptions]]
#id = "tracker"
#url = "https://tracker.example.com/spec-kit"
#secret_env = "SPECKIT_WEBHOOK_SECRET_TRACKER"   # a line of env_file; spec-notify secret new makes one
#include_events = ["spec-auto.*", "spec-kit.task.completed", "spec-kit.webhook.test"]

# A chat channel that gets failures. Its URL lets anybody post, so it is a line of env_file
# too. Slack verifies no signature: any secret will do. Also: discord, teams, mattermost.
#[[spec_ops.webhooks.subscriptions]]
#id = "slack"
#url_env = "SLACK_WEBHOOK_URL"
#secret_env = "{VARIABLE}"
#format = "slack"
#include_events = ["spec-auto.*", "spec-kit.webhook.test"]
#include_status = ["failure", "halt"]
"##
    )
}

/// The text of the file with the secrets.
pub(super) fn secrets(secret: &str) -> String {
    format!(
        "# Secrets of spec-notify, one NAME=value a line: see env_file in .spec-kit/config.toml.\n\
         {VARIABLE}={secret}\n"
    )
}
