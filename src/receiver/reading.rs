//! Reads requests from a connection, one after the other: HTTP/1.1 as RFC 9112 frames it, bounded.

use std::io;

use bytes::{Bytes, BytesMut};
use httparse::{Header, Status};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// Largest head of a request, in bytes.
pub(super) const MAX_HEAD: usize = 64 * 1024;

/// Largest body of a request, in bytes.
pub(super) const MAX_BODY: usize = 2 * 1024 * 1024;

/// Most headers of a request.
const MAX_HEADERS: usize = 96;

/// Longest line before a chunk or after the last one, in bytes.
const MAX_LINE: usize = 4096;

/// How much is read at a time, at least.
const READ: usize = 16 * 1024;

/// Why a request could not be read.
#[derive(Debug)]
pub(super) enum Unreadable {
    /// It is to be answered with this status, and its connection closed.
    Refused(u16),
    Broken(io::Error),
}

impl From<io::Error> for Unreadable {
    fn from(error: io::Error) -> Self {
        Self::Broken(error)
    }
}

/// A request as it was read.
pub(super) struct Parts {
    pub head: Bytes,
    pub body: Bytes,
    /// The sender wants the connection closed after the answer.
    pub is_last: bool,
}

/// How the body of a request ends.
#[derive(Clone, Copy)]
enum Framing {
    Length(usize),
    Chunked,
}

struct Head {
    bytes: usize,
    framing: Framing,
    /// The sender waits to hear that it may go on.
    waits: bool,
    is_last: bool,
}

/// Gives the headers of a head to `read`.
pub(super) fn parsed<'a, T>(head: &'a [u8], read: impl FnOnce(&[Header<'a>]) -> T) -> T {
    let mut slots = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut slots);
    let is_whole = request.parse(head).is_ok_and(|status| status.is_complete());
    read(if is_whole { request.headers } else { &[] })
}

/// The next request of a connection, of which `buffer` holds what has been read; `None` at the
/// connection's end.
pub(super) async fn request<S>(stream: &mut S, buffer: &mut BytesMut) -> Result<Option<Parts>, Unreadable>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let head = loop {
        if let Some(head) = head(buffer)? {
            break head;
        }
        if buffer.len() > MAX_HEAD {
            return Err(Unreadable::Refused(431));
        }
        if !more(stream, buffer).await? {
            return Ok(None);
        }
    };
    let text = buffer.split_to(head.bytes).freeze();
    if head.waits && buffer.is_empty() {
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
    }
    let body = match head.framing {
        Framing::Length(length) if length > MAX_BODY => return Err(Unreadable::Refused(413)),
        Framing::Length(length) => part(stream, buffer, length).await?,
        Framing::Chunked => chunks(stream, buffer).await?,
    };
    Ok(body.map(|body| Parts { head: text, body, is_last: head.is_last }))
}

/// The head that the buffer begins with, once it is there whole.
fn head(buffer: &[u8]) -> Result<Option<Head>, Unreadable> {
    let mut slots = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut slots);
    let bytes = match request.parse(buffer) {
        Ok(Status::Complete(bytes)) => bytes,
        Ok(Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(Unreadable::Refused(431)),
        Err(_) => return Err(Unreadable::Refused(400)),
    };
    let header = |name: &str| {
        let found = request.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
        found.map(|header| header.value.trim_ascii())
    };
    let framing = match (header("transfer-encoding"), header("content-length")) {
        (Some(encoding), _) if encoding.eq_ignore_ascii_case(b"chunked") => Framing::Chunked,
        (Some(_), _) => return Err(Unreadable::Refused(501)),
        (None, Some(length)) => {
            let length = std::str::from_utf8(length).ok().and_then(|length| length.parse().ok());
            Framing::Length(length.ok_or(Unreadable::Refused(400))?)
        }
        (None, None) => Framing::Length(0),
    };
    let waits = header("expect").is_some_and(|value| value.eq_ignore_ascii_case(b"100-continue"));
    let is_last = match header("connection") {
        Some(value) => value.eq_ignore_ascii_case(b"close"),
        // HTTP/1.0 keeps a connection only where that is said.
        None => request.version == Some(0),
    };
    Ok(Some(Head { bytes, framing, waits, is_last }))
}

/// Reads on; whether there was more.
pub(super) async fn more<S: AsyncRead + Unpin>(stream: &mut S, buffer: &mut BytesMut) -> io::Result<bool> {
    buffer.reserve(READ);
    Ok(stream.read_buf(buffer).await? > 0)
}

/// The next so many bytes; `None` where the connection ends before them.
async fn part<S>(stream: &mut S, buffer: &mut BytesMut, length: usize) -> Result<Option<Bytes>, Unreadable>
where
    S: AsyncRead + Unpin,
{
    while buffer.len() < length {
        if !more(stream, buffer).await? {
            return Ok(None);
        }
    }
    Ok(Some(buffer.split_to(length).freeze()))
}

/// The content of a chunked body; `None` where the connection ends before it does.
async fn chunks<S>(stream: &mut S, buffer: &mut BytesMut) -> Result<Option<Bytes>, Unreadable>
where
    S: AsyncRead + Unpin,
{
    let mut body = BytesMut::new();
    loop {
        let Some(line) = line(stream, buffer).await? else { return Ok(None) };
        let size = match httparse::parse_chunk_size(&line) {
            Ok(Status::Complete((_, size))) => usize::try_from(size).unwrap_or(usize::MAX),
            _ => return Err(Unreadable::Refused(400)),
        };
        if size == 0 {
            break;
        }
        if size > MAX_BODY - body.len() {
            return Err(Unreadable::Refused(413));
        }
        // The line end after it belongs to it.
        let Some(chunk) = part(stream, buffer, size + 2).await? else { return Ok(None) };
        body.extend_from_slice(&chunk[..size]);
    }
    // Trailers, up to the empty line.
    loop {
        match line(stream, buffer).await? {
            Some(line) if line.len() > 2 => {}
            Some(_) => return Ok(Some(body.freeze())),
            None => return Ok(None),
        }
    }
}

/// The next line with its end; `None` where the connection ends before that.
async fn line<S>(stream: &mut S, buffer: &mut BytesMut) -> Result<Option<Bytes>, Unreadable>
where
    S: AsyncRead + Unpin,
{
    loop {
        if let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
            return Ok(Some(buffer.split_to(end + 1).freeze()));
        }
        if buffer.len() > MAX_LINE {
            return Err(Unreadable::Refused(400));
        }
        if !more(stream, buffer).await? {
            return Ok(None);
        }
    }
}
