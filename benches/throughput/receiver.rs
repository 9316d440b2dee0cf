//! The endpoint of the bench: a process of its own that answers every POST with 200 and counts.

use std::cell::Cell;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Stdio};
use std::rc::Rc;

use actix_rt::net::{TcpListener, TcpStream};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// The argument that makes this program the receiver.
pub(super) const ARGUMENT: &str = "receive-for-the-bench";

/// The receiver's process; killed when dropped.
pub(super) struct Receiver {
    child: Child,
    pub(super) port: u16,
}

impl Receiver {
    pub(super) fn spawn() -> io::Result<Self> {
        let mut child =
            Command::new(std::env::current_exe()?).arg(ARGUMENT).stdout(Stdio::piped()).spawn()?;
        let stdout = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        let port = line.trim().parse().map_err(io::Error::other)?;
        Ok(Self { child, port })
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Serves until it is killed. `GET` is answered with how many POSTs have come.
pub(super) fn serve() -> io::Result<()> {
    actix_rt::System::new().block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        println!("{}", listener.local_addr()?.port());
        io::stdout().flush()?;
        let posts = Rc::new(Cell::new(0));
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            actix_rt::spawn(converse(stream, posts.clone()));
        }
    })
}

async fn converse(mut stream: TcpStream, posts: Rc<Cell<usize>>) -> io::Result<()> {
    let mut buffer = Vec::with_capacity(16 * 1024);
    loop {
        let mut headers = [httparse::EMPTY_HEADER; 32];
        let mut request = httparse::Request::new(&mut headers);
        let parsed = request.parse(&buffer).map_err(io::Error::other)?;
        if let httparse::Status::Complete(head) = parsed {
            let length =
                request.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"));
            let length =
                length.and_then(|header| std::str::from_utf8(header.value).ok()?.parse().ok()).unwrap_or(0);
            let is_post = request.method == Some("POST");
            while buffer.len() < head + length {
                if stream.read_buf(&mut buffer).await? == 0 {
                    return Ok(());
                }
            }
            buffer.drain(..head + length);
            let body = if is_post { String::new() } else { posts.get().to_string() };
            posts.set(posts.get() + usize::from(is_post));
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
            stream.write_all(answer.as_bytes()).await?;
        } else if stream.read_buf(&mut buffer).await? == 0 {
            return Ok(());
        }
    }
}
