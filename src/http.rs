//! One HTTP request through awc: verified TLS, no redirects, one deadline, a bounded answer. Knows no actors.

use std::io;
use std::time::{Duration, Instant};

use actix_rt::net::TcpStream;
use actix_rt::time::timeout;
use actix_service::ServiceExt as _;
use actix_tls::connect::Connection;
use awc::error::{ConnectError, SendRequestError};
use awc::http::{Uri, Version, header};
use awc::{ClientResponse, Connector};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::StreamExt as _;
use openssl::ssl::{SslConnector, SslMethod, SslVerifyMode, SslVersion};

use crate::delivery::{Failure, FailureClass, MAX_KEPT_BYTES, Outcome, Response};
use crate::secret::Endpoint;

/// Most bytes of an answer's body that are read; a longer one costs its connection.
const MAX_READ_BYTES: usize = 64 * 1024;

/// Response headers worth keeping, and no others: a response may hold cookies and tokens.
const KEPT_HEADERS: [header::HeaderName; 6] = [
    header::CONTENT_TYPE,
    header::CONTENT_LENGTH,
    header::DATE,
    header::RETRY_AFTER,
    header::SERVER,
    header::LOCATION,
];

/// TLS could not be set up.
#[derive(Debug, thiserror::Error)]
#[error("cannot set up TLS: {0}")]
pub struct TlsError(#[from] openssl::error::ErrorStack);

/// What TLS needs: read once, shared by all clients, on any thread.
#[derive(Clone)]
pub struct Tls(Option<SslConnector>);

impl Tls {
    /// For clients that speak to no `https` endpoint: costs nothing.
    pub fn none() -> Self {
        Self(None)
    }

    /// With the system's trust roots; reading them costs tens of milliseconds and megabytes.
    ///
    /// # Errors
    /// OpenSSL or the system's trust roots are not usable.
    pub fn system() -> Result<Self, TlsError> {
        tls_connector().map(|connector| Self(Some(connector)))
    }

    /// Whether `https` endpoints can be reached with it.
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }
}

/// Sends requests on one arbiter; cheap to clone, its connections are kept alive.
#[derive(Clone)]
pub struct Client(awc::Client);

/// One request.
pub struct Request<'a> {
    /// Where to.
    pub endpoint: &'a Endpoint,
    /// Names in lower case.
    pub headers: &'a [(&'static str, String)],
    /// The body, as it is.
    pub body: Bytes,
    /// From DNS to the last byte read.
    pub timeout: Duration,
}

impl Client {
    /// A client for the arbiter it is made on.
    pub fn new(tls: &Tls) -> Self {
        // awc leaves Nagle's algorithm on, which delays large bodies by a delayed acknowledgement.
        let tcp = actix_tls::connect::Connector::new(actix_tls::connect::Resolver::default()).service().map(
            |connection: Connection<Uri, TcpStream>| {
                if let Err(error) = connection.io_ref().set_nodelay(true) {
                    log::debug!("TCP_NODELAY not set: {error}");
                }
                connection
            },
        );
        let mut connector = Connector::new().connector(tcp);
        if let Tls(Some(tls)) = tls {
            connector = connector.openssl(tls.clone());
        }
        // Our own deadline holds over all of it, and our own permits bound the connections: awc's limits, which
        // are shared by all hosts, stay out of the way.
        let never = Duration::from_secs(24 * 3600);
        let connector = connector.limit(0).timeout(never).handshake_timeout(never);
        let client = awc::Client::builder()
            .connector(connector)
            .disable_redirects()
            .disable_timeout()
            .no_default_headers()
            .max_http_version(Version::HTTP_11)
            .finish();
        Self(client)
    }

    /// Sends one request. Never takes longer than its timeout; a failure is an outcome like any other.
    pub async fn attempt(&self, request: &Request<'_>) -> Outcome {
        let started = Instant::now();
        let mut resent = false;
        let exchange = async {
            match self.exchange(request).await {
                Err(error) if is_stale(&error) => {
                    resent = true;
                    self.exchange(request).await
                }
                result => result,
            }
        };
        let result = match timeout(request.timeout, exchange).await {
            Ok(result) => result.map_err(|error| failure(&error, request.endpoint.is_tls())),
            Err(_) => Err(Failure {
                class: FailureClass::Timeout,
                message: format!("no complete answer within {} ms", request.timeout.as_millis()),
            }),
        };
        Outcome { result, latency: started.elapsed(), resent }
    }

    async fn exchange(&self, request: &Request<'_>) -> Result<Response, SendRequestError> {
        let mut url = request.endpoint.expose().clone();
        let authorization = authorization(&url);
        // Fails only for URLs that cannot have userinfo, and those have none to remove.
        let _ = url.set_username("").and_then(|()| url.set_password(None));
        let mut building = self.0.post(url.as_str());
        for (name, value) in request.headers {
            building = building.insert_header((*name, value.as_str()));
        }
        if let Some(value) = authorization {
            building = building.insert_header((header::AUTHORIZATION, value));
        }
        let mut answer = building.send_body(request.body.clone()).await?;
        let body = read_body(&mut answer).await?;
        Ok(response(&answer, &body))
    }
}

/// TLS 1.2 or later, HTTP/1.1, certificates verified against the system's trust roots.
fn tls_connector() -> Result<SslConnector, TlsError> {
    let mut builder = SslConnector::builder(SslMethod::tls_client())?;
    builder.set_min_proto_version(Some(SslVersion::TLS1_2))?;
    builder.set_verify(SslVerifyMode::PEER);
    builder.set_alpn_protos(b"\x08http/1.1")?;
    // A vendored OpenSSL does not know where this system keeps its roots.
    let roots = openssl_probe::probe();
    if let Some(file) = &roots.cert_file {
        builder.set_ca_file(file)?;
    }
    for dir in &roots.cert_dir {
        builder.load_verify_locations(None, Some(dir))?;
    }
    Ok(builder.build())
}

/// `Basic …` of the URL's userinfo, which must not stand in the request line.
fn authorization(url: &url::Url) -> Option<String> {
    let decode = |text: &str| percent_decoded(text);
    let (user, password) = (decode(url.username()), url.password().map(decode));
    (!user.is_empty() || password.is_some())
        .then(|| format!("Basic {}", STANDARD.encode(format!("{user}:{}", password.unwrap_or_default()))))
}

fn percent_decoded(text: &str) -> String {
    // A query decodes `+` as a space and userinfo does not: protect it.
    let query = format!("v={}", text.replace('+', "%2B"));
    url::form_urlencoded::parse(query.as_bytes())
        .next()
        .map_or(String::new(), |(_, value)| value.into_owned())
}

/// A kept-alive connection that the endpoint had closed: the request was sent into nothing.
fn is_stale(error: &SendRequestError) -> bool {
    match error {
        SendRequestError::Connect(ConnectError::Disconnected) => true,
        SendRequestError::Send(error) => {
            matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
        }
        _ => false,
    }
}

/// Reads the body so that the connection can be used again; of one beyond the bound, the rest is dropped and the
/// connection with it.
async fn read_body<S>(answer: &mut ClientResponse<S>) -> Result<Vec<u8>, SendRequestError>
where
    S: futures_util::Stream<Item = Result<Bytes, awc::error::PayloadError>> + Unpin,
{
    let mut kept = Vec::new();
    let mut read = 0;
    while let Some(chunk) = answer.next().await {
        let chunk = chunk.map_err(|error| match error {
            awc::error::PayloadError::Io(error) => SendRequestError::Send(error),
            _ => SendRequestError::Connect(ConnectError::Disconnected),
        });
        let chunk = match chunk {
            Ok(chunk) => chunk,
            // The status is known: the endpoint has decided, and a broken body does not undo that.
            Err(error) => {
                log::debug!("the answer's body broke off: {error}");
                break;
            }
        };
        let room = (MAX_KEPT_BYTES + 1).saturating_sub(kept.len());
        kept.extend_from_slice(&chunk[..chunk.len().min(room)]);
        read += chunk.len();
        if read > MAX_READ_BYTES {
            break;
        }
    }
    Ok(kept)
}

fn response<S>(answer: &ClientResponse<S>, body: &[u8]) -> Response {
    let location = answer.headers().get(header::LOCATION).and_then(|value| value.to_str().ok());
    let location_host =
        location.and_then(|text| url::Url::parse(text).ok()).map(|url| url.authority().to_owned());
    let location_host = location_host.map(|authority| match authority.rsplit_once('@') {
        Some((_, host)) => host.to_owned(),
        None => authority,
    });
    let headers = KEPT_HEADERS
        .iter()
        .filter_map(|name| {
            let value = answer.headers().get(name)?;
            let value = match name {
                // A path may be a credential here as in our own URL.
                &header::LOCATION => location_host.clone().unwrap_or_else(|| "(relative)".to_owned()),
                _ => crate::event::printable(&String::from_utf8_lossy(value.as_bytes()), 200),
            };
            Some((name.as_str().to_owned(), value))
        })
        .collect();
    Response { status: answer.status().as_u16(), headers, body: shown(body), location_host }
}

/// A body for the evidence: text, without control characters, a mark where cut.
fn shown(body: &[u8]) -> String {
    let cut = body.len() > MAX_KEPT_BYTES;
    let text = String::from_utf8_lossy(&body[..body.len().min(MAX_KEPT_BYTES)]);
    let printable = |c: char| if c.is_control() && c != '\n' && c != '\t' { '\u{fffd}' } else { c };
    text.chars().map(printable).chain(cut.then_some('…')).collect()
}

/// What an error of awc means, by its type. Texts of awc may hold the URL and are not used.
fn failure(error: &SendRequestError, tls: bool) -> Failure {
    let (class, message) = match error {
        SendRequestError::Connect(error) => connect_failure(error, tls),
        SendRequestError::Send(error) => {
            (FailureClass::Connection, format!("the connection broke: {}", error.kind()))
        }
        SendRequestError::Response(_) | SendRequestError::H2(_) => {
            (FailureClass::Protocol, "what came back is not HTTP/1.1".to_owned())
        }
        SendRequestError::Timeout => (FailureClass::Timeout, "no answer in time".to_owned()),
        _ => (FailureClass::Protocol, "the request could not be made".to_owned()),
    };
    Failure { class, message }
}

fn connect_failure(error: &ConnectError, tls: bool) -> (FailureClass, String) {
    match error {
        ConnectError::Resolver(_) | ConnectError::NoRecords | ConnectError::Unresolved => {
            (FailureClass::Dns, "the host name does not resolve".to_owned())
        }
        // awc gives a failed handshake as an I/O error that no system call made.
        ConnectError::Io(error) if tls && error.raw_os_error().is_none() => {
            (FailureClass::Tls, format!("TLS handshake failed: {error}"))
        }
        ConnectError::SslError(error) => (FailureClass::Tls, format!("TLS handshake failed: {error}")),
        ConnectError::SslIsNotSupported => (FailureClass::Tls, "TLS was not set up".to_owned()),
        ConnectError::Io(error) => (FailureClass::Connection, format!("cannot connect: {}", error.kind())),
        ConnectError::Timeout => (FailureClass::Timeout, "no connection in time".to_owned()),
        ConnectError::Disconnected => {
            (FailureClass::Connection, "the endpoint closed the connection without an answer".to_owned())
        }
        _ => (FailureClass::Connection, "cannot connect".to_owned()),
    }
}
