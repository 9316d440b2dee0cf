//! The control port's server: a bounded number of connections, each of which must say the token first.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::pin;
use std::process;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix_rt::net::{TcpListener, TcpStream};
use actix_rt::task::JoinHandle;
use actix_rt::time::timeout;
use futures_util::future::{Either, select};
use openssl::memcmp;
use openssl::rand::rand_bytes;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::protocol::{
    COMMANDS, Emitted, EmittedEvent, Hello, MAX_LINE, Reply, Request, RuntimeFile, SentReport, VERSION,
};
use super::status::StatusReport;
use crate::actors::{Door, Emission, EmitError, RequestError};
use crate::event::{Event, printable};
use crate::store::share_of_open_files;

/// Connections at a time, where the limit of open files allows; more wait to be taken.
const MAX_CONNECTIONS: usize = 64;

/// Events of one connection that are under way at a time, and bytes of them: at least one of any
/// size fits.
const MAX_OUTSTANDING: usize = 64;
const MAX_OUTSTANDING_BYTES: usize = 2 * MAX_LINE;

/// How long a connection may be silent, or slow to take an answer.
const IDLE: Duration = Duration::from_secs(30);

/// How long an event may take to be accepted; the client has put it into the inbox long before.
const EMIT_WITHIN: Duration = Duration::from_secs(10);

/// How long the token may take to come, and its line's longest length in bytes.
const GREETING: Duration = Duration::from_secs(2);
const MAX_GREETING: usize = 4096;

/// A listening control port.
#[derive(Debug)]
pub(crate) struct Server {
    listener: TcpListener,
    address: SocketAddr,
    token: String,
}

impl Server {
    /// Listens on loopback; port 0 is any that is free.
    ///
    /// # Errors
    /// The port is in use.
    pub(crate) async fn bind(port: u16) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
        let address = listener.local_addr()?;
        let mut token = [0; 32];
        rand_bytes(&mut token).map_err(io::Error::other)?;
        Ok(Self { listener, address, token: hex::encode(token) })
    }

    /// What `runtime.json` says of it, for this user alone to read.
    pub(crate) fn runtime_file(&self) -> RuntimeFile {
        RuntimeFile {
            pid: process::id(),
            address: self.address.to_string(),
            token: self.token.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until it is dropped.
    pub(crate) async fn serve(&self, door: Door) {
        let token: Rc<str> = self.token.as_str().into();
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS.min(share_of_open_files(8))));
        loop {
            let Ok(place) = places.clone().acquire_owned().await else { return };
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let (door, token) = (door.clone(), token.clone());
                    actix_rt::spawn(async move {
                        if let Err(error) = converse(stream, &token, &door).await {
                            log::debug!("control connection ended: {error}");
                        }
                        drop(place);
                    });
                }
                Err(error) => {
                    // Out of file descriptors, for example: let some be closed before trying again.
                    log::error!("control port cannot take a connection: {error}");
                    actix_rt::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}

async fn converse(mut stream: TcpStream, token: &str, door: &Door) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (reader, mut writer) = stream.split();
    let mut reader = BufReader::new(reader);
    let Some(line) = read_line(&mut reader, GREETING, MAX_GREETING).await? else { return Ok(()) };
    match greet(&line, token) {
        Greeting::Welcome => {
            let hello = serde_json::json!({"version": VERSION, "program": env!("CARGO_PKG_VERSION")});
            answer(&mut writer, &Reply::Ok(hello)).await?;
        }
        Greeting::Say(error) => return answer(&mut writer, &Reply::<()>::Error(error)).await,
        Greeting::Nothing => return Ok(()),
    }
    let (jobs, queue) = mpsc::channel(MAX_OUTSTANDING);
    let answering = answer_in_order(&mut writer, queue, door);
    match select(pin!(read_requests(&mut reader, jobs, door)), pin!(answering)).await {
        // What was read before the end is answered all the same.
        Either::Left((ended, answering)) => answering.await.and(ended),
        Either::Right((answered, _)) => answered,
    }
}

/// What is answered next.
enum Job {
    /// An event that is under way.
    Emitting(JoinHandle<Reply<Emitted>>),
    /// A line that is no request.
    Wrong(String),
    /// Anything else: done once everything before it is answered, and what follows waits for it.
    Other(Request, oneshot::Sender<()>),
}

/// Reads requests until the client has no more. Events are begun at once, as many as may be under
/// way, so that one write to disk is for many.
async fn read_requests<R: tokio::io::AsyncBufRead + Unpin>(
    reader: &mut R,
    jobs: mpsc::Sender<Job>,
    door: &Door,
) -> io::Result<()> {
    let room = Arc::new(Semaphore::new(MAX_OUTSTANDING_BYTES));
    while let Some(line) = read_line(reader, IDLE, MAX_LINE).await? {
        let job = match serde_json::from_slice::<Request>(&line) {
            Err(error) => Job::Wrong(not_a_request(&line, &error)),
            Ok(Request::Emit { event }) => {
                let bytes = u32::try_from(line.len()).unwrap_or(u32::MAX);
                let Ok(room) = room.clone().acquire_many_owned(bytes).await else { return Ok(()) };
                let door = door.clone();
                Job::Emitting(actix_rt::spawn(async move {
                    let reply = emit(&door, &event).await;
                    drop(room);
                    reply
                }))
            }
            Ok(other) => {
                let (done, is_done) = oneshot::channel();
                if jobs.send(Job::Other(other, done)).await.is_err() || is_done.await.is_err() {
                    return Ok(());
                }
                continue;
            }
        };
        if jobs.send(job).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}

/// Answers in the order of the requests, until there are no more.
async fn answer_in_order<W: tokio::io::AsyncWrite + Unpin>(
    writer: &mut W,
    mut jobs: mpsc::Receiver<Job>,
    door: &Door,
) -> io::Result<()> {
    while let Some(job) = jobs.recv().await {
        match job {
            Job::Emitting(emitting) => {
                let ended = |_| Reply::Error("the runtime has stopped".to_owned());
                answer(writer, &emitting.await.unwrap_or_else(ended)).await?;
            }
            Job::Wrong(why) => answer(writer, &Reply::<()>::Error(why)).await?,
            Job::Other(request, done) => {
                obey(writer, request, door).await?;
                if done.send(()).is_err() {
                    log::debug!("a client left before its answer");
                }
            }
        }
    }
    Ok(())
}

async fn obey<W: tokio::io::AsyncWrite + Unpin>(
    writer: &mut W,
    request: Request,
    door: &Door,
) -> io::Result<()> {
    match request {
        Request::Emit { event } => answer(writer, &emit(door, &event).await).await,
        Request::Test { spec, subscription, dry_run } => {
            let sent = door.test(spec, subscription, dry_run).await;
            answer(writer, &reply(sent.map(|sent| SentReport::from(&sent)))).await
        }
        Request::Replay { spec, delivery_id } => {
            let sent = door.replay(spec, delivery_id).await;
            answer(writer, &reply(sent.map(|sent| SentReport::from(&sent)))).await
        }
        Request::List(query) => answer(writer, &reply(door.list(query).await)).await,
        Request::Attempts(query) => answer(writer, &reply(door.tried(query).await)).await,
        Request::Reload {} => answer(writer, &reply(door.reload().await)).await,
        Request::Status {} => {
            let facts = door.facts().await;
            let report = facts.map(|facts| StatusReport::of(&facts, door.spool_dir()));
            answer(writer, &reply(report)).await
        }
    }
}

/// How a first line is answered.
enum Greeting {
    Welcome,
    Say(String),
    /// Who does not speak the protocol, such as a browser, hears nothing.
    Nothing,
}

fn greet(line: &[u8], token: &str) -> Greeting {
    let Ok(hello) = serde_json::from_slice::<Hello>(line) else { return Greeting::Nothing };
    let same = hello.token.len() == token.len() && memcmp::eq(hello.token.as_bytes(), token.as_bytes());
    if !same {
        return Greeting::Say(
            "wrong token: read runtime.json again, the runtime may have been restarted".to_owned(),
        );
    }
    if hello.version != VERSION {
        return Greeting::Say(format!("version {} is not spoken here, only {VERSION}", hello.version));
    }
    Greeting::Welcome
}

/// An error here says that the event was not taken now; one that is none is an answer.
async fn emit(door: &Door, event: &serde_json::Map<String, serde_json::Value>) -> Reply<Emitted> {
    let text = serde_json::to_string(event).unwrap_or_default();
    match Event::from_json(&text) {
        Err(error) => Reply::Ok(Emitted::refused(error.to_string())),
        Ok(event) => {
            let kind = event.event.kind;
            let Emission { key: idempotency_key, result } =
                door.emit_and_name(event, None, EMIT_WITHIN).await;
            match result {
                Err(EmitError::Unavailable(error)) => Reply::Error(error),
                result => Reply::Ok(Emitted::new(EmittedEvent { kind, idempotency_key }, result)),
            }
        }
    }
}

/// What a client hears whose line is no request.
fn not_a_request(line: &[u8], error: &serde_json::Error) -> String {
    #[derive(Deserialize)]
    struct Named {
        command: String,
    }
    match serde_json::from_slice::<Named>(line) {
        Ok(Named { command }) if !COMMANDS.contains(&command.as_str()) => format!(
            "unknown command `{}`: this version of spec-notify knows {}",
            printable(&command, 40),
            COMMANDS.join(", ")
        ),
        _ => format!("not a request: {error}"),
    }
}

fn reply<T>(result: Result<T, RequestError>) -> Reply<T> {
    match result {
        Ok(value) => Reply::Ok(value),
        Err(error) => Reply::Error(error.to_string()),
    }
}

/// One line without its newline; `None` at the end of the stream.
async fn read_line<R: tokio::io::AsyncBufRead + Unpin>(
    reader: &mut R,
    within: Duration,
    longest: usize,
) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    let limited = &mut reader.take(longest as u64);
    timeout(within, limited.read_until(b'\n', &mut line)).await.map_err(|_| io::ErrorKind::TimedOut)??;
    match line.pop() {
        Some(b'\n') => Ok(Some(line)),
        None => Ok(None),
        Some(_) => Err(io::Error::new(io::ErrorKind::InvalidData, "a line is too long or was cut off")),
    }
}

async fn answer<W: tokio::io::AsyncWrite + Unpin, T: Serialize>(
    writer: &mut W,
    reply: &Reply<T>,
) -> io::Result<()> {
    let mut line = serde_json::to_vec(reply)?;
    if line.len() >= MAX_LINE {
        let error = format!("the answer is longer than {MAX_LINE} bytes: ask for less at a time");
        line = serde_json::to_vec(&Reply::<()>::Error(error))?;
    }
    line.push(b'\n');
    timeout(IDLE, writer.write_all(&line)).await.map_err(|_| io::ErrorKind::TimedOut)?
}
