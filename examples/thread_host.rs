//! A host of plain threads: `cargo run --example thread_host`, in a repo with a config (see
//! `docs/reference/config.md`). Every call that waits is the blocking one, with a deadline.

use std::error::Error;
use std::thread;
use std::time::Duration;

use spec_notify::{Environment, Event, LoadOptions, Receipt, Runtime, Stage, Status};

/// The longest that a stage of this host waits for its event to be on disk.
const PATIENCE: Duration = Duration::from_secs(2);

fn main() -> Result<(), Box<dyn Error>> {
    let environment = Environment::process();
    let config = LoadOptions::in_dir(std::env::current_dir()?).load(&environment).into_config()?;

    // One runtime for the life of the host; a handle wherever events happen.
    let runtime = Runtime::start_blocking(config, environment)?;
    thread::scope(|scope| {
        for stage in [Stage::Plan, Stage::Tasks, Stage::Implement] {
            let handle = runtime.handle();
            scope.spawn(move || {
                let Ok(spec) = "SPEC-KIT-065".parse() else { return };
                let event = Event::stage(spec, stage, Status::Success).session("host-session-7").build();
                match handle.emit_blocking(event, PATIENCE) {
                    Ok(Receipt::Accepted(deliveries)) => println!("{stage}: {} deliveries", deliveries.len()),
                    Ok(Receipt::Duplicate) => println!("{stage}: accepted before"),
                    Ok(Receipt::Queued) => println!("{stage}: on disk, for later"),
                    Ok(receipt) => println!("{stage}: {receipt:?}"),
                    Err(error) => println!("{stage}: {error}"),
                }
            });
        }
    });

    // At the end of the host: what is under way may finish, the rest waits on disk for the next
    // start.
    runtime.handle().idle_blocking(PATIENCE);
    let drained = runtime.drain_blocking(PATIENCE);
    println!("{} deliveries pending", drained.pending);
    Ok(())
}
