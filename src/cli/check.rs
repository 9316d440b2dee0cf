//! `spec-notify check`: whether webhooks are on, and every problem of the config at once.

use super::render::{Screen, Tone};
use super::{Exit, Failure, Global, load};
use crate::config::{Problem, Report, Role, Switch};
use crate::files::user::check_readable;
use crate::inspect::counted;
use crate::watch::elsewhere;

pub(super) fn run(global: &Global, screen: &mut Screen) -> Result<Exit, Failure> {
    let mut loaded = load(global, true)?;
    let ok = loaded.errors.is_empty();
    if let Some(config) = loaded.config.as_ref().filter(|config| ok && config.enabled) {
        check_readable(&config.spool_dir).map_err(|error| {
            Failure::failed(format!("cannot read {}: {error}", config.spool_dir.display()))
        })?;
    }
    if let Some(config) = loaded.config.as_ref().filter(|config| config.enabled) {
        let help = "a .specify in three levels of folders is looked for; links and other checkouts are not";
        loaded.warnings.extend(elsewhere(config).map(|what| Problem::general(what, help)));
    }
    if screen.is_json() {
        screen.value(&Report { ok, ..loaded.report() });
    } else {
        let tone = if loaded.switch == Switch::On { Tone::Good } else { Tone::Warning };
        screen.line(tone, &loaded.switch);
        for error in &loaded.errors {
            screen.error(error);
        }
        for warning in &loaded.warnings {
            screen.warning(warning);
        }
        let file =
            loaded.file.as_ref().map_or("no config file found".to_owned(), |file| file.display().to_string());
        match &loaded.config {
            Some(config) if ok => {
                let active = config.subscriptions.iter().filter(|subscription| subscription.active).count();
                let all = counted(config.subscriptions.len(), "subscription", "subscriptions");
                screen.line(Tone::Plain, format_args!("ok: {file}: {all}, {active} active"));
                for subscription in &config.subscriptions {
                    let endpoint = subscription.endpoint.as_ref().map_or("-".to_owned(), ToString::to_string);
                    let state = match subscription.role() {
                        Role::Inactive => "inactive",
                        Role::DryRun => "dry run",
                        Role::Active => "active",
                    };
                    screen.line(Tone::Plain, format_args!("  {} {state} {endpoint}", subscription.id));
                }
            }
            _ => {
                let errors = counted(loaded.errors.len(), "error", "errors");
                screen.line(Tone::Bad, format_args!("{errors} in {file}"));
            }
        }
    }
    Ok(if ok { Exit::Done } else { Exit::Usage })
}
