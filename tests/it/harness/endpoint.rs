//! An endpoint on loopback that answers as it is told and remembers what it got.

use std::collections::HashMap;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::{self, AddressFamily, SocketType};

use super::PATIENCE;
use serde_json::Value;

/// How one request is answered.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// With this status and an empty body.
    Status(u16),
    /// With these bytes, as they are; the connection is closed.
    Raw(Vec<u8>),
    /// Never; the connection stays open.
    Hang,
    /// One byte a while, without end.
    Drip,
    /// Closed without an answer.
    Close,
}

/// One request that came.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// When it had come, whole, and was not answered yet.
    pub(crate) at: Instant,
    pub(crate) line: String,
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// The body. Every payload of ours that a test looks at has to fit the published schema.
    pub(crate) fn json(&self) -> Value {
        let body: Value = serde_json::from_slice(&self.body).unwrap();
        if body.get("schemaVersion").is_some() {
            let validator = super::payload_schema();
            let errors = validator.iter_errors(&body);
            let errors: Vec<String> =
                errors.map(|error| format!("{}: {error}", error.instance_path())).collect();
            assert!(errors.is_empty(), "{errors:?} in {body:#}");
        }
        body
    }
}

#[derive(Default)]
struct State {
    requests: Vec<Request>,
    in_flight: usize,
    most_in_flight: usize,
    released: bool,
    recovered: bool,
}

pub(crate) struct Endpoint {
    port: u16,
    state: Arc<(Mutex<State>, Condvar)>,
}

impl Endpoint {
    /// Answers successive requests with these statuses; the last one repeats.
    pub(crate) fn replying(statuses: &[u16]) -> Self {
        Self::answering(statuses.iter().map(|status| Answer::Status(*status)).collect())
    }

    pub(crate) fn answering(answers: Vec<Answer>) -> Self {
        Self::listening(TcpListener::bind("127.0.0.1:0").unwrap(), answers)
    }

    fn listening(listener: TcpListener, answers: Vec<Answer>) -> Self {
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new((Mutex::new(State::default()), Condvar::new()));
        let shared = state.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (state, answers) = (shared.clone(), answers.clone());
                thread::spawn(move || converse(stream, &state, &answers));
            }
        });
        Self { port, state }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}/hook", self.port)
    }

    /// What came so far.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.state.0.lock().unwrap().requests.clone()
    }

    /// The most requests that were under way at one time.
    pub(crate) fn most_in_flight(&self) -> usize {
        self.state.0.lock().unwrap().most_in_flight
    }

    /// Lets every request that hangs be answered with 200.
    pub(crate) fn release(&self) {
        self.state.0.lock().unwrap().released = true;
        self.state.1.notify_all();
    }

    /// Answers every request with 200 from now on.
    pub(crate) fn recover(&self) {
        self.state.0.lock().unwrap().recovered = true;
    }

    /// Waits until `count` requests have come.
    pub(crate) fn wait_for(&self, count: usize) -> Vec<Request> {
        let (lock, changed) = &*self.state;
        let (state, timeout) = changed
            .wait_timeout_while(lock.lock().unwrap(), PATIENCE, |state| state.requests.len() < count)
            .unwrap();
        assert!(!timeout.timed_out(), "{count} requests: only {} came", state.requests.len());
        state.requests.clone()
    }
}

/// An endpoint that is down: its port is taken, so that nobody else gets it, and refuses
/// connections.
pub(crate) struct DeadEndpoint {
    socket: OwnedFd,
    port: u16,
}

impl DeadEndpoint {
    pub(crate) fn new() -> Self {
        let socket = net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        net::bind(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = SocketAddrV4::try_from(net::getsockname(&socket).unwrap()).unwrap();
        Self { socket, port: address.port() }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}/hook", self.port)
    }

    /// From now on it answers successive requests with these statuses; the last one repeats.
    pub(crate) fn mend(self, statuses: &[u16]) -> Endpoint {
        net::listen(&self.socket, 128).unwrap();
        let answers = statuses.iter().map(|status| Answer::Status(*status)).collect();
        Endpoint::listening(self.socket.into(), answers)
    }
}

fn converse(mut stream: TcpStream, state: &(Mutex<State>, Condvar), answers: &[Answer]) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    while let Ok(Some(request)) = read_request(&mut reader) {
        let (lock, changed) = state;
        let answer = {
            let mut state = lock.lock().unwrap();
            let at = state.requests.len().min(answers.len() - 1);
            state.requests.push(request);
            state.in_flight += 1;
            state.most_in_flight = state.most_in_flight.max(state.in_flight);
            changed.notify_all();
            if state.recovered { Answer::Status(200) } else { answers[at].clone() }
        };
        let answer = match answer {
            Answer::Hang => {
                let state = changed.wait_while(lock.lock().unwrap(), |state| !state.released).unwrap();
                drop(state);
                Answer::Status(200)
            }
            other => other,
        };
        lock.lock().unwrap().in_flight -= 1;
        let goes_on = match answer {
            Answer::Status(status) => {
                write!(stream, "HTTP/1.1 {status} Whatever\r\ncontent-length: 0\r\n\r\n").is_ok()
            }
            Answer::Raw(bytes) => {
                let _ = stream.write_all(&bytes);
                false
            }
            Answer::Drip => {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n");
                while stream.write_all(b"x").is_ok() {
                    thread::park_timeout(Duration::from_millis(20));
                }
                false
            }
            Answer::Close | Answer::Hang => false,
        };
        if !goes_on {
            return;
        }
    }
}

/// The next request of a connection; `None` at its end.
pub(crate) fn read_request(reader: &mut BufReader<TcpStream>) -> io::Result<Option<Request>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut headers = HashMap::new();
    loop {
        let mut header = String::new();
        reader.read_line(&mut header)?;
        match header.trim_end().split_once(':') {
            Some((name, value)) => headers.insert(name.to_owned(), value.trim().to_owned()),
            None => break,
        };
    }
    // Ours is in lower case; a recipe's program may write it otherwise.
    let length = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let length = length.and_then(|(_, length)| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(Some(Request { at: Instant::now(), line: line.trim_end().to_owned(), headers, body }))
}
