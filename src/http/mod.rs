//! Sends one HTTP request through awc: verified TLS, no redirects, one deadline, a bounded answer.
//! Independent of the actors.

mod answer;
mod body;
mod connections;
mod dial;
mod failure;
#[cfg(fuzzing)]
#[path = "../../fuzz/targets/http.rs"]
pub(crate) mod fuzzing;
mod head;
mod machine;
mod pem;
mod proxy;
mod target;
mod tls;
mod tls_fault;
mod wire;

use std::borrow::Cow;
use std::time::{Duration, Instant};

use actix_rt::time::timeout;
use actix_service::fn_service;
use actix_tls::connect::{ConnectError as ConnectFailure, ConnectInfo, Connection};
use awc::Connector;
use awc::error::{HttpError, InvalidUrl, SendRequestError};
use awc::http::Uri;
use awc::http::header::{self, HeaderName, HeaderValue};
use bytes::Bytes;

use crate::delivery::{Outcome, Response};
use crate::payload::Format;
pub(crate) use connections::Connections;
use failure::is_stale;
pub(crate) use proxy::Proxy;
pub(crate) use target::Target;
pub(crate) use tls::{Tls, TlsError, TlsFiles, TlsSettings};
use wire::Wire;

/// Sends requests on one arbiter and keeps connections alive. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Client {
    /// Keeps connections alive.
    client: awc::Client,
    /// Opens a new connection for each request.
    anew: awc::Client,
    tls: Option<Tls>,
    proxy: Option<Proxy>,
    connections: Connections,
}

/// A header's name and value.
pub(crate) type Header = (Cow<'static, str>, Cow<'static, str>);

/// One request.
pub(crate) struct Request<'a> {
    /// Where the request goes.
    pub target: &'a Target,
    /// Headers, names in lower case.
    pub headers: &'a [Header],
    /// The body, sent unchanged.
    pub body: Bytes,
    /// The format of the body: a chat service's answer says more than its status.
    pub format: Format,
    /// The time from DNS to the last byte read.
    pub timeout: Duration,
}

impl Client {
    /// A client for the arbiter it is created on: with `tls` if its endpoint needs it, through
    /// `proxy` if there is one.
    pub(crate) fn new(tls: Option<Tls>, proxy: Option<Proxy>, connections: Connections) -> Self {
        let with = (tls.clone(), proxy.clone(), connections.clone());
        let connect = fn_service(move |request: ConnectInfo<Uri>| {
            let (tls, proxy, connections) = with.clone();
            async move {
                let uri = request.request().clone();
                let host = uri.host().unwrap_or_default();
                let stream = dial::dial(host, uri.port_u16().unwrap_or(80), proxy.as_ref()).await?;
                let counted = connections.count();
                let wire = match &tls {
                    Some(tls) => {
                        Wire::new(tls.secure(host, stream).await.map_err(ConnectFailure::Io)?, counted)
                    }
                    None => Wire::new(stream, counted),
                };
                Ok::<_, ConnectFailure>(Connection::new(uri, wire))
            }
        });
        let client = || {
            // Our deadline covers the whole request and our shares bound the connections, so awc's
            // own limits, which all hosts share, are disabled.
            let never = Duration::from_secs(24 * 3600);
            let connector = Connector::new().connector(connect.clone());
            awc::Client::builder()
                .connector(connector.limit(0).timeout(never).handshake_timeout(never))
                .disable_redirects()
                .disable_timeout()
                .no_default_headers()
                .finish()
        };
        Self { client: client(), anew: client(), tls, proxy, connections }
    }

    /// Whether a client with these settings would be the same, so that its connections can be
    /// reused.
    pub(crate) fn is_with(&self, tls: Option<&Tls>, proxy: Option<&Proxy>) -> bool {
        self.tls.as_ref() == tls && self.proxy.as_ref() == proxy
    }

    /// Sends one request. Never takes longer than its timeout; a failure is an outcome too.
    pub(crate) async fn attempt(&self, request: &Request<'_>) -> Outcome {
        let started = Instant::now();
        let deadline = started + request.timeout;
        let mut resent = false;
        let exchange = async {
            match self.exchange(request, &self.client, self.connections.are_too_many(), deadline).await {
                Err(error) if is_stale(&error) => {
                    resent = true;
                    self.exchange(request, &self.anew, true, deadline).await
                }
                result => result,
            }
        };
        let result = match timeout(request.timeout, exchange).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(failure::of(&error, &request.target.host_name, self.tls.as_ref()).await),
            Err(_) => Err(failure::timeout(request.timeout)),
        };
        Outcome { result, latency: started.elapsed(), resent }
    }

    async fn exchange(
        &self,
        request: &Request<'_>,
        client: &awc::Client,
        is_last: bool,
        deadline: Instant,
    ) -> Result<Response, SendRequestError> {
        let Target { uri: Some(uri), host: Some(host), authorization, .. } = request.target else {
            return Err(SendRequestError::Url(InvalidUrl::MissingHost));
        };
        let mut asked = client.post(uri.clone());
        let headers = asked.headers_mut();
        headers.insert(header::HOST, host.clone());
        for (name, value) in request.headers {
            let name = match name {
                Cow::Borrowed(name) => HeaderName::from_static(name),
                Cow::Owned(name) => name.parse().map_err(HttpError::from)?,
            };
            let value = match value {
                Cow::Borrowed(value) => HeaderValue::from_static(value),
                Cow::Owned(value) => value.parse().map_err(HttpError::from)?,
            };
            headers.insert(name, value);
        }
        if let Some(value) = authorization {
            headers.insert(header::AUTHORIZATION, value.clone());
        }
        if is_last {
            asked = asked.force_close();
        }
        let answer = asked.send_body(request.body.clone()).await?;
        Ok(answer::read(answer, request.format, deadline).await)
    }
}
