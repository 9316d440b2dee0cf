//! The target of requests in the form the HTTP client takes, computed once per endpoint.

use awc::http::Uri;
use awc::http::header::HeaderValue;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use crate::secret::{Endpoint, percent_decoded};

/// An endpoint in the form requests need.
pub(crate) struct Target {
    pub(super) host_name: String,
    /// The URI given to awc, with the scheme `http`: TLS is done below awc, by the connection
    /// itself. `None` if awc does not accept it.
    pub(super) uri: Option<Uri>,
    /// The value of the `Host` header.
    pub(super) host: Option<HeaderValue>,
    /// `Basic …` from the URL's userinfo, which must not appear in the request line.
    pub(super) authorization: Option<HeaderValue>,
    /// See [`Endpoint::credentials`].
    credentials: Vec<Zeroizing<String>>,
}

impl Target {
    /// The target for an endpoint.
    pub(crate) fn new(endpoint: &Endpoint) -> Self {
        let mut url = endpoint.expose().clone();
        let (user, password) = (percent_decoded(url.username()), url.password().map(percent_decoded));
        let authorization = (!user.is_empty() || password.is_some()).then(|| {
            format!("Basic {}", STANDARD.encode(format!("{user}:{}", password.unwrap_or_default())))
        });
        // This fails only for URLs that cannot have userinfo, which have none to remove.
        let _ = url.set_username("").and_then(|()| url.set_password(None));
        let port = url.port_or_known_default();
        let host = match url.port() {
            Some(port) => format!("{}:{port}", endpoint.host()),
            None => endpoint.host().to_owned(),
        };
        let _ = url.set_scheme("http").and_then(|()| url.set_port(port));
        let header = |value: String| HeaderValue::try_from(value).ok();
        Self {
            host_name: endpoint.host().to_owned(),
            uri: url.as_str().parse().ok(),
            host: header(host),
            authorization: authorization.and_then(header),
            credentials: endpoint.credentials(),
        }
    }

    /// The parts of the endpoint that only the recipient may see: its credentials.
    pub(crate) fn credentials(&self) -> &[Zeroizing<String>] {
        &self.credentials
    }
}
