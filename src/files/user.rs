//! Users of this machine: the user named in the evidence of a replay, and the owner checks of a
//! spool.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::OnceLock;

use crate::files;

/// This process's user: the name, if `/etc/passwd` has it, else the number.
pub(crate) fn name() -> &'static str {
    static NAME: OnceLock<String> = OnceLock::new();
    NAME.get_or_init(|| name_of(own()))
}

/// Refuses a file of another user, because its content cannot be trusted.
///
/// # Errors
/// It belongs to another user, or cannot be looked at.
pub(crate) fn check_owner(path: &Path) -> io::Result<()> {
    let owner = fs::metadata(path)?.uid();
    if owner == own() {
        return Ok(());
    }
    let owner = name_of(owner);
    Err(io::Error::new(
        io::ErrorKind::PermissionDenied,
        format!("it belongs to another user ({owner}, this is {}): run this as {owner}", name()),
    ))
}

/// Checks that this user can read a spool. Another user's files are usually readable only by root;
/// unreadable files of the user's own are reported one by one elsewhere. A missing spool passes.
///
/// # Errors
/// The spool cannot be looked at, or belongs to another user and something in it cannot be read.
pub(crate) fn check_readable(spool_dir: &Path) -> io::Result<()> {
    let is_denied = |error: &io::Error| error.kind() == io::ErrorKind::PermissionDenied;
    // Not even the owner can be seen: this is all that can be said.
    let unseen = |error: io::Error| {
        io::Error::new(error.kind(), format!("{error}; run this as the user who runs spec-notify serve"))
    };
    let is_own = match fs::metadata(spool_dir) {
        Ok(found) => found.uid() == own(),
        Err(error) if is_denied(&error) => return Err(unseen(error)),
        Err(_) => return Ok(()),
    };
    let looked = fs::read_dir(spool_dir).and_then(|mut entries| match is_own {
        true => Ok(()),
        false => entries.try_for_each(|entry| can_read(&entry?)),
    });
    match looked {
        Err(error) if is_denied(&error) && is_own => Err(unseen(error)),
        Err(error) if is_denied(&error) => check_owner(spool_dir),
        // Removed meanwhile or damaged: the reader of the file reports it.
        _ => Ok(()),
    }
}

fn can_read(entry: &fs::DirEntry) -> io::Result<()> {
    match entry.file_type()? {
        kind if kind.is_dir() => fs::read_dir(entry.path()).map(drop),
        kind if kind.is_file() => files::open_to_read(&entry.path()).map(drop),
        _ => Ok(()),
    }
}

/// This process's effective user id.
pub(crate) fn own() -> u32 {
    rustix::process::geteuid().as_raw()
}

fn name_of(id: u32) -> String {
    let id = id.to_string();
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    name_in(&users, &id).map_or_else(|| id.clone(), str::to_owned)
}

fn name_in<'a>(users: &'a str, id: &str) -> Option<&'a str> {
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        (fields.nth(1)? == id).then_some(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_known_by_the_third_field() {
        let users = "root:x:0:0:root:/root:/bin/sh\n\nodd\n:x:7:\nada:1000:1001:1000::/home/ada:\n";
        assert_eq!(name_in(users, "1001"), Some("ada"));
        assert_eq!(name_in(users, "0"), Some("root"));
        for unknown in ["1000", "7", "", "root"] {
            assert_eq!(name_in(users, unknown), None);
        }
        assert!(!name().is_empty());
    }
}
