//! `spec-notify top`: a live screen of subscriptions, deliveries and attempts, from which dead
//! letters can be replayed.

mod model;
#[cfg(test)]
mod tests;
mod view;

use std::io::{self, IsTerminal as _};
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread;
use std::time::{Duration, Instant};

use actix_rt::System;
use actix_rt::signal::unix::{SignalKind, signal};
use clap::Args;
use futures_util::future::select_all;
use ratatui::crossterm::event::{self, Event, KeyEventKind};
use ratatui::crossterm::terminal::disable_raw_mode;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use super::ask::Source;
use super::render::Screen;
use super::test::PATIENCE;
use super::{Exit, Failure, Global};
use crate::ask::ReplayDeadLetter;
use crate::clock;
use crate::control::{Client, ClientError};
use crate::delivery::DeliveryId;
use crate::event::SpecId;
use crate::inspect::{DeliveryState, MAX_TRIED, Query, Tried, TriedQuery, latency};
use model::{Action, Model, Snapshot};

/// Interval at which the screen checks for keys and news.
const TICK: Duration = Duration::from_millis(50);

/// How long the screen has to end by itself and restore the terminal.
const GOODBYE: Duration = Duration::from_millis(500);

/// Most deliveries on the screen.
const ROWS: usize = 200;

/// How long connecting to the runtime may take.
const CONNECT: Duration = Duration::from_secs(2);

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  spec-notify top

Keys: q quit, Tab next pane, arrows move, Enter opens a delivery, r replays a dead letter, \
/ filters, a all deliveries,
w warnings, ? help. Needs a terminal; elsewhere use spec-notify status and list.")]
pub(super) struct Options {
    /// Seconds from one look to the next
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 1,
        value_parser = clap::value_parser!(u64).range(1..=3600)
    )]
    interval: u64,
}

/// A request to the worker.
enum Job {
    Refresh { all: bool },
    Open(SpecId, DeliveryId),
}

/// A message to the screen.
enum News {
    Learned(Box<Snapshot>),
    Trouble(String),
    Attempts(DeliveryId, Vec<Tried>),
    Replayed(String),
    /// The process is to end.
    End,
}

pub(super) fn run(global: &Global, options: &Options, screen: &mut Screen) -> Result<Exit, Failure> {
    if screen.is_json() || !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        return Err(Failure::usage("top needs a terminal: use spec-notify status or list here"));
    }
    let source = Source::find(global, screen)?;
    let spool_dir = source.config.spool_dir.clone();
    let (jobs, waiting) = mpsc::sync_channel(4);
    let (tell, news) = mpsc::sync_channel(16);
    let telling = tell.clone();
    // Not joined: it may wait for a hanging runtime, and writes nothing.
    thread::spawn(move || work(source, &waiting, &telling));
    end_after(wait_for_a_signal, &tell);
    end_after(wait_for_a_hangup, &tell);
    let mut terminal = ratatui::try_init()
        .map_err(|error| Failure::failed(format!("the terminal cannot be used: {error}")))?;
    let shown =
        Loop { jobs, tell, news, spool_dir }.run(&mut terminal, Duration::from_secs(options.interval));
    let restored = ratatui::try_restore();
    match shown.and(restored) {
        // The terminal is gone, which ends the screen as a hang-up does.
        Err(error) if Errno::from_io_error(&error) == Some(Errno::IO) => Ok(Exit::Done),
        ended => ended
            .map(|()| Exit::Done)
            .map_err(|error| Failure::failed(format!("the terminal failed: {error}"))),
    }
}

/// Connects keys, news and the screen.
struct Loop {
    jobs: SyncSender<Job>,
    tell: SyncSender<News>,
    news: Receiver<News>,
    spool_dir: PathBuf,
}

impl Loop {
    fn run(&self, terminal: &mut ratatui::DefaultTerminal, interval: Duration) -> io::Result<()> {
        let mut model = Model::new();
        let mut looked: Option<Instant> = None;
        let mut is_asking = false;
        loop {
            for news in self.news.try_iter() {
                match news {
                    News::Learned(snapshot) => {
                        is_asking = false;
                        model.learn(*snapshot);
                    }
                    News::Trouble(trouble) => {
                        is_asking = false;
                        model.trouble = Some(trouble);
                    }
                    News::End => return Ok(()),
                    News::Attempts(id, attempts) => model.opened(id, attempts),
                    News::Replayed(note) => {
                        model.note = note;
                        looked = None;
                    }
                }
            }
            // One question at a time: while an answer is slow, it is not asked for again.
            if !is_asking && looked.is_none_or(|looked| looked.elapsed() >= interval) {
                is_asking = self.jobs.try_send(Job::Refresh { all: model.all }).is_ok();
                looked = Some(Instant::now());
            }
            terminal.draw(|frame| view::draw(&model, clock::now(), frame))?;
            if !event::poll(TICK)? {
                continue;
            }
            let Event::Key(key) = event::read()? else { continue };
            if key.kind != KeyEventKind::Press {
                continue;
            }
            model.note.clear();
            match model.press(key) {
                Action::Nothing => {}
                Action::Quit => return Ok(()),
                Action::Refresh => looked = None,
                Action::Open(spec, id) => {
                    if self.jobs.try_send(Job::Open(spec, id)).is_err() {
                        model.note = "the runtime is slow to answer: try again".to_owned();
                    }
                }
                Action::Replay(spec, id) => self.replay(spec, id),
            }
        }
    }

    /// Replays on a thread of its own, because an endpoint may be slow.
    fn replay(&self, spec: SpecId, id: DeliveryId) {
        let (tell, spool_dir) = (self.tell.clone(), self.spool_dir.clone());
        thread::spawn(move || {
            let request = ReplayDeadLetter { spec: spec.clone(), delivery_id: id };
            let sent = Client::connect(&spool_dir, CONNECT)
                .and_then(|mut client| client.request(&request, PATIENCE));
            let told = match sent {
                Ok(report) => match (report.outcome, report.error) {
                    (_, Some(error)) => format!("{id} failed again: {error}"),
                    (outcome, None) => format!("{id}: {outcome} in {}", latency(report.latency_ms)),
                },
                Err(ClientError::Unreachable(_) | ClientError::Absent(_)) => {
                    format!("no runtime is running: spec-notify replay {spec} --delivery-id {id}")
                }
                Err(ClientError::Refused(error)) => error,
            };
            // The screen may be gone by now.
            drop(tell.send(News::Replayed(told)));
        });
    }
}

/// Ends the screen once `wait` returns, and the process soon after: a read from a terminal that is
/// gone, or a write to one that is stalled, does not return.
fn end_after(wait: fn(), tell: &SyncSender<News>) {
    let tell = tell.clone();
    thread::spawn(move || {
        wait();
        // The message may not be received: the queue is full, or the screen is gone.
        drop(tell.try_send(News::End));
        thread::sleep(GOODBYE);
        drop(disable_raw_mode());
        signal_hook::low_level::exit(Exit::Done as i32);
    });
}

/// Returns when the terminal is gone.
fn wait_for_a_hangup() {
    let stdin = io::stdin();
    // No event is requested: a hang-up and an error are reported without a request.
    let mut terminal = [PollFd::new(&stdin, PollFlags::empty())];
    while poll(&mut terminal, None) == Err(Errno::INTR) {}
    let told = terminal[0].revents();
    if !told.intersects(PollFlags::HUP | PollFlags::ERR) {
        // If terminals cannot be polled like this, a signal or a failed write ends the screen.
        loop {
            thread::park();
        }
    }
}

/// Returns at any signal that asks for the end, so that the terminal is restored.
fn wait_for_a_signal() {
    let kinds = [SignalKind::terminate(), SignalKind::hangup(), SignalKind::interrupt(), SignalKind::quit()];
    System::new().block_on(async {
        let signals = kinds.into_iter().filter_map(|kind| signal(kind).ok());
        let waits = signals.map(|mut signal| Box::pin(async move { signal.recv().await }));
        select_all(waits).await;
    });
}

/// Asks the runtime, or reads the disk, one question after the other.
fn work(mut source: Source, jobs: &Receiver<Job>, tell: &SyncSender<News>) {
    while let Ok(job) = jobs.recv() {
        let news = match job {
            Job::Refresh { all } => look(&mut source, all).map(|snapshot| News::Learned(Box::new(snapshot))),
            Job::Open(spec, id) => {
                let query = TriedQuery { spec: Some(spec), delivery_id: Some(id), limit: MAX_TRIED };
                source.tried(&query).map(|attempts| News::Attempts(id, attempts))
            }
        };
        if tell.send(news.unwrap_or_else(|failure| News::Trouble(failure.message))).is_err() {
            return;
        }
    }
}

fn look(source: &mut Source, all: bool) -> Result<Snapshot, Failure> {
    use DeliveryState::{DeadLetter, Dropped, InFlight, Pending};
    let states = if all { Vec::new() } else { vec![DeadLetter, Dropped, InFlight, Pending] };
    let query = Query { states, ..Query::newest(ROWS) };
    let attempts = TriedQuery { spec: None, delivery_id: None, limit: 50 };
    Ok(Snapshot {
        at: clock::now(),
        status: source.status()?,
        deliveries: source.list(&query)?.deliveries,
        attempts: source.tried(&attempts)?,
        silent: source.silent().map(str::to_owned),
    })
}
