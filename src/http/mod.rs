//! One HTTP request through awc: verified TLS, no redirects, one deadline, a bounded answer. Knows
//! no actors.

mod body;
mod connections;
mod dial;
mod failure;
mod head;
mod machine;
mod pem;
mod proxy;
mod target;
mod tls;
mod tls_fault;
mod wire;

use std::borrow::Cow;
use std::io::{self, Read as _};
use std::time::{Duration, Instant};

use actix_rt::time::timeout;
use actix_service::fn_service;
use actix_tls::connect::{ConnectError as ConnectFailure, ConnectInfo, Connection};
use awc::error::{ConnectError, InvalidUrl, SendRequestError};
use awc::http::{Uri, Version, header};
use awc::{ClientResponse, Connector};
use bytes::Bytes;
use flate2::read::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use futures_util::StreamExt as _;

use crate::clock;
use crate::delivery::{MAX_KEPT_BYTES, Outcome, Response, clock_skew, retry_after};
use crate::event::{is_deceiving, printable};
pub use connections::Connections;
use failure::is_stale;
use head::KEPT_HEADERS;
pub use proxy::{InvalidProxy, Proxy};
pub use target::Target;
pub use tls::{Tls, TlsError, TlsFiles, TlsSettings};
use wire::Wire;

/// Most bytes of an answer's body that are read; a longer one costs its connection.
const MAX_READ_BYTES: usize = 64 * 1024;

/// How long an answer that gives no length may rest before it is taken to be over: many a small
/// server keeps its connection open behind one.
const QUIET: Duration = Duration::from_secs(1);

/// Sends requests on one arbiter; cheap to clone, its connections are kept alive.
#[derive(Clone)]
pub struct Client {
    /// Keeps connections alive.
    client: awc::Client,
    /// Keeps none: each request has a new one.
    anew: awc::Client,
    tls: Option<Tls>,
    proxy: Option<Proxy>,
    connections: Connections,
}

/// A header's name and value.
pub type Header = (Cow<'static, str>, Cow<'static, str>);

/// One request.
pub struct Request<'a> {
    /// Where to.
    pub target: &'a Target,
    /// Names in lower case.
    pub headers: &'a [Header],
    /// The body, as it is.
    pub body: Bytes,
    /// From DNS to the last byte read.
    pub timeout: Duration,
}

impl Client {
    /// A client for the arbiter it is made on: with `tls` where its endpoint needs it, through
    /// `proxy` where there is one.
    pub fn new(tls: Option<Tls>, proxy: Option<Proxy>, connections: Connections) -> Self {
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
            // Our own deadline holds over all of it, and our own permits bound the connections:
            // awc's limits, which are shared by all hosts, stay out of the way.
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

    /// Whether a client made with these would be the same: then its connections can be used on.
    pub fn is_with(&self, tls: Option<&Tls>, proxy: Option<&Proxy>) -> bool {
        self.tls.as_ref() == tls && self.proxy.as_ref() == proxy
    }

    /// Sends one request. Never takes longer than its timeout; a failure is an outcome like any
    /// other.
    pub async fn attempt(&self, request: &Request<'_>) -> Outcome {
        let started = Instant::now();
        let mut resent = false;
        let exchange = async {
            match self.exchange(request, &self.client, self.connections.are_too_many()).await {
                Err(error) if is_stale(&error) => {
                    resent = true;
                    self.exchange(request, &self.anew, true).await
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
    ) -> Result<Response, SendRequestError> {
        let Target { uri: Some(uri), host: Some(host), authorization, .. } = request.target else {
            return Err(SendRequestError::Url(InvalidUrl::MissingHost));
        };
        let mut building = client.post(uri.clone()).insert_header((header::HOST, host.clone()));
        for (name, value) in request.headers {
            building = building.insert_header((name.as_ref(), value.as_ref()));
        }
        if is_last {
            building = building.force_close();
        }
        if let Some(value) = authorization {
            building = building.insert_header((header::AUTHORIZATION, value.clone()));
        }
        let mut answer = building.send_body(request.body.clone()).await?;
        let body = read_body(&mut answer).await?;
        Ok(response(&answer, &body))
    }
}

/// Reads the body so that the connection can be used again; of one beyond the bound, the rest is
/// dropped and the connection with it.
async fn read_body<S>(answer: &mut ClientResponse<S>) -> Result<Vec<u8>, SendRequestError>
where
    S: futures_util::Stream<Item = Result<Bytes, awc::error::PayloadError>> + Unpin,
{
    let mut kept = Vec::new();
    let mut read = 0;
    let is_open_ended = answer.version() == Version::HTTP_10;
    loop {
        let next = answer.next();
        let chunk = match is_open_ended {
            true => timeout(QUIET, next).await.ok().flatten(),
            false => next.await,
        };
        let Some(chunk) = chunk else { break };
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
    let names = KEPT_HEADERS.into_iter().chain(["content-length"]);
    let headers = names.filter_map(|name| {
        let value = answer.headers().get(name)?;
        let value = match name {
            // A path may be a credential here as in our own URL.
            "location" => location_host.clone().unwrap_or_else(|| "(relative)".to_owned()),
            _ => printable(&String::from_utf8_lossy(value.as_bytes()), 200),
        };
        Some((name.to_owned(), value))
    });
    let headers = headers.collect();
    let text = |name: &str| answer.headers().get(name).and_then(|value| value.to_str().ok());
    let now = clock::now();
    // Discord's own, in seconds with fractions, beside the first.
    let waits = ["retry-after", "x-ratelimit-reset-after"].map(|name| retry_after(text(name)?, now));
    let coding = text("content-encoding").unwrap_or_default();
    Response {
        status: answer.status().as_u16(),
        headers,
        body: shown(&decoded(body, coding)),
        location_host,
        retry_after: waits.into_iter().max().flatten(),
        clock_skew: text("date").and_then(|value| clock_skew(value, now)),
        rejection: None,
        is_retried: false,
    }
}

/// What a compressed body says: some compress though `identity` alone was asked for. One that
/// cannot be read is left as it is.
fn decoded<'a>(body: &'a [u8], coding: &str) -> Cow<'a, [u8]> {
    let read = |decoder: &mut dyn io::Read| {
        let mut text = Vec::new();
        // What was kept of a body may be its beginning: what can be read of that counts.
        let broken = decoder.take(MAX_KEPT_BYTES as u64 + 1).read_to_end(&mut text).is_err();
        (!broken || !text.is_empty()).then_some(Cow::Owned(text))
    };
    let text = match coding.trim().to_ascii_lowercase().as_str() {
        "gzip" | "x-gzip" => read(&mut MultiGzDecoder::new(body)),
        // Both forms of it are sent (RFC 9110, section 8.4.1.2).
        "deflate" => read(&mut ZlibDecoder::new(body)).or_else(|| read(&mut DeflateDecoder::new(body))),
        _ => None,
    };
    text.unwrap_or(Cow::Borrowed(body))
}

/// A body for the evidence: text, without what deceives, a mark where cut.
fn shown(body: &[u8]) -> String {
    let cut = body.len() > MAX_KEPT_BYTES;
    let text = String::from_utf8_lossy(&body[..body.len().min(MAX_KEPT_BYTES)]);
    let printable = |c: char| if is_deceiving(c) && c != '\n' && c != '\t' { '\u{fffd}' } else { c };
    text.chars().map(printable).chain(cut.then_some('…')).collect()
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};

    use super::*;

    #[test]
    fn a_compressed_body_is_read_as_far_as_it_goes_and_no_further_than_is_kept() {
        let text = b"Webhook message delivery failed with error".as_slice();
        let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
        let mut zlib = ZlibEncoder::new(Vec::new(), Compression::default());
        let mut raw = DeflateEncoder::new(Vec::new(), Compression::default());
        let mut bomb = GzEncoder::new(Vec::new(), Compression::best());
        gzip.write_all(text).unwrap();
        zlib.write_all(text).unwrap();
        raw.write_all(text).unwrap();
        bomb.write_all(&vec![b'x'; 1 << 20]).unwrap();
        let gzip = gzip.finish().unwrap();
        for (coding, body) in [
            ("gzip", &gzip),
            (" X-GZIP", &gzip),
            ("deflate", &zlib.finish().unwrap()),
            ("deflate", &raw.finish().unwrap()),
        ] {
            assert_eq!(*decoded(body, coding), *text, "{coding}");
        }
        assert_eq!(decoded(&bomb.finish().unwrap()[..MAX_KEPT_BYTES], "gzip").len(), MAX_KEPT_BYTES + 1);
        for (coding, body) in
            [("br", &gzip[..]), ("", &gzip), ("gzip", text), ("gzip", &gzip[..5]), ("deflate", b"")]
        {
            assert_eq!(*decoded(body, coding), *body, "{coding}");
        }
    }
}
