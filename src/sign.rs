//! The two signatures of a request: our own over the body, and that of Standard Webhooks over id,
//! time and body.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use openssl::memcmp;
use openssl::sha::Sha256;
use zeroize::Zeroizing;

use crate::delivery::Delivery;
use crate::digest::{in_hex, sha256};
use crate::secret::Secret;

/// The value of `User-Agent`.
const USER_AGENT: &str = concat!("spec-notify/", env!("CARGO_PKG_VERSION"));

/// The secrets of one attempt.
#[derive(Clone, Debug)]
pub struct Secrets {
    /// Signs everything.
    pub current: Secret,
    /// The previous secret during a rotation: also signs `webhook-signature`, after the current
    /// one.
    pub previous: Option<Secret>,
}

/// What people see in the place of the two signatures, with which a request could be replayed.
pub(crate) const HIDDEN: [&str; 2] = ["sha256=…", "v1,…"];

/// Headers of one attempt (`docs/reference/headers.md`); names in lower case.
pub(crate) type Headers = Vec<(&'static str, Cow<'static, str>)>;

/// The headers of one attempt. `timestamp` is in seconds since the epoch.
pub fn headers(delivery: &Delivery, body: &[u8], attempt: u32, timestamp: i64, secrets: &Secrets) -> Headers {
    signed_headers(delivery, body, spec_kit(&secrets.current, body), attempt, timestamp, secrets)
}

/// As [`headers`], where the signature of the body alone is known.
pub(crate) fn signed_headers(
    delivery: &Delivery,
    body: &[u8],
    spec_kit: String,
    attempt: u32,
    timestamp: i64,
    secrets: &Secrets,
) -> Headers {
    let id = delivery.id.to_string();
    let mut signatures = standard(&secrets.current, &id, timestamp, body);
    if let Some(previous) = &secrets.previous {
        signatures = format!("{signatures} {}", standard(previous, &id, timestamp, body));
    }
    let signed = [spec_kit.into(), signatures.into()];
    headers_with(delivery, id, attempt, timestamp, signed)
}

/// The headers of an attempt that nobody gets: as [`headers`], with [`HIDDEN`] signatures.
pub(crate) fn hidden_headers(delivery: &Delivery, attempt: u32, timestamp: i64) -> Headers {
    headers_with(delivery, delivery.id.to_string(), attempt, timestamp, HIDDEN.map(Cow::from))
}

fn headers_with(
    delivery: &Delivery,
    id: String,
    attempt: u32,
    timestamp: i64,
    [spec_kit, standard]: [Cow<'static, str>; 2],
) -> Headers {
    let timestamp = timestamp.to_string();
    vec![
        ("content-type", delivery.format.content_type().into()),
        ("user-agent", USER_AGENT.into()),
        ("accept-encoding", "identity".into()),
        ("x-speckit-event", delivery.kind.as_str().into()),
        ("x-speckit-id", id.clone().into()),
        ("x-speckit-request-timestamp", timestamp.clone().into()),
        ("x-speckit-attempt", attempt.to_string().into()),
        ("x-speckit-signature", spec_kit),
        ("webhook-id", id.into()),
        ("webhook-timestamp", timestamp.into()),
        ("webhook-signature", standard),
    ]
}

/// The `X-SpecKit-Signature` header: `sha256=<hex hmac-sha256(secret, body)>`. The key is always
/// the secret's UTF-8 bytes, as in the requirements' verification helper.
pub fn spec_kit(secret: &Secret, body: &[u8]) -> String {
    ["sha256=", &in_hex(&hmac(secret.text(), &[body]))].concat()
}

/// One token of the `webhook-signature` header: `v1,<base64 hmac-sha256(secret,
/// "id.timestamp.body")>`. The key is the decoded part of a `whsec_` secret, as Standard Webhooks
/// defines it.
pub fn standard(secret: &Secret, id: &str, timestamp: i64, body: &[u8]) -> String {
    let timestamp = timestamp.to_string();
    let parts = [id.as_bytes(), b".", timestamp.as_bytes(), b".", body];
    ["v1,", &STANDARD.encode(hmac(secret.key(), &parts))].concat()
}

/// Whether two signatures are equal, in a time that depends only on their lengths.
pub(crate) fn equal(ours: &str, theirs: &str) -> bool {
    ours.len() == theirs.len() && memcmp::eq(ours.as_bytes(), theirs.as_bytes())
}

/// Bytes in a block of SHA-256.
const BLOCK: usize = 64;

/// What each byte of the key is combined with (RFC 2104, section 2).
const INNER: u8 = 0x36;
const OUTER: u8 = 0x5c;

/// HMAC-SHA-256 (RFC 2104) built on OpenSSL's SHA-256. OpenSSL's generic calls fetch algorithms and
/// allocate contexts, which takes several times as long as the hash of a usual body.
pub(crate) fn hmac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut block = Zeroizing::new([0; BLOCK]);
    match key {
        long if long.len() > BLOCK => block[..32].copy_from_slice(&sha256(long)),
        short => block[..short.len()].copy_from_slice(short),
    }
    let (mut inner, mut outer) = (Sha256::new(), Sha256::new());
    block.iter_mut().for_each(|byte| *byte ^= INNER);
    inner.update(&*block);
    parts.iter().for_each(|part| inner.update(part));
    block.iter_mut().for_each(|byte| *byte ^= INNER ^ OUTER);
    outer.update(&*block);
    outer.update(&inner.finish());
    outer.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use openssl::hash::MessageDigest;
    use openssl::pkey::PKey;
    use openssl::sign::Signer;
    use proptest::prelude::*;

    #[test]
    fn standard_webhooks_vector() {
        let secret = Secret::parse("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD").unwrap();
        let body = br#"{"email":"test@example.com","username":"test_user"}"#;
        assert_eq!(
            standard(&secret, "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk", 1_649_367_553, body),
            "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw="
        );
    }

    /// RFC 4231, test case 2.
    #[test]
    fn hmac_vector() {
        let secret = Secret::parse("Jefe").unwrap();
        assert_eq!(
            spec_kit(&secret, b"what do ya want for nothing?"),
            "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
    }

    proptest! {
        /// Same result as OpenSSL's HMAC, for keys shorter than, equal to and longer than a block,
        /// and messages in one or two parts.
        #[test]
        fn it_is_openssls_hmac(
            key in "[ -~]{1,200}",
            message in proptest::collection::vec(any::<u8>(), 0..300),
            at in 0usize..300,
        ) {
            let secret = Secret::parse(&format!("k{key}")).unwrap();
            let own = PKey::hmac(secret.key()).unwrap();
            let mut signer = Signer::new(MessageDigest::sha256(), &own).unwrap();
            signer.update(&message).unwrap();
            let (first, second) = message.split_at(at.min(message.len()));
            prop_assert_eq!(hmac(secret.key(), &[first, second]).to_vec(), signer.sign_to_vec().unwrap());
        }
    }

    #[test]
    fn equal_tells_lengths_and_bytes_apart() {
        assert!(equal("abc", "abc"));
        assert!(!equal("abc", "abd"));
        assert!(!equal("abc", "abcd"));
    }
}
