//! The log of the program: its own lines at the requested level, those of other crates only from
//! `warn` up.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::borrow::Cow;
use std::io;
use std::panic;

use anstream::{AutoStream, ColorChoice};
use env_filter::Filter;
use log::kv::{self, Key, Value, VisitSource};
use log::{Level, LevelFilter, Log, Metadata, Record};

use super::log_line::{About, LogFormat, LogLine, harmless};
use super::outlet::STDERR;
use crate::clock;

/// What the log is to say, and how.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    pub(super) format: LogFormat,
    /// Whether each line for people begins with its time.
    pub(super) is_timed: bool,
    pub(super) level: LevelFilter,
}

impl Wanted {
    /// The log of a command whose own level is `own`, changed by the flags. What runs for long or
    /// is looked at closely says when each thing happened.
    pub(super) fn new(format: LogFormat, quiet: bool, verbose: u8, own: LevelFilter) -> Self {
        let level = match (quiet, verbose) {
            (true, _) => own.min(LevelFilter::Error),
            (false, 0) => own,
            (false, 1) => LevelFilter::Debug,
            (false, _) => LevelFilter::Trace,
        };
        Self { format, is_timed: own >= LevelFilter::Info || verbose > 0, level }
    }
}

/// A logger that filters other crates. `notify` warns when a folder that is gone was no longer
/// watched, which is not worth a line.
///
/// At `debug` and `trace` the HTTP crates print requests with their paths and headers, which are
/// credentials here: no setting lets these lines through.
struct Capped {
    filter: Filter,
    form: Form,
}

/// How a line is written.
#[derive(Clone, Copy)]
struct Form {
    format: LogFormat,
    is_timed: bool,
    /// Whether stderr takes colours: asked once and not for each line, which costs a system call.
    is_coloured: bool,
}

fn is_ours(metadata: &Metadata<'_>) -> bool {
    metadata.target().starts_with("spec_notify")
}

impl Capped {
    fn lets_through(metadata: &Metadata<'_>) -> bool {
        let most = if metadata.target().starts_with("notify::") { Level::Error } else { Level::Warn };
        is_ours(metadata) || metadata.level() <= most
    }
}

impl Log for Capped {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        Self::lets_through(metadata) && self.filter.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if Self::lets_through(record.metadata()) && self.filter.matches(record) {
            let message = record.args().as_str().map_or_else(|| record.args().to_string().into(), Cow::from);
            let about = about(record, self.form.format);
            say(&LogLine { level: record.level(), message: &message, about }, self.form);
        }
    }

    fn flush(&self) {
        STDERR.flush();
    }
}

fn say(line: &LogLine<'_>, Form { format, is_timed, is_coloured }: Form) {
    let now = clock::now();
    STDERR.write(match format {
        LogFormat::Json => line.json(now),
        LogFormat::Human => line.human(is_timed.then_some(now), is_coloured),
    });
}

/// What a line is about, as far as its form shows that: the fields that our own lines give, or the
/// crate that it is from.
fn about(record: &Record<'_>, format: LogFormat) -> About {
    let mut about = About::default();
    if is_ours(record.metadata()) {
        if format == LogFormat::Json {
            // It takes every field and cannot fail.
            drop(record.key_values().visit(&mut about));
        }
    } else {
        about.library = record.target().split("::").next().map(str::to_owned);
    }
    about
}

impl VisitSource<'_> for About {
    fn visit_pair(&mut self, key: Key<'_>, value: Value<'_>) -> Result<(), kv::Error> {
        match key.as_str() {
            "subscription" => self.subscription = Some(value.to_string()),
            "spec" => self.spec = Some(value.to_string()),
            "delivery" => self.delivery = Some(value.to_string()),
            _ => {}
        }
        Ok(())
    }
}

/// Starts the log on stderr as wanted; `RUST_LOG` takes precedence over its level. Neither a line
/// nor a panic's message waits for a reader.
pub(super) fn start(Wanted { format, is_timed, level }: Wanted) {
    STDERR.speaks(format);
    let is_coloured = AutoStream::choice(&io::stderr()) != ColorChoice::Never;
    let form = Form { format, is_timed, is_coloured };
    let mut builder = env_filter::Builder::new();
    builder.filter_level(level);
    let refused = std::env::var("RUST_LOG").ok().and_then(|spec| builder.try_parse(&spec).err());
    let filter = builder.build();
    log::set_max_level(filter.filter());
    if log::set_boxed_logger(Box::new(Capped { filter, form })).is_err() {
        log::debug!("a logger was set already; it stays");
    }
    if let Some(error) = refused {
        log::warn!("RUST_LOG does not count: {error}");
    }
    panic::set_hook(Box::new(move |info| {
        let thread = std::thread::current();
        let message = format!("thread '{}' {info}", thread.name().unwrap_or("without a name"));
        let backtrace = Backtrace::capture();
        let backtrace = (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string());
        match format {
            LogFormat::Json => {
                let about = About { backtrace, ..About::default() };
                say(&LogLine { level: Level::Error, message: &message, about }, form);
            }
            LogFormat::Human => {
                STDERR.write(format!("{}\n{}\n", harmless(&message), backtrace.unwrap_or_default()));
            }
        }
        STDERR.flush();
    }));
}
