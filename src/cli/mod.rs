//! The command line: parses the arguments, runs the command, and returns the exit code.

mod act;
mod ask;
mod baseline;
mod check;
mod complete;
mod completions;
mod demo;
mod discard;
mod drain;
mod emit;
#[cfg(feature = "fleet")]
mod evidence;
mod explain;
mod failure;
#[cfg(feature = "fleet")]
mod fleet;
mod format;
mod help;
mod init;
mod interrupt;
mod keep;
mod list;
mod log_line;
mod logging;
mod man;
mod metrics;
mod outlet;
mod pause;
mod preview;
pub(crate) mod receive;
#[cfg(test)]
mod reference;
mod reload;
mod render;
mod replay;
mod report;
mod resolve;
mod scrape;
mod secret;
mod serve;
mod settings;
mod show;
mod status;
mod test;
mod top;
mod usage;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::{ArgAction, Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use log::LevelFilter;
use rustix::process::Signal;

use crate::config;
use crate::files::raise_max_open;
use failure::Failure;
use format::Format;
use log_line::LogFormat;
use render::Screen;
use settings::{
    OFF, load, load_config, load_good_enough, load_options, load_to_act, load_to_serve, take,
    take_good_enough, take_if_on,
};
use usage::Forms;

/// The exit code of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Exit {
    /// The command succeeded.
    Done = 0,
    /// What was asked for failed.
    Failed = 1,
    /// The usage or the config is wrong.
    Usage = 2,
    /// No runtime can be reached where one is needed.
    NoRuntime = 3,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Sends signed webhooks for Spec Kit runs from inside the repo, retries them, and keeps evidence.
#[derive(Debug, Parser)]
#[command(
    name = "spec-notify",
    version,
    disable_help_flag = true,
    disable_version_flag = true,
    after_help = AFTER_HELP
)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

const AFTER_HELP: &str = "\
Start here:
  spec-notify demo                         show everything here, without a config
  spec-notify init                         write a config and a secret
  spec-notify check                        validate the config
  spec-notify test SPEC --subscription ID  send a signed sample now

When something is wrong:
  spec-notify status                       show what fails and how to fix it
  spec-notify list --state dead_letter     show what was not delivered, and why
  spec-notify replay --all                 send dead letters again

These commands are flags too: --test SPEC --subscription ID, --list [SPEC], --replay SPEC --delivery-id UUID.

Exit codes: 0 done; 1 failed; 2 wrong usage or config; 3 no runtime reachable.";

#[derive(Debug, Args)]
#[command(next_help_heading = help::GLOBAL)]
struct Global {
    /// The config file [default: $SPECKIT_WEBHOOKS_CONFIG, then .spec-kit/config.toml in the repo,
    /// then the home's]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The repo's root [default: the git top level above the working directory]
    #[arg(long, global = true, value_name = "DIR")]
    repo: Option<PathBuf>,
    /// Form of the results: human or json. For preview, the format of the endpoint. For report, md
    /// or html
    #[arg(long, global = true, value_enum, hide_possible_values = true, default_value_t = Format::Human)]
    format: Format,
    /// The same as --format json
    #[arg(long, global = true)]
    json: bool,
    /// Print errors only; --json still prints its result
    #[arg(short, long, global = true)]
    quiet: bool,
    /// Log more; give it twice to log everything
    #[arg(short, long, global = true, action = ArgAction::Count)]
    verbose: u8,
    /// Form of everything on stderr: human, or json with one object a line
    #[arg(
        long,
        global = true,
        value_enum,
        value_name = "FORMAT",
        hide_possible_values = true,
        default_value_t = LogFormat::Human
    )]
    log_format: LogFormat,
    /// Print help
    #[arg(short, long, global = true, action = ArgAction::Help)]
    help: Option<bool>,
    /// Print the version
    #[arg(short = 'V', long, action = ArgAction::Version)]
    version: Option<bool>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write a config with examples, and a new secret that git ignores
    #[command(after_help = init::AFTER_HELP)]
    Init,
    /// Watch the repo and deliver events, in the foreground
    Serve(serve::Options),
    /// Send events to the runtime, from telemetry files, JSON or flags
    Emit(Box<emit::Options>),
    /// Writes events from standard input into the inbox: what emit runs and leaves behind at its
    /// deadline
    #[command(hide = true)]
    Keep(keep::Options),
    /// Send a signed sample to a subscription now
    Test(test::Options),
    /// List deliveries, newest first, with state, attempts and errors
    List(list::Options),
    /// Show one delivery: its event, its attempts, why it waits or failed, and what to do
    Show(show::Options),
    /// Send one dead letter again, or all
    Replay(replay::Options),
    /// Discard dead letters for good, and deliveries that wait for an inactive subscription
    Discard(discard::Options),
    /// Hold the deliveries of a subscription until you resume it, also over restarts
    Pause(pause::PauseOptions),
    /// Deliver to a paused subscription again
    Resume(pause::ResumeOptions),
    /// Show the health of the runtime and of each subscription, and what to fix
    Status(status::Options),
    /// Report what happened since a time, for a ticket or a pull request
    Report(report::Options),
    /// Print metrics in the Prometheus text format
    #[command(after_help = metrics::AFTER_HELP)]
    Metrics,
    /// Prepare the PostgreSQL cluster of a fleet, and check that it is durable
    #[cfg(feature = "fleet")]
    Fleet(fleet::Options),
    /// Copy the evidence of a fleet into this repo
    #[cfg(feature = "fleet")]
    Evidence(evidence::Options),
    /// Show subscriptions, queues, recent attempts and dead letters on a live screen
    Top(top::Options),
    /// Validate the config and report every error in it
    #[command(after_help = "\
Example:
  spec-notify check --config .spec-kit/config.toml

Exit code 2 if the config has errors.")]
    Check,
    /// Show which subscriptions would get an event, and which filter excludes the rest
    Explain(explain::Options),
    /// Show the body that an endpoint would get for an event, and how people read it
    Preview(preview::Options),
    /// Make the running runtime read its config again; if it has errors, the old one stays
    #[command(after_help = "\
Example:
  spec-notify reload      the same as SIGHUP, and prints the answer

Exit code 2 if the config has errors; 3 if no runtime is running.")]
    Reload,
    /// Record existing files as known, so that only later changes are sent
    #[command(after_help = baseline::AFTER_HELP)]
    Baseline,
    /// Deliver everything that is pending, then exit
    Drain(drain::Options),
    /// Make a signing secret
    Secret(secret::Options),
    /// Run a local endpoint that verifies signatures and prints each request
    Receive(receive::CommandOptions),
    /// Show a run, a flaky endpoint, a dead one and a replay on this machine, in seconds
    #[command(after_help = "Example:\n  spec-notify demo      needs no config and uses only loopback")]
    Demo,
    /// What could stand at a place of the command line: what the scripts of completions ask
    #[command(hide = true)]
    Complete(complete::Options),
    /// Print a completion script for a shell
    Completions(completions::Options),
    /// Print the manual page, or write a page for each command
    Man(man::Options),
}

/// Runs the program with these arguments, the first of which is the program's name.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> Exit {
    let arguments = flags_as_commands(arguments);
    let forms = Forms::of(&arguments);
    let parsed = command().try_get_matches_from(arguments);
    let cli = match parsed.and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => cli,
        Err(error) => return usage::say(&error, forms),
    };
    let json = cli.global.json || cli.global.format == Format::Json;
    let level = match cli.command {
        Command::Serve(_) => LevelFilter::Info,
        // These commands report on their own.
        Command::Demo | Command::Top(_) | Command::Complete(_) => LevelFilter::Off,
        _ => LevelFilter::Warn,
    };
    let Global { quiet, verbose, log_format, .. } = cli.global;
    logging::start(logging::Wanted::new(log_format, quiet, verbose, level));
    // Only in the program: a library must not change its host's limits or signals.
    raise_max_open();
    survive_file_size_limits();
    let mut screen = Screen::new(json).quiet(quiet && !json).words_as(log_format);
    let outcome = match cli.global.repo.as_deref().and_then(config::no_folder) {
        // These two commands report problems of a config in their own form.
        Some(problem) if !matches!(cli.command, Command::Check | Command::Reload) => {
            Err(Failure::usage(problem))
        }
        _ => run_command(cli, &mut screen),
    };
    let exit = outcome.unwrap_or_else(|failure| {
        if json {
            screen.value(&failure);
        }
        screen.error(&failure.message);
        failure.exit
    });
    let exit = match screen.lost() {
        Some(error) => {
            screen.error(format_args!("the result could not be written: {error}"));
            exit.max(Exit::Failed)
        }
        None => exit,
    };
    outlet::STDERR.flush();
    outlet::STDOUT.flush();
    exit
}

/// Makes a write beyond the limit on file sizes an error: without a handler, its signal (SIGXFSZ)
/// ends the process.
fn survive_file_size_limits() {
    let heard = Arc::new(AtomicBool::new(false));
    if let Err(error) = signal_hook::flag::register(Signal::XFSZ.as_raw(), heard) {
        log::debug!("a write beyond the limit on the size of files would end this process: {error}");
    }
}

/// The definition of the command line, ready to parse and to be shown.
fn command() -> clap::Command {
    help::dressed(Cli::command())
}

fn run_command(cli: Cli, screen: &mut Screen) -> Result<Exit, Failure> {
    let global = &cli.global;
    if let (Some(format), false) = (global.format.of_body(), matches!(cli.command, Command::Preview(_))) {
        return Err(Failure::usage(format!("--format {format} is for preview: others print human or json")));
    }
    if let (Format::Report(form), false) = (global.format, matches!(cli.command, Command::Report(_))) {
        let name = form.as_str();
        return Err(Failure::usage(format!("--format {name} is for report: others print human or json")));
    }
    match cli.command {
        Command::Init => init::run(global, screen),
        Command::Receive(options) => receive::run(global, &options, screen),
        Command::Demo => demo::run(screen),
        Command::Secret(options) => secret::run(&options, screen),
        Command::Check => check::run(global, screen),
        Command::Serve(options) => serve::run(global, &options, screen),
        Command::Emit(options) => emit::run(global, &options, screen),
        Command::Keep(options) => keep::run(&options),
        Command::Test(options) => test::run(global, &options, screen),
        Command::List(options) => list::run(global, options, screen),
        Command::Show(options) => show::run(global, &options, screen),
        Command::Replay(options) => replay::run(global, &options, screen),
        Command::Discard(options) => discard::run(global, &options, screen),
        Command::Pause(options) => pause::pause(global, options, screen),
        Command::Resume(options) => pause::resume(global, options, screen),
        Command::Status(options) => status::run(global, &options, screen),
        Command::Report(options) => report::run(global, &options, global.format.of_report(), screen),
        Command::Metrics => metrics::run(global, screen),
        #[cfg(feature = "fleet")]
        Command::Fleet(options) => fleet::run(global, &options, screen),
        #[cfg(feature = "fleet")]
        Command::Evidence(options) => evidence::run(global, &options, screen),
        Command::Top(options) => top::run(global, &options, screen),
        Command::Explain(options) => explain::run(global, &options, screen),
        Command::Preview(options) => preview::run(global, &options, global.format.of_body(), screen),
        Command::Reload => reload::run(global, screen),
        Command::Baseline => baseline::run(global, screen),
        Command::Drain(options) => drain::run(global, &options, screen),
        Command::Complete(options) => Ok(complete::run(options, screen)),
        Command::Completions(options) => Ok(completions::run(&options, screen)),
        Command::Man(options) => man::run(&options, screen),
    }
}

/// The commands that are flags too.
const ALSO_FLAGS: [&str; 3] = ["test", "list", "replay"];

/// Turns the flag forms `--test SPEC …`, `--list [SPEC]` and `--replay SPEC …` into commands.
fn flags_as_commands(arguments: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let commands: Vec<String> =
        Cli::command().get_subcommands().map(|command| command.get_name().to_owned()).collect();
    let mut arguments: Vec<OsString> = arguments.into_iter().collect();
    for argument in arguments.iter_mut().skip(1) {
        let Some(text) = argument.to_str() else { continue };
        match text.strip_prefix("--").and_then(|name| ALSO_FLAGS.into_iter().find(|flag| *flag == name)) {
            Some(command) => *argument = command.into(),
            None if commands.iter().any(|command| command == text) => {}
            None => continue,
        }
        break;
    }
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_become_commands_but_only_before_one() {
        let turned = |line: &str| {
            let turned = flags_as_commands(line.split(' ').map(OsString::from));
            turned.into_iter().map(|word| word.into_string().unwrap()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(turned("x --json --test S --subscription a"), "x --json test S --subscription a");
        assert_eq!(turned("x --replay S --delivery-id u"), "x replay S --delivery-id u");
        assert_eq!(turned("x --list"), "x list");
        assert_eq!(turned("x emit --test"), "x emit --test");
    }
}
