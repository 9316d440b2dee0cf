//! Read-only views of deliveries for people, as values read from the files.

mod attempts;
mod causes;
#[cfg(feature = "cli")]
mod delivered;
mod facts;
mod fleet;
mod headline;
mod listing;
mod metrics;
#[cfg(feature = "cli")]
pub(crate) mod report;
mod shown;
mod status;
mod survey;
mod warnings;
mod words;

pub(crate) use attempts::{Tried, TriedQuery, tried};
pub use causes::{Trouble, TroubleKind};
#[cfg(feature = "cli")]
pub(crate) use delivered::delivered_since;
pub(crate) use facts::{Condition, Facts, FleetFacts, Queue, Unseen, Watching};
pub use fleet::{FleetMember, FleetStatus, GoneMember};
pub(crate) use listing::Page;
pub use listing::{Cursor, DeliveryState, Listed, Listing, MAX_LISTED, Query};
pub use metrics::{Exposition, FleetMetrics, Metrics, SubscriptionMetrics};
pub use shown::{Shown, ShownAttempt, ShownError, ShownRequest, ShownResponse, Wait, WaitKind};
pub(crate) use shown::{Traces, Unended, pending};
pub use status::{RuntimeStatus, SourcesStatus, StatusReport, SubscriptionStatus};
#[cfg(feature = "cli")]
pub(crate) use status::{Unfinished, is_zero};
pub(crate) use survey::{Survey, unfinished};
pub(crate) use words::counted;
#[cfg(feature = "cli")]
pub(crate) use words::{ago, grouped, latency, listed, short};
