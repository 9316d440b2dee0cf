//! A host on tokio: `cargo run --example tokio_host`, in a repo with a config (see
//! `docs/reference/config.md`). Nothing here blocks its workers; one task tells what went wrong.

use std::error::Error;
use std::time::Duration;

use spec_notify::{DeliveryState, Environment, Event, LoadOptions, Runtime, Stage, Status, Updates};

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<(), Box<dyn Error>> {
    let environment = Environment::process();
    let config = LoadOptions::in_dir(std::env::current_dir()?).load(&environment).into_config()?;
    let runtime = Runtime::start(config, environment).await?;
    let telling = tokio::spawn(tell_what_went_wrong(runtime.handle().watch()));

    let mut stages = Vec::new();
    for stage in [Stage::Plan, Stage::Tasks, Stage::Implement] {
        let handle = runtime.handle();
        let event = Event::stage("SPEC-KIT-065".parse()?, stage, Status::Success).session("s-7").build();
        stages.push(tokio::spawn(async move { handle.emit(event).await }));
    }
    for stage in stages {
        println!("{:?}", stage.await??);
    }

    runtime.handle().idle().await;
    let drained = runtime.drain(Duration::from_secs(5)).await;
    println!("{} deliveries pending", drained.pending);
    // The runtime has ended, so nothing more changes and the task ends too.
    telling.await?;
    Ok(())
}

/// Prints each delivery that was given up, and the headline when it changes.
async fn tell_what_went_wrong(mut updates: Updates) {
    let mut said = None;
    while updates.changed().await {
        for ended in updates.ended().deliveries {
            let row = &ended.delivery;
            if row.state == DeliveryState::DeadLetter {
                let why = row.last_error.as_deref().unwrap_or_default();
                eprintln!("{} was not told of {:?} of {}: {why}", row.subscription, row.stage, row.spec);
            }
        }
        let headline = updates.snapshot().headline();
        if headline != said {
            headline.iter().for_each(|line| eprintln!("{line}"));
            said = headline;
        }
    }
}
