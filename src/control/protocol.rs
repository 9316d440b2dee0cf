//! The messages of the control port after the handshake: one JSON object per line.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::handshake::Token;
use crate::files::read_small;
use crate::files::user::check_owner;

/// Longest line, in bytes, its newline included.
pub(super) const MAX_LINE: usize = 1024 * 1024;

/// `<spool_dir>/runtime.json`: where the runtime is, and the token to reach it. Readable by its
/// owner alone.
#[derive(Clone, Serialize, Deserialize)]
pub struct RuntimeFile {
    /// The runtime's process.
    pub pid: u32,
    /// `127.0.0.1:<port>`.
    pub address: String,
    /// The secret that both ends prove to know; never sent.
    pub token: Token,
    /// The program's version.
    pub version: String,
    /// The version of what is spoken on the port: `docs/reference/control-port.md`.
    #[serde(default = "first_protocol")]
    pub protocol: u32,
}

/// The version of a runtime that does not state one.
fn first_protocol() -> u32 {
    1
}

impl fmt::Debug for RuntimeFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RuntimeFile({}, {})", self.pid, self.address)
    }
}

/// Where a spool's `runtime.json` is.
pub(crate) fn runtime_file(spool_dir: &Path) -> PathBuf {
    spool_dir.join("runtime.json")
}

impl RuntimeFile {
    /// Reads the `runtime.json` of a spool.
    ///
    /// # Errors
    /// There is none, it is not one, or another user made it.
    pub fn read(spool_dir: &Path) -> io::Result<Self> {
        let path = runtime_file(spool_dir);
        check_owner(&path)?;
        Ok(serde_json::from_slice(&read_small(&path)?)?)
    }
}

/// Every answer.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Reply<T> {
    /// What was asked for.
    Ok(T),
    /// Why it was not done.
    Error(String),
}
