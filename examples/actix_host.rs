//! A host on actix: `cargo run --example actix_host`, in a repo with a config (see
//! `docs/reference/config.md`). The runtime has a system of its own, so this one stays the host's.

use std::error::Error;
use std::time::Duration;

use actix_rt::System;
use spec_notify::{Environment, Event, LoadOptions, Runtime, Stage, Status};

fn main() -> Result<(), Box<dyn Error>> {
    System::new().block_on(host())
}

async fn host() -> Result<(), Box<dyn Error>> {
    let environment = Environment::process();
    let config = LoadOptions::in_dir(std::env::current_dir()?).load(&environment).into_config()?;
    let runtime = Runtime::start(config, environment).await?;

    // Tasks of an arbiter stay on its thread: nothing here has to be `Send`.
    let mut stages = Vec::new();
    for stage in [Stage::Plan, Stage::Tasks, Stage::Implement] {
        let handle = runtime.handle();
        let event = Event::stage("SPEC-KIT-065".parse()?, stage, Status::Success).session("s-7").build();
        stages.push(actix_rt::spawn(async move { handle.emit(event).await }));
    }
    for stage in stages {
        println!("{:?}", stage.await??);
    }

    runtime.handle().idle().await;
    let drained = runtime.drain(Duration::from_secs(5)).await;
    println!("{} deliveries pending", drained.pending);
    Ok(())
}
