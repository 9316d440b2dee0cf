//! The time that a session's name begins with.

use jiff::Timestamp;

/// `2025-10-14T10:00:00Z-4711` began at 10 o'clock.
pub(crate) fn time_of_session(session: &str) -> Option<Timestamp> {
    let (at, _) = session.split_once('Z')?;
    format!("{at}Z").parse().ok()
}
