//! A client of the control port: plain blocking sockets, every step under one deadline.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::{DeserializeOwned, IgnoredAny};

use crate::answer::RequestError;

use super::handshake::{Caller, VERSION, Welcome};
use super::protocol::{MAX_LINE, Reply, RuntimeFile, runtime_file};
use crate::ask::{Ask, Request};

/// Why a runtime could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No runtime runs on this spool, or it does not answer.
    #[error("no runtime is reachable: {0}")]
    Unreachable(String),
    /// No runtime is there: the request reached nobody.
    #[error("no runtime is reachable: {0}")]
    Absent(String),
    /// The runtime refused.
    #[error("{0}")]
    Refused(String),
}

impl ClientError {
    /// As a host is told.
    pub(crate) fn into_answer(self) -> RequestError {
        match self {
            Self::Unreachable(why) | Self::Absent(why) => RequestError::Unreachable(why),
            Self::Refused(why) => RequestError::from_words(why),
        }
    }
}

impl From<io::Error> for ClientError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Self::Unreachable(LATE.to_owned()),
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
                Self::Unreachable(CLOSED.to_owned())
            }
            _ => Self::Unreachable(error.to_string()),
        }
    }
}

/// Why a connection did not come about.
enum Ended {
    /// It was closed during the handshake.
    Closed,
    Failed(ClientError),
}

/// How often a connection that is closed during the handshake is begun.
const ATTEMPTS: usize = 8;

const CLOSED: &str = "the connection closed before the answer";
const LATE: &str = "no answer in time";

/// How long a spool may take to change its owner, and how often to look meanwhile.
pub(crate) const CHANGE_OF_OWNER: Duration = Duration::from_secs(10);
pub(crate) const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// A connection to a running runtime.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<TcpStream>,
    deadline: Instant,
    /// What is sent next.
    unsaid: Vec<u8>,
}

/// Bytes from which on what is sent ahead is written.
const MAX_UNSAID: usize = 64 * 1024;

impl Client {
    /// Connects to the runtime that `runtime.json` in `spool_dir` names. Nothing is asked, and the
    /// token never said, before the other end has proved to know it.
    ///
    /// # Errors
    /// [`ClientError::Absent`] where there is none, or none any more; [`ClientError::Unreachable`]
    /// where it does not answer.
    pub fn connect(spool_dir: &Path, within: Duration) -> Result<Self, ClientError> {
        let deadline = Instant::now() + within;
        let path = runtime_file(spool_dir);
        let malformed =
            |error: &dyn std::fmt::Display| ClientError::Unreachable(format!("{}: {error}", path.display()));
        let file = RuntimeFile::read(spool_dir).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => ClientError::Absent(format!("{}: {error}", path.display())),
            _ => malformed(&error),
        })?;
        if file.protocol != VERSION {
            return Err(ClientError::Unreachable(format!(
                "process {} speaks version {} of the control port, this program {VERSION}: \
                 stop it, and start spec-notify serve of this version",
                file.pid, file.protocol
            )));
        }
        let address: SocketAddr = file.address.parse().map_err(|error| malformed(&error))?;
        if !address.ip().is_loopback() {
            return Err(malformed(&"the address is not on this machine"));
        }
        for _ in 1..ATTEMPTS {
            match Self::begin(&file, address, deadline) {
                // Somebody fills its port, and we were the oldest of those who had said nothing
                // yet.
                Err(Ended::Closed) => {}
                Err(Ended::Failed(error)) => return Err(error),
                Ok(client) => return Ok(client),
            }
        }
        Self::begin(&file, address, deadline).map_err(|ended| match ended {
            Ended::Closed => ClientError::Absent(CLOSED.to_owned()),
            Ended::Failed(error) => error,
        })
    }

    /// One attempt to connect.
    fn begin(file: &RuntimeFile, address: SocketAddr, deadline: Instant) -> Result<Self, Ended> {
        let failed = |error: io::Error| Ended::Failed(error.into());
        let stream = TcpStream::connect_timeout(&address, left(deadline).map_err(Ended::Failed)?);
        let stream = stream.map_err(|error| match error.kind() {
            io::ErrorKind::ConnectionRefused => Ended::Failed(ClientError::Absent(error.to_string())),
            _ => failed(error),
        })?;
        stream.set_nodelay(true).map_err(failed)?;
        let mut client = Self { stream: BufReader::new(stream), deadline, unsaid: Vec::new() };
        match client.shake_hands(file) {
            Ok(()) => Ok(client),
            Err(ClientError::Unreachable(why)) if why == CLOSED => Err(Ended::Closed),
            Err(ClientError::Unreachable(why)) if why == LATE => {
                Err(Ended::Failed(ClientError::Unreachable(why)))
            }
            // One that is just ending, or another one at its port.
            Err(error) => Err(Ended::Failed(ClientError::Absent(error.to_string()))),
        }
    }

    fn shake_hands(&mut self, file: &RuntimeFile) -> Result<(), ClientError> {
        let caller = Caller::new(file.token.clone());
        let welcome: Welcome = self.ask(&caller.hello())?;
        let proof = caller.prove(&welcome).ok_or_else(|| {
            let port = &file.address;
            ClientError::Absent(format!(
                "another program listens at {port}, where the runtime was: nothing was sent to it"
            ))
        })?;
        self.ask::<IgnoredAny>(&proof).map(drop)
    }

    /// Asks one thing, and waits at most `within` for the answer.
    ///
    /// # Errors
    /// The runtime's own error, or none came within the deadline.
    pub fn request<A: Ask>(&mut self, ask: &A, within: Duration) -> Result<A::Answer, ClientError> {
        self.deadline = Instant::now() + within;
        let request: Request = ask.clone().into();
        self.ask(&request)
    }

    /// Asks without waiting for the answer, and says how many bytes that were: answers come in the
    /// order of the requests, each [received](Self::receive) on its own. What is short goes out
    /// together with what follows, at the latest when an answer is waited for. The runtime has 256
    /// of a connection under way at a time; who sends more ahead may wait for room that
    /// only receiving makes.
    ///
    /// # Errors
    /// It is too long, or could not be written until `deadline`: the connection is of no use then.
    pub fn send(&mut self, request: &Request, deadline: Instant) -> Result<usize, ClientError> {
        self.deadline = deadline;
        let bytes = self.say(request)?;
        if self.unsaid.len() >= MAX_UNSAID {
            self.flush()?;
        }
        Ok(bytes)
    }

    /// Whether the next answer has arrived: [receiving](Self::receive) it waits for nothing.
    pub fn has_answer(&self) -> bool {
        self.stream.buffer().contains(&b'\n')
    }

    /// The next answer.
    ///
    /// # Errors
    /// The runtime's own error, or none came until `deadline`.
    pub fn receive<T: DeserializeOwned>(&mut self, deadline: Instant) -> Result<T, ClientError> {
        self.deadline = deadline;
        self.hear()
    }

    fn ask<T: DeserializeOwned>(&mut self, line: &impl Serialize) -> Result<T, ClientError> {
        self.say(line)?;
        self.hear()
    }

    fn say(&mut self, line: &impl Serialize) -> Result<usize, ClientError> {
        let start = self.unsaid.len();
        serde_json::to_writer(&mut self.unsaid, line).map_err(io::Error::from)?;
        self.unsaid.push(b'\n');
        let bytes = self.unsaid.len() - start;
        if bytes > MAX_LINE {
            self.unsaid.truncate(start);
            return Err(ClientError::Refused(format!("{bytes} bytes are more than the control port takes")));
        }
        Ok(bytes)
    }

    fn flush(&mut self) -> Result<(), ClientError> {
        let mut unsaid = self.unsaid.as_slice();
        while !unsaid.is_empty() {
            self.stream.get_ref().set_write_timeout(Some(left(self.deadline)?))?;
            match self.stream.get_mut().write(unsaid)? {
                0 => return Err(io::Error::from(io::ErrorKind::WriteZero).into()),
                said => unsaid = &unsaid[said..],
            }
        }
        self.unsaid.clear();
        Ok(())
    }

    fn hear<T: DeserializeOwned>(&mut self) -> Result<T, ClientError> {
        // What has arrived needs no writing first: more of it may go out together.
        if !self.has_answer() {
            self.flush()?;
        }
        let answer = self.read_line()?;
        match serde_json::from_slice(&answer).map_err(io::Error::from)? {
            Reply::Ok(value) => Ok(value),
            Reply::Error(error) => Err(ClientError::Refused(error)),
        }
    }

    /// One line, within the deadline however slowly its bytes come.
    fn read_line(&mut self) -> Result<Vec<u8>, ClientError> {
        let mut line = Vec::new();
        while line.last() != Some(&b'\n') {
            if self.stream.buffer().is_empty() {
                self.stream.get_ref().set_read_timeout(Some(left(self.deadline)?))?;
            }
            let room = (MAX_LINE - line.len()) as u64;
            let available = self.stream.fill_buf()?.len().min(MAX_LINE - line.len());
            if available == 0 || room == 0 {
                return Err(ClientError::Unreachable(CLOSED.to_owned()));
            }
            (&mut self.stream).take(available as u64).read_until(b'\n', &mut line)?;
        }
        Ok(line)
    }
}

fn left(deadline: Instant) -> Result<Duration, ClientError> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(ClientError::Unreachable(LATE.to_owned()));
    }
    Ok(left)
}
