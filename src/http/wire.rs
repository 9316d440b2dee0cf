//! A connection as awc sees it, plain or through TLS: without the interim answers (1xx) that awc would take for the answer
//! (RFC 9110, section 15.2), and with an error of its own for a kept-alive one that was closed.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use actix_rt::net::{ActixStream, Ready, TcpStream};
use actix_tls::connect::openssl::reexports::AsyncSslStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::connections::Counted;

/// Most bytes of interim answers before the answer.
const MAX_INTERIM_BYTES: usize = 16 * 1024;

/// A kept-alive connection was closed before it brought anything of the answer.
#[derive(Debug, thiserror::Error)]
#[error("the endpoint had closed the kept-alive connection")]
pub(super) struct Stale;

pub(super) struct Wire {
    stream: Stream,
    phase: Phase,
    /// An earlier request had its answer here.
    is_kept_alive: bool,
    _counted: Counted,
}

pub(super) enum Stream {
    Plain(TcpStream),
    Tls(AsyncSslStream<TcpStream>),
}

enum Phase {
    /// A request is on its way; what has come is the beginning of an answer, or of an interim one.
    Asked { come: Vec<u8>, skipped: usize },
    /// The answer is being read; what was looked at is still to be handed on.
    Answered { come: Vec<u8> },
}

impl Phase {
    const ASKED: Self = Self::Asked { come: Vec::new(), skipped: 0 };
}

/// What the bytes that have come begin with.
#[derive(Debug, PartialEq, Eq)]
enum Beginning {
    Unclear,
    /// An interim answer, so long.
    Interim(usize),
    Answer,
}

fn beginning(come: &[u8]) -> Beginning {
    // `HTTP/1.1 100`, any digit for `?`.
    const INTERIM: &[u8; 12] = b"HTTP/1.? 1??";
    let fits = INTERIM.iter().zip(come).all(|(wanted, byte)| match wanted {
        b'?' => byte.is_ascii_digit(),
        wanted => wanted == byte,
    });
    // 101 is final: what follows is no HTTP any more.
    if !fits || come.get(9..12) == Some(b"101") {
        return Beginning::Answer;
    }
    let end = come.windows(4).position(|window| window == b"\r\n\r\n");
    end.filter(|_| come.len() >= INTERIM.len()).map_or(Beginning::Unclear, |at| Beginning::Interim(at + 4))
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
        Self { stream: stream.into(), phase: Phase::ASKED, is_kept_alive: false, _counted: counted }
    }

    /// An error of the connection: of a kept-alive one that nothing came from, that it was stale.
    fn error(&self, error: io::Error) -> io::Error {
        let has_none = matches!(&self.phase, Phase::Asked { come, skipped: 0 } if come.is_empty());
        let is_closed = matches!(
            error.kind(),
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted
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
            let (come, skipped) = match &mut this.phase {
                Phase::Answered { come } if come.is_empty() => return this.stream.poll_read(cx, buffer),
                Phase::Answered { come } => {
                    let part = come.len().min(buffer.remaining());
                    buffer.put_slice(&come[..part]);
                    come.drain(..part);
                    return Poll::Ready(Ok(()));
                }
                Phase::Asked { come, skipped } => (come, skipped),
            };
            let mut part = [0; 1024];
            let mut part = ReadBuf::new(&mut part);
            if let Err(error) = ready!(this.stream.poll_read(cx, &mut part)) {
                return Poll::Ready(Err(this.error(error)));
            }
            come.extend_from_slice(part.filled());
            let is_over = part.filled().is_empty();
            if is_over && come.is_empty() && *skipped == 0 && this.is_kept_alive {
                return Poll::Ready(Err(io::Error::other(Stale)));
            }
            while let Beginning::Interim(length) = beginning(come) {
                come.drain(..length);
                *skipped += length;
            }
            if *skipped + come.len() > MAX_INTERIM_BYTES && beginning(come) == Beginning::Unclear {
                let error = "interim answers without end";
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, error)));
            }
            if is_over || beginning(come) == Beginning::Answer {
                this.is_kept_alive = true;
                this.phase = Phase::Answered { come: std::mem::take(come) };
            }
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        // awc writes a request whole before it reads, and reads the answer before it writes another.
        if matches!(this.phase, Phase::Answered { .. }) {
            this.phase = Phase::ASKED;
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

/// Shows nothing of what goes over it.
impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if matches!(self.stream, Stream::Tls(_)) { "Wire(tls)" } else { "Wire(plain)" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interim_answers_are_told_from_answers() {
        let interim = b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n";
        for cut in 0..interim.len() {
            assert_eq!(beginning(&interim[..cut]), Beginning::Unclear, "{cut}");
        }
        assert_eq!(beginning(interim), Beginning::Interim(interim.len()));
        assert_eq!(beginning(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n"), Beginning::Interim(25));
        for answer in ["HTTP/1.1 200", "HTTP/1.1 2", "HTTP/1.1 101 S\r\n\r\n", "SSH-2.0", "HTTP/2"] {
            assert_eq!(beginning(answer.as_bytes()), Beginning::Answer, "{answer}");
        }
    }
}
