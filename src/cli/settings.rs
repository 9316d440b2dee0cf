//! The config of a command: where it is looked for, and what of a wrong one is good enough.

use super::Global;
use super::failure::Failure;
use super::render::Screen;
use crate::config::{self, Config, FleetRole, LoadOptions};
use crate::env::Environment;
use crate::inspect::counted;
use crate::spool;

/// Reads and checks the config. With `secrets` false, what only a runtime needs from the
/// environment may be missing.
pub(super) fn load(global: &Global, secrets: bool) -> Result<config::Loaded, Failure> {
    Ok(config::load(&load_options(global, secrets)?, &Environment::process()))
}

pub(super) fn load_options(global: &Global, secrets: bool) -> Result<LoadOptions, Failure> {
    let working_dir = std::env::current_dir()
        .map_err(|error| Failure::usage(format!("the working directory cannot be read: {error}")))?;
    let (config, repo) = (global.config.clone(), global.repo.clone());
    Ok(LoadOptions { config, repo, working_dir, secrets, role: None })
}

/// The config, or all its errors on stderr.
pub(super) fn load_config(global: &Global, secrets: bool, screen: &mut Screen) -> Result<Config, Failure> {
    take(load(global, secrets)?, screen)
}

pub(super) fn take(loaded: config::Loaded, screen: &mut Screen) -> Result<Config, Failure> {
    match loaded.config {
        Some(config) => {
            for error in &loaded.errors {
                log::error!("{error}");
            }
            for warning in &loaded.warnings {
                log::warn!("{warning}");
            }
            Ok(config)
        }
        None => {
            for problem in &loaded.errors {
                screen.error(problem);
            }
            let errors = counted(loaded.errors.len(), "error", "errors");
            let failure = Failure::usage(format!("the config has {errors}"));
            Err(Failure { problems: loaded.errors, ..failure })
        }
    }
}

/// The config for `serve`: it must be valid and on. A `role` counts instead of the config's.
pub(super) fn load_to_serve(
    global: &Global,
    role: Option<FleetRole>,
    screen: &mut Screen,
) -> Result<Config, Failure> {
    let options = LoadOptions { role, ..load_options(global, true)? };
    take_if_on(config::load(&options, &Environment::process()), screen)
}

/// The config for a command that acts through the runtime that owns the spool, or else owns the
/// spool itself for a moment. Only in the second case must the secrets be in its own environment.
pub(super) fn load_to_act(global: &Global, screen: &mut Screen) -> Result<Config, Failure> {
    let loaded = load(global, false)?;
    let is_owned = |config: &Config| spool::is_owned(&config.spool_dir);
    // If webhooks are off, say so, and do not ask for secrets.
    match loaded.config.as_ref().is_some_and(|config| config.enabled && !is_owned(config)) {
        true => load_to_serve(global, None, screen),
        false => take_if_on(loaded, screen),
    }
}

pub(super) fn take_if_on(loaded: config::Loaded, screen: &mut Screen) -> Result<Config, Failure> {
    let switch = loaded.switch.clone();
    let config = take(loaded, screen)?;
    if config.enabled { Ok(config) } else { Err(Failure::usage(switch)) }
}

/// The config, or with a warning the salvaged part of one with errors, for commands that only need
/// the spool's path, and whether it has errors. A mistake in one subscription must neither lose an
/// event nor hide the status.
pub(super) fn load_good_enough(global: &Global, screen: &mut Screen) -> Result<(Config, bool), Failure> {
    let loaded = load(global, false)?;
    let is_wrong = loaded.config.is_none();
    Ok((take_good_enough(loaded, screen)?, is_wrong))
}

pub(super) fn take_good_enough(loaded: config::Loaded, screen: &mut Screen) -> Result<Config, Failure> {
    match (&loaded.config, loaded.good_enough()) {
        (None, Some(config)) => {
            let errors = counted(loaded.errors.len(), "error", "errors");
            let file = loaded.file.as_ref().map(|file| file.display().to_string()).unwrap_or_default();
            screen.warning(format_args!("{file} has {errors}: see spec-notify check"));
            Ok(config.clone())
        }
        _ => take(loaded, screen),
    }
}

/// The message of a command if webhooks are off.
pub(super) const OFF: &str = "webhooks are off: set enabled = true under [spec_ops.webhooks], or \
    SPECKIT_WEBHOOKS_ENABLED=1; where there is no config, run spec-notify init";
