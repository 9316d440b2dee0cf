//! The log of the program: its own lines at the requested level, those of other crates only from
//! `warn` up.

use std::backtrace::Backtrace;
use std::io;
use std::panic;

use anstream::{AutoStream, ColorChoice};
use env_logger::{Target, WriteStyle};
use log::{Level, LevelFilter, Log, Metadata, Record};

use super::outlet::STDERR;
use super::render::harmless;

/// A logger that filters other crates. `notify` warns when a folder that is gone was no longer
/// watched, which is not worth a line.
///
/// At `debug` and `trace` the HTTP crates print requests with their paths and headers, which are
/// credentials here: no setting lets these lines through.
struct Capped(env_logger::Logger);

impl Capped {
    fn lets_through(metadata: &Metadata<'_>) -> bool {
        let most = if metadata.target().starts_with("notify::") { Level::Error } else { Level::Warn };
        metadata.target().starts_with("spec_notify") || metadata.level() <= most
    }
}

impl Log for Capped {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        Self::lets_through(metadata) && self.0.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if Self::lets_through(record.metadata()) {
            // The text may contain what others wrote: names of files, answers of endpoints.
            let text = harmless(record.args());
            let mut harmless = Record::builder();
            harmless.metadata(record.metadata().clone()).module_path(record.module_path());
            self.0.log(&harmless.args(format_args!("{text}")).build());
        }
    }

    fn flush(&self) {
        self.0.flush();
    }
}

/// The target of the log: each write is one line.
struct Lines;

impl io::Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        STDERR.write(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Starts the log on stderr at the command's own level, changed by the flags and by `RUST_LOG`,
/// which takes precedence. Neither a line nor a panic's message waits for a reader.
pub(super) fn start(quiet: bool, verbose: u8, own: LevelFilter) {
    let level = match (quiet, verbose) {
        (true, _) => own.min(LevelFilter::Error),
        (false, 0) => own,
        (false, 1) => LevelFilter::Debug,
        (false, _) => LevelFilter::Trace,
    };
    let style = match AutoStream::choice(&io::stderr()) {
        ColorChoice::Never => WriteStyle::Never,
        _ => WriteStyle::Always,
    };
    let mut builder = env_logger::Builder::new();
    builder.filter_level(level).write_style(style).parse_default_env();
    builder.target(Target::Pipe(Box::new(Lines)));
    let logger = builder.build();
    log::set_max_level(logger.filter());
    if log::set_boxed_logger(Box::new(Capped(logger))).is_err() {
        log::debug!("a logger was set already; it stays");
    }
    panic::set_hook(Box::new(|info| {
        let thread = std::thread::current();
        let name = thread.name().unwrap_or("without a name");
        STDERR.write(format!("thread '{name}' {info}\n{}\n", Backtrace::capture()));
        STDERR.flush();
    }));
}
