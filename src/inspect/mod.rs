//! What people are shown of deliveries, as values: read from the files, and changing nothing.

mod attempts;
mod facts;
mod listing;
mod status;
mod survey;
mod warnings;
mod words;

pub use attempts::{MAX_TRIED, Tried, TriedQuery, tried};
pub(crate) use facts::{Condition, Facts, Queue, Watching};
pub use listing::{Cursor, DeliveryState, Listed, Listing, MAX_LISTED, Page, Query};
pub use status::{RuntimeStatus, SourcesStatus, StatusReport, SubscriptionStatus, Unfinished};
pub use survey::{Survey, unfinished};
#[cfg(feature = "cli")]
pub(crate) use words::{ago, counted, short};
