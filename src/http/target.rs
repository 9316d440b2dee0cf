//! Where requests go, as the HTTP client takes it: worked out once for an endpoint and not for
//! each request.

use awc::http::Uri;
use awc::http::header::HeaderValue;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use crate::secret::{Endpoint, percent_decoded};

/// An endpoint, ready to be sent to.
pub(crate) struct Target {
    pub(super) host_name: String,
    /// As awc is to see it: plain, for TLS is done below it, by the connection itself. Absent
    /// where it takes it for none.
    pub(super) uri: Option<Uri>,
    /// The `Host` header.
    pub(super) host: Option<HeaderValue>,
    /// `Basic …` of the URL's userinfo, which must not stand in the request line.
    pub(super) authorization: Option<HeaderValue>,
    /// See [`Endpoint::credentials`].
    credentials: Vec<Zeroizing<String>>,
}

impl Target {
    /// What requests to this endpoint need.
    pub(crate) fn new(endpoint: &Endpoint) -> Self {
        let mut url = endpoint.expose().clone();
        let (user, password) = (percent_decoded(url.username()), url.password().map(percent_decoded));
        let authorization = (!user.is_empty() || password.is_some()).then(|| {
            format!("Basic {}", STANDARD.encode(format!("{user}:{}", password.unwrap_or_default())))
        });
        // Fails only for URLs that cannot have userinfo, and those have none to remove.
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

    /// What of the endpoint nobody may read who was not sent it.
    pub(crate) fn credentials(&self) -> &[Zeroizing<String>] {
        &self.credentials
    }
}
