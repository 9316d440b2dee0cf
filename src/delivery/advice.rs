//! Advice to an operator about a failed attempt, specific to how it failed.

use std::borrow::Cow;

use super::outcome::{Outcome, Response};
use crate::payload::Rejection;

impl Outcome {
    /// What to do about a failure, as a clause: `start it`. `None` if the attempt was a success.
    pub(crate) fn advice(&self) -> Option<Cow<'_, str>> {
        match &self.result {
            Err(failure) => Some(Cow::Borrowed(&*failure.hint)),
            Ok(Response { status: 200..=299, rejection: None, .. }) => None,
            Ok(Response { status: 200..=299, rejection: Some(Rejection { hint, .. }), .. }) => {
                Some(Cow::Borrowed(hint))
            }
            Ok(Response { status: 300..=399, location_host: Some(host), .. }) => Some(Cow::Owned(format!(
                "redirects are not followed: set the subscription's url to where it points, at {host}"
            ))),
            Ok(Response { status, format, .. }) => {
                let of_chat = Some(*status).filter(|_| format.is_chat()).and_then(of_chat_status);
                Some(Cow::Borrowed(of_chat.unwrap_or_else(|| of_status(*status))))
            }
        }
    }
}

/// Advice for a status of a chat service: it verifies no signature, and its url is the credential.
fn of_chat_status(status: u16) -> Option<&'static str> {
    Some(match status {
        400 | 422 => {
            "the service does not take this message: see its word in the attempts, and that the \
             subscription's format is the one of that service"
        }
        401 | 403 => {
            "the service refuses the url: an administrator may have switched webhooks off, or it was copied \
             without its end"
        }
        404 | 410 => {
            "the webhook was removed: make a new one in the channel, and put its url into the subscription"
        }
        _ => return None,
    })
}

/// The same for what is known of an attempt later: its status. Empty of a success.
#[cfg(feature = "cli")]
pub(crate) fn hint_of_status(status: u16) -> &'static str {
    if (200..300).contains(&status) { "" } else { of_status(status) }
}

/// Advice for a status other than a success (RFC 9110, section 15; RFC 6585).
fn of_status(status: u16) -> &'static str {
    match status {
        304 => {
            "the endpoint answers a POST as if it were a GET: correct the subscription's url, or the \
             endpoint"
        }
        300..=399 => "redirects are not followed: set the subscription's url to the final address",
        400 | 422 => {
            "the endpoint does not take this payload: see the body of its answer in the attempts; if it is a \
             chat service, set its format in the subscription"
        }
        401 | 403 => {
            "the endpoint did not accept the credentials or the signature: compare the secret and any \
             Authorization header on both sides"
        }
        402 => "the endpoint wants to be paid: see the plan or the quota of its account",
        404 => {
            "nothing is at that path: correct the subscription's url; if it is only gone during a \
             deployment, set retry_statuses = [404]"
        }
        405 | 501 => "nothing there takes a POST: correct the subscription's url",
        406 | 415 => "the endpoint does not take this kind of content: correct the subscription's format",
        407 => "a proxy in between wants credentials: put them into the subscription's proxy",
        408 => {
            "the endpoint waited for the request for too long: see what is slow in between; if that passes \
             by itself, set retry_statuses = [408]"
        }
        409 | 412 | 423 | 425 => {
            "the endpoint could not take it at that time; if that passes by itself, add the status to \
             retry_statuses of the subscription"
        }
        410 => "the endpoint is gone for good: correct the subscription's url, or set active = false",
        411 => {
            "the endpoint, or what stands before it, does not see the request's length: correct its set-up"
        }
        413 => "the endpoint finds the payload too large: raise its limit",
        414 | 431 => {
            "the endpoint finds the url or the headers too long: shorten the subscription's url or headers"
        }
        421 => "the endpoint is not the one for this host: correct the subscription's url, or its proxy",
        426 | 505 => {
            "the endpoint does not take HTTP/1.1 there: put a proxy before it, or correct the subscription's \
             url"
        }
        429 => {
            "the endpoint takes fewer requests than come: set rate_limit_per_s in the subscription, or raise \
             its limit"
        }
        451 => "the endpoint must not answer, for a legal reason: see the body of its answer in the attempts",
        502..=504 => {
            "a gateway answered, and what is behind it is down, slow or being deployed: \
             see that the endpoint runs"
        }
        507 => "the endpoint is out of space: make room there",
        511 => "a network in between wants a sign-in: sign this machine in",
        500..=599 => "the endpoint failed in itself: see its log",
        400..=499 => {
            "the endpoint refuses it: see the body of its answer in the attempts; \
             if that passes by itself, add the status to retry_statuses of the subscription"
        }
        _ => "what answers there is no endpoint for webhooks: correct the subscription's url",
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::{Failure, FailureClass, Judgement};
    use super::*;
    use crate::payload::Format;

    fn advice(response: Response) -> Option<String> {
        let outcome = Outcome::new(Ok(response), Duration::ZERO);
        outcome.advice().map(Cow::into_owned)
    }

    #[test]
    fn every_status_but_a_success_has_one() {
        for status in 100..=999 {
            let told = advice(Response { status, ..Response::default() });
            assert_eq!(told.is_none(), (200..300).contains(&status), "{status}");
        }
    }

    #[test]
    fn it_names_retry_statuses_only_where_they_help() {
        for status in 100..=999 {
            for format in Format::ALL.iter().copied() {
                let response = Response { status, format, ..Response::default() };
                let outcome = Outcome::new(Ok(response), Duration::ZERO);
                if outcome.advice().is_some_and(|told| told.contains("retry_statuses")) {
                    assert!((400..=499).contains(&status), "the config does not take {status}");
                    assert_ne!(outcome.judge(), Judgement::Retry, "{status} is retried anyway");
                }
            }
        }
    }

    #[test]
    fn it_is_of_what_happened() {
        let host = Some("new.example".to_owned());
        let told = advice(Response { status: 308, location_host: host, ..Response::default() });
        assert!(told.unwrap().ends_with("at new.example"));
        let rejection = |retry| Some(Rejection { word: "w".to_owned(), retry, hint: "h" });
        let told =
            |retry| advice(Response { status: 200, rejection: rejection(retry), ..Response::default() });
        assert_eq!((told(true).as_deref(), told(false).as_deref()), (Some("h"), Some("h")));
        let of_chat = |format| advice(Response { status: 404, format, ..Response::default() }).unwrap();
        assert!(of_chat(Format::Slack).contains("new one") && of_chat(Format::SpecKit).contains("url"));
        let failure = Failure { class: FailureClass::Dns, message: "m".to_owned(), hint: "mend it".into() };
        let outcome = Outcome::new(Err(failure), Duration::ZERO);
        assert_eq!(outcome.advice().as_deref(), Some("mend it"));
    }
}
