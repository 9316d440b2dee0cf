//! Every request of an operator, with the type of its answer. One is answered by the runtime in
//! this process (`actors/door.rs`), over the control port (`control/`), or, where no runtime runs,
//! from the files (`cli/ask.rs`).

mod emitted;
mod sent;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use emitted::{EmitOutcome, Emitted, EmittedDelivery, EmittedEvent};
pub use sent::{SentOutcome, SentReport, SentRequest};

use crate::config::Report;
use crate::delivery::{DeliveryId, SubscriptionId};
use crate::event::SpecId;
use crate::inspect::{Listing, Query, StatusReport, Tried, TriedQuery};

/// A request whose answer has this type.
pub trait Ask: Clone + Into<Request> + Send + 'static {
    /// What is answered.
    type Answer: Serialize + DeserializeOwned + Send + 'static;

    /// The answer to this request; `None` where it answers another one.
    fn answer_in(answer: Answer) -> Option<Self::Answer>;
}

/// The enums of all requests and answers, from one list: request, its name on the control port,
/// answer.
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
    /// Attempts, newest first.
    Attempts(TriedQuery) = "attempts" -> Vec<Tried>;
    /// How the runtime and its subscriptions fare.
    Status(ReadStatus) = "status" -> StatusReport;
    /// Take the config over as it is now.
    Reload(ReloadConfig) = "reload" -> Report;
}

/// Accept an event.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EmitEvent {
    /// In the payload's shape.
    pub event: Map<String, Value>,
}

/// Send one signed sample to an active subscription now.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SendSample {
    /// Of which SPEC.
    pub spec: SpecId,
    /// To whom.
    pub subscription: SubscriptionId,
    /// Whether it is only to be shown.
    #[serde(default)]
    pub dry_run: bool,
}

/// Send a dead letter again now, under its own id, signed anew. Success removes it; failure adds to
/// it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplayDeadLetter {
    /// Of which SPEC.
    pub spec: SpecId,
    /// Which.
    pub delivery_id: DeliveryId,
}

/// How the runtime and its subscriptions fare.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReadStatus {}

/// Read the config again and, if it is good, put it in force.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReloadConfig {}
