//! The least that a process can do to have an event accepted: the reference of `spec-notify emit`.

use std::fs;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::path::Path;

use spec_notify::control::RuntimeFile;

/// The argument that makes this program the client; the spool and a file with the event's JSON follow.
pub(super) const ARGUMENT: &str = "ask-for-the-bench";

/// Says the token, hands the event over as it stands in the file, and prints the answer.
pub(super) fn ask(spool: &str, event: &str) -> io::Result<()> {
    let runtime = RuntimeFile::read(Path::new(spool))?;
    let event = fs::read_to_string(event)?;
    let mut stream = BufReader::new(TcpStream::connect(&runtime.address)?);
    stream.get_ref().set_nodelay(true)?;
    exchange(&mut stream, &format!("{{\"version\":1,\"token\":\"{}\"}}\n", runtime.token))?;
    let answer = exchange(&mut stream, &format!("{{\"command\":\"emit\",\"event\":{}}}\n", event.trim()))?;
    print!("{answer}");
    if answer.contains("\"accepted\"") { Ok(()) } else { Err(io::Error::other(answer)) }
}

fn exchange(stream: &mut BufReader<TcpStream>, line: &str) -> io::Result<String> {
    stream.get_mut().write_all(line.as_bytes())?;
    let mut answer = String::new();
    stream.read_line(&mut answer)?;
    Ok(answer)
}
