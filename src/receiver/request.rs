//! A request as it came.

use std::fmt;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use httparse::Header;
use jiff::Timestamp;
use serde_json::Value;

use super::reading::parsed;
use crate::clock;
use crate::delivery::DeliveryId;
use crate::event::{Event, EventError, EventKind};
use crate::names::printable;

/// One request that came, whole. It displays as one line: what a test that failed shows.
#[derive(Clone)]
pub struct Request {
    pub(super) at: Instant,
    pub(super) received: Timestamp,
    pub(super) connection: usize,
    pub(super) turn: usize,
    /// Everything before the body. It has been parsed once.
    pub(super) head: Bytes,
    /// The body, without the framing of chunks.
    pub(super) body: Bytes,
}

impl Request {
    /// When it had come, whole, and was not answered yet.
    pub fn at(&self) -> Instant {
        self.at
    }

    /// The same by the wall clock.
    pub fn time(&self) -> SystemTime {
        let since_epoch = self.received.as_millisecond().unsigned_abs();
        SystemTime::UNIX_EPOCH + Duration::from_millis(since_epoch)
    }

    /// The same in RFC 3339, with milliseconds.
    pub(crate) fn time_text(&self) -> String {
        clock::rfc3339(self.received)
    }

    /// The same in whole seconds since the epoch.
    pub(super) fn second(&self) -> i64 {
        self.received.as_second()
    }

    /// Which connection it came on: the first that was made is 1.
    pub fn connection(&self) -> usize {
        self.connection
    }

    /// Which request of its connection it was: the first is 1.
    pub fn turn(&self) -> usize {
        self.turn
    }

    /// The method, such as `POST`.
    pub fn method(&self) -> &str {
        self.line(0)
    }

    /// What was asked for: path and query.
    pub fn target(&self) -> &str {
        self.line(1)
    }

    fn line(&self, word: usize) -> &str {
        let end = self.head.iter().position(|byte| *byte == b'\r' || *byte == b'\n');
        let line = std::str::from_utf8(&self.head[..end.unwrap_or(self.head.len())]).unwrap_or_default();
        line.split(' ').nth(word).unwrap_or_default()
    }

    /// The headers in their order, as they were written. One whose value is not UTF-8 is left out.
    pub fn headers<'a>(&'a self) -> Vec<(&'a str, &'a str)> {
        let text = |header: &Header<'a>| Some((header.name, std::str::from_utf8(header.value).ok()?));
        parsed(&self.head, |headers| headers.iter().filter_map(text).collect())
    }

    /// The first header of this name, in letters of either case.
    pub fn header(&self, name: &str) -> Option<&str> {
        parsed(&self.head, |headers| {
            let found = headers.iter().find(|header| header.name.eq_ignore_ascii_case(name))?;
            std::str::from_utf8(found.value).ok()
        })
    }

    /// The body.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// The body as JSON; `null` if it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The body as the event it tells, with its time and its sequence, where the subscription's
    /// format is `spec-kit`.
    ///
    /// # Errors
    /// The body is no such event.
    pub fn event(&self) -> Result<Event, EventError> {
        // Not as an emitter's, whose word on time and sequence does not count.
        serde_json::from_slice(&self.body).map_err(|error| EventError::Malformed(error.to_string()))
    }

    /// The delivery that it is an attempt of: `X-SpecKit-Id`.
    pub fn delivery_id(&self) -> Option<DeliveryId> {
        self.header("x-speckit-id")?.parse().ok()
    }

    /// What it tells of: `X-SpecKit-Event`.
    pub fn event_type(&self) -> Option<EventKind> {
        self.header("x-speckit-event")?.parse().ok()
    }

    /// Which attempt of its delivery it is, from 1: `X-SpecKit-Attempt`.
    pub fn attempt(&self) -> Option<u32> {
        self.header("x-speckit-attempt")?.parse().ok()
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let body = self.json();
        write!(f, "{} {}", self.method(), printable(self.target(), 60))?;
        write!(f, ": {}", self.header("x-speckit-event").unwrap_or("no event"))?;
        for text in [&body["spec"]["id"], &body["event"]["stage"], &body["event"]["status"]] {
            if let Some(text) = text.as_str() {
                write!(f, " {}", printable(text, 120))?;
            }
        }
        self.attempt().map_or(Ok(()), |attempt| write!(f, " (attempt {attempt})"))
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("head", &String::from_utf8_lossy(&self.head))
            .field("body", &String::from_utf8_lossy(&self.body))
            .finish_non_exhaustive()
    }
}
