//! `spec-notify status`: the state of runtime and subscriptions, fit for a ticket; `--banner`: one
//! line, if something is unresolved.

mod fleet;
mod screen;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use jiff::SignedDuration;

use super::ask::{PATIENCE, Source, length};
use super::render::{Screen, Tone};
use super::{Exit, Failure, Global};
use crate::clock;
use crate::figures::Windows;
pub(super) use fleet::lines as fleet_lines;
use screen::{View, lines};
pub(super) use screen::{of_latency, share, sparkline, tone, ways};

/// How long a runtime may take for an answer to `--banner`: a prompt cannot wait for one that
/// hangs.
const BANNER_PATIENCE: Duration = Duration::from_millis(150);

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  spec-notify status
  spec-notify status --since 24h
  spec-notify status --banner      for a prompt: nothing, or one line
  spec-notify status --json

Exit code 1 while something is unresolved: a subscription fails, is degraded or is paused; dead letters \
are left; records are damaged; or no runtime runs while deliveries wait or the repo holds what was not \
sent.")]
pub(super) struct Options {
    /// Print one line if something is unresolved, else nothing
    #[arg(long)]
    banner: bool,
    /// Time that the figures cover: 1m, 10m, 1h or 24h; other lengths round up
    #[arg(long, value_name = "LENGTH", default_value = "1h")]
    since: Since,
}

/// The window whose figures are shown.
#[derive(Clone, Copy, Debug)]
struct Since(Windows);

impl FromStr for Since {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let length = length(text).ok_or_else(|| format!("`{text}` is no length of time: 10m, 1h, 24h"))?;
        let windows = [Windows::Minute, Windows::TenMinutes, Windows::Hour, Windows::Day].map(Self);
        let window = windows.into_iter().find(|window| length <= window.length());
        window.ok_or_else(|| "figures are kept for 24h".to_owned())
    }
}

impl Since {
    fn length(self) -> SignedDuration {
        match self.0 {
            Windows::Minute => SignedDuration::from_mins(1),
            Windows::TenMinutes => SignedDuration::from_mins(10),
            Windows::Hour => SignedDuration::from_hours(1),
            Windows::Day => SignedDuration::from_hours(24),
        }
    }
}

impl fmt::Display for Since {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Windows::Minute => "MINUTE",
            Windows::TenMinutes => "10 MINUTES",
            Windows::Hour => "HOUR",
            Windows::Day => "24 HOURS",
        })
    }
}

pub(super) fn run(global: &Global, options: &Options, screen: &mut Screen) -> Result<Exit, Failure> {
    let patience = if options.banner { BANNER_PATIENCE } else { PATIENCE };
    let mut source = Source::find_within(global, patience, screen)?;
    if !source.config.enabled {
        if !options.banner {
            screen.note(super::OFF);
        }
        if !source.config.spool_dir.is_dir() && !screen.is_json() {
            return Ok(Exit::Done);
        }
    }
    let report = if options.banner && !screen.is_json() { source.brief_status() } else { source.status() }?;
    let now = clock::now();
    let banner = report.banner(now);
    if screen.is_json() {
        screen.value(&report);
    } else if options.banner {
        banner.iter().for_each(|banner| screen.line(Tone::Warning, banner));
    } else {
        let view = View { now, width: screen.width(), since: options.since };
        lines(&report, &view).iter().for_each(|line| screen.print(line));
    }
    Ok(if banner.is_some() { Exit::Failed } else { Exit::Done })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_is_the_next_longer_one() {
        let told = |text: &str| text.parse::<Since>().map(|since| since.to_string());
        for (text, window) in [
            ("5s", "MINUTE"),
            ("60s", "MINUTE"),
            ("2m", "10 MINUTES"),
            ("1h", "HOUR"),
            ("1h 1s", "24 HOURS"),
            ("1d", "24 HOURS"),
        ] {
            assert_eq!(told(text).as_deref(), Ok(window), "{text}");
        }
        assert_eq!(told("3d").unwrap_err(), "figures are kept for 24h");
        assert!(told("25h").is_err() && told("long").is_err());
    }
}
