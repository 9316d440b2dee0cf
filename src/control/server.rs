//! The control port's server: a bounded number of connections, each of which must prove first that
//! it knows the token.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::pin;
use std::process;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_rt::net::{TcpListener, TcpStream};
use actix_rt::task::JoinHandle;
use actix_rt::time::{sleep, timeout};
use futures_util::future::{Either, select};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::handshake::{Heard, Proof, Token, VERSION};
use super::protocol::{MAX_LINE, Reply, RuntimeFile};
use crate::actors::Door;
use crate::answer::RequestError;
use crate::ask::{Answer, EmitEvent, Request};
use crate::files::share_of_open_files;
use crate::names::printable;
use crate::sign;

/// Authenticated connections at a time, if the limit of open files allows; as many again may wait.
const MAX_CONNECTIONS: usize = 64;

/// Connections at a time that are not authenticated yet. One more closes the oldest: silent
/// connections cannot lock others out.
const MAX_STRANGERS: usize = 256;

/// How long each of them is safe from being closed, however many come.
const GRACE: Duration = Duration::from_millis(50);

/// How often to check whether one of them has gone.
const LOOK: Duration = Duration::from_millis(5);

/// Events of one connection under way at a time, and their bytes; one event of any size always
/// fits.
const MAX_OUTSTANDING: usize = 256;
const MAX_OUTSTANDING_BYTES: usize = 2 * MAX_LINE;

/// Bytes of answers from which on they are written, whatever else is known by then.
const MAX_TOGETHER: usize = 16 * 1024;

/// How long a connection may be silent, or slow to take an answer.
const IDLE: Duration = Duration::from_secs(30);

/// How long each line of the handshake may take, and its maximum length in bytes.
const GREETING: Duration = Duration::from_secs(2);
const MAX_GREETING: usize = 4096;

/// A listening control port.
#[derive(Debug)]
pub(crate) struct Server {
    listener: TcpListener,
    address: SocketAddr,
    token: Token,
}

impl Server {
    /// Listens on loopback; port 0 is any that is free.
    ///
    /// # Errors
    /// The port is in use.
    pub(crate) async fn bind(port: u16) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address, token: Token::random()? })
    }

    /// The content of `runtime.json`, which only this user can read.
    pub(crate) fn runtime_file(&self) -> RuntimeFile {
        RuntimeFile {
            pid: process::id(),
            address: self.address.to_string(),
            token: self.token.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            protocol: VERSION,
        }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until it is dropped.
    pub(crate) async fn serve(&self, door: Door) {
        let strangers = Strangers::default();
        let most_strangers = MAX_STRANGERS.min(share_of_open_files(16));
        let places = Places {
            taken: Arc::new(Semaphore::new(MAX_CONNECTIONS.min(share_of_open_files(32)))),
            waiting: Arc::new(Semaphore::new(MAX_CONNECTIONS.min(share_of_open_files(32)))),
        };
        loop {
            strangers.has_room_for_one(most_strangers).await;
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let (door, token, places) = (door.clone(), self.token.clone(), places.clone());
                    strangers.admit(|stranger| async move {
                        if let Err(error) = converse(stream, &token, stranger, places, &door).await {
                            log::debug!("control connection ended: {error}");
                        }
                    });
                }
                Err(error) => {
                    // Out of file descriptors, for example: wait until some are closed.
                    log::error!("control port cannot take a connection: {error}");
                    sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}

/// Connections that are not authenticated yet, oldest first.
#[derive(Clone, Default)]
struct Strangers(Rc<RefCell<Waiting>>);

#[derive(Default)]
struct Waiting {
    /// How many have come so far.
    count: u64,
    conversations: BTreeMap<u64, (Instant, JoinHandle<()>)>,
}

/// One of them, until it is dropped.
struct Stranger {
    number: u64,
    among: Strangers,
}

impl Strangers {
    /// Closes the oldest if there are too many, once its time is up: a client that reconnects at
    /// once goes to the end of the row.
    async fn has_room_for_one(&self, most: usize) {
        loop {
            {
                let mut waiting = self.0.borrow_mut();
                if waiting.conversations.len() < most {
                    return;
                }
                if let Some(oldest) = waiting.conversations.first_entry()
                    && oldest.get().0.elapsed() >= GRACE
                {
                    oldest.remove().1.abort();
                    return;
                }
            }
            sleep(LOOK).await;
        }
    }

    /// Adds a connection.
    fn admit<F: Future<Output = ()> + 'static>(&self, converse: impl FnOnce(Stranger) -> F) {
        let mut waiting = self.0.borrow_mut();
        waiting.count += 1;
        let number = waiting.count;
        let conversation = converse(Stranger { number, among: self.clone() });
        waiting.conversations.insert(number, (Instant::now(), actix_rt::spawn(conversation)));
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        self.among.0.borrow_mut().conversations.remove(&self.number);
    }
}

/// Places for authenticated connections.
#[derive(Clone)]
struct Places {
    taken: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
}

impl Places {
    /// A place, once one is free; `None` if too many wait already.
    async fn take(&self) -> Option<OwnedSemaphorePermit> {
        match self.taken.clone().try_acquire_owned() {
            Ok(place) => Some(place),
            Err(_) => {
                let _waiting = self.waiting.clone().try_acquire_owned().ok()?;
                self.taken.clone().acquire_owned().await.ok()
            }
        }
    }
}

async fn converse(
    mut stream: TcpStream,
    token: &Token,
    stranger: Stranger,
    places: Places,
    door: &Door,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (reader, mut writer) = stream.split();
    let mut reader = BufReader::new(reader);
    let error = async |writer: &mut _, why: String| answer(writer, &Reply::<()>::Error(why)).await;
    let Some(line) = read_line(&mut reader, GREETING, MAX_GREETING).await? else { return Ok(()) };
    let (welcome, expected) = match Heard::of(&line, token) {
        Heard::Client { welcome, proof } => (welcome, proof),
        Heard::Version(version) => {
            let why = format!(
                "version {version} of the control port is not spoken here, only {VERSION}: \
                 use the program of the same version as the runtime"
            );
            return error(&mut writer, why).await;
        }
        Heard::Stranger => return Ok(()),
    };
    answer(&mut writer, &Reply::Ok(welcome)).await?;
    let Some(line) = read_line(&mut reader, GREETING, MAX_GREETING).await? else { return Ok(()) };
    if !serde_json::from_slice::<Proof>(&line).is_ok_and(|theirs| sign::equal(&expected, &theirs.proof)) {
        let why = "wrong proof: read runtime.json again, the runtime may have been restarted".to_owned();
        return error(&mut writer, why).await;
    }
    drop(stranger);
    let Some(_place) = places.take().await else {
        return error(&mut writer, "too many connections: try again".to_owned()).await;
    };
    answer(&mut writer, &Reply::Ok(serde_json::json!({}))).await?;
    let (jobs, queue) = mpsc::channel(MAX_OUTSTANDING);
    let answering = answer_in_order(&mut writer, queue, door);
    match select(pin!(read_requests(&mut reader, jobs, door)), pin!(answering)).await {
        // Requests read before the end are still answered.
        Either::Left((ended, answering)) => answering.await.and(ended),
        Either::Right((answered, _)) => answered,
    }
}

/// What is answered next.
enum Job {
    /// An event that is under way.
    Emitting(JoinHandle<Reply<Answer>>),
    /// A line that is no request.
    Wrong(String),
    /// Any other request: carried out after all earlier answers, before any later request.
    Other(Request, oneshot::Sender<()>),
}

/// Reads requests until the client has no more. Events start at once, up to the limit, so that one
/// write to disk serves many.
async fn read_requests<R: tokio::io::AsyncBufRead + Unpin>(
    reader: &mut R,
    jobs: mpsc::Sender<Job>,
    door: &Door,
) -> io::Result<()> {
    let room = Arc::new(Semaphore::new(MAX_OUTSTANDING_BYTES));
    while let Some(line) = read_line(reader, IDLE, MAX_LINE).await? {
        let job = match Request::read(&line) {
            Err(error) => Job::Wrong(not_a_request(&line, &error)),
            // Not by `answer`: each event has a task, which need not have room for other requests.
            Ok(Request::Emit(EmitEvent { event })) => {
                let bytes = u32::try_from(line.len()).unwrap_or(u32::MAX);
                let Ok(room) = room.clone().acquire_many_owned(bytes).await else { return Ok(()) };
                let door = door.clone();
                Job::Emitting(actix_rt::spawn(async move {
                    let reply = reply(door.emit_json(event.get()).await.map(Answer::Emit));
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

/// Answers in the order of the requests, until there are no more. Events that one write to disk
/// served are answered by one write too.
async fn answer_in_order<W: tokio::io::AsyncWrite + Unpin>(
    writer: &mut W,
    mut jobs: mpsc::Receiver<Job>,
    door: &Door,
) -> io::Result<()> {
    let mut answers = Vec::new();
    loop {
        let job = match jobs.try_recv() {
            Ok(job) => job,
            Err(_) => {
                write(writer, &mut answers).await?;
                let Some(job) = jobs.recv().await else { return Ok(()) };
                job
            }
        };
        match job {
            Job::Emitting(emitting) => {
                if !emitting.is_finished() || answers.len() >= MAX_TOGETHER {
                    write(writer, &mut answers).await?;
                }
                let ended = |_| Reply::Error("the runtime has stopped".to_owned());
                add_answer(&mut answers, &emitting.await.unwrap_or_else(ended))?;
            }
            Job::Wrong(why) => add_answer(&mut answers, &Reply::<()>::Error(why))?,
            Job::Other(request, done) => {
                write(writer, &mut answers).await?;
                answer(writer, &reply(door.answer(request).await)).await?;
                if done.send(()).is_err() {
                    log::debug!("a client left before its answer");
                }
            }
        }
    }
}

/// The answer to a line that is no request.
fn not_a_request(line: &[u8], error: &serde_json::Error) -> String {
    #[derive(Deserialize)]
    struct Named {
        command: String,
    }
    match serde_json::from_slice::<Named>(line) {
        Ok(Named { command }) if !Request::NAMES.contains(&command.as_str()) => format!(
            "unknown command `{}`: this version of spec-notify knows {}",
            printable(&command, 40),
            Request::NAMES.join(", ")
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
    let mut answers = Vec::new();
    add_answer(&mut answers, reply)?;
    write(writer, &mut answers).await
}

/// Adds one line to what is written next.
fn add_answer<T: Serialize>(answers: &mut Vec<u8>, reply: &Reply<T>) -> io::Result<()> {
    let start = answers.len();
    serde_json::to_writer(&mut *answers, reply)?;
    if answers.len() - start >= MAX_LINE {
        answers.truncate(start);
        let error = format!("the answer is longer than {MAX_LINE} bytes: ask for less at a time");
        serde_json::to_writer(&mut *answers, &Reply::<()>::Error(error))?;
    }
    answers.push(b'\n');
    Ok(())
}

/// Writes what there is, and leaves nothing.
async fn write<W: tokio::io::AsyncWrite + Unpin>(writer: &mut W, answers: &mut Vec<u8>) -> io::Result<()> {
    if answers.is_empty() {
        return Ok(());
    }
    timeout(IDLE, writer.write_all(answers)).await.map_err(|_| io::ErrorKind::TimedOut)??;
    answers.clear();
    Ok(())
}
