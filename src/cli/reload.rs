//! `spec-notify reload`: has the running runtime read its config again and apply it if it is valid.

use std::io;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use super::render::{Screen, Tone};
use super::{Exit, Failure, Global, load};
use crate::ask::ReloadConfig;
use crate::config::Report;
use crate::control::{CHANGE_OF_OWNER, Client, ClientError, LOOK_AGAIN};
use crate::files::user::check_owner;
use crate::spool;

/// How long connecting to the runtime may take.
const CONNECT: Duration = Duration::from_secs(2);

/// How long the reload may take: the runtime reads a file, and perhaps the system's trust roots.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) fn run(global: &Global, screen: &mut Screen) -> Result<Exit, Failure> {
    // Loaded for the spool's path. Errors found here hold for the runtime too, which reads the same
    // file.
    let loaded = load(global, false)?;
    let Some(config) = &loaded.config else {
        return Ok(tell(&loaded.report(), screen));
    };
    let spool_dir = &config.spool_dir;
    if let Err(error) = check_owner(spool_dir)
        && error.kind() == io::ErrorKind::PermissionDenied
    {
        return Err(Failure::failed(format!("cannot use the spool {}: {error}", spool_dir.display())));
    }
    let asked = connect(spool_dir).and_then(|mut client| client.request(&ReloadConfig {}, PATIENCE));
    let report = asked.map_err(|error| match error {
        ClientError::Unreachable(_) | ClientError::Absent(_) => Failure::new(
            Exit::NoRuntime,
            format!("{error}: start spec-notify serve; if one runs and you changed spool_dir, restart it"),
        ),
        ClientError::Refused(_) => Failure::failed(error),
    })?;
    Ok(tell(&report, screen))
}

/// Connects to the runtime. While the spool has an owner that does not answer yet, or no longer, it
/// tries again for a while.
fn connect(spool_dir: &Path) -> Result<Client, ClientError> {
    let until = Instant::now() + CHANGE_OF_OWNER;
    loop {
        match Client::connect(spool_dir, CONNECT) {
            Err(ClientError::Absent(_)) if Instant::now() < until && spool::is_owned(spool_dir) => {
                thread::park_timeout(LOOK_AGAIN);
            }
            connected => return connected,
        }
    }
}

fn tell(report: &Report, screen: &mut Screen) -> Exit {
    if screen.is_json() {
        screen.value(report);
    } else {
        report.errors.iter().for_each(|error| screen.error(error));
        report.warnings.iter().for_each(|warning| screen.warning(warning));
        match report.ok {
            true => screen
                .line(Tone::Good, "reloaded: the config is in force; what was under way ends as it began"),
            false => screen.line(Tone::Bad, "refused: the config that was in force stays in force"),
        }
    }
    if report.ok { Exit::Done } else { Exit::Usage }
}
