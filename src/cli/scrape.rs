//! Answers scrapes for `serve --metrics`: one request a connection, everything bounded in size and
//! time, so that no client keeps another from its answer for long.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use actix_rt::net::{TcpListener, TcpStream};
use actix_rt::time::{sleep, timeout};
use httparse::{EMPTY_HEADER, Request, Status};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::Semaphore;

use crate::feed::RuntimeState;
use crate::inspect::{Exposition, Metrics};
use crate::runtime::Handle;

/// Where metrics are at the address.
const PATH: &str = "/metrics";

/// Most connections at a time; more wait in the system's queue.
const CONNECTIONS: usize = 16;

/// The largest head of a request.
const MAX_HEAD: usize = 8 * 1024;

/// How long a request may take to come.
const HEAD_WITHIN: Duration = Duration::from_secs(2);

/// How long the runtime's answer may take, and again writing it.
const PATIENCE: Duration = Duration::from_secs(5);

/// The pause after a connection could not be accepted, when files run out.
const AGAIN: Duration = Duration::from_millis(250);

/// An address to be scraped at.
pub(super) struct Scraped {
    listener: TcpListener,
    address: SocketAddr,
}

impl Scraped {
    /// Listens; nothing is answered yet.
    ///
    /// # Errors
    /// The address cannot be had.
    pub(super) fn at(address: SocketAddr) -> io::Result<Self> {
        let listener = std::net::TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        Ok(Self { address: listener.local_addr()?, listener })
    }

    /// Where a scraper finds the metrics.
    pub(super) fn url(&self) -> String {
        format!("http://{}{PATH}", self.address)
    }

    /// Answers for as long as this is polled.
    pub(super) async fn answer(self, handle: Handle) {
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            let Ok(place) = places.clone().acquire_owned().await else { return };
            match self.listener.accept().await {
                Ok((stream, from)) => {
                    let handle = handle.clone();
                    actix_rt::spawn(async move {
                        if let Err(error) = serve(stream, &handle).await {
                            log::debug!("a scrape from {from} was not answered: {error}");
                        }
                        drop(place);
                    });
                }
                Err(error) => {
                    log::debug!("a scrape cannot be accepted: {error}");
                    sleep(AGAIN).await;
                }
            }
        }
    }
}

/// Reads one request and answers it.
async fn serve(mut stream: TcpStream, handle: &Handle) -> io::Result<()> {
    let head = timeout(HEAD_WITHIN, read_head(&mut stream)).await??;
    let answer = match Asked::of(&head) {
        Asked::Metrics { format, is_head } => match timeout(PATIENCE, metrics(handle)).await {
            Ok(Ok(metrics)) => page("200 OK", format.content_type(), &metrics.text(format), is_head),
            Ok(Err(why)) => refused("503 Service Unavailable", &why),
            Err(_) => refused("503 Service Unavailable", "the runtime does not answer"),
        },
        Asked::Elsewhere => refused("404 Not Found", &format!("metrics are at {PATH}")),
        Asked::Otherwise => refused("405 Method Not Allowed", "only GET is answered"),
        Asked::Nothing => refused("400 Bad Request", "this is no request"),
    };
    timeout(PATIENCE, async {
        stream.write_all(answer.as_bytes()).await?;
        stream.shutdown().await
    })
    .await?
}

/// What is known now: of one that waits for the owner, only that it waits.
async fn metrics(handle: &Handle) -> Result<Metrics, String> {
    match handle.state() == RuntimeState::StandingBy {
        true => Ok(Metrics::standing_by()),
        false => handle.metrics().await.map_err(|error| error.to_string()),
    }
}

async fn read_head(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        let mut some = [0; 1024];
        let read = stream.read(&mut some).await?;
        if read == 0 || head.len() + read > MAX_HEAD {
            break;
        }
        head.extend_from_slice(&some[..read]);
    }
    Ok(head)
}

/// What a request asks for.
#[derive(Debug, PartialEq)]
enum Asked {
    Metrics {
        format: Exposition,
        is_head: bool,
    },
    /// Another path.
    Elsewhere,
    /// Another method.
    Otherwise,
    /// It is no request, or too large.
    Nothing,
}

impl Asked {
    fn of(head: &[u8]) -> Self {
        let mut headers = [EMPTY_HEADER; 64];
        let mut request = Request::new(&mut headers);
        let (Ok(Status::Complete(_)), Some(method), Some(path)) =
            (request.parse(head), request.method, request.path)
        else {
            return Self::Nothing;
        };
        if !["GET", "HEAD"].contains(&method) {
            return Self::Otherwise;
        }
        if path.split('?').next() != Some(PATH) {
            return Self::Elsewhere;
        }
        let accepted = request.headers.iter().filter(|header| header.name.eq_ignore_ascii_case("accept"));
        let accepted: Vec<_> = accepted.map(|header| String::from_utf8_lossy(header.value)).collect();
        Self::Metrics { format: Exposition::accepted(&accepted.join(",")), is_head: method == "HEAD" }
    }
}

fn refused(status: &str, why: &str) -> String {
    page(status, "text/plain; charset=utf-8", &format!("{why}\n"), false)
}

fn page(status: &str, content_type: &str, body: &str, is_head: bool) -> String {
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n\
         Cache-Control: no-store\r\nConnection: close\r\n\r\n"
    );
    if is_head { head } else { head + body }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_asks_for_metrics_gets_them() {
        let plain = Asked::Metrics { format: Exposition::Prometheus, is_head: false };
        for (head, asked) in [
            ("GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n", plain),
            (
                "HEAD /metrics?name=x HTTP/1.0\r\nACCEPT: application/openmetrics-text\r\n\r\n",
                Asked::Metrics { format: Exposition::OpenMetrics, is_head: true },
            ),
            ("GET / HTTP/1.1\r\n\r\n", Asked::Elsewhere),
            ("GET /metricsx HTTP/1.1\r\n\r\n", Asked::Elsewhere),
            ("POST /metrics HTTP/1.1\r\n\r\n", Asked::Otherwise),
            ("GET /metrics HTTP/1.1\r\n", Asked::Nothing),
            ("{\"version\": 2}\r\n\r\n", Asked::Nothing),
            ("", Asked::Nothing),
        ] {
            assert_eq!(Asked::of(head.as_bytes()), asked, "{head}");
        }
    }
}
