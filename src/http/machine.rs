//! Faults of this machine, which keep any request from leaving it whatever the endpoint is
//! (`docs/explain/delivery.md`).

use std::error::Error;
use std::io;
use std::net::UdpSocket;

use rustix::io::Errno;

/// A resource that this machine lacks, and what to do about it.
pub(super) struct Lack {
    pub(super) message: &'static str,
    pub(super) hint: &'static str,
}

/// The resource that this machine lacks, if the error says so.
pub(super) fn lack(error: &(dyn Error + 'static)) -> Option<Lack> {
    let error: &io::Error = error.downcast_ref()?;
    let (message, hint) = match Errno::from_raw_os_error(error.raw_os_error()?) {
        Errno::MFILE => (
            "this process has as many files open as it may",
            "raise its limit (ulimit -n, LimitNOFILE), or lower max_concurrency",
        ),
        Errno::NFILE => {
            ("this machine has as many files open as it may", "see who holds them, or raise fs.file-max")
        }
        Errno::NOBUFS | Errno::NOMEM => {
            ("this machine has no memory for another connection", "see what takes its memory")
        }
        Errno::ADDRNOTAVAIL => (
            "this machine has no free port for another connection",
            "see who holds them (ss -s), or widen net.ipv4.ip_local_port_range",
        ),
        Errno::NETUNREACH | Errno::NETDOWN => {
            ("this machine has no network that leads there", "see that it is connected (ip route)")
        }
        _ => return None,
    };
    Some(Lack { message, hint })
}

/// Why nothing can leave this machine, if that is so; asked when a name does not resolve. Sends no
/// packet.
pub(super) fn cut_off() -> Option<Lack> {
    // Addresses reserved for documentation (RFC 5737, RFC 3849): only a default route leads there.
    let tried = [("0.0.0.0:0", "192.0.2.1:53"), ("[::]:0", "[2001:db8::1]:53")]
        .map(|(from, to)| UdpSocket::bind(from).and_then(|socket| socket.connect(to)));
    match &tried {
        [Err(first), Err(_)] => lack(first),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_of_this_machine_is_told_from_one_of_the_endpoint() {
        let is_lack = |errno: Errno| lack(&io::Error::from(errno)).is_some();
        for errno in [
            Errno::MFILE,
            Errno::NFILE,
            Errno::NOBUFS,
            Errno::NOMEM,
            Errno::ADDRNOTAVAIL,
            Errno::NETUNREACH,
            Errno::NETDOWN,
        ] {
            assert!(is_lack(errno), "{errno}");
        }
        for errno in
            [Errno::CONNREFUSED, Errno::CONNRESET, Errno::HOSTUNREACH, Errno::TIMEDOUT, Errno::ACCESS]
        {
            assert!(!is_lack(errno), "{errno}");
        }
    }
}
