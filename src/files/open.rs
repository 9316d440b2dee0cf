//! Opens every file that is read. A FIFO, a device, a folder, a refused link or an endless file in
//! its place gives an error: no blocking, and no unbounded memory.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::OFlags;
use rustix::io::Errno;

/// How a symbolic link in a file's place is treated. Links in the path above it are the user's
/// choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Links {
    /// Followed: the user named the path.
    Followed,
    /// Refused: the path is this program's, or others may have put the link there.
    Refused,
}

/// Opens a file for reading.
///
/// # Errors
/// It does not exist, or is not a regular file.
pub(crate) fn to_read(path: &Path, links: Links) -> io::Result<File> {
    with(path, links, OpenOptions::new().read(true))
}

/// Opens a file with these options; refuses what is not a regular file.
pub(crate) fn with(path: &Path, links: Links, options: &mut OpenOptions) -> io::Result<File> {
    // Without these flags, opening a FIFO would block until the other end opens, and a terminal
    // could become the controlling one.
    let mut flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    flags.set(OFlags::NOFOLLOW, links == Links::Refused);
    options.custom_flags(flags.bits().cast_signed());
    let file = options.open(path).map_err(|error| match (Errno::from_io_error(&error), links) {
        (Some(Errno::LOOP), Links::Refused) => {
            io::Error::other("a symbolic link is in its place; move it away")
        }
        (Some(Errno::ISDIR | Errno::NXIO), _) => no_file(links),
        _ => error,
    })?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(no_file(links)) }
}

fn no_file(links: Links) -> io::Error {
    io::Error::other(match links {
        Links::Followed => "it is no regular file",
        Links::Refused => "something else than a file is in its place; move it away",
    })
}

/// Reads the first `most` bytes of a file, or all of it.
///
/// # Errors
/// As [`to_read`], or it cannot be read.
pub(crate) fn start(path: &Path, links: Links, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    to_read(path, links)?.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Reads a whole file.
///
/// # Errors
/// As [`start`], or it has more than `most` bytes.
pub(crate) fn whole(path: &Path, links: Links, most: u64) -> io::Result<Vec<u8>> {
    let file = to_read(path, links)?;
    let too_large = || io::Error::other(format!("it has more than {most} bytes"));
    // Check the size before reading anything into memory.
    if file.metadata()?.len() > most {
        return Err(too_large());
    }
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most { Err(too_large()) } else { Ok(bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn what_is_no_file_of_a_bounded_length_is_an_error_and_never_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        std::fs::write(path("file"), "1234").unwrap();
        std::fs::create_dir(path("folder")).unwrap();
        let fifo = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, path("fifo"), rustix::fs::FileType::Fifo, fifo, 0).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(path("socket")).unwrap();
        for (link, target) in [("zero", "/dev/zero"), ("link", "file"), ("loop", "loop"), ("to-fifo", "fifo")]
        {
            symlink(target, path(link)).unwrap();
        }
        File::create(path("endless")).unwrap().set_len(1 << 40).unwrap();
        for links in [Links::Followed, Links::Refused] {
            assert_eq!(whole(&path("file"), links, 4).unwrap(), b"1234");
            assert_eq!(start(&path("file"), links, 2).unwrap(), b"12");
            assert_eq!(start(&path("endless"), links, 3).unwrap(), [0, 0, 0]);
            for (name, most) in [
                ("file", 3),
                ("endless", 1 << 30),
                ("folder", 9),
                ("fifo", 9),
                ("socket", 9),
                ("zero", 9),
                ("loop", 9),
                ("to-fifo", 9),
                ("none", 9),
            ] {
                assert!(whole(&path(name), links, most).is_err(), "{name}");
            }
        }
        assert_eq!(whole(&path("link"), Links::Followed, 4).unwrap(), b"1234");
        let refused = whole(&path("link"), Links::Refused, 4).unwrap_err().to_string();
        assert!(refused.contains("symbolic link"), "{refused}");
    }
}
