//! The endpoint of the benches: the house's receiver in a process of its own on a core of its own,
//! which answers every POST with 200 and remembers when it came, and where. One to `/dead…` is read
//! and never answered, one to `/slow…` after a second and a half.

use std::fmt::Write as _;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use spec_notify::internals;
use spec_notify::testing::{Answer, Request};

use super::machine::{Core, now, on_core, wait_for};

/// The argument that makes this program the receiver.
pub(super) const ARGUMENT: &str = "receive-for-the-bench";

/// How often it is asked while something is waited for: seldom enough to leave its core alone.
const PAUSE: Duration = Duration::from_millis(5);

/// How long a slow endpoint takes.
const SLOW: Duration = Duration::from_millis(1500);

/// Connections that may wait to be taken.
const BACKLOG: i32 = 1024;

/// The receiver's process; killed when dropped.
pub(super) struct Receiver {
    child: Child,
    port: u16,
}

/// One POST, as it was received.
#[derive(Clone)]
pub(super) struct Arrival {
    /// Seconds since the epoch.
    pub(super) at: f64,
    /// The delivery's id; `-` where there is none.
    pub(super) id: String,
    /// What of the endpoint it was sent to.
    pub(super) path: String,
}

impl Receiver {
    pub(super) fn spawn() -> io::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(ARGUMENT).stdout(Stdio::piped());
        let mut child = on_core(Core::Last, || command.spawn())?;
        let stdout = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        let port = line.trim().parse().map_err(io::Error::other)?;
        Ok(Self { child, port })
    }

    /// Where it listens, with a path.
    pub(super) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}/{path}", self.port)
    }

    /// What came since this was last asked.
    pub(super) fn take(&self) -> Vec<Arrival> {
        let mut text = String::new();
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("the receiver");
        stream.write_all(b"GET / HTTP/1.1\r\n\r\n").expect("the receiver reads");
        stream.read_to_string(&mut text).expect("the receiver answers");
        let (_, lines) = text.split_once("\r\n\r\n").expect("an answer has a head");
        let arrival = |line: &str| {
            let (at, rest) = line.split_once(' ')?;
            let (id, path) = rest.split_once(' ')?;
            Some(Arrival { at: at.parse().ok()?, id: id.to_owned(), path: path.to_owned() })
        };
        lines.lines().map(|line| arrival(line).expect("an arrival")).collect()
    }

    /// What comes until there are `count`.
    pub(super) fn wait_for(&self, count: usize) -> Vec<Arrival> {
        let mut arrivals = Vec::new();
        wait_for("requests to arrive", PAUSE, || {
            arrivals.extend(self.take());
            (arrivals.len() >= count).then_some(())
        });
        arrivals
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Remembers what came, and says so to a GET.
struct Remembering {
    arrivals: Mutex<Vec<Arrival>>,
    ok: Arc<Answer>,
    never: Arc<Answer>,
    late: Arc<Answer>,
}

impl internals::Handler for Remembering {
    fn answer(&self, request: Request) -> Arc<Answer> {
        if request.method() != "POST" {
            return Arc::new(self.told());
        }
        let id = request.header("x-speckit-id").unwrap_or("-").to_owned();
        let path = request.target().to_owned();
        self.arrivals.lock().expect("the arrivals").push(Arrival { at: now(), id, path });
        match request.target() {
            path if path.starts_with("/dead") => self.never.clone(),
            path if path.starts_with("/slow") => self.late.clone(),
            _ => self.ok.clone(),
        }
    }
}

impl Remembering {
    /// What came since it was asked last; the connection is closed after it.
    fn told(&self) -> Answer {
        let mut text = String::new();
        for Arrival { at, id, path } in self.arrivals.lock().expect("the arrivals").drain(..) {
            writeln!(text, "{at:.7} {id} {path}").expect("a text takes more");
        }
        Answer::status(200).body(text).then_close()
    }
}

/// Serves until it is killed.
pub(super) fn serve() -> io::Result<()> {
    let remembering = Remembering {
        arrivals: Mutex::default(),
        ok: Arc::new(Answer::status(200)),
        never: Arc::new(Answer::hang()),
        late: Arc::new(Answer::status(200).after(SLOW)),
    };
    let listener = TcpListener::bind("127.0.0.1:0")?;
    // A sender may make many connections at a time; what it waits for a lost one is not its own.
    rustix::net::listen(&listener, BACKLOG)?;
    let receiver = internals::Receiver::start(listener, None, remembering)?;
    println!("{}", receiver.address().port());
    io::stdout().flush()?;
    loop {
        thread::park();
    }
}
