//! What is said to a request: a proper answer, or one of the ways in which endpoints fail.

use std::fmt::Write as _;
use std::time::Duration;

use actix_http::StatusCode;
use bytes::Bytes;
use serde_json::Value;

/// An answer to one request. A status alone is one too: `503.into()`.
///
/// ```
/// use std::time::Duration;
///
/// use spec_notify::testing::Answer;
///
/// let busy = Answer::status(429).header("retry-after", "2").body("later");
/// let late = Answer::status(200).after(Duration::from_millis(300));
/// let broken = Answer::status(200).body("only half of this arrives").cut();
/// let silent = Answer::hang();
/// ```
#[derive(Clone, Debug)]
pub struct Answer {
    pub(super) when: When,
    /// The status line and the headers; `None` where the body is all that is said.
    head: Option<Head>,
    pub(super) body: Bytes,
    /// Said again and again after the body.
    pub(super) more: Option<(Bytes, usize)>,
    /// Between two bytes of the body.
    pub(super) pace: Option<Duration>,
    pub(super) then: Then,
    /// Said to a new connection in the place of reading a request.
    is_greeting: bool,
}

/// When an answer is begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum When {
    Now,
    After(Duration),
    /// When held answers are released.
    Released,
    /// When the sender has closed the connection.
    Abandoned,
}

/// What becomes of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    /// It takes the next request.
    Keep,
    /// It stays open, and nothing is said or heard any more.
    Silence,
    Close,
    Reset,
}

#[derive(Clone, Debug)]
struct Head {
    text: String,
    length: Length,
}

/// What the head says of the body's length.
#[derive(Clone, Copy, Debug)]
enum Length {
    /// The truth.
    True,
    /// This many bytes more than are said.
    Exaggerated(usize),
    /// Nothing, as the headers given say how the body ends, or there is none.
    Unsaid,
}

impl Answer {
    /// A status and an empty body; the connection stays open for the next request.
    pub fn status(status: u16) -> Self {
        let known = StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
        let text = format!("HTTP/1.1 {status} {}\r\n", known.unwrap_or_default());
        // RFC 9110, section 8.6: these have no length.
        let length = if status == 204 || status < 200 { Length::Unsaid } else { Length::True };
        Self { head: Some(Head { text, length }), ..Self::raw("") }
    }

    /// These bytes as they are, HTTP or not; the connection stays open for the next request.
    pub fn raw(bytes: impl AsRef<[u8]>) -> Self {
        Self {
            when: When::Now,
            head: None,
            body: Bytes::copy_from_slice(bytes.as_ref()),
            more: None,
            pace: None,
            then: Then::Keep,
            is_greeting: false,
        }
    }

    /// Nothing until [`Endpoint::release`](crate::testing::Endpoint::release), then 200.
    pub fn hang() -> Self {
        Self::status(200).held()
    }

    /// Nothing: the connection is closed when the request has come.
    pub fn close() -> Self {
        Self::raw("").then_close()
    }

    /// Nothing: the connection is reset when the request has come.
    pub fn reset() -> Self {
        Self::raw("").then_reset()
    }

    /// A header of the answer. `content-length` and `transfer-encoding` take the place of the
    /// length that is said otherwise, true or not.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        if let Some(head) = &mut self.head {
            let says_length = ["content-length", "transfer-encoding"];
            if says_length.iter().any(|known| known.eq_ignore_ascii_case(name)) {
                head.length = Length::Unsaid;
            }
            // Writing to a String cannot fail.
            let _ = write!(head.text, "{name}: {value}\r\n");
        }
        self
    }

    /// At least this many bytes of further headers.
    #[must_use]
    pub fn large_headers(mut self, bytes: usize) -> Self {
        const LINE: &str = "x-filler: 0123456789abcdef\r\n";
        if let Some(head) = &mut self.head {
            head.text += &LINE.repeat(bytes.div_ceil(LINE.len()));
        }
        self
    }

    /// The body.
    #[must_use]
    pub fn body(mut self, body: impl AsRef<[u8]>) -> Self {
        self.body = Bytes::copy_from_slice(body.as_ref());
        self
    }

    /// A body of JSON, and its content type.
    #[must_use]
    pub fn json(self, body: &Value) -> Self {
        self.header("content-type", "application/json").body(body.to_string())
    }

    /// Begins only after this long.
    #[must_use]
    pub fn after(self, wait: Duration) -> Self {
        Self { when: When::After(wait), ..self }
    }

    /// Begins only at [`Endpoint::release`](crate::testing::Endpoint::release).
    #[must_use]
    pub fn held(self) -> Self {
        Self { when: When::Released, ..self }
    }

    /// Begins only when the sender has given up.
    #[must_use]
    pub fn too_late(self) -> Self {
        Self { when: When::Abandoned, ..self }
    }

    /// Says the body one byte at a time, with this pause before each.
    #[must_use]
    pub fn drip(self, pause: Duration) -> Self {
        Self { pace: Some(pause), ..self }
    }

    /// Says this part up to so many times after the body, until the sender has had enough. The head
    /// does not count it: give a `content-length` or `transfer-encoding` that does.
    #[must_use]
    pub fn pour(self, part: impl AsRef<[u8]>, times: usize) -> Self {
        Self { more: Some((Bytes::copy_from_slice(part.as_ref()), times)), ..self }
    }

    /// Closes the connection before the body's end: what is said of its length is a byte more than
    /// comes.
    #[must_use]
    pub fn cut(mut self) -> Self {
        if let Some(head) = &mut self.head {
            head.length = Length::Exaggerated(1);
        }
        self.then_close()
    }

    /// Closes the connection after the answer, which does not say so.
    #[must_use]
    pub fn then_close(self) -> Self {
        Self { then: Then::Close, ..self }
    }

    /// Resets the connection after the answer.
    #[must_use]
    pub fn then_reset(self) -> Self {
        Self { then: Then::Reset, ..self }
    }

    /// Says and hears nothing any more after the answer; the connection stays open.
    #[must_use]
    pub fn then_silence(self) -> Self {
        Self { then: Then::Silence, ..self }
    }

    /// Is said to a new connection in the place of reading a request from it: with
    /// [`close`](Self::close), the connection is closed at once.
    #[must_use]
    pub fn unasked(self) -> Self {
        Self { is_greeting: true, ..self }
    }

    /// Whether it is said without a request.
    pub(crate) fn is_unasked(&self) -> bool {
        self.is_greeting
    }

    /// Writes everything before the body.
    pub(super) fn write_head(&self, to: &mut Vec<u8>) {
        let Some(Head { text, length }) = &self.head else { return };
        to.extend_from_slice(text.as_bytes());
        let said = match length {
            Length::True => Some(self.body.len()),
            Length::Exaggerated(by) => Some(self.body.len() + by),
            Length::Unsaid => None,
        };
        if let Some(said) = said {
            to.extend_from_slice(b"content-length: ");
            to.extend_from_slice(said.to_string().as_bytes());
            to.extend_from_slice(b"\r\n");
        }
        to.extend_from_slice(b"\r\n");
    }
}

impl From<u16> for Answer {
    fn from(status: u16) -> Self {
        Self::status(status)
    }
}
