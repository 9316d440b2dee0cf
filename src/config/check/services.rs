//! Which chat service a URL is of, and whether the URL itself is a credential: what its host, path
//! and query tell.

use url::Url;

use crate::payload::Format;

/// Names of a query's values that let whoever knows them in.
const CREDENTIALS: [&str; 12] = [
    "access_token",
    "api_key",
    "apikey",
    "auth",
    "code",
    "key",
    "password",
    "secret",
    "sig",
    "signature",
    "token",
    "x-api-key",
];

/// What is known of an endpoint by its URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Service {
    /// Its name for people.
    pub(super) name: &'static str,
    /// What it understands.
    pub(super) format: Format,
    /// What to do besides setting the format.
    pub(super) note: &'static str,
}

/// The chat service behind a URL. A self-hosted one is told by its path.
pub(super) fn service_of(url: &Url) -> Option<Service> {
    let of = |name, format| Some(Service { name, format, note: "" });
    let (host, path) = (url.host_str()?.trim_end_matches('.'), url.path());
    let is_below = |domain: &str| host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'));
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    match host {
        "hooks.slack.com" | "hooks.slack-gov.com"
            if matches!(segments[..], ["triggers" | "workflows", ..]) =>
        {
            let note = "; the workflow gets the message as its variable `text` and nothing else of it: \
                        an incoming webhook's URL (/services/…) shows all";
            Some(Service { name: "a Slack workflow", format: Format::Slack, note })
        }
        "hooks.slack.com" | "hooks.slack-gov.com" => of("Slack", Format::Slack),
        // Discord takes Slack's messages too, where its path says so.
        "discord.com" | "discordapp.com" | "ptb.discord.com" | "canary.discord.com" => {
            let is_slack = segments.last() == Some(&"slack");
            of("Discord", if is_slack { Format::Slack } else { Format::Discord })
        }
        "outlook.office.com" | "outlook.office365.com" => of("Teams", Format::Teams),
        _ if is_below("webhook.office.com") => of("Teams", Format::Teams),
        _ if is_below("logic.azure.com") || is_below("environment.api.powerplatform.com") => {
            let note = "; or format = \"spec-kit\", where the workflow is one of your own";
            Some(Service { name: "a Teams workflow", format: Format::Teams, note })
        }
        _ => match segments[..] {
            ["hooks", id] | [.., "hooks", id] if is_mattermost_id(id) => of("Mattermost", Format::Mattermost),
            ["hooks", id, token] if is_rocket_chat(id, token) => of("Rocket.Chat", Format::Mattermost),
            ["api", "v1", "external", "slack_incoming"] => of("Zulip", Format::Mattermost),
            _ => None,
        },
    }
}

/// 26 characters of its own base 32.
fn is_mattermost_id(id: &str) -> bool {
    id.len() == 26 && id.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
}

/// An id (of MongoDB, or its own) and a longer token.
fn is_rocket_chat(id: &str, token: &str) -> bool {
    let is_random = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric());
    matches!(id.len(), 17 | 24) && token.len() >= 40 && is_random(id) && is_random(token)
}

/// Whether whoever reads the URL can post with it.
pub(super) fn is_credential(url: &Url) -> bool {
    let names_one = |name: &str| CREDENTIALS.contains(&name.to_ascii_lowercase().as_str());
    let has_value = url.query_pairs().any(|(name, value)| names_one(&name) && !value.is_empty());
    url.password().is_some() || has_value || service_of(url).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chat_service_is_known_by_its_url() {
        let mattermost = "xxxkeyxxxkeyxxxkeyxxxkeyxx";
        let (rocket, token) = ("6".repeat(24), "aB3".repeat(14));
        for (url, expected) in [
            ("hooks.slack.com/services/T0/B0/x", Some(Format::Slack)),
            ("hooks.slack.com/triggers/T0/1/x", Some(Format::Slack)),
            ("discord.com/api/webhooks/1/x", Some(Format::Discord)),
            ("discord.com/api/webhooks/1/x/slack", Some(Format::Slack)),
            ("ptb.discord.com/api/webhooks/1/x", Some(Format::Discord)),
            ("corp.webhook.office.com/webhookb2/x", Some(Format::Teams)),
            ("prod-12.westeurope.logic.azure.com:443/workflows/x/triggers/manual", Some(Format::Teams)),
            ("default1.2.environment.api.powerplatform.com:443/powerautomate/x", Some(Format::Teams)),
            (&format!("chat.corp.example/hooks/{mattermost}"), Some(Format::Mattermost)),
            (&format!("corp.example/chat/hooks/{mattermost}"), Some(Format::Mattermost)),
            (&format!("rocket.corp.example/hooks/{rocket}/{token}"), Some(Format::Mattermost)),
            (
                "zulip.corp.example/api/v1/external/slack_incoming?api_key=x&stream=y",
                Some(Format::Mattermost),
            ),
            ("corp.example/hooks/speckit", None),
            ("corp.example/hooks/a/b", None),
            ("evillogic.azure.com.example/workflows/x", None),
            ("notwebhook.office.com/", None),
        ] {
            let parsed = Url::parse(&format!("https://{url}")).unwrap();
            assert_eq!(service_of(&parsed).map(|service| service.format), expected, "{url}");
        }
    }

    #[test]
    fn a_url_that_lets_one_in_is_known() {
        for (url, expected) in [
            ("https://hooks.slack.com/services/T0/B0/x", true),
            ("https://corp.example/hook?sig=abc", true),
            ("https://corp.example/hook?Token=abc", true),
            ("https://u:p@corp.example/hook", true),
            ("https://u@corp.example/hook", false),
            ("https://corp.example/hook?team=a", false),
            ("https://corp.example/hook?key=", false),
        ] {
            assert_eq!(is_credential(&Url::parse(url).unwrap()), expected, "{url}");
        }
    }
}
