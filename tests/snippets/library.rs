use http::HeaderMap;
use standardwebhooks::{Webhook, WebhookError};

/// Whether the signature is right and the timestamp at most five minutes off.
pub fn verify(secret: &str, body: &[u8], headers: &HeaderMap) -> Result<(), WebhookError> {
    Webhook::new(secret)?.verify(body, headers)
}
