//! Secrets and endpoint URLs, in types whose output is redacted: they must never be printed.

use std::fmt;
use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use openssl::error::ErrorStack;
use url::{Host, Url};
use zeroize::Zeroizing;

use crate::clock;
use crate::digest::sha256;

/// Prefix of a base64 secret (Standard Webhooks).
const PREFIX: &str = "whsec_";

/// Fewest bytes that a `whsec_` secret decodes to (Standard Webhooks, "Symmetric signatures").
const MIN_DECODED_BYTES: usize = 24;

/// Length from which a path segment counts as a credential and not as a word.
const LONG_SEGMENT: usize = 12;

/// A signing secret. Its `Debug` output is redacted, and it is wiped from memory when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    /// The text of the secret, as in its environment variable.
    text: Zeroizing<Vec<u8>>,
    /// The bytes encoded after `whsec_`; `None` for a secret without that prefix.
    decoded: Option<Zeroizing<Vec<u8>>>,
}

/// Why a text is not a signing secret. Does not repeat the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSecret {
    /// The text is empty.
    #[error("it is empty")]
    Empty,
    /// It begins with `whsec_` and the rest is not valid.
    #[error("what follows `whsec_` is not padded base64 of at least {MIN_DECODED_BYTES} bytes")]
    NotBase64,
}

impl Secret {
    /// Parses any text, or `whsec_` followed by the base64 of at least 24 bytes.
    ///
    /// # Errors
    /// The text is empty, or is a `whsec_` secret that does not decode to at least 24 bytes.
    pub fn parse(text: &str) -> Result<Self, InvalidSecret> {
        let decoded = match text.strip_prefix(PREFIX) {
            Some(encoded) => match STANDARD.decode(encoded).map(Zeroizing::new) {
                Ok(bytes) if bytes.len() >= MIN_DECODED_BYTES => Some(bytes),
                _ => return Err(InvalidSecret::NotBase64),
            },
            None if text.is_empty() => return Err(InvalidSecret::Empty),
            None => None,
        };
        Ok(Self { text: Zeroizing::new(text.as_bytes().to_vec()), decoded })
    }

    /// Generates a secret in the form that standard verifiers accept: `whsec_` and the base64 of 32
    /// random bytes.
    ///
    /// # Errors
    /// OpenSSL has no randomness.
    pub fn generate() -> Result<Zeroizing<String>, ErrorStack> {
        let mut bytes = Zeroizing::new([0; 32]);
        clock::secret_bytes(&mut *bytes)?;
        Ok(Zeroizing::new(format!("{PREFIX}{}", STANDARD.encode(*bytes))))
    }

    /// The bytes of the text: the key of `X-SpecKit-Signature`. Only for `sign`.
    pub(crate) fn text(&self) -> &[u8] {
        &self.text
    }

    /// The key of Standard Webhooks: the decoded bytes, else those of the text. Only for `sign`.
    pub(crate) fn key(&self) -> &[u8] {
        self.decoded.as_ref().unwrap_or(&self.text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// A run of letters and digits of this length with a digit in it may be a secret; so may a text of
/// this length with at least six digits.
const SUSPICIOUS: usize = 16;
const SUSPICIOUS_DIGITS: usize = 6;

/// Whether a text given in place of a name may be repeated in a message. Not if it may be a secret
/// that was pasted there.
pub(crate) fn may_be_shown(text: &str) -> bool {
    let is_harmless = |run: &str| {
        run.len() < SUSPICIOUS
            || (run.len() <= 2 * SUSPICIOUS && !run.bytes().any(|byte| byte.is_ascii_digit()))
    };
    let marks = [PREFIX, "://", "-----", "@"];
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    text.len() <= 80
        && !(text.len() >= SUSPICIOUS && digits >= SUSPICIOUS_DIGITS)
        && !marks.iter().any(|mark| text.contains(mark))
        && text.split(|c: char| !(c.is_alphanumeric() || "+/=".contains(c))).all(is_harmless)
}

/// Shown instead of a text that may be a secret.
pub(crate) const NOT_SHOWN: &str = "… (not shown: was a secret put there?)";

/// The name of an environment variable in the form for a message.
pub(crate) fn shown_variable(name: &str) -> &str {
    if is_variable(name) && may_be_shown(name) { name } else { NOT_SHOWN }
}

/// Whether a text can be the name of an environment variable (POSIX.1-2024, section 8.1).
pub(crate) fn is_variable(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// The URL of a subscription's endpoint. Path, query and userinfo are credentials: only `http`
/// reads them.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    url: Url,
    shown: String,
}

/// Why a text is not an endpoint. Does not repeat the text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidEndpoint {
    /// It is not a URL.
    #[error("malformed URL ({0}): write it as https://host[:port]/path")]
    Malformed(url::ParseError),
    /// Its scheme is neither `https` nor `http`.
    #[error("a URL must start with https:// (or http:// to this machine)")]
    Scheme,
    /// It is plain HTTP to another machine.
    #[error(
        "http:// sends the payload in the clear: use https://, or set allow_insecure_http = true if the \
         network is trusted"
    )]
    Insecure,
}

impl Endpoint {
    /// Parses an absolute `https` URL, or an `http` URL to loopback; with `allow_insecure_http`, to
    /// any host.
    ///
    /// # Errors
    /// [`InvalidEndpoint`], which does not repeat the URL.
    pub(crate) fn parse(text: &str, allow_insecure_http: bool) -> Result<Self, InvalidEndpoint> {
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

    /// The whole URL with its credentials. Only for the HTTP client, and for checks that print
    /// nothing of it.
    pub(crate) fn expose(&self) -> &Url {
        &self.url
    }

    /// The parts of the URL that are credentials, in the forms in which a recipient might repeat
    /// them.
    pub(crate) fn credentials(&self) -> Vec<Zeroizing<String>> {
        let (user, password) = (self.url.username(), self.url.password().unwrap_or_default());
        let pair = format!("{}:{}", percent_decoded(user), percent_decoded(password));
        let segments = self.url.path().split('/').filter(|segment| segment.len() >= LONG_SEGMENT);
        let pairs = self.url.query().unwrap_or_default().split('&');
        let encoded_values = pairs.filter_map(|pair| Some(pair.split_once('=')?.1.to_owned()));
        let values = self.url.query_pairs().map(|(_, value)| value.into_owned()).chain(encoded_values);
        let decoded = segments.clone().map(percent_decoded);
        let mut parts: Vec<String> = segments.map(str::to_owned).chain(decoded).chain(values).collect();
        parts.extend([self.url.path(), user, password].map(percent_decoded));
        parts.extend(
            [self.url.path(), self.url.query().unwrap_or_default(), user, password].map(str::to_owned),
        );
        parts.push(STANDARD.encode(pair));
        parts.into_iter().map(Zeroizing::new).collect()
    }

    /// Whether the URL has a user or a password.
    pub(crate) fn has_userinfo(&self) -> bool {
        !self.url.username().is_empty() || self.url.password().is_some()
    }

    /// Whether requests need TLS.
    pub(crate) fn is_tls(&self) -> bool {
        self.url.scheme() == "https"
    }

    /// Whether it is on this machine.
    pub(crate) fn is_loopback(&self) -> bool {
        is_loopback(&self.url)
    }

    /// The port; the scheme's default if the URL gives none.
    pub(crate) fn port(&self) -> u16 {
        self.url.port_or_known_default().unwrap_or(443)
    }

    /// The host, which is not secret.
    pub(crate) fn host(&self) -> &str {
        self.url.host_str().unwrap_or_default()
    }
}

pub(crate) fn percent_decoded(text: &str) -> String {
    // A query decodes `+` as a space, userinfo does not: protect it.
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

/// Displays scheme, host, port, and eight hex digits of the whole URL's SHA-256, which distinguish
/// endpoints on one host.
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
    fn a_part_of_a_url_is_a_credential_in_each_form_in_which_it_may_come_back() {
        let url =
            "https://u%40x:p%2Fw@corp.example/hooks/aB3%2FaB3aB3aB3aB3aB3aB3aB3?sig=a%2Fb%2Bc&team=x%20y";
        let found: Vec<String> =
            Endpoint::parse(url, false).unwrap().credentials().iter().map(|part| part.to_string()).collect();
        for part in [
            "a/b+c",
            "a%2Fb%2Bc",
            "x y",
            "x%20y",
            "sig=a%2Fb%2Bc&team=x%20y",
            "aB3%2FaB3aB3aB3aB3aB3aB3aB3",
            "aB3/aB3aB3aB3aB3aB3aB3aB3",
            "u@x",
            "p/w",
            "p%2Fw",
        ] {
            assert!(found.iter().any(|one| one == part), "{part} is not among {found:?}");
        }
    }

    #[test]
    fn a_host_in_other_letters_has_the_name_that_dns_knows() {
        let endpoint = Endpoint::parse("https://bücher.example/hook", false).unwrap();
        assert_eq!(endpoint.host(), "xn--bcher-kva.example");
    }

    #[test]
    fn what_may_be_a_secret_is_not_repeated() {
        for name in ["SPECKIT_WEBHOOK_SECRET", "my_secret", "S3", "SPECKITWEBHOOKSSECRET"] {
            assert_eq!(shown_variable(name), name);
        }
        for pasted in [
            "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD",
            "0123456789abcdef0123456789abcdef",
            "a1b2c3d4e5f6a7b8c9d0",
            "correct horse",
            "https://hooks.example/T0/B1",
            "pass-word",
            "0193e5a1-7f00-4abc-8def-0123456789ab",
            "",
        ] {
            assert!(pasted.is_empty() || shown_variable(pasted) == NOT_SHOWN, "{pasted}");
        }
        for word in
            ["spec-auto.stage.complete", "Deploy", "include_event", "SPEC-KIT-065-add-webhook", "X-Trace"]
        {
            assert!(may_be_shown(word), "{word}");
        }
        for pasted in ["xoxb-123456789012-abcdefABCDEF123456", "user@host", "-----BEGIN KEY", &"x".repeat(81)]
        {
            assert!(!may_be_shown(pasted), "{pasted}");
        }
    }

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
