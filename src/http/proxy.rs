//! Which proxy a request goes through, if any: from the subscription's own `proxy`, else the environment's. Pure but for the
//! values it is given.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use url::{Host, Url};
use zeroize::Zeroizing;

use crate::secret::{Endpoint, percent_decoded};

/// An HTTP proxy. Its credentials cannot be printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    pub(super) host: String,
    pub(super) port: u16,
    /// The value of `Proxy-Authorization`.
    pub(super) authorization: Option<Zeroizing<String>>,
}

/// Why a text names no proxy. Says nothing of the text itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidProxy {
    /// No URL at all.
    #[error("malformed proxy URL ({0}): write it as http://[user:password@]host:port")]
    Malformed(url::ParseError),
    /// Another scheme.
    #[error("a proxy must be http:// (the connection through it is encrypted to the endpoint all the same)")]
    Scheme,
}

impl Proxy {
    /// Reads `http://[user:password@]host[:port]`, also without the scheme, as the environment often has it.
    ///
    /// # Errors
    /// [`InvalidProxy`], which does not repeat the text.
    pub fn parse(text: &str) -> Result<Self, InvalidProxy> {
        let text = text.trim();
        let with_scheme = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        let url = Url::parse(&with_scheme).map_err(InvalidProxy::Malformed)?;
        let host = match (url.scheme(), url.host()) {
            ("http", Some(Host::Ipv6(ip))) => ip.to_string(),
            ("http", Some(host)) => host.to_string(),
            _ => return Err(InvalidProxy::Scheme),
        };
        let authorization = (!url.username().is_empty() || url.password().is_some()).then(|| {
            let password = url.password().map(percent_decoded).unwrap_or_default();
            let credentials = Zeroizing::new(format!("{}:{password}", percent_decoded(url.username())));
            Zeroizing::new(format!("Basic {}", STANDARD.encode(credentials.as_bytes())))
        });
        Ok(Self { host, port: url.port_or_known_default().unwrap_or(80), authorization })
    }

    /// The environment's proxy for an endpoint: `HTTPS_PROXY` or `HTTP_PROXY` by its scheme, but for what `NO_PROXY` names
    /// and for this machine. Lower-case names count first, as for curl.
    ///
    /// # Errors
    /// The variable's name, and why its value is no proxy.
    pub fn of_environment(
        endpoint: &Endpoint,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Option<Self>, (&'static str, InvalidProxy)> {
        let first = |names: [&'static str; 2]| {
            names.into_iter().find_map(|name| variable(name).map(|value| (name, value)))
        };
        let names =
            if endpoint.is_tls() { ["https_proxy", "HTTPS_PROXY"] } else { ["http_proxy", "HTTP_PROXY"] };
        let Some((name, value)) = first(names) else { return Ok(None) };
        let exceptions = first(["no_proxy", "NO_PROXY"]).map(|(_, list)| list).unwrap_or_default();
        if endpoint.is_loopback() || is_excepted(endpoint.host(), &exceptions) {
            return Ok(None);
        }
        Self::parse(&value).map(Some).map_err(|error| (name, error))
    }
}

/// Whether `NO_PROXY` names a host: itself, a domain that it is in, or `*`.
fn is_excepted(host: &str, list: &str) -> bool {
    let host = host.trim_matches(['[', ']']).to_ascii_lowercase();
    list.split([',', ' ']).map(str::trim).filter(|entry| !entry.is_empty()).any(|entry| {
        let entry = entry.trim_start_matches('.').trim_matches(['[', ']']).to_ascii_lowercase();
        let is_within = host.strip_suffix(&entry).is_some_and(|rest| rest.ends_with('.'));
        entry == "*" || host == entry || (is_within && host.parse::<std::net::IpAddr>().is_err())
    })
}

/// Without its credentials.
impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "http://[{}]:{}", self.host, self.port),
            false => write!(f, "http://{}:{}", self.host, self.port),
        }
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(endpoint: &str, variables: &[(&str, &str)]) -> Option<String> {
        let endpoint = Endpoint::parse(endpoint, true).unwrap();
        let find = |name: &str| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        Proxy::of_environment(&endpoint, find).unwrap().map(|proxy| proxy.to_string())
    }

    #[test]
    fn the_environments_proxy_by_scheme_and_exceptions() {
        let both = [("HTTPS_PROXY", "http://secure:3128"), ("HTTP_PROXY", "plain:8080")];
        assert_eq!(chosen("https://a.example/x", &both).as_deref(), Some("http://secure:3128"));
        assert_eq!(chosen("http://a.example/x", &both).as_deref(), Some("http://plain:8080"));
        assert_eq!(chosen("https://a.example/x", &[]), None);
        for machine in ["http://127.0.0.1:9/", "http://localhost:9/", "http://[::1]/"] {
            assert_eq!(chosen(machine, &both), None, "{machine}");
        }
        let lower = [both[0], ("https_proxy", "http://lower:1")];
        assert_eq!(chosen("https://a.example/x", &lower).as_deref(), Some("http://lower:1"));
        for (exceptions, excepted) in [
            ("a.example", true),
            ("example", true),
            (".example", true),
            ("*", true),
            ("b.example, A.Example", true),
            ("ample", false),
            ("b.a.example", false),
            ("", false),
        ] {
            let with = [both[0], ("NO_PROXY", exceptions)];
            assert_eq!(chosen("https://a.example/x", &with).is_none(), excepted, "{exceptions}");
        }
    }

    #[test]
    fn credentials_are_used_and_never_shown() {
        let proxy = Proxy::parse("http://user:p%40ss@proxy:3128").unwrap();
        assert_eq!(proxy.authorization.as_ref().unwrap().as_str(), "Basic dXNlcjpwQHNz");
        assert_eq!(format!("{proxy} {proxy:?}"), "http://proxy:3128 Proxy(http://proxy:3128)");
        assert_eq!(Proxy::parse("http://[::1]:1").unwrap().to_string(), "http://[::1]:1");
        assert_eq!(Proxy::parse("https://proxy").unwrap_err(), InvalidProxy::Scheme);
        assert_eq!(Proxy::parse("socks5://proxy").unwrap_err(), InvalidProxy::Scheme);
        assert!(matches!(Proxy::parse("http://"), Err(InvalidProxy::Malformed(_))));
    }
}
