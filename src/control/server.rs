//! The control port's server: a bounded number of connections, each of which must say the token first.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::process;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix_rt::net::{TcpListener, TcpStream};
use actix_rt::time::timeout;
use openssl::memcmp;
use openssl::rand::rand_bytes;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::sync::Semaphore;

use super::protocol::{
    COMMANDS, Emitted, EmittedEvent, Hello, MAX_LINE, Reply, Request, RuntimeFile, SentReport, VERSION,
};
use super::status::StatusReport;
use crate::actors::{Door, EmitError, RequestError};
use crate::event::{Event, printable};
use crate::store::share_of_open_files;

/// Connections at a time, where the limit of open files allows; more wait to be taken.
const MAX_CONNECTIONS: usize = 64;

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
    while let Some(line) = read_line(&mut reader, IDLE, MAX_LINE).await? {
        match serde_json::from_slice::<Request>(&line) {
            Err(error) => answer(&mut writer, &Reply::<()>::Error(not_a_request(&line, &error))).await?,
            Ok(Request::Emit { event }) => answer(&mut writer, &emit(door, &event).await).await?,
            Ok(Request::Test { spec, subscription, dry_run }) => {
                let sent = door.test(spec, subscription, dry_run).await;
                answer(&mut writer, &reply(sent.map(|sent| SentReport::from(&sent)))).await?;
            }
            Ok(Request::Replay { spec, delivery_id }) => {
                let sent = door.replay(spec, delivery_id).await;
                answer(&mut writer, &reply(sent.map(|sent| SentReport::from(&sent)))).await?;
            }
            Ok(Request::List(query)) => answer(&mut writer, &reply(door.list(query).await)).await?,
            Ok(Request::Attempts(query)) => answer(&mut writer, &reply(door.tried(query).await)).await?,
            Ok(Request::Reload {}) => answer(&mut writer, &reply(door.reload().await)).await?,
            Ok(Request::Status {}) => {
                let facts = door.facts().await;
                let report = facts.map(|facts| StatusReport::of(&facts, door.spool_dir()));
                answer(&mut writer, &reply(report)).await?;
            }
        }
    }
    Ok(())
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
            let shown = EmittedEvent::of(&event);
            match door.emit(event, None, EMIT_WITHIN).await {
                Err(EmitError::Unavailable(error)) => Reply::Error(error),
                result => Reply::Ok(Emitted::new(shown, result)),
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
