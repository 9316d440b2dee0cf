//! The endpoint of the benches: a process of its own on a core of its own, which answers every
//! POST with 200 and remembers when it came. One to `/dead…` is read and never answered, one to
//! `/slow…` after a second and a half.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::time::Duration;

use actix_rt::net::{TcpListener, TcpStream};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::machine::{Core, now, on_core, wait_for};

/// The argument that makes this program the receiver.
pub(super) const ARGUMENT: &str = "receive-for-the-bench";

/// How often it is asked while something is waited for: seldom enough to leave its core alone.
const PAUSE: Duration = Duration::from_millis(5);

/// How long a slow endpoint takes.
const SLOW: Duration = Duration::from_millis(1500);

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
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", self.port)).expect("the receiver");
        stream.write_all(b"GET / HTTP/1.1\r\n\r\n").expect("the receiver reads");
        stream.read_to_string(&mut text).expect("the receiver answers");
        let (_, lines) = text.split_once("\r\n\r\n").expect("an answer has a head");
        let arrival = |line: &str| {
            let (at, id) = line.split_once(' ')?;
            Some(Arrival { at: at.parse().ok()?, id: id.to_owned() })
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

type Arrivals = Rc<RefCell<Vec<Arrival>>>;

/// Serves until it is killed.
pub(super) fn serve() -> io::Result<()> {
    actix_rt::System::new().block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        println!("{}", listener.local_addr()?.port());
        io::stdout().flush()?;
        let arrivals = Arrivals::default();
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            actix_rt::spawn(converse(stream, arrivals.clone()));
        }
    })
}

/// What a request's head says.
struct Head {
    bytes: usize,
    body_bytes: usize,
    is_post: bool,
    is_dead: bool,
    is_slow: bool,
    id: String,
}

async fn converse(mut stream: TcpStream, arrivals: Arrivals) -> io::Result<()> {
    let mut buffer = Vec::with_capacity(16 * 1024);
    loop {
        let Some(head) = parse(&buffer)? else {
            if stream.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
            continue;
        };
        let at = now();
        while buffer.len() < head.bytes + head.body_bytes {
            if stream.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        }
        buffer.drain(..head.bytes + head.body_bytes);
        if !head.is_post {
            return tell(&mut stream, &arrivals).await;
        }
        arrivals.borrow_mut().push(Arrival { at, id: head.id });
        if head.is_slow {
            actix_rt::time::sleep(SLOW).await;
        }
        if !head.is_dead {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await?;
        }
    }
}

fn parse(buffer: &[u8]) -> io::Result<Option<Head>> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut request = httparse::Request::new(&mut headers);
    let httparse::Status::Complete(bytes) = request.parse(buffer).map_err(io::Error::other)? else {
        return Ok(None);
    };
    let header = |name: &str| {
        let found = request.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(found.value).ok()
    };
    Ok(Some(Head {
        bytes,
        body_bytes: header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0),
        is_post: request.method == Some("POST"),
        is_dead: request.path.is_some_and(|path| path.starts_with("/dead")),
        is_slow: request.path.is_some_and(|path| path.starts_with("/slow")),
        id: header("x-speckit-id").unwrap_or("-").to_owned(),
    }))
}

/// Answers with what came, forgets it, and closes the connection.
async fn tell(stream: &mut TcpStream, arrivals: &Arrivals) -> io::Result<()> {
    let mut text = "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n".to_owned();
    for Arrival { at, id } in arrivals.take() {
        writeln!(text, "{at:.7} {id}").map_err(io::Error::other)?;
    }
    stream.write_all(text.as_bytes()).await
}
