//! The two signatures of a request: the seed's over the body, and Standard Webhooks' over id, time and body.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::memcmp;
use openssl::pkey::PKey;
use openssl::sign::Signer;

use crate::delivery::Delivery;
use crate::secret::Secret;

/// The value of `User-Agent`.
const USER_AGENT: &str = concat!("spec-notify/", env!("CARGO_PKG_VERSION"));

/// The secrets of one attempt.
#[derive(Clone, Debug)]
pub struct Secrets {
    /// Signs everything.
    pub current: Secret,
    /// During a rotation: signs `webhook-signature` too, after the current one.
    pub previous: Option<Secret>,
}

/// The headers of one attempt (contract section 5); names in lower case. `timestamp` is in seconds since the epoch.
///
/// # Errors
/// As [`spec_kit`].
pub fn headers(
    delivery: &Delivery,
    body: &[u8],
    attempt: u32,
    timestamp: i64,
    secrets: &Secrets,
) -> Result<Vec<(&'static str, String)>, ErrorStack> {
    let id = delivery.id.to_string();
    let mut signatures = standard(&secrets.current, &id, timestamp, body)?;
    if let Some(previous) = &secrets.previous {
        signatures = format!("{signatures} {}", standard(previous, &id, timestamp, body)?);
    }
    Ok(vec![
        ("content-type", delivery.format.content_type().to_owned()),
        ("user-agent", USER_AGENT.to_owned()),
        ("accept-encoding", "identity".to_owned()),
        ("x-speckit-event", delivery.kind.to_string()),
        ("x-speckit-id", id.clone()),
        ("x-speckit-request-timestamp", timestamp.to_string()),
        ("x-speckit-attempt", attempt.to_string()),
        ("x-speckit-signature", spec_kit(&secrets.current, body)?),
        ("webhook-id", id),
        ("webhook-timestamp", timestamp.to_string()),
        ("webhook-signature", signatures),
    ])
}

/// `sha256=<hex hmac-sha256(secret, body)>`, the `X-SpecKit-Signature` header.
///
/// # Errors
/// OpenSSL could not compute it (out of memory, or HMAC switched off in its configuration).
pub fn spec_kit(secret: &Secret, body: &[u8]) -> Result<String, ErrorStack> {
    Ok(format!("sha256={}", hex::encode(hmac(secret, &[body])?)))
}

/// `v1,<base64 hmac-sha256(secret, "id.timestamp.body")>`, one token of the `webhook-signature` header.
///
/// # Errors
/// As [`spec_kit`].
pub fn standard(secret: &Secret, id: &str, timestamp: i64, body: &[u8]) -> Result<String, ErrorStack> {
    let timestamp = timestamp.to_string();
    let parts = [id.as_bytes(), b".", timestamp.as_bytes(), b".", body];
    Ok(format!("v1,{}", STANDARD.encode(hmac(secret, &parts)?)))
}

/// Whether two signatures are equal, in a time that depends on their lengths alone.
pub fn equal(ours: &str, theirs: &str) -> bool {
    ours.len() == theirs.len() && memcmp::eq(ours.as_bytes(), theirs.as_bytes())
}

fn hmac(secret: &Secret, parts: &[&[u8]]) -> Result<Vec<u8>, ErrorStack> {
    let key = PKey::hmac(secret.key())?;
    let mut signer = Signer::new(MessageDigest::sha256(), &key)?;
    for part in parts {
        signer.update(part)?;
    }
    signer.sign_to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn standard_webhooks_vector() {
        let secret = Secret::parse("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD").unwrap();
        let body = br#"{"email":"test@example.com","username":"test_user"}"#;
        assert_eq!(
            standard(&secret, "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk", 1_649_367_553, body).unwrap(),
            "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw="
        );
    }

    /// RFC 4231, test case 2.
    #[test]
    fn hmac_vector() {
        let secret = Secret::parse("Jefe").unwrap();
        assert_eq!(
            spec_kit(&secret, b"what do ya want for nothing?").unwrap(),
            "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
    }

    #[test]
    fn equal_tells_lengths_and_bytes_apart() {
        assert!(equal("abc", "abc"));
        assert!(!equal("abc", "abd"));
        assert!(!equal("abc", "abcd"));
    }
}
