//! The program as a process of a test.

use std::fs::OpenOptions;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use super::needed;
use crate::files::open::{self, Links};

/// Most that is read of a log, in bytes.
const MAX_LOG: u64 = 64 * 1024 * 1024;

/// A process that runs until it is ended, whose output is a file. Killed when dropped.
#[derive(Debug)]
pub struct Serve {
    child: Child,
    log: PathBuf,
}

impl Serve {
    /// Starts a command whose output and errors are added to a file.
    ///
    /// # Panics
    /// It cannot be started, or the file not be written.
    #[track_caller]
    pub fn spawn(command: &mut Command, log: PathBuf) -> Self {
        let opened = || -> std::io::Result<Stdio> {
            Ok(open::with(&log, Links::Refused, OpenOptions::new().create(true).append(true))?.into())
        };
        let (out, err) = (needed("a log", opened()), needed("a log", opened()));
        let child = needed("the program", command.stdout(out).stderr(err).spawn());
        Self { child, log }
    }

    /// The id of the process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has said so far.
    pub fn log(&self) -> String {
        let bytes = open::start(&self.log, Links::Refused, MAX_LOG).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// SIGKILL, as a crash is.
    pub fn kill(mut self) {
        self.end();
    }

    /// SIGTERM: it may finish what is under way. Returns its exit code, -1 where a signal ended it,
    /// and what it said.
    ///
    /// # Panics
    /// It cannot be waited for.
    #[track_caller]
    pub fn terminate(mut self) -> (i32, String) {
        // It may have ended by itself.
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        pid.map(|pid| kill_process(pid, Signal::TERM));
        let status = needed("the program's end", self.child.wait());
        (status.code().unwrap_or(-1), self.log())
    }

    #[track_caller]
    pub(super) fn assert_runs(&mut self) {
        let ended = needed("the program", self.child.try_wait());
        assert!(ended.is_none(), "it ended: {ended:?}: {}", self.log());
    }

    fn end(&mut self) {
        // It may have ended by itself.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Drop for Serve {
    fn drop(&mut self) {
        self.end();
    }
}
