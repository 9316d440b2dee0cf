//! Errors of opening a spool and of reading something in it.

use std::io;
use std::path::PathBuf;

use crate::files::FileError;

/// Why something in the spool could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unreadable {
    /// The record is gone or damaged: trying again does not help.
    #[error("{0}")]
    Gone(FileError),
    /// An I/O error: a later try may succeed.
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
    /// The spool was written by a later version.
    #[error("{} was written by a later version (format {version}): it is left untouched; \
             use that version of spec-notify", path.display())]
    Newer {
        /// The file of the later version.
        path: PathBuf,
        /// The format version it names.
        version: u32,
    },
    /// The spool belongs to another user.
    #[error("cannot use the spool {}: {}", .0.display(), .1)]
    Foreign(PathBuf, io::Error),
    /// An I/O error.
    #[error("{0}; check that the spool and evidence directories exist and can be written")]
    Io(#[from] FileError),
}
