//! A connection as awc sees it, plain or with TLS: it rewrites the heads of answers for awc, and
//! reports a closed kept-alive connection as an error of its own.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use actix_rt::net::{ActixStream, Ready, TcpStream};
use actix_tls::connect::openssl::reexports::AsyncSslStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::body::Body;
use super::connections::Counted;
use super::head::{Head, HeadReader};

/// A kept-alive connection was closed, or was about to be, before our request arrived: nothing on
/// it is an answer to the request.
#[derive(Debug, thiserror::Error)]
#[error("the endpoint had closed the kept-alive connection")]
pub(super) struct Stale;

pub(super) struct Wire {
    stream: Stream,
    phase: Phase,
    /// Whether an earlier request was answered on this connection.
    is_kept_alive: bool,
    /// Whether more bytes came than the answer had: the connection cannot be used again.
    has_surplus: bool,
    _counted: Counted,
}

pub(super) enum Stream {
    Plain(TcpStream),
    Tls(AsyncSslStream<TcpStream>),
}

enum Phase {
    /// A request is being sent; what has arrived is the beginning of the answer's head.
    Asked(HeadReader),
    /// The answer is being read; `come` holds bytes still to be passed on.
    Answered { come: Vec<u8>, body: Body },
}

impl From<TcpStream> for Stream {
    fn from(stream: TcpStream) -> Self {
        Self::Plain(stream)
    }
}

impl From<AsyncSslStream<TcpStream>> for Stream {
    fn from(stream: AsyncSslStream<TcpStream>) -> Self {
        Self::Tls(stream)
    }
}

impl Stream {
    fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => stream.get_ref(),
        }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl Wire {
    pub(super) fn new(stream: impl Into<Stream>, counted: Counted) -> Self {
        Self {
            stream: stream.into(),
            phase: Phase::Asked(HeadReader::default()),
            is_kept_alive: false,
            has_surplus: false,
            _counted: counted,
        }
    }

    /// Maps an error of the connection to [`Stale`] if it was kept alive and nothing of an answer
    /// came.
    fn error(&self, error: io::Error) -> io::Error {
        let has_none = matches!(&self.phase, Phase::Asked(reader) if reader.is_empty());
        let is_closed = matches!(
            error.kind(),
            io::ErrorKind::BrokenPipe
                | io::ErrorKind::ConnectionReset
                | io::ErrorKind::ConnectionAborted
                | io::ErrorKind::UnexpectedEof
        );
        if self.is_kept_alive && has_none && is_closed { io::Error::other(Stale) } else { error }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            let reader = match &mut this.phase {
                // Report the end, as if it were closed, so that it is not used again.
                Phase::Answered { come, .. } if come.is_empty() && this.has_surplus => {
                    return Poll::Ready(Ok(()));
                }
                Phase::Answered { come, body } if come.is_empty() => {
                    let before = buffer.filled().len();
                    let read = ready!(this.stream.poll_read(cx, buffer));
                    let taken = body.take(&buffer.filled()[before..]);
                    this.has_surplus = before + taken < buffer.filled().len();
                    buffer.set_filled(before + taken);
                    return Poll::Ready(read);
                }
                Phase::Answered { come, .. } => {
                    let part = come.len().min(buffer.remaining());
                    buffer.put_slice(&come[..part]);
                    come.drain(..part);
                    return Poll::Ready(Ok(()));
                }
                Phase::Asked(reader) => reader,
            };
            let mut part = [0; 2048];
            let mut part = ReadBuf::new(&mut part);
            let read = ready!(this.stream.poll_read(cx, &mut part));
            if read.is_err() || part.filled().is_empty() {
                let closed = || io::ErrorKind::UnexpectedEof.into();
                let error = read.err().unwrap_or_else(closed);
                return Poll::Ready(Err(this.error(error)));
            }
            match reader.push(part.filled()) {
                Ok(None) => {}
                // The endpoint's idle timeout crossed our request (RFC 9110, section 15.5.9).
                Ok(Some(Head { status: 408, .. })) if this.is_kept_alive => {
                    return Poll::Ready(Err(io::Error::other(Stale)));
                }
                Ok(Some(Head { end, mut bytes, rest, .. })) => {
                    let mut body = Body::of(end);
                    let of_body = body.take(&rest);
                    bytes.extend_from_slice(&rest[..of_body]);
                    this.is_kept_alive = true;
                    this.has_surplus = of_body < rest.len();
                    this.phase = Phase::Answered { come: bytes, body };
                }
                Err(error) => return Poll::Ready(Err(io::Error::other(error))),
            }
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        // awc writes a request whole before it reads, and reads the answer before it writes
        // another.
        if matches!(this.phase, Phase::Answered { .. }) {
            this.phase = Phase::Asked(HeadReader::default());
        }
        let written = match &mut this.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Stream::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        };
        written.map_err(|error| this.error(error))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = match &mut this.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(cx),
        };
        flushed.map_err(|error| this.error(error))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

impl ActixStream for Wire {
    fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<Ready>> {
        self.stream.tcp().poll_read_ready(cx).map_ok(|()| Ready::READABLE)
    }

    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<Ready>> {
        self.stream.tcp().poll_write_ready(cx).map_ok(|()| Ready::WRITABLE)
    }
}

/// Shows nothing of the transferred data.
impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if matches!(self.stream, Stream::Tls(_)) { "Wire(tls)" } else { "Wire(plain)" })
    }
}
