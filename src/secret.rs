//! What must never be printed: secrets and endpoint URLs, in types that can only show themselves redacted.

use std::fmt;
use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use openssl::error::ErrorStack;
use openssl::rand::rand_bytes;
use url::{Host, Url};
use zeroize::Zeroizing;

use crate::sign::sha256;

/// Standard Webhooks' prefix of a base64 secret.
const PREFIX: &str = "whsec_";

/// Fewest bytes a `whsec_` secret decodes to (Standard Webhooks, "Symmetric signatures").
const MIN_DECODED_BYTES: usize = 24;

/// A part of a path that is as long as this is no word but a credential.
const LONG_SEGMENT: usize = 12;

/// The key bytes of one signing secret. Its `Debug` shows nothing of them, and they are wiped from memory after use.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<Vec<u8>>);

/// Why a text is no signing secret. Says nothing of the text itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSecret {
    /// Nothing in it.
    #[error("it is empty")]
    Empty,
    /// `whsec_` and then something else.
    #[error("what follows `whsec_` is not padded base64 of at least {MIN_DECODED_BYTES} bytes")]
    NotBase64,
}

impl Secret {
    /// The secret's UTF-8 bytes, or the decoded base64 after `whsec_`.
    ///
    /// # Errors
    /// Empty, or a `whsec_` secret that does not decode to at least 24 bytes.
    pub fn parse(text: &str) -> Result<Self, InvalidSecret> {
        match text.strip_prefix(PREFIX) {
            Some(encoded) => match STANDARD.decode(encoded) {
                Ok(bytes) if bytes.len() >= MIN_DECODED_BYTES => Ok(Self(Zeroizing::new(bytes))),
                _ => Err(InvalidSecret::NotBase64),
            },
            None if text.is_empty() => Err(InvalidSecret::Empty),
            None => Ok(Self(Zeroizing::new(text.as_bytes().to_vec()))),
        }
    }

    /// A new one in the form that off-the-shelf verifiers take: `whsec_` and the base64 of 32 random bytes.
    ///
    /// # Errors
    /// OpenSSL has no randomness.
    pub fn generate() -> Result<Zeroizing<String>, ErrorStack> {
        let mut bytes = Zeroizing::new([0; 32]);
        rand_bytes(&mut *bytes)?;
        Ok(Zeroizing::new(format!("{PREFIX}{}", STANDARD.encode(*bytes))))
    }

    /// The key for the HMAC; for `sign` alone.
    pub(crate) fn key(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Where a subscription's requests go. Path, query and userinfo are credentials: only `http` reads them.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint {
    url: Url,
    shown: String,
}

/// Why a text is no endpoint. Says nothing of the text itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidEndpoint {
    /// No URL at all.
    #[error("malformed URL ({0}): write it as https://host[:port]/path")]
    Malformed(url::ParseError),
    /// Another scheme.
    #[error("a URL must start with https:// (or http:// to this machine)")]
    Scheme,
    /// Plain HTTP to somewhere else than this machine.
    #[error(
        "http:// sends the payload in the clear: use https://, or set allow_insecure_http = true if the network is trusted"
    )]
    Insecure,
}

impl Endpoint {
    /// Reads an absolute `https` URL; `http` only to loopback, or anywhere with `allow_insecure_http`.
    ///
    /// # Errors
    /// [`InvalidEndpoint`], which does not repeat the URL.
    pub fn parse(text: &str, allow_insecure_http: bool) -> Result<Self, InvalidEndpoint> {
        let mut url = Url::parse(text.trim()).map_err(InvalidEndpoint::Malformed)?;
        match url.scheme() {
            "https" => {}
            "http" if allow_insecure_http || is_loopback(&url) => {}
            "http" => return Err(InvalidEndpoint::Insecure),
            _ => return Err(InvalidEndpoint::Scheme),
        }
        let hash = hex::encode(&sha256(url.as_str().as_bytes())[..4]);
        url.set_fragment(None);
        let shown = format!(
            "{}://{}:{} [{hash}]",
            url.scheme(),
            url.host_str().unwrap_or_default(),
            url.port_or_known_default().unwrap_or_default()
        );
        Ok(Self { url, shown })
    }

    /// The whole URL, credentials and all; for the HTTP client alone.
    pub(crate) fn expose(&self) -> &Url {
        &self.url
    }

    /// The parts of the URL that are credentials, as whoever got them might repeat them.
    pub(crate) fn credentials(&self) -> Vec<Zeroizing<String>> {
        let (user, password) = (self.url.username(), self.url.password().unwrap_or_default());
        let pair = format!("{}:{}", percent_decoded(user), percent_decoded(password));
        let segments = self.url.path().split('/').filter(|segment| segment.len() >= LONG_SEGMENT);
        let values = self.url.query_pairs().map(|(_, value)| value.into_owned());
        let mut parts: Vec<String> = segments.map(str::to_owned).chain(values).collect();
        parts.extend([self.url.path(), user, password].map(percent_decoded));
        parts.extend(
            [self.url.path(), self.url.query().unwrap_or_default(), user, password].map(str::to_owned),
        );
        parts.push(STANDARD.encode(pair));
        parts.into_iter().map(Zeroizing::new).collect()
    }

    /// Whether requests need TLS.
    pub fn is_tls(&self) -> bool {
        self.url.scheme() == "https"
    }

    /// Whether it is on this machine.
    pub fn is_loopback(&self) -> bool {
        is_loopback(&self.url)
    }

    /// The host, which is no secret: for hints such as a chat service's format.
    pub fn host(&self) -> &str {
        self.url.host_str().unwrap_or_default()
    }
}

pub(crate) fn percent_decoded(text: &str) -> String {
    // A query decodes `+` as a space and userinfo does not: protect it.
    let query = format!("v={}", text.replace('+', "%2B").replace('&', "%26"));
    url::form_urlencoded::parse(query.as_bytes())
        .next()
        .map_or(String::new(), |(_, value)| value.into_owned())
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(ip)) => IpAddr::V4(ip).is_loopback(),
        Some(Host::Ipv6(ip)) => IpAddr::V6(ip).is_loopback(),
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        None => false,
    }
}

/// Scheme, host, port, and eight hex digits of the whole URL's SHA-256, so that two can be told apart.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.shown)
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Endpoint({})", self.shown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_secret_nor_url_can_be_printed() {
        let secret = Secret::parse("canary-secret").unwrap();
        let endpoint =
            Endpoint::parse("https://user:canary@hooks.example.com/canary?t=canary", false).unwrap();
        let shown = format!("{secret:?} {secret:#?} {endpoint:?} {endpoint:#?} {endpoint}");
        assert!(!shown.contains("canary"), "{shown}");
        assert!(endpoint.to_string().starts_with("https://hooks.example.com:443 ["), "{endpoint}");
    }

    #[test]
    fn whsec_secrets_must_decode_to_24_bytes() {
        assert_eq!(Secret::parse("").unwrap_err(), InvalidSecret::Empty);
        for bad in [
            "whsec_",
            "whsec_AAAA",
            "whsec_not base64 at all, not at all, no",
            "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7o",
        ] {
            assert_eq!(Secret::parse(bad).unwrap_err(), InvalidSecret::NotBase64, "{bad}");
        }
        assert_eq!(Secret::parse("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD").unwrap().key().len(), 24);
        assert_eq!(Secret::parse("plain").unwrap().key(), b"plain");
    }

    #[test]
    fn plain_http_stays_on_this_machine() {
        for good in [
            "http://127.0.0.1:1/x",
            "http://127.9.9.9/",
            "http://[::1]:80/",
            "http://localhost/",
            "https://a.b/",
        ] {
            assert!(Endpoint::parse(good, false).is_ok(), "{good}");
        }
        for bad in [
            "http://10.0.0.1/",
            "http://example.com/",
            "http://127.0.0.1.example.com/",
            "http://localhost.example.com/",
        ] {
            assert_eq!(Endpoint::parse(bad, false).unwrap_err(), InvalidEndpoint::Insecure, "{bad}");
            assert!(Endpoint::parse(bad, true).is_ok(), "{bad}");
        }
        for bad in ["ftp://a/", "file:///etc/passwd", "mailto:a@b"] {
            assert_eq!(Endpoint::parse(bad, true).unwrap_err(), InvalidEndpoint::Scheme, "{bad}");
        }
        for bad in ["", "hooks.slack.com/x", "https://", "/x"] {
            assert!(matches!(Endpoint::parse(bad, true), Err(InvalidEndpoint::Malformed(_))), "{bad}");
        }
    }
}
