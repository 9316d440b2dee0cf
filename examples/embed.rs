//! A host that embeds the runtime: `cargo run --example embed`, in a repo with a config (see `docs/config.md`).

use std::error::Error;
use std::time::Duration;

use spec_notify::LoadOptions;
use spec_notify::{Environment, Event, Receipt, Runtime};

/// What the host knows of a stage that has just ended.
const EVENT: &str = r#"{
    "event": {"type": "spec-auto.stage.completed", "stage": "Plan", "status": "success"},
    "spec": {"id": "SPEC-KIT-065-add-webhooks"},
    "pipeline": {"attempt": 1, "maxAttempts": 3},
    "telemetry": {"sessionId": "host-session-7"}
}"#;

fn main() -> Result<(), Box<dyn Error>> {
    let environment = Environment::process();
    let config = LoadOptions::in_dir(std::env::current_dir()?).load(&environment).into_config()?;

    // One runtime for the life of the host; a handle wherever events happen.
    let runtime = Runtime::start_blocking(config, environment)?;
    let handle = runtime.handle();
    match handle.emit_blocking(Event::from_json(EVENT)?, Duration::from_secs(2))? {
        Receipt::Accepted(deliveries) => {
            println!("accepted: {} deliveries are on their way", deliveries.len())
        }
        Receipt::Duplicate => println!("this event was accepted before"),
        Receipt::Queued => println!("queued on disk: the runtime takes it in as soon as it can"),
        Receipt::Off => println!("webhooks are off"),
        other => println!("{other:?}"),
    }

    // At the end of the host: what is under way may finish, the rest waits on disk for the next start.
    let drained = runtime.drain_blocking(Duration::from_secs(5));
    println!("{} deliveries pending", drained.pending);
    Ok(())
}
