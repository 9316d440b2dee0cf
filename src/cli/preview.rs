//! `spec-notify preview`: the body that an endpoint would get of an event, and how it reads.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use serde_json::Value;

use super::render::{Screen, Tone, wrap};
use super::{Exit, Failure, Global, emit, load_config};
use crate::clock;
use crate::env::Environment;
use crate::event::sequence_at;
use crate::payload::pages::Pages;
use crate::payload::{self, Format, Reader};
use crate::sources::checkout::Checkout;
use crate::sources::host;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  spec-notify preview --format slack --event event.json
  spec-notify preview --format teams --event event.json --json

Sends nothing. The message mentions the owner of the first subscription with this format.")]
pub(super) struct Options {
    /// File with one event as JSON; `-` reads standard input
    #[arg(long, value_name = "FILE|-")]
    event: PathBuf,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Preview {
    format: Format,
    body: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
}

pub(super) fn run(
    global: &Global,
    options: &Options,
    format: Option<Format>,
    screen: &mut Screen,
) -> Result<Exit, Failure> {
    let names = || Format::ALL.iter().map(|format| format.as_str()).collect::<Vec<_>>().join(", ");
    let format = format.ok_or_else(|| Failure::usage(format!("give --format: one of {}", names())))?;
    let config = load_config(global, false, screen)?;
    let mut event = emit::only_event(&options.event)?.map_err(Failure::usage)?;
    // As the runtime does.
    let checkout = Checkout::new(&config.repo, Environment::process());
    checkout.add_to(&mut event);
    let at = clock::now();
    event.name_host(host::name(config.show_host));
    event.accepted(at, sequence_at(at));
    let published = checkout.published(&event);
    let pages = Pages { files: published, ..checkout.pages(config.link_template.as_ref()) };
    let mut of_format = config.subscriptions.iter().filter(|one| one.active && one.format == format);
    let owner = of_format.find_map(|one| one.owner.as_deref());
    let reader = Reader { pages: Some(&pages), owner, ..Reader::default() };
    let body = payload::body(&event).and_then(|body| format.render(&event, &body, &reader));
    let body = serde_json::from_slice(&body.map_err(Failure::failed)?).map_err(Failure::failed)?;
    let text = format.is_chat().then(|| payload::text(&event, &reader));
    let preview = Preview { format, body, text };
    if screen.is_json() {
        screen.value(&preview);
        return Ok(Exit::Done);
    }
    let body = serde_json::to_string_pretty(&preview.body).unwrap_or_default();
    body.lines().for_each(|line| screen.line(Tone::Faint, line));
    if let Some(text) = &preview.text {
        screen.line(Tone::Heading, format_args!("\nhow it reads ({format}):"));
        let lines = text.lines().flat_map(|line| wrap(line, "", screen.width())).collect::<Vec<_>>();
        lines.iter().for_each(|line| screen.line(Tone::Plain, line));
    }
    Ok(Exit::Done)
}
