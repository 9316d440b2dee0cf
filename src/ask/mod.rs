//! The requests that an operator can make, each with the type of its answer. A request is answered
//! by the runtime in this process (`actors/door.rs`), over the control port (`control/`), or, if
//! no runtime runs, from the files (`cli/ask.rs`). What concerns a whole fleet, its cluster answers
//! in each of these places (`of_fleet.rs`).

mod discarded;
mod emitted;
mod of_fleet;
mod paused;
mod sent;

use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value};

pub(crate) use discarded::MAX_ASKED_TO_DISCARD;
pub use discarded::{DiscardOutcome, Discarded};
pub use emitted::{EmitOutcome, Emitted, EmittedDelivery, EmittedEvent};
pub(crate) use of_fleet::OfFleet;
pub use paused::PauseReport;
pub use sent::{SentOutcome, SentReport, SentRequest};

use crate::config::Report;
use crate::delivery::{DeliveryId, SubscriptionId};
use crate::event::{Event, SpecId};
use crate::inspect::{Listing, Metrics, Query, Shown, StatusReport, Tried, TriedQuery};

/// A request whose answer has this type.
pub trait Ask: Clone + Into<Request> + Send + 'static {
    /// The type of the answer.
    type Answer: Serialize + DeserializeOwned + Send + 'static;

    /// Takes the answer to this request out of [`Answer`]; `None` if it answers another request.
    fn answer_in(answer: Answer) -> Option<Self::Answer>;
}

/// Generates the enums of all requests and answers from one list: request, its name on the control
/// port, and the type of the answer.
macro_rules! requests {
    ($($(#[$doc:meta])* $variant:ident($ask:ty) = $name:literal -> $answer:ty;)+) => {
        /// Any request, as a line of the control port.
        #[derive(Clone, Debug, Serialize, Deserialize)]
        #[serde(tag = "command", deny_unknown_fields)]
        pub enum Request {
            $($(#[$doc])* #[serde(rename = $name)] $variant($ask)),+
        }

        impl Request {
            /// The names of all requests.
            pub const NAMES: &'static [&'static str] = &[$($name),+];
        }

        /// The answer to any request.
        #[derive(Debug, Serialize)]
        #[serde(untagged)]
        pub enum Answer {
            $(#[doc = concat!("To `", $name, "`.")] $variant($answer)),+
        }

        $(
            impl From<$ask> for Request {
                fn from(ask: $ask) -> Self {
                    Self::$variant(ask)
                }
            }

            impl Ask for $ask {
                type Answer = $answer;

                fn answer_in(answer: Answer) -> Option<$answer> {
                    match answer {
                        Answer::$variant(answer) => Some(answer),
                        _ => None,
                    }
                }
            }
        )+
    };
}

requests! {
    /// Accept an event.
    Emit(EmitEvent) = "emit" -> Emitted;
    /// Send a sample now.
    Test(SendSample) = "test" -> SentReport;
    /// Send a dead letter again now.
    Replay(ReplayDeadLetter) = "replay" -> SentReport;
    /// Deliveries, newest first.
    List(Query) = "list" -> Listing;
    /// One delivery whole.
    Show(ShowDelivery) = "show" -> Option<Shown>;
    /// Attempts, newest first.
    Attempts(TriedQuery) = "attempts" -> Vec<Tried>;
    /// The state of the runtime and its subscriptions.
    Status(ReadStatus) = "status" -> StatusReport;
    /// Counters since the start of the runtime, and gauges of now.
    Metrics(ReadMetrics) = "metrics" -> Metrics;
    /// Give deliveries up for good.
    Discard(DiscardDeliveries) = "discard" -> Vec<Discarded>;
    /// Hold a subscription's deliveries back.
    Pause(PauseSubscription) = "pause" -> PauseReport;
    /// Let a subscription's deliveries go on.
    Resume(ResumeSubscription) = "resume" -> PauseReport;
    /// Load the config again and apply it.
    Reload(ReloadConfig) = "reload" -> Report;
}

/// Accept an event.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EmitEvent {
    /// The event, in the payload's shape, as its text: whoever accepts it reads it once.
    pub event: Box<RawValue>,
}

impl EmitEvent {
    /// To accept this event.
    ///
    /// # Errors
    /// It cannot be written as JSON.
    pub fn of(event: &Event) -> serde_json::Result<Self> {
        Ok(Self { event: to_raw_value(event)? })
    }
}

impl Request {
    /// Reads a line of the control port.
    ///
    /// # Errors
    /// It is no request.
    pub(crate) fn read(line: &[u8]) -> serde_json::Result<Self> {
        /// An event comes first because a tagged enum would take it apart before it is looked at.
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Emitting {
            #[serde(rename = "command")]
            _command: Command,
            event: Box<RawValue>,
        }

        #[derive(Deserialize)]
        enum Command {
            #[serde(rename = "emit")]
            Emit,
        }

        #[derive(Deserialize)]
        struct Named {
            #[serde(rename = "command")]
            _command: Command,
        }

        match serde_json::from_slice::<Emitting>(line) {
            Ok(Emitting { event, .. }) if event.get().starts_with('{') => Ok(Self::Emit(EmitEvent { event })),
            Ok(_) => Err(serde_json::Error::custom("`event` should be an object")),
            Err(error) if serde_json::from_slice::<Named>(line).is_ok() => Err(error),
            Err(_) => serde_json::from_slice(line),
        }
    }
}

/// Send one signed sample to an active subscription now.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SendSample {
    /// The SPEC of the sample.
    pub spec: SpecId,
    /// The subscription it goes to.
    pub subscription: SubscriptionId,
    /// Whether the request is only shown, not sent.
    #[serde(default)]
    pub dry_run: bool,
    /// The event that is told, in the payload's shape; else one that only tries the way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<Map<String, Value>>,
}

/// Send a dead letter again now, with its own id and a new signature. Success removes it; a failed
/// attempt is added to it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplayDeadLetter {
    /// The SPEC of the dead letter.
    pub spec: SpecId,
    /// The delivery's id.
    pub delivery_id: DeliveryId,
    /// Whether it is not sent while its subscription is paused, as one of many.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unless_paused: bool,
}

/// Read the state of the runtime and its subscriptions.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReadStatus {}

/// Read the runtime's metrics.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReadMetrics {}

/// Show one delivery whole.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShowDelivery {
    /// The SPEC of its event.
    pub spec: SpecId,
    /// Its id.
    pub id: DeliveryId,
    /// Whether its body is wanted too.
    #[serde(default)]
    pub body: bool,
}

/// Give dead letters up for good, or what waits for a subscription that is not active.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiscardDeliveries {
    /// The deliveries; at most 500 in one request.
    pub deliveries: Vec<DeliveryOfSpec>,
}

/// One delivery.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeliveryOfSpec {
    /// The SPEC of its event.
    pub spec: SpecId,
    /// Its id.
    pub id: DeliveryId,
}

/// Hold a subscription's deliveries back until it is resumed, over restarts. A request under way
/// ends.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PauseSubscription {
    /// The subscription.
    pub subscription: SubscriptionId,
}

/// Let the deliveries of a paused subscription go on.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResumeSubscription {
    /// The subscription.
    pub subscription: SubscriptionId,
}

/// Read the config again and, if it is valid, put it in force.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReloadConfig {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_read_as_its_text_and_what_is_no_request_says_why() {
        let line = br#"{"command":"emit","event":{"spec": {"id":"S"} , "x":1.50}}"#;
        let request = Request::read(line).unwrap();
        let Request::Emit(EmitEvent { event }) = &request else { panic!("{request:?}") };
        assert_eq!(event.get(), r#"{"spec": {"id":"S"} , "x":1.50}"#);
        assert_eq!(serde_json::to_vec(&request).unwrap(), line);
        for (line, why) in [
            (r#"{"command":"emit","event":{},"spec":"S"}"#, "unknown field `spec`"),
            (r#"{"command":"emit","event":[1]}"#, "`event` should be an object"),
            (r#"{"command":"emit"}"#, "missing field `event`"),
            (r#"{"command":"nothing"}"#, "unknown variant `nothing`"),
        ] {
            let error = Request::read(line.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(why), "{line}: {error}");
        }
    }
}
