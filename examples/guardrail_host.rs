//! A guardrail host with the runtime inside: what it calls where. See `docs/how-to/guardrail-host.md`.

use std::process::ExitCode;
use std::time::Duration;

use spec_notify::{
    Environment, Event, Handle, LoadOptions, Query, Runtime, SpecId, Stage, Status, WatchFrom,
};

/// The longest that a guardrail or a status command waits for webhooks.
const PATIENCE: Duration = Duration::from_secs(2);

/// At the end of a guardrail. Whatever comes of it, the guardrail's own result stands.
fn stage_ended(handle: &Handle, spec: &SpecId, stage: Stage, status: Status, session: &str) {
    let event = Event::stage(spec.clone(), stage, status).session(session).build();
    match handle.emit_blocking(event, PATIENCE) {
        Ok(receipt) => log::info!("webhooks: {receipt:?}"),
        Err(error) => eprintln!("webhooks: {error}"),
    }
}

/// In the host's status command: a line where something is unresolved, and a SPEC's deliveries.
fn show(handle: &Handle, spec: &SpecId) -> Result<(), spec_notify::RequestError> {
    let status = handle.status_blocking(PATIENCE)?;
    status.headline().iter().for_each(|line| println!("{line}"));
    let query = Query { spec: Some(spec.clone()), ..Query::newest(5) };
    for row in handle.list_blocking(query, PATIENCE)?.deliveries {
        println!("{} {} {} {}", row.id, row.subscription, row.state, row.last_error.unwrap_or_default());
    }
    Ok(())
}

fn main() -> ExitCode {
    // --test SPEC --subscription ID, --list [SPEC], --replay SPEC --delivery-id UUID
    let flags = ["--test", "--list", "--replay"];
    if std::env::args().nth(1).is_some_and(|first| flags.contains(&first.as_str())) {
        return spec_notify::run(std::env::args_os()).into();
    }
    let environment = Environment::process();
    let here = std::env::current_dir().unwrap_or_default();
    let loaded =
        LoadOptions::in_dir(here).load(&environment).into_config().map_err(|error| error.to_string());
    // The stages and tasks that are watched are told without a call.
    let started = loaded.and_then(|config| {
        Runtime::start_blocking(config.watching(WatchFrom::Now), environment)
            .map_err(|error| error.to_string())
    });
    match started {
        Ok(runtime) => {
            if let Ok(spec) = "SPEC-KIT-065".parse::<SpecId>() {
                stage_ended(&runtime.handle(), &spec, Stage::Plan, Status::Success, "host-session-7");
                if let Err(error) = show(&runtime.handle(), &spec) {
                    eprintln!("webhooks: {error}");
                }
            }
            // What has not arrived by then waits on disk for the next start.
            runtime.drain_blocking(PATIENCE);
        }
        Err(error) => eprintln!("webhooks: {error}"),
    }
    ExitCode::SUCCESS
}
