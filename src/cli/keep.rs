//! Writes events into the inbox in a process of its own, which `emit` can leave behind at its
//! deadline. A thread blocked in a write to a stalled disk would keep its whole process from
//! ending, even after a kill.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;

use super::{Exit, Failure};
use crate::event::Event;
use crate::spool::put_in_inbox;

/// Most bytes that are read at a time; more than is ever given.
const MAX_GIVEN: u64 = 8 * 1024 * 1024;

/// How long the child process may take to start and to receive everything, even beyond the
/// deadline.
const HAND_OVER: Duration = Duration::from_secs(1);

/// Printed once everything is on disk.
const KEPT: &str = "kept";

#[derive(Debug, Args)]
pub(super) struct Options {
    /// The spool
    #[arg(long, value_name = "DIR")]
    spool: PathBuf,
}

/// The child's side: reads everything before it touches the disk, so that the parent is soon done
/// with writing.
pub(super) fn run(options: &Options) -> Result<Exit, Failure> {
    let mut text = String::new();
    io::stdin().take(MAX_GIVEN).read_to_string(&mut text).map_err(Failure::failed)?;
    let kept = keep(&options.spool, &text);
    let said = match &kept {
        Ok(()) => KEPT.to_owned(),
        Err(error) => error.clone(),
    };
    // The parent may be gone: the events are kept all the same.
    let is_heard = writeln!(io::stdout(), "{said}").is_ok();
    log::debug!("{said}; heard: {is_heard}");
    Ok(if kept.is_ok() { Exit::Done } else { Exit::Failed })
}

/// Puts events, one JSON object per line, into the inbox. A last line without its newline was
/// truncated and is dropped.
fn keep(spool_dir: &Path, lines: &str) -> Result<(), String> {
    let whole = lines.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    let events: Result<Vec<Event>, _> = whole.map(|line| Event::from_kept(line.trim_end())).collect();
    let events = events.map_err(|error| error.to_string())?;
    put_in_inbox(spool_dir, &events).map_err(|error| error.to_string())
}

/// A report on a write.
enum News {
    /// The child has received everything and goes on, even if the parent ends.
    HandedOver,
    Ended(Result<(), String>),
}

/// The state of a write at the deadline.
pub(super) enum Kept {
    /// It is on disk.
    Yes,
    /// It is still in progress.
    Unconfirmed(Writing),
    /// It failed, for this reason.
    No(String),
}

/// A write in progress.
pub(super) struct Writing(Receiver<News>);

impl Writing {
    /// Starts writing these events, one JSON object per line.
    pub(super) fn start(spool_dir: &Path, lines: String) -> Self {
        let (tell, news) = mpsc::sync_channel(2);
        let spool_dir = spool_dir.to_owned();
        // On a thread, because pipes can fill up and even starting a program reads the disk.
        thread::spawn(move || {
            let ended = write(&spool_dir, &lines, &tell);
            if tell.send(News::Ended(ended)).is_err() {
                log::debug!("nobody waits any more for a write into the inbox");
            }
        });
        Self(news)
    }

    /// Waits for the result until the deadline.
    pub(super) fn wait(self, deadline: Instant) -> Kept {
        let mut is_handed_over = false;
        // This waits for no disk, only for the child to start. On a busy machine that may take
        // longer than a short deadline; the event is then late, but not lost.
        let handed_over_by = deadline.max(Instant::now() + HAND_OVER);
        loop {
            let until = if is_handed_over { deadline } else { handed_over_by };
            match self.0.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(News::HandedOver) => is_handed_over = true,
                Ok(News::Ended(Ok(()))) => return Kept::Yes,
                Ok(News::Ended(Err(error))) => return Kept::No(error),
                Err(RecvTimeoutError::Timeout) if is_handed_over => return Kept::Unconfirmed(self),
                Err(RecvTimeoutError::Timeout) => {
                    let late = "the inbox could not be written within the deadline: \
                                emit it again, it is delivered once either way";
                    return Kept::No(late.to_owned());
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return Kept::No("cannot start a thread to write into the inbox".to_owned());
                }
            }
        }
    }

    /// Whether it is still in progress, waiting at most until `deadline`.
    pub(super) fn goes_on(&self, deadline: Instant) -> bool {
        match self.0.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Err(RecvTimeoutError::Timeout) => true,
            Ok(News::Ended(Err(error))) => {
                log::error!("what was unconfirmed could not be written after all: {error}");
                false
            }
            Ok(_) | Err(RecvTimeoutError::Disconnected) => false,
        }
    }
}

fn write(spool_dir: &Path, lines: &str, tell: &SyncSender<News>) -> Result<(), String> {
    let mut child = match start(spool_dir) {
        Ok(child) => child,
        Err(error) => {
            log::debug!("no process of its own for the inbox: {error}");
            return keep(spool_dir, lines);
        }
    };
    let given = child.stdin.take().map_or(Ok(()), |mut pipe| pipe.write_all(lines.as_bytes()));
    if given.is_ok() && tell.send(News::HandedOver).is_err() {
        log::debug!("nobody waits any more for a write into the inbox");
    }
    let mut said = String::new();
    let heard = child.stdout.take().map_or(Ok(0), |pipe| BufReader::new(pipe).read_line(&mut said));
    let ended = child.wait();
    match (heard, said.trim_end()) {
        (Ok(_), KEPT) => Ok(()),
        (Ok(_), "") => Err(match (given, ended) {
            (Err(error), _) | (_, Err(error)) => format!("the process that writes the inbox: {error}"),
            (Ok(()), Ok(status)) => format!("the process that writes the inbox ended with {status}"),
        }),
        (Ok(_), error) => Err(error.to_owned()),
        (Err(error), _) => Err(error.to_string()),
    }
}

/// Starts the child in its own process group, so that neither Ctrl-C nor a closing terminal ends
/// it, and without inherited output, so that a reader of our output does not wait for it.
fn start(spool_dir: &Path) -> io::Result<Child> {
    Command::new(std::env::current_exe()?)
        .args(["keep", "--spool"])
        .arg(spool_dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spool::Inbox;

    #[test]
    fn lines_that_came_whole_are_kept_and_one_that_was_cut_off_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let line = r#"{"event":{"type":"spec-kit.webhook.test"},"spec":{"id":"S"}}"#;
        keep(dir.path(), &format!("{line}\n{line}\n{}", &line[..20])).unwrap();
        let names = Inbox::new(dir.path()).names().unwrap();
        assert_eq!((names.len(), names[0].events()), (1, 2));
        assert!(keep(dir.path(), "{broken\n").unwrap_err().contains("not an event"));
        assert_eq!(Inbox::new(dir.path()).names().unwrap(), names);
    }
}
