//! The format of a subscription: which body an event becomes.

use bytes::Bytes;

use super::summary::Summary;
use super::{cloudevents, discord, mattermost, slack, teams};
use crate::event::Event;
use crate::names::named;

named! {
    /// What a subscription's endpoint understands.
    #[derive(Default)]
    Format, "format" {
        /// The payload itself.
        #[default]
        SpecKit = "spec-kit",
        /// A message of a Slack incoming webhook.
        Slack = "slack",
        /// A message of a Discord webhook.
        Discord = "discord",
        /// A card for a Teams Workflows webhook.
        Teams = "teams",
        /// A message of a Mattermost incoming webhook, or of what is compatible: Rocket.Chat,
        /// Zulip.
        Mattermost = "mattermost",
        /// A CloudEvent 1.0 in structured mode.
        CloudEvents = "cloudevents",
    }
}

impl Format {
    /// Whether it is a chat service's, which says in its answers what became of a message.
    pub fn is_chat(self) -> bool {
        !matches!(self, Self::SpecKit | Self::CloudEvents)
    }

    /// Whether it is the one that goes without saying.
    pub fn is_spec_kit(&self) -> bool {
        *self == Self::SpecKit
    }

    /// The `Content-Type` of the body.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::CloudEvents => "application/cloudevents+json; charset=utf-8",
            _ => "application/json",
        }
    }

    /// The body of `event`, whose body in the `spec-kit` format is `spec_kit`.
    ///
    /// # Errors
    /// `spec_kit` is not JSON.
    pub fn render(self, event: &Event, spec_kit: &Bytes) -> serde_json::Result<Bytes> {
        let message = match self {
            Self::SpecKit => return Ok(spec_kit.clone()),
            Self::CloudEvents => return cloudevents::body(event, spec_kit).map(Bytes::from),
            Self::Slack => slack::message(&Summary::of(event)),
            Self::Discord => discord::message(&Summary::of(event)),
            Self::Teams => teams::message(&Summary::of(event)),
            Self::Mattermost => mattermost::message(&Summary::of(event)),
        };
        serde_json::to_vec(&message).map(Bytes::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_are_those_of_the_config() {
        assert_eq!(Format::default(), Format::SpecKit);
        assert_eq!("cloudevents".parse(), Ok(Format::CloudEvents));
        let error = "slak".parse::<Format>().unwrap_err().to_string();
        assert!(error.starts_with("unknown format `slak` (did you mean `slack`?)"), "{error}");
    }
}
