//! Why a spool cannot be opened, or something of it not be read.

use std::io;
use std::path::PathBuf;

use crate::files::FileError;

/// Why something of the spool was not read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unreadable {
    /// It is gone or damaged: no other attempt mends that.
    #[error("{0}")]
    Gone(FileError),
    /// The disk said no: it may say yes later.
    #[error("{0}")]
    NotNow(FileError),
}

/// Why the spool could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process owns it.
    #[error("another runtime owns the spool {}: stop it, or send events through it", .0.display())]
    Locked(PathBuf),
    /// A spool written by a later version.
    #[error("{} was written by a later version (format {version}): it is left untouched; \
             use that version of spec-notify", path.display())]
    Newer {
        /// Which file.
        path: PathBuf,
        /// The format it says it has.
        version: u32,
    },
    /// A spool of another user.
    #[error("cannot use the spool {}: {}", .0.display(), .1)]
    Foreign(PathBuf, io::Error),
    /// The disk said no.
    #[error("{0}; check that the spool and evidence directories exist and can be written")]
    Io(#[from] FileError),
}
