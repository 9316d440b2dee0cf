//! Opens a TCP connection to an endpoint, direct or through a proxy. All addresses of both families
//! are tried, each a moment after the one before (RFC 8305); the first that connects wins.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use actix_rt::net::TcpStream;
use actix_rt::time::sleep;
use actix_tls::connect::ConnectError;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::machine::lack;
use super::proxy::Proxy;

/// How long an address may take before the next one is tried too (RFC 8305, section 5).
const NEXT_ADDRESS_AFTER: Duration = Duration::from_millis(250);

/// Longest answer of a proxy to CONNECT that is read, in bytes.
const MAX_PROXY_ANSWER: usize = 16 * 1024;

/// A failure of the proxy: the endpoint was never asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum ProxyFailure {
    #[error("the proxy {0} cannot be reached: {why}", why = .1.kind())]
    Unreachable(Proxy, io::Error),
    #[error("the proxy {0} does not resolve")]
    Unresolved(Proxy),
    #[error("the proxy {0} asks for credentials (status 407)")]
    Credentials(Proxy),
    #[error("the proxy {0} answered {1} to CONNECT")]
    Refused(Proxy, u16),
    #[error("the proxy {0} does not speak HTTP")]
    Malformed(Proxy),
}

impl ProxyFailure {
    /// What to do about it.
    pub(super) fn hint(&self) -> &'static str {
        match self {
            Self::Unreachable(..) => "see that the proxy runs, or correct the subscription's proxy",
            Self::Unresolved(_) => {
                "correct the proxy's host in the subscription's proxy, or in the environment"
            }
            Self::Credentials(_) => "put user and password into the proxy's URL, as \"env:NAME\"",
            Self::Refused(..) => "have the proxy let this host through, or name it in NO_PROXY",
            Self::Malformed(_) => "correct the port of the proxy: an HTTP proxy is meant",
        }
    }
}

impl From<ProxyFailure> for ConnectError {
    fn from(failure: ProxyFailure) -> Self {
        Self::Io(io::Error::other(failure))
    }
}

/// Connects to `host`; the caller bounds the time.
pub(super) async fn dial(host: &str, port: u16, proxy: Option<&Proxy>) -> Result<TcpStream, ConnectError> {
    let stream = match proxy {
        None => connect(host, port).await?,
        Some(proxy) => tunnel(proxy, host, port).await?,
    };
    // Nagle's algorithm would delay large bodies by a delayed acknowledgement.
    if let Err(error) = stream.set_nodelay(true) {
        log::debug!("TCP_NODELAY not set: {error}");
    }
    Ok(stream)
}

async fn connect(host: &str, port: u16) -> Result<TcpStream, ConnectError> {
    let bare = host.trim_matches(['[', ']']);
    if let Ok(ip) = bare.parse::<IpAddr>() {
        return TcpStream::connect((ip, port)).await.map_err(ConnectError::Io);
    }
    let found = tokio::net::lookup_host((bare, port)).await;
    let addresses: Vec<SocketAddr> =
        found.map_err(|error| ConnectError::Resolver(Box::new(error)))?.collect();
    race(alternating(addresses)).await
}

/// Alternates between the address families, starting with the resolver's first choice.
fn alternating(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first_is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) =
        addresses.into_iter().partition(|address| address.is_ipv6() == first_is_v6);
    let longest = first.len().max(second.len());
    (0..longest).flat_map(|at| [first.get(at), second.get(at)]).flatten().copied().collect()
}

/// The first address that connects; the last error if none does.
async fn race(addresses: Vec<SocketAddr>) -> Result<TcpStream, ConnectError> {
    let mut attempts: FuturesUnordered<_> = FuturesUnordered::new();
    let mut left = addresses.into_iter();
    let mut failed = None;
    loop {
        match left.next() {
            Some(address) => attempts.push(TcpStream::connect(address)),
            None if attempts.is_empty() => {
                return Err(failed.map_or(ConnectError::NoRecords, ConnectError::Io));
            }
            None => {}
        }
        let answer = if left.len() == 0 {
            attempts.next().await
        } else {
            // Try the next address when this one has failed, or has had its time.
            tokio::select! {
                answer = attempts.next() => answer,
                () = sleep(NEXT_ADDRESS_AFTER) => continue,
            }
        };
        match answer {
            Some(Ok(stream)) => return Ok(stream),
            // This machine may lack one family: prefer the error of an endpoint to that of a
            // missing network.
            Some(Err(error)) if failed.is_none() || lack(&error).is_none() => failed = Some(error),
            Some(Err(_)) => {}
            None => {}
        }
    }
}

/// Opens a connection through a proxy by CONNECT (RFC 9110, section 9.3.6).
async fn tunnel(proxy: &Proxy, host: &str, port: u16) -> Result<TcpStream, ConnectError> {
    let mut stream = connect(&proxy.host, proxy.port).await.map_err(|error| match error {
        ConnectError::Io(error) => ProxyFailure::Unreachable(proxy.clone(), error),
        _ => ProxyFailure::Unresolved(proxy.clone()),
    })?;
    let broke = |error: io::Error| ProxyFailure::Unreachable(proxy.clone(), error);
    let mut request = format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n");
    if let Some(authorization) = &proxy.authorization {
        request.push_str(&format!("Proxy-Authorization: {}\r\n", authorization.as_str()));
    }
    request.push_str("\r\n");
    stream.write_all(request.as_bytes()).await.map_err(broke)?;
    let mut answer = Vec::new();
    // Byte by byte, because what follows the head belongs to the endpoint.
    while !answer.ends_with(b"\r\n\r\n") {
        if answer.len() >= MAX_PROXY_ANSWER {
            return Err(ProxyFailure::Malformed(proxy.clone()).into());
        }
        answer.push(stream.read_u8().await.map_err(broke)?);
    }
    match status(&answer) {
        Some(200..=299) => Ok(stream),
        Some(407) => Err(ProxyFailure::Credentials(proxy.clone()).into()),
        Some(status) => Err(ProxyFailure::Refused(proxy.clone(), status).into()),
        None => Err(ProxyFailure::Malformed(proxy.clone()).into()),
    }
}

/// The status in the first line of an answer.
pub(super) fn status(answer: &[u8]) -> Option<u16> {
    let line = std::str::from_utf8(answer).ok()?.lines().next()?;
    line.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_take_turns() {
        let address = |text: &str| text.parse::<SocketAddr>().unwrap();
        let given = ["[::1]:1", "[::2]:1", "1.1.1.1:1", "2.2.2.2:1", "3.3.3.3:1"].map(address).to_vec();
        let expected = ["[::1]:1", "1.1.1.1:1", "[::2]:1", "2.2.2.2:1", "3.3.3.3:1"].map(address);
        assert_eq!(alternating(given), expected);
    }

    #[test]
    fn what_a_proxy_answers_has_a_status_or_is_no_answer() {
        assert_eq!(status(b"HTTP/1.1 200 Connection established\r\n\r\n"), Some(200));
        assert_eq!(status(b"HTTP/1.0 407\r\n\r\n"), Some(407));
        assert_eq!(status(b"SSH-2.0-x\r\n\r\n"), None);
    }

    #[test]
    fn the_other_family_is_tried_where_one_does_not_answer() {
        actix_rt::System::new().block_on(async {
            let listener = actix_rt::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let here = listener.local_addr().unwrap();
            // The first address refuses at once, the second one answers.
            let refused = SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], 9));
            assert_eq!(race(vec![refused, here]).await.unwrap().peer_addr().unwrap(), here);
            assert!(matches!(race(vec![refused]).await, Err(ConnectError::Io(_))));
            assert!(matches!(race(Vec::new()).await, Err(ConnectError::NoRecords)));
        });
    }
}
