//! Whether a request is signed as `docs/signing.md` says, in constant time.

use super::request::Request;
use crate::secret::Secret;
use crate::sign;

/// Greatest difference in seconds between a signature's time and the request's, as in Standard
/// Webhooks verifiers.
const TOLERANCE_SECONDS: i64 = 300;

/// Why a request's signatures do not show that it was sent by who has the secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unverified {
    /// It has neither signature.
    #[error("the request is not signed")]
    Unsigned,
    /// It lacks one of the two signatures, or the id or time that is signed.
    #[error("a signature header is missing")]
    Incomplete,
    /// `X-SpecKit-Signature` is another's.
    #[error("X-SpecKit-Signature does not match: another secret or another body")]
    SpecKit,
    /// `webhook-signature` is another's.
    #[error("webhook-signature does not match: another secret, id or time")]
    Standard,
    /// It was signed more than five minutes before or after it came.
    #[error("webhook-timestamp is more than five minutes off")]
    Stale,
    /// What was given to verify with is no secret.
    #[error("the secret to verify with cannot be one: it is empty, or no base64 after `whsec_`")]
    NoSecret,
}

impl Request {
    /// Verifies both signatures, `X-SpecKit-Signature` and `webhook-signature` (Standard Webhooks),
    /// and the time that the second covers, by when the request came.
    ///
    /// # Errors
    /// [`Unverified`]: the first that is wrong.
    pub fn verify(&self, secret: &str) -> Result<(), Unverified> {
        self.verify_with(&Secret::parse(secret).map_err(|_| Unverified::NoSecret)?)
    }

    pub(crate) fn verify_with(&self, secret: &Secret) -> Result<(), Unverified> {
        let (ours, theirs) = (self.header("x-speckit-signature"), self.header("webhook-signature"));
        if ours.is_none() && theirs.is_none() {
            return Err(Unverified::Unsigned);
        }
        let timestamp = self.header("webhook-timestamp").and_then(|text| text.parse::<i64>().ok());
        let (Some(ours), Some(theirs), Some(id), Some(timestamp)) =
            (ours, theirs, self.header("webhook-id"), timestamp)
        else {
            return Err(Unverified::Incomplete);
        };
        if !sign::equal(&sign::spec_kit(secret, self.body()), ours) {
            return Err(Unverified::SpecKit);
        }
        let standard = sign::standard(secret, id, timestamp, self.body());
        if !theirs.split(' ').any(|token| sign::equal(&standard, token)) {
            return Err(Unverified::Standard);
        }
        if self.second().abs_diff(timestamp) > TOLERANCE_SECONDS.unsigned_abs() {
            return Err(Unverified::Stale);
        }
        Ok(())
    }
}
