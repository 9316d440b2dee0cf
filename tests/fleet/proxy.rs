//! A proxy before a node that cuts a connection between two statements of a transaction, before or
//! after its COMMIT: as the death of a member or of the network would.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// What begins a transaction that holds a lease.
const FENCE: &[u8] = b"SELECT name, epoch FROM spec_notify.lease";

/// When to cut.
#[derive(Clone, Copy, Debug)]
struct Armed {
    /// Transactions with a lease that are let through before.
    skip: usize,
    /// Statements of the one after them that reach the node.
    statements: usize,
    /// Whether the connection stays, and nothing goes on, instead of being cut.
    holds: bool,
}

#[derive(Clone, Default)]
pub(crate) struct Scissors(Arc<Mutex<(Option<Armed>, usize)>>);

impl Scissors {
    /// Cuts the transaction after the next `skip` ones once `statements` of it have reached the
    /// node.
    pub(crate) fn arm(&self, skip: usize, statements: usize) {
        self.0.lock().unwrap().0 = Some(Armed { skip, statements, holds: false });
    }

    /// Lets nothing more through of the next transaction once `statements` of it have reached the
    /// node, which hears nothing of it any more.
    pub(crate) fn hold(&self, statements: usize) {
        self.0.lock().unwrap().0 = Some(Armed { skip: 0, statements, holds: true });
    }

    /// Takes what was armed back; whether it had not cut.
    pub(crate) fn disarm(&self) -> bool {
        self.0.lock().unwrap().0.take().is_some()
    }

    /// How many connections were cut since this was asked last.
    pub(crate) fn cuts(&self) -> usize {
        std::mem::take(&mut self.0.lock().unwrap().1)
    }
}

/// Listens before a node; answers with the port.
pub(crate) fn before(node: u16, scissors: &Scissors) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let scissors = scissors.clone();
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let scissors = scissors.clone();
            thread::spawn(move || {
                let Ok(server) = TcpStream::connect(("127.0.0.1", node)) else { return };
                let (mut from, mut to) = (server.try_clone().unwrap(), client.try_clone().unwrap());
                let back = thread::spawn(move || {
                    drop(io::copy(&mut from, &mut to));
                    drop(to.shutdown(Shutdown::Both));
                });
                drop(forward(&client, &server, &scissors));
                drop((client.shutdown(Shutdown::Both), server.shutdown(Shutdown::Both)));
                back.join().unwrap();
            });
        }
    });
    port
}

/// One message of the client's: its type, if it has one, and all its bytes.
fn message(mut client: &TcpStream, has_type: bool) -> io::Result<(u8, Vec<u8>)> {
    let mut head = vec![0; if has_type { 5 } else { 4 }];
    client.read_exact(&mut head)?;
    let kind = if has_type { head[0] } else { 0 };
    let length = u32::from_be_bytes(head[head.len() - 4..].try_into().unwrap()) as usize - 4;
    let start = head.len();
    head.resize(start + length, 0);
    client.read_exact(&mut head[start..])?;
    Ok((kind, head))
}

fn forward(client: &TcpStream, mut server: &TcpStream, scissors: &Scissors) -> io::Result<()> {
    let mut has_type = false;
    // Statements that are left until the cut; none while nothing is to be cut.
    let mut left: Option<usize> = None;
    let mut is_held = false;
    loop {
        let (kind, bytes) = message(client, has_type)?;
        has_type = true;
        if kind == b'P' && bytes.windows(FENCE.len()).any(|part| part == FENCE) {
            let mut armed = scissors.0.lock().unwrap();
            match armed.0 {
                Some(Armed { skip: 0, statements, holds }) => {
                    (left, is_held) = (Some(statements), holds);
                    armed.0 = None;
                }
                Some(Armed { skip, .. }) => armed.0.iter_mut().for_each(|armed| armed.skip = skip - 1),
                None => {}
            }
        }
        // The end of a statement: Sync, or a simple query such as COMMIT.
        if kind == b'S' || kind == b'Q' {
            if left == Some(0) {
                scissors.0.lock().unwrap().1 += 1;
                if is_held {
                    loop {
                        thread::park();
                    }
                }
                return Ok(());
            }
            let is_commit = kind == b'Q' && bytes.windows(6).any(|part| part == b"COMMIT");
            server.write_all(&bytes)?;
            if is_commit && left == Some(1) {
                // It reaches the node, and its answer reaches nobody.
                server.flush()?;
                scissors.0.lock().unwrap().1 += 1;
                return Ok(());
            }
            left = if is_commit { None } else { left.map(|left| left - 1) };
            continue;
        }
        server.write_all(&bytes)?;
    }
}
