//! `spec-notify top`: a live screen of subscriptions, deliveries and attempts, from which dead
//! letters can be replayed.

mod model;
mod replay;
#[cfg(test)]
mod tests;
mod view;

use std::io::{self, IsTerminal as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread;
use std::time::{Duration, Instant};

use actix_rt::System;
use actix_rt::signal::unix::{SignalKind, signal};
use clap::Args;
use futures_util::future::select_all;
use ratatui::crossterm::event::{self, Event, KeyEventKind};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{
    BeginSynchronizedUpdate, Clear, ClearType, EndSynchronizedUpdate, EnterAlternateScreen, disable_raw_mode,
    enable_raw_mode,
};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use signal_hook::consts::{SIGCONT, SIGTSTP};

use super::ask::Source;
use super::render::Screen;
use super::{Exit, Failure, Global};
use crate::clock;
use crate::delivery::DeliveryId;
use crate::event::SpecId;
use crate::inspect::{DeliveryState, Listing, Query, Shown, TriedQuery};
use model::{Action, Model, Snapshot, Wanted};

/// Interval at which the screen checks for keys and news.
const TICK: Duration = Duration::from_millis(50);

/// How long the screen has to end by itself and restore the terminal.
const GOODBYE: Duration = Duration::from_millis(500);

/// Most deliveries on the screen that were given up, and as many that wait.
const ROWS: usize = 100;

/// Most attempts on the screen.
const ATTEMPTS: usize = 100;

/// A look that takes long is taken less often: this many times as long passes until the next one.
const REST: u32 = 3;

/// How long connecting to the runtime may take.
const CONNECT: Duration = Duration::from_secs(2);

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  spec-notify top

The worst comes first. Keys: Tab next pane, arrows move, Enter opens the selection, r replays a dead \
letter, R replays all of a cause, / filters, a shows all deliveries, w warnings, ? help, Esc closes, \
q quits. Needs a terminal; without one, use spec-notify status and list.")]
pub(super) struct Options {
    /// Seconds between two updates
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
    Refresh(Wanted),
    Open(SpecId, DeliveryId),
}

/// A message to the screen.
enum News {
    Learned(Box<Snapshot>),
    Trouble(String),
    Shown(DeliveryId, Option<Box<Shown>>),
    /// How far a replay of many is.
    Replaying(String),
    /// What a replay came to.
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
        Loop::new(jobs, tell, news, spool_dir).run(&mut terminal, Duration::from_secs(options.interval));
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
    /// Somebody asked this process to stop for a while, or it goes on after it.
    stops: Arc<AtomicBool>,
    continues: Arc<AtomicBool>,
    /// No further dead letter is to be replayed.
    stop_replaying: Arc<AtomicBool>,
}

impl Loop {
    fn new(jobs: SyncSender<Job>, tell: SyncSender<News>, news: Receiver<News>, spool_dir: PathBuf) -> Self {
        let heard = |kind| {
            let heard = Arc::new(AtomicBool::new(false));
            if let Err(error) = signal_hook::flag::register(kind, heard.clone()) {
                log::debug!("signal {kind} is not heard: {error}");
            }
            heard
        };
        let (stops, continues) = (heard(SIGTSTP), heard(SIGCONT));
        Self { jobs, tell, news, spool_dir, stops, continues, stop_replaying: Arc::default() }
    }

    fn run(&self, terminal: &mut ratatui::DefaultTerminal, interval: Duration) -> io::Result<()> {
        let mut model = Model::new();
        // When it was asked last, and when it is to be asked again; while an answer is slow, it is
        // not asked for again.
        let (mut asked, mut due) = (None::<Instant>, Some(Instant::now()));
        let mut drawn: Option<Instant> = None;
        loop {
            if self.stops.swap(false, Ordering::SeqCst) {
                suspend(terminal)?;
                drawn = None;
            }
            if self.continues.swap(false, Ordering::SeqCst) {
                resume(terminal)?;
                drawn = None;
            }
            for news in self.news.try_iter() {
                drawn = None;
                match news {
                    News::Learned(_) | News::Trouble(_) if asked.is_some() => {
                        let took = asked.take().map_or(Duration::ZERO, |asked| asked.elapsed());
                        due = Some(Instant::now() + interval.max(took * REST));
                        match news {
                            News::Learned(snapshot) => model.learn(*snapshot),
                            News::Trouble(trouble) => model.trouble = Some(trouble),
                            _ => {}
                        }
                    }
                    News::Learned(snapshot) => model.learn(*snapshot),
                    News::Trouble(trouble) => model.note = trouble,
                    News::End => return Ok(()),
                    News::Shown(id, shown) => model.opened(id, shown.map(|shown| *shown)),
                    News::Replaying(progress) => model.replaying = Some(progress),
                    News::Replayed(note) => {
                        model.replaying = None;
                        model.note = note;
                        due = Some(Instant::now());
                    }
                }
            }
            if asked.is_none() && due.is_none_or(|due| due <= Instant::now()) {
                asked = self.jobs.try_send(Job::Refresh(model.wanted())).is_ok().then(Instant::now);
            }
            // What changes by itself is the age of things, once a second.
            if drawn.is_none_or(|drawn| drawn.elapsed() >= Duration::from_secs(1)) {
                // A slow line shows it whole or not at all.
                execute!(io::stdout(), BeginSynchronizedUpdate)?;
                terminal.draw(|frame| view::draw(&model, clock::now(), frame))?;
                execute!(io::stdout(), EndSynchronizedUpdate)?;
                drawn = Some(Instant::now());
            }
            if !event::poll(TICK)? {
                continue;
            }
            drawn = None;
            let Event::Key(key) = event::read()? else { continue };
            if key.kind != KeyEventKind::Press {
                continue;
            }
            model.note.clear();
            match model.press(key) {
                Action::Nothing => {}
                Action::Quit => return Ok(()),
                Action::Suspend => suspend(terminal)?,
                Action::Refresh => due = Some(Instant::now()),
                Action::Open(spec, id) => {
                    if self.jobs.try_send(Job::Open(spec, id)).is_err() {
                        model.note = "the runtime is slow to answer: try again".to_owned();
                    }
                }
                Action::Replay(spec, id) => {
                    replay::one(self.spool_dir.clone(), spec, id, self.tell.clone());
                }
                Action::ReplayAll(trouble) => {
                    self.stop_replaying.store(false, Ordering::SeqCst);
                    model.replaying = Some("looking for its dead letters …".to_owned());
                    let stop = self.stop_replaying.clone();
                    replay::all(self.spool_dir.clone(), *trouble, stop, self.tell.clone());
                }
                Action::StopReplaying => self.stop_replaying.store(true, Ordering::SeqCst),
            }
        }
    }
}

/// Gives the terminal back and stops, as Ctrl-Z does to other programs; returns once continued.
fn suspend(terminal: &mut ratatui::DefaultTerminal) -> io::Result<()> {
    ratatui::try_restore()?;
    terminal.show_cursor()?;
    signal_hook::low_level::emulate_default_handler(SIGTSTP)?;
    resume(terminal)
}

/// Takes the terminal again, whatever was written to it meanwhile.
fn resume(terminal: &mut ratatui::DefaultTerminal) -> io::Result<()> {
    enable_raw_mode()?;
    execute!(io::stdout(), EnterAlternateScreen, Clear(ClearType::All))?;
    // It knows nothing of what stands there: all of it is drawn.
    *terminal = ratatui::Terminal::new(ratatui::backend::CrosstermBackend::new(io::stdout()))?;
    Ok(())
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
            Job::Refresh(wanted) => {
                look(&mut source, &wanted).map(|snapshot| News::Learned(Box::new(snapshot)))
            }
            Job::Open(spec, id) => {
                source.show(&spec, id, false).map(|shown| News::Shown(id, shown.map(Box::new)))
            }
        };
        if tell.send(news.unwrap_or_else(|failure| News::Trouble(failure.message))).is_err() {
            return;
        }
    }
}

fn look(source: &mut Source, wanted: &Wanted) -> Result<Snapshot, Failure> {
    use DeliveryState::{DeadLetter, Delivered, Discarded, Dropped, DryRun, InFlight, Pending};
    // What was given up is asked for by itself: what waits may be newer, and much more.
    let mut kinds = vec![vec![DeadLetter, Dropped], vec![InFlight, Pending]];
    kinds.extend(wanted.all.then(|| vec![Delivered, DryRun, Discarded]));
    let mut deliveries = Vec::new();
    for states in kinds {
        let subscription = wanted.subscription.clone();
        let Listing { deliveries: some, .. } =
            source.list(&Query { states, subscription, ..Query::newest(ROWS) })?;
        deliveries.extend(some);
    }
    let attempts = TriedQuery { spec: None, delivery_id: None, limit: ATTEMPTS };
    Ok(Snapshot {
        at: clock::now(),
        status: source.status()?,
        deliveries,
        attempts: source.tried(&attempts)?,
        silent: source.silent().map(str::to_owned),
    })
}
