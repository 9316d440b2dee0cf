//! `spec-notify serve`: runs the runtime in the foreground until a signal ends it.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::pin;
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use actix_rt::System;
use actix_rt::signal::unix::{Signal, SignalKind, signal};
use clap::Args;
use futures_util::future::{Either, select};
use serde::Serialize;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag::register_conditional_shutdown;
use signal_hook::iterator::Signals;

use super::render::Screen;
use super::scrape::Scraped;
use super::{Exit, Failure, Global, load_to_serve};
use crate::config::{Config, WatchFrom};
use crate::control::RuntimeFile;
use crate::env::Environment;
use crate::feed::RuntimeState;
use crate::inspect::counted;
use crate::runtime::Runtime;

/// A signal that follows the first within this time counts as the same one.
const SAME_SIGNAL: Duration = Duration::from_millis(100);

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  spec-notify serve
  spec-notify serve --metrics 127.0.0.1:9464

Watches the evidence tree, workflow runs and task lists of the repo, and delivers what happens there.

SIGTERM or Ctrl-C finishes running requests; a second one stops now. The rest stays on disk. SIGHUP \
reads the config again. If another process owns the spool, serve waits and takes over.

Exit code 1 if a second signal stops it, or if the spool or a port cannot be used; 2 if the config has \
errors or webhooks are off.")]
pub(super) struct Options {
    /// Port of the control port on 127.0.0.1; 0 chooses a free one
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Do not watch the repo; deliver emitted events only
    #[arg(long, conflicts_with = "from_start")]
    no_watch: bool,
    /// At the first start, also send existing files
    #[arg(long)]
    from_start: bool,
    /// Role of this machine in a fleet, instead of the config's `role`: `deliver` sends from the
    /// cluster, `emit` only adds events to it
    #[arg(long, value_parser = ["emit", "deliver"], hide_possible_values = true)]
    role: Option<String>,
    /// Time for running requests to finish after SIGTERM, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 10_000)]
    drain_deadline: u64,
    /// Serve metrics over HTTP at this address; the start prints the URL
    #[arg(long, value_name = "ADDRESS:PORT")]
    metrics: Option<SocketAddr>,
}

pub(super) fn run(global: &Global, options: &Options, screen: &mut Screen) -> Result<Exit, Failure> {
    let role = options.role.as_deref().and_then(|role| role.parse().ok());
    let config = load_to_serve(global, role, screen)?;
    if options.role.is_some() && config.fleet.is_none() {
        return Err(Failure::usage("--role is for a fleet, and the config has no [spec_ops.webhooks.fleet]"));
    }
    second_signal_ends().map_err(|error| Failure::failed(format!("cannot wait for signals: {error}")))?;
    screen.goes_on_unread();
    System::new().block_on(serve(config, options, screen))
}

async fn serve(config: Config, options: &Options, screen: &mut Screen) -> Result<Exit, Failure> {
    let listen =
        |kind| signal(kind).map_err(|error| Failure::failed(format!("cannot wait for signals: {error}")));
    let (mut terminate, mut interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    let mut hangup = listen(SignalKind::hangup())?;
    let at = |address| {
        Scraped::at(address)
            .map_err(|error| Failure::failed(format!("cannot listen on {address} for --metrics: {error}")))
    };
    let scraped = options.metrics.map(at).transpose()?;
    let spool_dir = config.spool_dir.clone();
    let subscriptions: Vec<_> =
        config.subscriptions.iter().filter(|s| s.active).map(|s| s.id.to_string()).collect();
    let watch = match (options.no_watch, options.from_start) {
        (true, _) => None,
        (false, true) => Some(WatchFrom::Start),
        (false, false) => Some(WatchFrom::Now),
    };
    let config = Config { control_port: options.port, watch, ..config };
    let runtime = Runtime::start(config, Environment::process()).await.map_err(Failure::failed)?;
    let handle = runtime.handle();
    let metrics = scraped.as_ref().map(Scraped::url);
    announce(&spool_dir, handle.state() == RuntimeState::StandingBy, &subscriptions, metrics, screen);
    if let Some(scraped) = scraped {
        actix_rt::spawn(scraped.answer(handle.clone()));
    }
    let ended = async {
        loop {
            match next(&mut terminate, &mut interrupt, &mut hangup).await {
                Got::End => return,
                // The result is in the log.
                Got::Hangup => {
                    if let Err(error) = handle.reload().await {
                        log::error!("SIGHUP: the config was not read again: {error}");
                    }
                }
            }
        }
    };
    if let Either::Left((reason, _)) = select(pin!(handle.failed()), pin!(ended)).await {
        return Err(Failure::failed(reason));
    }
    screen
        .note("stopping: requests under way may end, the rest stays on disk; a second signal stops at once");
    let drained = runtime.drain(Duration::from_millis(options.drain_deadline)).await;
    let pending = counted(drained.pending, "delivery", "deliveries");
    if !drained.is_kept {
        let what = "not all of them are on disk: the spool was removed and could not be written again \
                    (see the log)";
        return Err(Failure::failed(format!("stopped; {pending} pending, and {what}")));
    }
    screen.note(format_args!("stopped; {pending} pending on disk"));
    Ok(Exit::Done)
}

/// Makes the second SIGTERM or SIGINT end the process at once with exit code 1, even if a thread
/// hangs: the signal's handler does it, without a thread, a lock or a reader of the output.
fn second_signal_ends() -> io::Result<()> {
    let is_second = Arc::new(AtomicBool::new(false));
    let kinds = [SIGTERM, SIGINT];
    for kind in kinds {
        register_conditional_shutdown(kind, Exit::Failed as i32, is_second.clone())?;
    }
    let mut signals = Signals::new(kinds)?;
    thread::Builder::new().name("spec-notify-end".to_owned()).spawn(move || {
        if signals.forever().next().is_some() {
            // timeout(1) and some shells signal the process and its group: that counts as one
            // signal.
            thread::sleep(SAME_SIGNAL);
            is_second.store(true, Ordering::SeqCst);
        }
    })?;
    Ok(())
}

/// What `serve --json` prints once it serves or stands by.
#[derive(Serialize)]
struct Serving<'a> {
    spool_dir: &'a Path,
    standby: bool,
    /// The process that owns the spool.
    pid: Option<u32>,
    /// Its control port.
    address: Option<String>,
    subscriptions: &'a [String],
    /// The URL at which scrapes are answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    metrics: Option<String>,
}

/// Prints what is served where, or which process this one waits for.
fn announce(
    spool_dir: &Path,
    is_standing_by: bool,
    subscriptions: &[String],
    metrics: Option<String>,
    screen: &mut Screen,
) {
    let owner = RuntimeFile::read(spool_dir).ok();
    // Another's file may be left where this one's could not be written.
    let owner = owner.filter(|owner| is_standing_by || owner.pid == process::id());
    if screen.is_json() {
        let (pid, address) = owner.map(|owner| (owner.pid, owner.address)).unzip();
        let standby = is_standing_by;
        return screen.value(&Serving { spool_dir, standby, pid, address, subscriptions, metrics });
    }
    if let Some(metrics) = metrics {
        screen.announce(format_args!("metrics at {metrics}"));
    }
    let names = if subscriptions.is_empty() { "none active".to_owned() } else { subscriptions.join(", ") };
    let dir = spool_dir.display();
    if is_standing_by {
        let pid = owner.map_or("another process".to_owned(), |owner| format!("process {}", owner.pid));
        let what = format_args!("standing by: {pid} serves {dir}; this one takes over when it ends");
        return screen.announce(what);
    }
    let port = owner.map_or_else(
        || "control port unknown to others: runtime.json could not be written".to_owned(),
        |owner| format!("control port {}", owner.address),
    );
    screen.announce(format_args!("serving {dir} ({port}); subscriptions: {names}"));
}

enum Got {
    End,
    Hangup,
}

async fn next(terminate: &mut Signal, interrupt: &mut Signal, hangup: &mut Signal) -> Got {
    let (terminate, interrupt) = (pin!(terminate.recv()), pin!(interrupt.recv()));
    match select(select(terminate, interrupt), pin!(hangup.recv())).await {
        Either::Left(_) => Got::End,
        Either::Right(_) => Got::Hangup,
    }
}
