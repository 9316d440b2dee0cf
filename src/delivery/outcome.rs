//! What one attempt came to, and whether that means delivered, try again, or give up.

use std::time::Duration;

use crate::event::named;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;
use std::str::FromStr;

use crate::event::UnknownName;

/// How much of a response's body is kept for the evidence.
pub const MAX_KEPT_BYTES: usize = 1024;

/// One attempt, ended. A failed request is data, not an error.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What came back, or why nothing did.
    pub result: Result<Response, Failure>,
    /// From the start of the attempt to the last byte read.
    pub latency: Duration,
    /// Whether it was sent a second time at once, because a kept-alive connection had gone stale.
    pub resent: bool,
}

/// What the endpoint answered.
#[derive(Clone, Debug)]
pub struct Response {
    /// The HTTP status.
    pub status: u16,
    /// The headers kept for the evidence, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The first [`MAX_KEPT_BYTES`] of the body, made printable.
    pub body: String,
    /// For a redirect: the host it points to.
    pub location_host: Option<String>,
}

/// Why no answer came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What kind, from the error's type.
    pub class: FailureClass,
    /// For the reader; never contains the URL's path or a secret.
    pub message: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.class, self.message)
    }
}

named! {
    /// The kinds of failure of an attempt.
    FailureClass, "failure class" {
        /// The attempt's deadline passed.
        Timeout = "timeout",
        /// The host name did not resolve.
        Dns = "dns",
        /// No connection, or it broke.
        Connection = "connection",
        /// TLS could not be agreed on, or the certificate is not good.
        Tls = "tls",
        /// What came back is no HTTP.
        Protocol = "protocol",
        /// The signing secret is missing or malformed: nothing was sent.
        Secret = "secret",
    }
}

/// What an outcome means for the delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// 2xx.
    Delivered,
    /// Worth another attempt: 429, 5xx, or no answer.
    Retry,
    /// No attempt with the same body will fare better.
    Terminal(Reason),
}

/// Why a delivery was given up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Reason {
    /// The last allowed attempt failed.
    Exhausted {
        /// How many were made.
        attempts: u32,
    },
    /// A 4xx other than 429, or a status that is none.
    Refused {
        /// The HTTP status.
        status: u16,
    },
    /// A 3xx: redirects are never followed.
    Redirected {
        /// The HTTP status.
        status: u16,
        /// Where it pointed, without path.
        host: Option<String>,
    },
    /// Newer deliveries pushed it out: more than `max_pending` of its subscription were pending.
    SpoolSaturated,
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
            Self::SpoolSaturated => f.write_str(
                "dropped: more deliveries of its subscription were pending than max_pending allows",
            ),
        }
    }
}

impl Reason {
    /// What the operator can do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Exhausted { .. } => {
                "the endpoint was down or unreachable: check that it runs and answers 2xx, then replay"
            }
            Self::Refused { status: 401 | 403 } => {
                "the endpoint did not accept the credentials or the signature: compare the secret on both sides, then replay"
            }
            Self::Refused { status: 404 | 410 } => {
                "the endpoint does not exist there: correct the subscription's url, then replay"
            }
            Self::Refused { status: 413 } => {
                "the endpoint finds the payload too large: raise its limit, then replay"
            }
            Self::Refused { .. } => {
                "the endpoint does not take this payload: see the response body in the attempts, mend it, then replay"
            }
            Self::Redirected { .. } => {
                "redirects are not followed: set the subscription's url to the final address, then replay"
            }
            Self::SpoolSaturated => {
                "the endpoint is down or too slow for what happens: mend it or raise max_pending, then replay"
            }
        }
    }
}

impl Outcome {
    /// What this outcome means (contract section 5).
    pub fn judge(&self) -> Judgement {
        match &self.result {
            Err(_) => Judgement::Retry,
            Ok(response) => match response.status {
                200..=299 => Judgement::Delivered,
                429 | 500..=599 => Judgement::Retry,
                status @ 300..=399 => {
                    Judgement::Terminal(Reason::Redirected { status, host: response.location_host.clone() })
                }
                status => Judgement::Terminal(Reason::Refused { status }),
            },
        }
    }

    /// The status, where there was an answer.
    pub fn status(&self) -> Option<u16> {
        self.result.as_ref().ok().map(|response| response.status)
    }

    /// In a few words: `200`, or `timeout: no answer within 5000 ms`.
    pub fn summary(&self) -> String {
        match &self.result {
            Ok(response) => format!("status {}", response.status),
            Err(failure) => failure.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_has_one_meaning() {
        let judge = |status| {
            let response = Response { status, headers: vec![], body: String::new(), location_host: None };
            Outcome { result: Ok(response), latency: Duration::ZERO, resent: false }.judge()
        };
        for status in 100..=999 {
            let expected = match status {
                200..=299 => Judgement::Delivered,
                429 | 500..=599 => Judgement::Retry,
                300..=399 => Judgement::Terminal(Reason::Redirected { status, host: None }),
                _ => Judgement::Terminal(Reason::Refused { status }),
            };
            assert_eq!(judge(status), expected);
        }
    }
}
