//! What people are shown of deliveries, as values: read from the files, and changing nothing.

mod attempts;
mod listing;
mod survey;

pub use attempts::{MAX_TRIED, Tried, TriedQuery, tried};
pub use listing::{Cursor, DeliveryState, Listed, Listing, MAX_LISTED, Page, Query};
pub use survey::{Survey, unfinished};
