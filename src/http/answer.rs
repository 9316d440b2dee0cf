//! Reads an answer: its body within bounds, and what is kept of it.

use std::borrow::Cow;
use std::io::{self, Read as _};
use std::time::{Duration, Instant};

use actix_rt::time::timeout;
use awc::ClientResponse;
use awc::http::{Version, header};
use bytes::Bytes;
use flate2::read::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use futures_util::StreamExt as _;

use super::head::KEPT_HEADERS;
use crate::clock;
use crate::decode::BYTE_ORDER_MARK;
use crate::delivery::{MAX_KEPT_BYTES, Response, clock_skew, retry_after};
use crate::names::{is_deceiving, printable};
use crate::payload::Format;

/// Most bytes of an answer's body that are read. With a longer body the connection is closed.
const MAX_READ_BYTES: usize = 64 * 1024;

/// How long an answer without a length may pause before it counts as complete: many small servers
/// keep the connection open after one.
const QUIET: Duration = Duration::from_secs(1);

/// How long before the deadline an answer without a length counts by its status.
const BEFORE_DEADLINE: Duration = Duration::from_millis(10);

/// Reads the rest of an answer whose head has arrived.
pub(super) async fn read<S>(mut answer: ClientResponse<S>, format: Format, deadline: Instant) -> Response
where
    S: futures_util::Stream<Item = Result<Bytes, awc::error::PayloadError>> + Unpin,
{
    // A chat service says in the body what became of the message, so read all of it.
    let most = if format.is_chat() { MAX_READ_BYTES } else { MAX_KEPT_BYTES + 1 };
    let body = read_body(&mut answer, most, deadline).await;
    response(&answer, &body, format)
}

/// Reads the body to its end, so that the connection can be used again. Beyond the bound the rest
/// is dropped and the connection is closed.
async fn read_body<S>(answer: &mut ClientResponse<S>, most: usize, deadline: Instant) -> Vec<u8>
where
    S: futures_util::Stream<Item = Result<Bytes, awc::error::PayloadError>> + Unpin,
{
    let mut kept = Vec::new();
    let mut read = 0;
    let is_open_ended = answer.version() == Version::HTTP_10;
    loop {
        // The status is known: just before the deadline, too, an answer that pauses counts as
        // complete.
        let left = deadline.saturating_duration_since(Instant::now()).saturating_sub(BEFORE_DEADLINE);
        let next = answer.next();
        let chunk = match is_open_ended {
            true => timeout(QUIET.min(left), next).await.ok().flatten(),
            false => next.await,
        };
        let chunk = match chunk {
            None => break,
            Some(Ok(chunk)) => chunk,
            // The status is the endpoint's decision; a broken body does not change it.
            Some(Err(error)) => {
                log::debug!("the answer's body broke off: {error}");
                break;
            }
        };
        let room = most.saturating_sub(kept.len());
        kept.extend_from_slice(&chunk[..chunk.len().min(room)]);
        read += chunk.len();
        if read > MAX_READ_BYTES {
            break;
        }
    }
    kept
}

fn response<S>(answer: &ClientResponse<S>, body: &[u8], format: Format) -> Response {
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
            // The path may be a credential, as in our own URL.
            "location" => location_host.clone().unwrap_or_else(|| "(relative)".to_owned()),
            _ => printable(&String::from_utf8_lossy(value.as_bytes()), 200),
        };
        Some((name.to_owned(), value))
    });
    let headers = headers.collect();
    let text = |name: &str| answer.headers().get(name).and_then(|value| value.to_str().ok());
    let now = clock::now();
    // Discord sends its own header beside it, in seconds with fractions.
    let waits = ["retry-after", "x-ratelimit-reset-after"].map(|name| retry_after(text(name)?, now));
    let coding = text("content-encoding").unwrap_or_default();
    let readable = decoded(body, coding);
    let said = readable.as_deref().map(String::from_utf8_lossy);
    let mut response = Response {
        status: answer.status().as_u16(),
        headers,
        body: shown(readable.as_deref().unwrap_or(body)),
        location_host,
        retry_after: waits.into_iter().max().flatten(),
        clock_skew: text("date").and_then(|value| clock_skew(value, now)),
        ..Response::default()
    };
    response.heed(format, said.as_deref());
    response
}

/// The decoded body, without a byte order mark. Some servers compress although only `identity` is
/// accepted. `None` if it cannot be decoded.
fn decoded<'a>(body: &'a [u8], coding: &str) -> Option<Cow<'a, [u8]>> {
    let read = |decoder: &mut dyn io::Read| {
        let mut text = Vec::new();
        // Only the beginning of a body may have been kept: what can be decoded of it counts.
        let broken = decoder.take(MAX_READ_BYTES as u64).read_to_end(&mut text).is_err();
        (!broken || !text.is_empty()).then_some(text)
    };
    match coding.trim().to_ascii_lowercase().as_str() {
        _ if body.is_empty() => Some(body.into()),
        "" | "identity" => Some(body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(body).into()),
        "gzip" | "x-gzip" => read(&mut MultiGzDecoder::new(body)).map(Cow::from),
        // Servers send both forms, with and without the zlib wrapper (RFC 9110, section 8.4.1.2).
        "deflate" => {
            let zlib = read(&mut ZlibDecoder::new(body));
            zlib.or_else(|| read(&mut DeflateDecoder::new(body))).map(Cow::from)
        }
        _ => None,
    }
}

/// A body for the evidence: text with deceiving characters replaced, and `…` where it is cut.
pub(super) fn shown(body: &[u8]) -> String {
    let cut = body.len() > MAX_KEPT_BYTES;
    // Most are plain and short.
    if !cut && body.iter().all(|byte| matches!(byte, b' '..=b'~' | b'\n' | b'\t')) {
        return String::from_utf8_lossy(body).into_owned();
    }
    let text = String::from_utf8_lossy(&body[..body.len().min(MAX_KEPT_BYTES)]).replace("\r\n", "\n");
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
            assert_eq!(decoded(body, coding).as_deref(), Some(text), "{coding}");
        }
        let whole = bomb.finish().unwrap();
        assert_eq!(decoded(&whole, "gzip").unwrap().len(), MAX_READ_BYTES);
        assert!(decoded(&whole[..MAX_KEPT_BYTES / 2], "gzip").unwrap().len() > MAX_KEPT_BYTES);
        for (coding, body) in [("br", &gzip[..]), ("gzip", text), ("gzip", &gzip[..5])] {
            assert_eq!(decoded(body, coding), None, "{coding}");
        }
        for (coding, body) in [("", &b"\xff"[..]), ("identity", b"\xef\xbb\xbf\xff"), ("gzip", b"")] {
            let expected = if body.is_empty() { &b""[..] } else { b"\xff" };
            assert_eq!(decoded(body, coding).as_deref(), Some(expected), "{coding}");
        }
    }
}
