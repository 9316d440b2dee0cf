//! The format of a subscription: the body made of an event, and the meaning of the service's
//! answers. One file per service.

mod cloudevents;
mod discord;
mod mattermost;
mod place;
mod slack;
mod teams;
#[cfg(test)]
mod tests;

use std::time::Duration;

use bytes::Bytes;
use url::Url;

use super::answer::{Answer, Rejection, is_page};
use super::message::Message;
use super::reader::Reader;
use crate::event::Event;
use crate::names::named;
use place::Place;
pub(crate) use place::Service;
#[cfg(test)]
pub(crate) use teams::MESSAGE as TEAMS_MESSAGE;

named! {
    /// The format that a subscription's endpoint understands.
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
        /// A message of a Mattermost incoming webhook, or of a compatible service: Rocket.Chat,
        /// Zulip.
        Mattermost = "mattermost",
        /// A CloudEvent 1.0 in structured mode.
        CloudEvents = "cloudevents",
    }
}

impl Format {
    /// Whether it is a chat service's format. Chat services report in their answers what became of
    /// a message.
    pub fn is_chat(self) -> bool {
        !matches!(self, Self::SpecKit | Self::CloudEvents)
    }

    /// Whether it is the default format, `spec-kit`.
    pub(crate) fn is_spec_kit(&self) -> bool {
        *self == Self::SpecKit
    }

    /// The `Content-Type` of the body.
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::CloudEvents => "application/cloudevents+json; charset=utf-8",
            _ => "application/json",
        }
    }

    /// Renders the body of `event` for a reader, given its body in the `spec-kit` format.
    ///
    /// # Errors
    /// `spec_kit` is not JSON.
    pub(crate) fn render(
        self,
        event: &Event,
        spec_kit: &Bytes,
        reader: &Reader<'_>,
    ) -> serde_json::Result<Bytes> {
        let message = || Message::of(event, reader);
        let rendered = match self {
            Self::SpecKit => return Ok(spec_kit.clone()),
            Self::CloudEvents => return cloudevents::body(event, spec_kit).map(Bytes::from),
            Self::Slack => slack::message(&message()),
            Self::Discord => discord::message(&message()),
            Self::Teams => teams::message(&message()),
            Self::Mattermost => mattermost::message(&message()),
        };
        serde_json::to_vec(&rendered).map(Bytes::from)
    }

    /// Checks the name of somebody that a message is to call, as the service names people.
    ///
    /// # Errors
    /// What the service's names look like.
    pub(crate) fn owner(self, text: &str) -> Result<(), &'static str> {
        let (is_one, form) = match self {
            Self::SpecKit | Self::CloudEvents => (false, "only messages of a chat service call somebody"),
            Self::Slack => (slack::is_owner(text), "Slack's ids are a user's U… or a group's S…"),
            Self::Discord => (discord::is_owner(text), "Discord's ids of users are 15 to 20 digits"),
            Self::Teams => {
                (teams::is_owner(text), "Teams knows people by what they sign in with, name@domain")
            }
            Self::Mattermost => (mattermost::is_owner(text), "a user's name, without @; no group or channel"),
        };
        if is_one { Ok(()) } else { Err(form) }
    }

    /// The pause that the service asks for in the answer's body; only Discord does.
    pub(crate) fn wait(self, answer: Answer<'_>) -> Option<Duration> {
        if self == Self::Discord { discord::wait(answer.body?) } else { None }
    }

    /// The service's refusal, if its answer has a 2xx status and reports a failure in the body.
    pub(crate) fn rejection(self, answer: Answer<'_>) -> Option<Rejection> {
        if !(200..300).contains(&answer.status) || matches!(self, Self::SpecKit | Self::CloudEvents) {
            return None;
        }
        let Some(body) = answer.body.map(str::trim) else {
            let hint = "have the service, or what stands before it, answer without compression";
            let word = "its answer cannot be read: it is compressed (Content-Encoding)".to_owned();
            return Some(Rejection { word, retry: false, hint });
        };
        if is_page(answer.content_type, body) {
            // A page does not come from the service but from a sign-in or a proxy.
            let word = "a web page came back, and no word of the service".to_owned();
            let hint = "the url leads to a sign-in or a proxy's page: use one that programs can reach";
            return Some(Rejection { word, retry: true, hint });
        }
        match self {
            Self::SpecKit | Self::CloudEvents => None,
            Self::Slack => slack::refusal(body),
            Self::Discord => discord::refusal(body),
            Self::Teams => teams::refusal(body),
            Self::Mattermost => mattermost::refusal(body),
        }
    }
}

/// The service that a URL belongs to, if its host or path shows it.
pub(crate) fn service_of(url: &Url) -> Option<Service> {
    let place = Place::of(url)?;
    let services = [slack::service, discord::service, teams::service, mattermost::service];
    services.into_iter().find_map(|service| service(&place))
}
