//! The outcome of one attempt, and whether it means delivered, retry, or give up.

use std::borrow::Cow;
use std::time::Duration;

use crate::names::{named, printable};
use serde::{Deserialize, Serialize};
use std::fmt;

use super::MAX_RETRY_AFTER;
use crate::payload::{Answer, Format, Rejection};

/// Bytes of an answer's body that are kept for the evidence.
pub(crate) const MAX_KEPT_BYTES: usize = 1024;

/// An attempt that ended. A failed request is a value, not an error.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    /// The answer, or why there was none.
    pub result: Result<Response, Failure>,
    /// From the start of the attempt to the last byte read.
    pub latency: Duration,
    /// Whether the request was sent again at once because a kept-alive connection had gone stale.
    pub resent: bool,
}

/// The endpoint's answer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Response {
    /// The HTTP status.
    pub status: u16,
    /// The headers kept for the evidence, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The first [`MAX_KEPT_BYTES`] of the body, made printable.
    pub body: String,
    /// For a redirect: the host it points to.
    pub location_host: Option<String>,
    /// The pause the endpoint asks for, at most [`MAX_RETRY_AFTER`](super::MAX_RETRY_AFTER).
    pub retry_after: Option<Duration>,
    /// The difference between its clock and ours in seconds; positive if its clock is ahead.
    pub clock_skew: Option<i64>,
    /// Set when a 2xx answer means failure by the rules of the chat service.
    pub rejection: Option<Rejection>,
    /// The format of the body that was sent.
    pub format: Format,
    /// Whether the subscription's `retry_statuses` names this status, which is final otherwise.
    pub is_in_retry_statuses: bool,
}

/// Least length of a secret that is redacted: a shorter text is not a credential and may occur
/// anywhere.
const SHORTEST_SECRET: usize = 6;

impl Response {
    /// Evaluates what the service of `format` says in the answer's body; `None` if the body cannot
    /// be read.
    pub(crate) fn heed(&mut self, format: Format, body: Option<&str>) {
        let answer = Answer { status: self.status, content_type: self.header("content-type"), body };
        let (wait, rejection) = (format.wait(answer), format.rejection(answer));
        self.retry_after = self.retry_after.max(wait.map(|wait| wait.min(MAX_RETRY_AFTER)));
        (self.rejection, self.format) = (rejection, format);
    }

    /// One of the kept headers.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(kept, _)| kept == name).map(|(_, value)| value.as_str())
    }

    /// Redacts the secrets that were sent: an endpoint's error page may repeat the path or the
    /// headers.
    pub(crate) fn redact<S: AsRef<str>>(&mut self, secrets: &[S]) {
        let mut secrets: Vec<&str> = secrets.iter().map(AsRef::as_ref).collect();
        secrets.retain(|secret| secret.len() >= SHORTEST_SECRET);
        // The longest first, because one may contain another.
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        let texts = self.headers.iter_mut().map(|(_, value)| value).chain([&mut self.body]);
        let word = self.rejection.iter_mut().map(|rejection| &mut rejection.word);
        for text in texts.chain(self.location_host.iter_mut()).chain(word) {
            for secret in &secrets {
                if text.contains(*secret) {
                    *text = text.replace(*secret, "[redacted]");
                }
                redact_cut(text, secret);
            }
        }
    }
}

/// Redacts the beginning of a secret at the end of a text that was cut.
fn redact_cut(text: &mut String, secret: &str) {
    let Some(kept) = text.strip_suffix('…') else { return };
    let cuts = secret.char_indices().map(|(at, _)| at).filter(|at| *at >= SHORTEST_SECRET);
    if let Some(at) = cuts.rev().find(|at| kept.ends_with(&secret[..*at])) {
        *text = format!("{}[redacted]…", &kept[..kept.len() - at]);
    }
}

/// Why there was no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// The class of the failure, by the error's type.
    pub class: FailureClass,
    /// The failure in words; never contains the URL's path or a secret.
    pub message: String,
    /// What to do about it, as a clause.
    pub hint: Cow<'static, str>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.class, self.message)
    }
}

named! {
    /// The classes of failure of an attempt.
    FailureClass, "failure class" {
        /// The attempt's deadline passed.
        Timeout = "timeout",
        /// The host name did not resolve.
        Dns = "dns",
        /// The connection could not be made, or broke.
        Connection = "connection",
        /// The proxy failed: the endpoint was never asked.
        Proxy = "proxy",
        /// TLS could not be negotiated, or the certificate is not valid.
        Tls = "tls",
        /// The answer is not HTTP.
        Protocol = "protocol",
        /// This machine could not make the attempt: the endpoint was never asked.
        Local = "local",
        /// The signing secret is missing or malformed: nothing was sent.
        Secret = "secret",
    }
}

/// What an outcome means for the delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Judgement {
    /// A 2xx answer.
    Delivered,
    /// Worth another attempt: 429, 5xx, a status in `retry_statuses`, or no answer.
    Retry,
    /// No attempt with the same body can succeed.
    Terminal(Reason),
}

/// Why a delivery was given up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Reason {
    /// The last allowed attempt failed.
    Exhausted {
        /// Number of attempts.
        attempts: u32,
    },
    /// A 4xx other than 429, a 3xx that does not redirect, or a status outside HTTP's ranges.
    Refused {
        /// The HTTP status.
        status: u16,
    },
    /// A redirect; redirects are not followed.
    Redirected {
        /// The HTTP status.
        status: u16,
        /// The host it pointed to, without the path.
        host: Option<String>,
    },
    /// The service answered 2xx and reported a failure in the body.
    Rejected {
        /// The HTTP status.
        status: u16,
        /// The service's message.
        word: String,
    },
    /// Dropped for newer deliveries: more than `max_pending` of its subscription were pending.
    SpoolSaturated,
    /// Its payload was removed with the spool's files and can no longer be read.
    SpoolRemoved,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exhausted { attempts: 1 } => f.write_str("its only attempt failed"),
            Self::Exhausted { attempts } => write!(f, "all {attempts} attempts failed"),
            Self::Refused { status } => write!(f, "the endpoint refused it with status {status}"),
            Self::Redirected { status, host: Some(host) } => {
                write!(f, "the endpoint redirects to {host} (status {status})")
            }
            Self::Redirected { status, host: None } => write!(f, "the endpoint redirects (status {status})"),
            Self::Rejected { status, word } => {
                write!(f, "the service answered {status} and said that it failed: {word}")
            }
            Self::SpoolSaturated => f.write_str(
                "dropped: more deliveries of its subscription were pending than max_pending allows",
            ),
            Self::SpoolRemoved => f.write_str(
                "the spool's files were removed under the running runtime, and its payload with them",
            ),
        }
    }
}

impl Reason {
    /// What the operator can do about a delivery that was given up; `advice` is that of its last
    /// attempt.
    pub fn hint(&self, advice: Option<&str>) -> String {
        match (self, advice) {
            (Self::SpoolSaturated, _) => {
                "the endpoint is down or too slow for what happens: fix it or raise max_pending, then replay"
                    .to_owned()
            }
            (Self::SpoolRemoved, _) => {
                "emit the event again under another key; and keep git clean, stash and rm away from the spool"
                    .to_owned()
            }
            (_, Some(advice)) => format!("{advice}; then replay"),
            (_, None) => "see why its attempts failed, fix that, then replay".to_owned(),
        }
    }
}

impl Outcome {
    /// The outcome of a request that was sent once, or never.
    pub(crate) fn new(result: Result<Response, Failure>, latency: Duration) -> Self {
        Self { result, latency, resent: false }
    }

    /// What this outcome means (`docs/reference/status-codes.md`).
    pub(crate) fn judge(&self) -> Judgement {
        match &self.result {
            Err(_) => Judgement::Retry,
            Ok(response) => match response.status {
                status @ 200..=299 => match &response.rejection {
                    None => Judgement::Delivered,
                    Some(Rejection { retry: true, .. }) => Judgement::Retry,
                    Some(Rejection { word, .. }) => {
                        Judgement::Terminal(Reason::Rejected { status, word: word.clone() })
                    }
                },
                429 | 500..=599 => Judgement::Retry,
                _ if response.is_in_retry_statuses => Judgement::Retry,
                status @ (301..=303 | 307 | 308) => {
                    Judgement::Terminal(Reason::Redirected { status, host: response.location_host.clone() })
                }
                status => Judgement::Terminal(Reason::Refused { status }),
            },
        }
    }

    /// The pause the endpoint asked for, if it may ask for one (`docs/explain/delivery.md`): with
    /// 429, 503, a status in `retry_statuses`, or a 2xx in which its service says that it cannot
    /// take the message now.
    pub(crate) fn pause(&self) -> Option<Duration> {
        let response = self.result.as_ref().ok()?;
        let is_put_off = response.rejection.as_ref().is_some_and(|rejection| rejection.retry);
        let may_ask = response.is_in_retry_statuses || is_put_off || matches!(response.status, 429 | 503);
        response.retry_after.filter(|_| may_ask)
    }

    /// Whether this machine could not make the attempt.
    pub(crate) fn is_local(&self) -> bool {
        self.result.as_ref().is_err_and(|failure| failure.class == FailureClass::Local)
    }

    /// A failure in words that are the same whenever it is the same failure.
    pub(crate) fn cause(&self) -> String {
        const LONGEST: usize = 120;
        let what = match &self.result {
            Ok(_) => self.summary(),
            Err(failure) => failure.message.clone(),
        };
        printable(&what, LONGEST)
    }

    /// A short description: `status 200`, or `timeout: no answer within 5000 ms`.
    pub(crate) fn summary(&self) -> String {
        match &self.result {
            Ok(Response { status, rejection: Some(Rejection { word, .. }), .. }) => {
                format!("status {status}, and the service said: {word}")
            }
            Ok(response) => format!("status {}", response.status),
            Err(failure) => failure.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_its_subscription_retries_is_retried_and_may_ask_for_a_pause() {
        let retry_after = Some(Duration::from_secs(9));
        let outcome = |is_in_retry_statuses| {
            let response = Response { status: 423, retry_after, is_in_retry_statuses, ..Response::default() };
            Outcome::new(Ok(response), Duration::ZERO)
        };
        assert_eq!((outcome(true).judge(), outcome(true).pause()), (Judgement::Retry, retry_after));
        let refused = Judgement::Terminal(Reason::Refused { status: 423 });
        assert_eq!((outcome(false).judge(), outcome(false).pause()), (refused, None));
    }

    #[test]
    fn a_service_may_ask_for_more_than_its_header_and_for_an_hour_at_most() {
        let waits = |body: &str, retry_after| {
            let retry_after = Some(Duration::from_secs(retry_after));
            let mut response = Response { status: 429, retry_after, ..Response::default() };
            response.heed(Format::Discord, Some(body));
            response.retry_after.unwrap().as_secs()
        };
        assert_eq!(waits(r#"{"retry_after": 2.5}"#, 9), 9);
        assert_eq!(waits(r#"{"retry_after": 9.5}"#, 2), 9);
        assert_eq!(waits(r#"{"retry_after": 1e300}"#, 2), 3600);
    }

    #[test]
    fn every_status_has_one_meaning() {
        let judge = |status| {
            let response = Response { status, ..Response::default() };
            Outcome::new(Ok(response), Duration::ZERO).judge()
        };
        for status in 100..=999 {
            let expected = match status {
                200..=299 => Judgement::Delivered,
                429 | 500..=599 => Judgement::Retry,
                301..=303 | 307 | 308 => Judgement::Terminal(Reason::Redirected { status, host: None }),
                _ => Judgement::Terminal(Reason::Refused { status }),
            };
            assert_eq!(judge(status), expected);
        }
    }

    #[test]
    fn what_an_endpoint_repeats_of_our_secrets_is_taken_out() {
        let body = "Cannot POST /services/T0/B0/canary: /services/T0/B0/ca…".to_owned();
        let headers = vec![("server".to_owned(), "x canary-2".to_owned())];
        let mut response = Response { body, headers, ..Response::default() };
        response.redact(&["/services/T0/B0/canary", "canary-2", "", "POST"]);
        assert_eq!(response.body, "Cannot POST [redacted]: [redacted]…");
        assert_eq!(response.headers[0].1, "x [redacted]");
    }

    #[test]
    fn a_service_that_says_it_failed_is_believed_and_only_429_and_503_may_ask_for_a_pause() {
        let judge = |retry| {
            let rejection = Some(Rejection { word: "invalid_payload".to_owned(), retry, hint: "" });
            let response = Response { status: 200, rejection, ..Response::default() };
            Outcome::new(Ok(response), Duration::ZERO).judge()
        };
        assert_eq!(judge(true), Judgement::Retry);
        let word = "invalid_payload".to_owned();
        assert_eq!(judge(false), Judgement::Terminal(Reason::Rejected { status: 200, word }));
        for (status, pauses) in [(429, true), (503, true), (500, false), (200, false), (301, false)] {
            let retry_after = Some(Duration::from_secs(9));
            let response = Response { status, retry_after, ..Response::default() };
            let outcome = Outcome::new(Ok(response), Duration::ZERO);
            assert_eq!(outcome.pause().is_some(), pauses, "{status}");
        }
    }
}
