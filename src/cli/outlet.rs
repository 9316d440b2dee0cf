//! Writes text to a stream whose reader may be slow or absent: a bounded queue and a thread. Text
//! that finds no room is dropped and counted, so the writer never waits for the reader. Each text
//! is written at once, and those of a flood together.

use std::collections::VecDeque;
use std::fmt::Display;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anstream::AutoStream;
use log::Level;
use rustix::event::{PollFd, PollFlags, poll};

use super::log_line::{LogFormat, LogLine};
use crate::clock;
use crate::names::counted;

/// Most bytes that wait: some ten thousand lines, which a pausing reader can catch up with.
const MOST: usize = 1024 * 1024;

/// Most bytes written at once, a longer text aside: so many a pipe takes whole, whoever else writes
/// to it (POSIX, `PIPE_BUF`).
const AT_ONCE: usize = if cfg!(target_os = "linux") { 4096 } else { 512 };

/// Texts that come one soon after the other before they are a flood.
const FLOOD: u32 = 32;

/// What is soon, and how long the thread rests in a flood: what comes meanwhile need not wake it,
/// which costs whoever logs more than the line does.
const REST: Duration = Duration::from_millis(10);

/// How long a flush waits while the reader takes nothing.
const PATIENCE: Duration = Duration::from_secs(1);

/// Output of the log and of the program's messages.
pub(super) static STDERR: Outlet = Outlet::new(|| io::stderr().as_fd().try_clone_to_owned().map(File::from));

/// Results of a program that must go on whether they are read or not.
pub(super) static STDOUT: Outlet = Outlet::new(|| io::stdout().as_fd().try_clone_to_owned().map(File::from));

/// A stream with its queue; see the module's documentation.
pub(super) struct Outlet {
    open: fn() -> io::Result<File>,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    /// The form of a line about lines that were dropped.
    format: LogFormat,
    waiting: VecDeque<Vec<u8>>,
    /// Bytes of the waiting texts.
    bytes: usize,
    /// Number of texts dropped since the last one that found room.
    dropped: usize,
    /// Number of writes that were made, or given up after an error.
    done: usize,
    is_writing: bool,
    has_thread: bool,
    /// Whether the thread waits for a text, and nobody has woken it.
    sleeps: bool,
    /// Whether it lets more come.
    rests: bool,
    /// Callers of `flush`: for them nothing rests.
    flushing: usize,
}

impl Outlet {
    const fn new(open: fn() -> io::Result<File>) -> Self {
        let state = State {
            format: LogFormat::Human,
            waiting: VecDeque::new(),
            bytes: 0,
            dropped: 0,
            done: 0,
            is_writing: false,
            has_thread: false,
            sleeps: false,
            rests: false,
            flushing: 0,
        };
        Self { open, state: Mutex::new(state), changed: Condvar::new() }
    }

    /// Sets the form of what the stream itself says: that lines were dropped.
    pub(super) fn speaks(&self, format: LogFormat) {
        self.state().format = format;
    }

    /// Queues a text that ends with a newline. The first call starts the thread.
    pub(super) fn write(&'static self, text: impl Into<Vec<u8>>) {
        let mut state = self.state();
        if !state.has_thread {
            let thread = thread::Builder::new().name("spec-notify-words".to_owned());
            state.has_thread = thread.spawn(|| self.work()).is_ok();
        }
        state.take(text.into());
        if std::mem::take(&mut state.sleeps) || (state.rests && state.is_half_full()) {
            self.changed.notify_all();
        }
    }

    /// Waits until everything is written, as long as the reader takes some of it within each
    /// second.
    pub(super) fn flush(&self) {
        let mut state = self.state();
        state.flushing += 1;
        self.changed.notify_all();
        while state.has_thread && !state.is_idle() {
            let before = state.done;
            let stands = |state: &mut State| state.done == before && !state.is_idle();
            let waited = self.changed.wait_timeout_while(state, PATIENCE, stands);
            let (now, out) = waited.unwrap_or_else(PoisonError::into_inner);
            state = now;
            if out.timed_out() {
                break;
            }
        }
        state.flushing -= 1;
    }

    /// The loop of the thread.
    fn work(&self) {
        let mut stream = (self.open)();
        let mut state = self.state();
        let (mut written, mut soon) = (Instant::now(), 0_u32);
        loop {
            if state.is_idle() {
                state.sleeps = true;
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                state.sleeps = false;
                continue;
            }
            let rest = REST.saturating_sub(written.elapsed());
            soon = if rest.is_zero() { 0 } else { soon.saturating_add(1) };
            if soon > FLOOD && state.bytes < AT_ONCE {
                state.rests = true;
                let rests = |state: &mut State| state.flushing == 0 && !state.is_half_full();
                let rested = self.changed.wait_timeout_while(state, rest, rests);
                state = rested.unwrap_or_else(PoisonError::into_inner).0;
                state.rests = false;
            }
            let Some(text) = state.next() else { continue };
            drop(state);
            if let Ok(stream) = &mut stream {
                // The error cannot be reported: this is where errors are reported.
                drop(write_all(stream, &text));
            }
            state = self.state();
            state.is_writing = false;
            state.done += 1;
            if state.flushing > 0 {
                self.changed.notify_all();
            }
            written = Instant::now();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn take(&mut self, text: Vec<u8>) {
        if self.bytes + text.len() > MOST {
            self.dropped += 1;
            return;
        }
        let missing = self.missing();
        for text in missing.into_iter().chain([text]) {
            self.bytes += text.len();
            self.waiting.push_back(text);
        }
    }

    /// What is written next: as many texts as go together.
    fn next(&mut self) -> Option<Vec<u8>> {
        let mut text = self.waiting.pop_front();
        if let Some(text) = &mut text {
            // A flush counts them one by one.
            let most = if self.flushing == 0 { AT_ONCE } else { 0 };
            while let Some(more) = self.waiting.front().filter(|more| text.len() + more.len() <= most) {
                text.extend_from_slice(more);
                self.waiting.pop_front();
            }
            self.bytes -= text.len();
        }
        let text = text.or_else(|| self.missing());
        self.is_writing = text.is_some();
        text
    }

    /// A line in place of those that were dropped.
    fn missing(&mut self) -> Option<Vec<u8>> {
        let dropped = std::mem::take(&mut self.dropped);
        if dropped == 0 {
            return None;
        }
        let lines = counted(dropped, "line was", "lines were");
        let it = if dropped == 1 { "it" } else { "them" };
        let text = format!("{lines} dropped here because nobody read {it}");
        Some(match self.format {
            LogFormat::Human => format!("{text}\n").into_bytes(),
            LogFormat::Json => LogLine::new(Level::Warn, &text).json(clock::now()).into_bytes(),
        })
    }

    fn is_half_full(&self) -> bool {
        self.bytes > MOST / 2
    }

    fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.dropped == 0 && !self.is_writing
    }
}

/// The text with its colours, if the stream supports them.
pub(super) fn coloured(text: impl Display, stream: &impl anstream::stream::RawStream) -> Vec<u8> {
    let mut coloured = AutoStream::new(Vec::new(), AutoStream::choice(stream));
    // Writing to memory cannot fail.
    drop(coloured.write_fmt(format_args!("{text}")));
    coloured.into_inner()
}

/// Writes to a stream that another program may share and may have made non-blocking.
fn write_all(stream: &mut File, mut text: &[u8]) -> io::Result<()> {
    while !text.is_empty() {
        match stream.write(text) {
            Ok(written) => text = &text[written..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                poll(&mut [PollFd::new(stream, PollFlags::OUT)], None)?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn empty() -> State {
        let outlet = Outlet::new(|| Err(io::ErrorKind::Unsupported.into()));
        outlet.state.into_inner().unwrap()
    }

    #[test]
    fn what_waits_is_written_together_as_far_as_a_pipe_takes_it_whole() {
        let mut state = empty();
        let lines: Vec<String> = (0..300).map(|n| format!("{n:0width$}\n", width = n % 90)).collect();
        let long = vec![b'x'; 2 * AT_ONCE];
        lines[..200].iter().for_each(|line| state.take(line.clone().into_bytes()));
        state.take(long.clone());
        lines[200..].iter().for_each(|line| state.take(line.clone().into_bytes()));
        let written: Vec<Vec<u8>> = std::iter::from_fn(|| state.next()).collect();
        let of = |lines: &[String]| lines.concat().into_bytes();
        assert_eq!(written.concat(), [of(&lines[..200]), long.clone(), of(&lines[200..])].concat());
        assert!(written.iter().all(|text| text.len() <= AT_ONCE || *text == long));
        let least = of(&lines).len() / AT_ONCE;
        assert!(written.len() <= least + 4, "{} writes of {least} at least", written.len());
        assert!(state.bytes == 0);
    }

    #[test]
    fn what_finds_no_room_is_counted_where_it_is_missing() {
        let mut state = empty();
        let line = vec![b'x'; MOST / 4];
        for _ in 0..7 {
            state.take(line.clone());
        }
        assert_eq!((state.waiting.len(), state.dropped, state.bytes), (4, 3, MOST));
        assert_eq!(state.next().unwrap(), line);
        state.take(b"later\n".to_vec());
        let rest: Vec<Vec<u8>> = std::iter::from_fn(|| state.next()).collect();
        assert_eq!(rest[..3], [line.clone(), line.clone(), line]);
        assert_eq!(rest[3], b"3 lines were dropped here because nobody read them\nlater\n");
        assert!(state.bytes == 0 && state.is_idle());
        // Nothing follows, so it is reported when the queue is empty.
        state.take(vec![b'x'; MOST + 1]);
        assert!(!state.is_idle());
        assert_eq!(state.next().unwrap(), b"1 line was dropped here because nobody read it\n");
        // Among lines for machines it is one too.
        state.format = LogFormat::Json;
        state.take(vec![b'x'; MOST + 1]);
        let line: serde_json::Value = serde_json::from_slice(&state.next().unwrap()).unwrap();
        assert_eq!(
            (&line["level"], &line["message"]),
            (&"warn".into(), &"1 line was dropped here because nobody read it".into())
        );
    }
}
