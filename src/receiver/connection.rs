//! One connection: a request is read, its answer said, and so on until one of them ends it.

use std::future::pending;
use std::io;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use actix_rt::net::TcpStream;
use actix_rt::time::sleep;
use actix_tls::connect::openssl::reexports::AsyncSslStream;
use bytes::BytesMut;
use openssl::ssl::Ssl;
use rustix::net::sockopt::set_socket_linger;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};

use super::Shared;
use super::answer::{Answer, Then, When};
use super::reading::{self, MAX_BODY, MAX_HEAD, Parts, Unreadable, more};
use super::request::Request;
use crate::clock;

/// A connection, plain or with TLS.
trait Wire: AsyncRead + AsyncWrite + Unpin {
    fn tcp(&self) -> &TcpStream;
}

impl Wire for TcpStream {
    fn tcp(&self) -> &TcpStream {
        self
    }
}

impl Wire for AsyncSslStream<TcpStream> {
    fn tcp(&self) -> &TcpStream {
        self.get_ref()
    }
}

/// What has been read of a connection and not been used, and room to write an answer in.
struct Buffers {
    read: BytesMut,
    said: Vec<u8>,
}

/// A request that waits for its answer to begin.
struct Waiting<'a>(&'a Shared);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.load.begin_answer();
    }
}

/// A request whose answer was not said to its end.
struct Unanswered<'a>(&'a Shared);

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        self.0.load.unanswered.fetch_sub(1, Ordering::Relaxed);
        self.0.answered.notify_waiters();
    }
}

/// Serves a connection until it ends.
pub(super) async fn serve(mut tcp: TcpStream, shared: &Shared) -> io::Result<()> {
    let number = shared.load.connections.fetch_add(1, Ordering::Relaxed) + 1;
    tcp.set_nodelay(true)?;
    let mut buffers = Buffers { read: BytesMut::new(), said: Vec::new() };
    if let Some(greeting) = shared.handler.greet()
        && !say(&mut tcp, &mut buffers, &greeting, shared, None).await?
    {
        return Ok(());
    }
    match &shared.tls {
        None => converse(tcp, buffers, number, shared).await,
        Some(acceptor) => {
            let mut stream = AsyncSslStream::new(Ssl::new(acceptor.context())?, tcp)?;
            Pin::new(&mut stream).accept().await.map_err(io::Error::other)?;
            converse(stream, buffers, number, shared).await
        }
    }
}

async fn converse(
    mut stream: impl Wire,
    mut buffers: Buffers,
    connection: usize,
    shared: &Shared,
) -> io::Result<()> {
    for turn in 1.. {
        if buffers.read.is_empty() && !is_spoken_to(&mut stream, &mut buffers.read, shared).await? {
            break;
        }
        let Parts { head, body, is_last } = match reading::request(&mut stream, &mut buffers.read).await {
            Ok(Some(parts)) => parts,
            Ok(None) => break,
            Err(Unreadable::Broken(error)) => return Err(error),
            Err(Unreadable::Refused(status)) => {
                let refusal = Answer::status(status).header("connection", "close").then_close();
                say(&mut stream, &mut buffers, &refusal, shared, None).await?;
                break;
            }
        };
        shared.load.begin();
        let (waiting, _unanswered) = (Waiting(shared), Unanswered(shared));
        let (at, received) = (Instant::now(), clock::now());
        let answer = shared.handler.answer(Request { at, received, connection, turn, head, body });
        if !say(&mut stream, &mut buffers, &answer, shared, Some(waiting)).await? {
            break;
        }
        if is_last {
            stream.shutdown().await?;
            break;
        }
    }
    Ok(())
}

/// Rests until something is said; `false` at the connection's end, or where another needs its
/// place.
async fn is_spoken_to(stream: &mut impl Wire, read: &mut BytesMut, shared: &Shared) -> io::Result<bool> {
    tokio::select! {
        biased;
        more = more(stream, read) => more,
        () = shared.crowded.notified() => Ok(false),
    }
}

/// Says an answer; whether the connection takes another request.
async fn say(
    stream: &mut impl Wire,
    Buffers { read, said }: &mut Buffers,
    answer: &Answer,
    shared: &Shared,
    waiting: Option<Waiting<'_>>,
) -> io::Result<bool> {
    match answer.when {
        When::Now => {}
        When::After(wait) => sleep(wait).await,
        When::Abandoned => abandoned(stream, read).await,
        When::Released => {
            let mut released = shared.released.subscribe();
            tokio::select! {
                biased;
                // Its sender is `shared`, which is there.
                _ = released.wait_for(|is_released| *is_released) => {}
                () = abandoned(stream, read) => return Ok(false),
            }
        }
    }
    // The sender may be heard of again as soon as it has the last byte.
    drop(waiting);
    said.clear();
    answer.write_head(said);
    match answer.pace {
        None => {
            said.extend_from_slice(&answer.body);
            stream.write_all(said).await?;
        }
        Some(pause) => {
            stream.write_all(said).await?;
            drip(stream, &answer.body, pause).await?;
        }
    }
    if let Some((part, times)) = &answer.more {
        for _ in 0..*times {
            stream.write_all(part).await?;
        }
    }
    match answer.then {
        Then::Keep => return Ok(true),
        Then::Silence => abandoned(stream, read).await,
        Then::Close => stream.shutdown().await?,
        Then::Reset => set_socket_linger(stream.tcp(), Some(Duration::ZERO))?,
    }
    Ok(false)
}

async fn drip(stream: &mut impl Wire, bytes: &[u8], pause: Duration) -> io::Result<()> {
    for byte in bytes {
        sleep(pause).await;
        stream.write_all(&[*byte]).await?;
    }
    Ok(())
}

/// Waits until the sender has closed the connection. What it says meanwhile is kept.
async fn abandoned(stream: &mut impl Wire, read: &mut BytesMut) {
    while more(stream, read).await.unwrap_or(false) {
        if read.len() > MAX_HEAD + MAX_BODY {
            return pending().await;
        }
    }
}
