//! A terminal without a person: what a program does there, and when the terminal goes away.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt as _;
use std::process::{Child, Command};

use rustix::fs::{OFlags, fcntl_setfl};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Action, Winsize, tcflow, tcsetwinsize};

use super::wait_for;

/// The end of a terminal that a person would sit at. Dropped, the terminal is gone.
pub(crate) struct Terminal {
    ours: File,
    theirs: File,
    shown: String,
}

impl Terminal {
    pub(crate) fn open() -> Self {
        Self::of_columns(80)
    }

    pub(crate) fn of_columns(columns: u16) -> Self {
        let ours: OwnedFd = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&ours).unwrap();
        unlockpt(&ours).unwrap();
        fcntl_setfl(&ours, OFlags::NONBLOCK).unwrap();
        let path = ptsname(&ours, Vec::new()).unwrap().into_string().unwrap();
        tcsetwinsize(&ours, Winsize { ws_row: 24, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
        let theirs = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(OFlags::NOCTTY.bits().cast_signed())
            .open(path)
            .unwrap();
        Self { ours: ours.into(), theirs, shown: String::new() }
    }

    /// Starts a command whose input, results and words are this terminal.
    pub(crate) fn start(&self, command: &mut Command) -> Child {
        let end = || self.theirs.try_clone().unwrap();
        command.stdin(end()).stdout(end()).stderr(end()).spawn().unwrap()
    }

    /// Types.
    pub(crate) fn type_in(&mut self, keys: &str) {
        self.ours.write_all(keys.as_bytes()).unwrap();
    }

    /// Takes nothing more that is written to it, as after Ctrl-S.
    pub(crate) fn stand_still(&self) {
        tcflow(&self.theirs, Action::OOff).unwrap();
    }

    /// All that was shown so far.
    pub(crate) fn shown(&self) -> &str {
        &self.shown
    }

    /// Waits until the terminal shows this.
    pub(crate) fn wait_for_text(&mut self, text: &str) {
        wait_for(text, || {
            self.read_on();
            self.shown.contains(text).then_some(())
        });
    }

    /// Takes what is shown more by now.
    pub(crate) fn read_on(&mut self) {
        let mut some = [0; 4096];
        if let Ok(read) = self.ours.read(&mut some) {
            self.shown += &String::from_utf8_lossy(&some[..read]);
        }
    }
}

/// Sends a process a signal.
pub(crate) fn kill(signal: &str, child: &Child) {
    let sent = Command::new("kill").args([&format!("-{signal}"), &child.id().to_string()]).status();
    assert!(sent.unwrap().success());
}

/// Waits until a process has ended by itself; returns its exit code.
pub(crate) fn wait_for_end(what: &str, child: &mut Child) -> Option<i32> {
    wait_for(what, || child.try_wait().unwrap()).code()
}
