//! An endpoint on loopback that answers as it is told and remembers what it got.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use openssl::ssl::SslAcceptor;

use super::{PATIENCE, Tls, needed};
use crate::receiver::{Answer, Handler, Receiver, Refusing, Request};

/// An HTTP(S) endpoint on 127.0.0.1, on a thread of its own. It ends when dropped.
///
/// Its methods panic where they say so, and never else.
///
/// ```
/// use spec_notify::testing::{Answer, Endpoint};
///
/// let always = Endpoint::start();
/// let flaky = Endpoint::answering([503, 503, 200]);
/// let busy = Endpoint::answering([Answer::status(429).header("retry-after", "1"), 200.into()]);
/// let down = Endpoint::down();
/// ```
pub struct Endpoint {
    address: SocketAddr,
    is_tls: bool,
    patience: Duration,
    heard: Arc<Heard>,
    place: Mutex<Place>,
}

/// What stands at the endpoint's port.
enum Place {
    /// Nobody yet.
    Refusing(Refusing),
    Receiving(Receiver),
}

/// What came, and how it is answered.
struct Heard {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    requests: Vec<Request>,
    script: Script,
}

/// Decides on the answer to one request.
type Decide = Arc<dyn Fn(&Request) -> Answer + Send + Sync>;

enum Script {
    /// One after the other; the last one repeats.
    Answers {
        answers: Vec<Arc<Answer>>,
        next: usize,
    },
    Decided(Decide),
}

impl Script {
    /// No answers mean 200.
    fn of<A: Into<Answer>>(answers: impl IntoIterator<Item = A>) -> Self {
        let mut answers: Vec<_> = answers.into_iter().map(|answer| Arc::new(answer.into())).collect();
        if answers.is_empty() {
            answers.push(Arc::new(Answer::status(200)));
        }
        Self::Answers { answers, next: 0 }
    }
}

impl State {
    /// The next answer of the script, used up where `wanted` says so.
    fn next(&mut self, wanted: impl Fn(&Answer) -> bool) -> Option<Arc<Answer>> {
        let Script::Answers { answers, next } = &mut self.script else { return None };
        let answer = answers.get(*next).or(answers.last()).filter(|answer| wanted(answer))?.clone();
        *next += 1;
        Some(answer)
    }
}

impl Heard {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A test's own panic in a condition leaves the list as it was.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Handler for Arc<Heard> {
    fn answer(&self, request: Request) -> Arc<Answer> {
        let mut state = self.lock();
        state.requests.push(request.clone());
        let scripted = state.next(|answer| !answer.is_unasked());
        let decide = match &state.script {
            Script::Decided(decide) => Some(decide.clone()),
            Script::Answers { .. } => None,
        };
        drop(state);
        self.changed.notify_all();
        match (scripted, decide) {
            (Some(answer), _) => answer,
            (None, Some(decide)) => Arc::new(decide(&request)),
            // The next one waits for a new connection: this one is over.
            (None, None) => Arc::new(Answer::close()),
        }
    }

    fn greet(&self) -> Option<Arc<Answer>> {
        self.lock().next(Answer::is_unasked)
    }
}

impl Endpoint {
    /// Answers every request with 200.
    ///
    /// # Panics
    /// There is no socket or thread to be had.
    #[track_caller]
    pub fn start() -> Self {
        Self::answering([200])
    }

    /// Answers successive requests so; the last answer repeats.
    ///
    /// # Panics
    /// There is no socket or thread to be had.
    #[track_caller]
    pub fn answering<A: Into<Answer>>(answers: impl IntoIterator<Item = A>) -> Self {
        Self::listening(Script::of(answers), None)
    }

    /// Answers each request as `decide` says, which is called on the endpoint's thread.
    ///
    /// ```
    /// use spec_notify::testing::{Answer, Endpoint};
    ///
    /// let endpoint = Endpoint::deciding(|request| match request.attempt() {
    ///     Some(1) => Answer::status(500),
    ///     _ => Answer::status(200),
    /// });
    /// ```
    ///
    /// # Panics
    /// There is no socket or thread to be had.
    #[track_caller]
    pub fn deciding(decide: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Self {
        Self::listening(Script::Decided(Arc::new(decide)), None)
    }

    /// As [`answering`](Self::answering), over TLS.
    ///
    /// # Panics
    /// There is no socket or thread to be had, or OpenSSL cannot use the settings.
    #[track_caller]
    pub fn over_tls<A: Into<Answer>>(tls: &Tls, answers: impl IntoIterator<Item = A>) -> Self {
        Self::listening(Script::of(answers), Some(needed("TLS", tls.acceptor())))
    }

    /// Refuses connections until it is [repaired](Self::repair). Its port is taken, so that nobody
    /// else gets it.
    ///
    /// # Panics
    /// There is no socket to be had.
    #[track_caller]
    pub fn down() -> Self {
        let refusing = needed("a port that refuses", Refusing::new());
        Self::at(refusing.address(), Heard::of(Script::of([200])), false, Place::Refusing(refusing))
    }

    #[track_caller]
    fn listening(script: Script, tls: Option<SslAcceptor>) -> Self {
        let listener = needed("a port on loopback", TcpListener::bind((Ipv4Addr::LOCALHOST, 0)));
        let (heard, is_tls) = (Heard::of(script), tls.is_some());
        let receiver = needed("an endpoint", Receiver::start(listener, tls, heard.clone()));
        Self::at(receiver.address(), heard, is_tls, Place::Receiving(receiver))
    }

    fn at(address: SocketAddr, heard: Arc<Heard>, is_tls: bool, place: Place) -> Self {
        Self { address, is_tls, patience: PATIENCE, heard, place: Mutex::new(place) }
    }

    /// Waits so long in the place of [`PATIENCE`].
    #[must_use]
    pub fn with_patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL to subscribe with: `http://127.0.0.1:PORT/hook`.
    pub fn url(&self) -> String {
        self.url_of("/hook")
    }

    /// The same with another path, which begins with a slash. Every path is answered.
    pub fn url_of(&self, path: &str) -> String {
        format!("{}://{}{path}", if self.is_tls { "https" } else { "http" }, self.address)
    }

    /// From now on it answers successive requests so; the last answer repeats. One that is down
    /// listens.
    ///
    /// # Panics
    /// It is down and cannot listen.
    #[track_caller]
    pub fn repair<A: Into<Answer>>(&self, answers: impl IntoIterator<Item = A>) {
        self.heard.lock().script = Script::of(answers);
        let mut place = self.place();
        let listener = match &*place {
            Place::Refusing(refusing) => needed("to listen", refusing.listen()),
            Place::Receiving(_) => return,
        };
        let receiver = Receiver::start(listener, None, self.heard.clone());
        *place = Place::Receiving(needed("an endpoint", receiver));
    }

    /// Lets every answer that is [held](Answer::held) be said, now and from now on.
    pub fn release(&self) {
        if let Place::Receiving(receiver) = &*self.place() {
            receiver.release();
        }
    }

    /// The requests that came so far, in the order in which they came.
    pub fn requests(&self) -> Vec<Request> {
        self.heard.lock().requests.clone()
    }

    /// How many connections were made to it.
    pub fn connections(&self) -> usize {
        self.ask(Receiver::connections)
    }

    /// The most requests that waited for their answer at one time.
    pub fn most_waiting(&self) -> usize {
        self.ask(Receiver::most_waiting)
    }

    /// Waits until so many requests have come, and returns all that have.
    ///
    /// # Panics
    /// They do not come within the patience; the message shows what did.
    #[track_caller]
    pub fn wait_for(&self, count: usize) -> Vec<Request> {
        let (is_met, requests) = self.wait(|requests| requests.len() >= count);
        assert!(is_met, "no {count} requests within {:?}, but {}", self.patience, list(&requests));
        requests
    }

    /// Waits until what came meets a condition, and returns it.
    ///
    /// ```no_run
    /// # let endpoint = spec_notify::testing::Endpoint::start();
    /// endpoint.wait_until(|requests| requests.iter().any(|request| request.attempt() == Some(3)));
    /// ```
    ///
    /// # Panics
    /// It does not within the patience; the message shows what came.
    #[track_caller]
    pub fn wait_until(&self, condition: impl Fn(&[Request]) -> bool) -> Vec<Request> {
        let (is_met, requests) = self.wait(condition);
        assert!(is_met, "not as expected within {:?}, but {}", self.patience, list(&requests));
        requests
    }

    fn wait(&self, condition: impl Fn(&[Request]) -> bool) -> (bool, Vec<Request>) {
        let unmet = |state: &mut State| !condition(&state.requests);
        let waited = self.heard.changed.wait_timeout_while(self.heard.lock(), self.patience, unmet);
        let (state, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        (!timeout.timed_out(), state.requests.clone())
    }

    fn place(&self) -> MutexGuard<'_, Place> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ask(&self, question: impl Fn(&Receiver) -> usize) -> usize {
        match &*self.place() {
            Place::Receiving(receiver) => question(receiver),
            Place::Refusing(_) => 0,
        }
    }
}

impl Heard {
    fn of(script: Script) -> Arc<Self> {
        let state = State { requests: Vec::new(), script };
        Arc::new(Self { state: Mutex::new(state), changed: Condvar::new() })
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint").field("url", &self.url()).finish_non_exhaustive()
    }
}

/// What came, a line each.
pub(super) fn list(requests: &[Request]) -> String {
    let lines: String =
        (1..).zip(requests).map(|(number, request)| format!("\n  {number}. {request}")).collect();
    match requests.len() {
        0 => "none came".to_owned(),
        count => format!("{count} came:{lines}"),
    }
}
