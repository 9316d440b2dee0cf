//! `spec-notify metrics`: figures in the Prometheus text format, for a scraper, a file that one
//! reads, or a look.

use super::ask::Source;
use super::render::Screen;
use super::{Exit, Failure, Global};
use crate::inspect::Exposition;

pub(super) const AFTER_HELP: &str = "\
Examples:
  spec-notify metrics
  spec-notify metrics > /var/lib/node_exporter/spec_notify.prom
  spec-notify serve --metrics 127.0.0.1:9464      answers scrapes

Counters start at 0 with the runtime. If none is running, there are no counters and spec_notify_up is 0.";

pub(super) fn run(global: &Global, screen: &mut Screen) -> Result<Exit, Failure> {
    let mut source = Source::find(global, screen)?;
    if !source.config.enabled {
        screen.note(super::OFF);
    }
    let metrics = source.metrics()?;
    if let Some(silent) = source.silent() {
        screen.warning(silent);
    } else if metrics.started_at.is_none() {
        screen.note("no runtime is running: there are no counters");
    }
    if screen.is_json() {
        screen.value(&metrics);
    } else {
        screen.raw(metrics.text(Exposition::Prometheus).as_bytes());
    }
    Ok(Exit::Done)
}
