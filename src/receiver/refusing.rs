//! A port that is taken, so that nobody else gets it, and refuses connections.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener};
use std::os::fd::OwnedFd;

use rustix::net::{self, AddressFamily, SocketType};

/// Connections that may wait to be taken, once it listens.
const BACKLOG: i32 = 128;

/// A port on loopback on which nothing listens.
#[derive(Debug)]
pub(crate) struct Refusing {
    socket: OwnedFd,
    address: SocketAddr,
}

impl Refusing {
    /// Takes any port that is free.
    ///
    /// # Errors
    /// There is no socket to be had.
    pub(crate) fn new() -> io::Result<Self> {
        let socket = net::socket(AddressFamily::INET, SocketType::STREAM, None)?;
        net::bind(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0))?;
        let address = SocketAddr::try_from(net::getsockname(&socket)?)?;
        Ok(Self { socket, address })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Listens from now on.
    ///
    /// # Errors
    /// The system does not let it.
    pub(crate) fn listen(&self) -> io::Result<TcpListener> {
        net::listen(&self.socket, BACKLOG)?;
        Ok(self.socket.try_clone()?.into())
    }
}
