//! Chooses the proxy of a request, if any: the subscription's own `proxy`, else the environment's.
//! No I/O: the variables are passed in.

use std::fmt;
use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use url::{Host, Url};
use zeroize::Zeroizing;

use crate::secret::{Endpoint, percent_decoded};

/// An HTTP proxy. Its credentials are not printed.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Proxy {
    pub(super) host: String,
    pub(super) port: u16,
    /// The value of the `Proxy-Authorization` header.
    pub(super) authorization: Option<Zeroizing<String>>,
}

/// Why a text is not a proxy. Does not repeat the text, which may hold credentials.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidProxy {
    /// It is not a URL.
    #[error("malformed proxy URL ({0}): write it as http://[user:password@]host:port")]
    Malformed(url::ParseError),
    /// Its scheme is not `http`.
    #[error("a proxy must be http:// (the connection through it is encrypted to the endpoint all the same)")]
    Scheme,
}

impl Proxy {
    /// Parses `http://[user:password@]host[:port]`, also without the scheme, as it is often written
    /// in the environment.
    ///
    /// # Errors
    /// [`InvalidProxy`], which does not repeat the text.
    pub(crate) fn parse(text: &str) -> Result<Self, InvalidProxy> {
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

    /// The environment's proxy for an endpoint: `HTTPS_PROXY` or `HTTP_PROXY` by its scheme, except
    /// for hosts in `NO_PROXY` and for this machine. Lower-case names take precedence, as in curl.
    ///
    /// # Errors
    /// The variable's name, and why its value is not a proxy.
    pub(crate) fn of_environment(
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
        if endpoint.is_loopback() || is_excepted(endpoint.host(), endpoint.port(), &exceptions) {
            return Ok(None);
        }
        Self::parse(&value).map(Some).map_err(|error| (name, error))
    }
}

/// Whether `NO_PROXY` names a host, by the rules of curl and of Go
/// (golang.org/x/net/http/httpproxy).
fn is_excepted(host: &str, port: u16, list: &str) -> bool {
    let host = host.trim_matches(['[', ']']);
    let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    let address: Option<IpAddr> = host.parse().ok();
    let entries = list.split(|c: char| c == ',' || c.is_whitespace()).filter(|entry| !entry.is_empty());
    entries.map(str::to_ascii_lowercase).any(|entry| {
        if entry == "*" {
            return true;
        }
        if let Some((network, length)) = entry.split_once('/') {
            return is_in_network(address, network, length);
        }
        let Some(name) = of_port(&entry, port) else { return false };
        match (name.parse::<IpAddr>(), address) {
            (Ok(named), address) => Some(named) == address,
            (Err(_), Some(_)) => false,
            (Err(_), None) => is_of_domain(&host, name),
        }
    })
}

/// The name or address of an entry, if it has no port or this port.
fn of_port(entry: &str, port: u16) -> Option<&str> {
    let (name, given) = match entry.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((name, rest)) => (name, rest.strip_prefix(':')),
        // More than one colon means an IPv6 address.
        None => match entry.split_once(':') {
            Some((name, given)) if !given.contains(':') => (name, Some(given)),
            _ => (entry, None),
        },
    };
    given.is_none_or(|given| given.parse() == Ok(port)).then_some(name)
}

/// `example` and `.example` match the domain and everything below it, `*.example` only what is
/// below it.
fn is_of_domain(host: &str, name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    let (domain, is_itself) = match name.strip_prefix("*.") {
        Some(domain) => (domain, false),
        None => (name.strip_prefix('.').unwrap_or(name), true),
    };
    let is_below = host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'));
    !domain.is_empty() && (is_below || (is_itself && host == domain))
}

/// Whether an address is in a network such as `10.0.0.0/8` (RFC 4632, RFC 4291).
fn is_in_network(address: Option<IpAddr>, network: &str, length: &str) -> bool {
    let Ok(length) = length.parse::<u32>() else { return false };
    let is_same = |one: u128, other: u128, bits: u32| {
        length <= bits && (length == 0 || (one ^ other) >> (bits - length) == 0)
    };
    match (address, network.trim_matches(['[', ']']).parse()) {
        (Some(IpAddr::V4(one)), Ok(IpAddr::V4(other))) => {
            is_same(one.to_bits().into(), other.to_bits().into(), 32)
        }
        (Some(IpAddr::V6(one)), Ok(IpAddr::V6(other))) => is_same(one.to_bits(), other.to_bits(), 128),
        _ => false,
    }
}

/// Displayed without credentials.
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

    /// The cases of the table in `docs/reference/config.md`.
    #[test]
    fn exceptions_are_what_curl_and_go_read() {
        for (host, port, entry, excepted) in [
            ("hooks.corp.example", 8443, "corp.example", true),
            ("corp.example", 443, "corp.example", true),
            ("hooks.corp.example", 443, ".corp.example", true),
            ("corp.example", 443, ".corp.example", true),
            ("hooks.corp.example", 443, "*.corp.example", true),
            ("corp.example", 443, "*.corp.example", false),
            ("hooks.corp.example", 443, "Corp.Example.", true),
            ("hooks.corp.example.", 443, "corp.example", true),
            ("hookscorp.example", 443, "corp.example", false),
            ("hooks.corp.example", 8443, "hooks.corp.example:8443", true),
            ("hooks.corp.example", 443, "hooks.corp.example:8443", false),
            ("hooks.corp.example", 443, "corp.example:x", false),
            ("hooks.corp.example", 443, ".", false),
            ("hooks.corp.example", 443, "a b\tcorp.example", true),
            ("10.1.2.3", 443, "10.1.2.3", true),
            ("10.1.2.3", 443, "10.1.2.3:443", true),
            ("10.1.2.3", 8443, "10.1.2.3:443", false),
            ("10.1.2.3", 443, "10.0.0.0/8", true),
            ("11.1.2.3", 443, "10.0.0.0/8", false),
            ("10.1.2.3", 443, "10.1.2.3/32", true),
            ("10.1.2.3", 443, "0.0.0.0/0", true),
            ("10.1.2.3", 443, "10.0.0.0/33", false),
            ("10.1.2.3", 443, "2.3", false),
            ("hooks.corp.example", 443, "10.0.0.0/8", false),
            ("[fd00::5]", 443, "fd00::5", true),
            ("[fd00::5]", 443, "FD00:0::5", true),
            ("[fd00::5]", 443, "[fd00::5]:443", true),
            ("[fd00::5]", 8443, "[fd00::5]:443", false),
            ("[fd00::5]", 443, "fd00::/8", true),
            ("[fe00::5]", 443, "fd00::/8", false),
            ("[fd00::5]", 443, "10.0.0.0/8", false),
            ("hooks.corp.example", 443, "x, *", true),
        ] {
            assert_eq!(is_excepted(host, port, entry), excepted, "{host}:{port} with {entry}");
        }
    }

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
