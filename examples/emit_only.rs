//! A host that only emits, with a config made in code: `cargo run --example emit_only`, with
//! `HOOK_URL` and `HOOK_SECRET` in the environment.
//!
//! It does not wait for any endpoint. Where a `spec-notify serve` owns the spool, that delivers;
//! else what was accepted waits on disk for whoever owns the spool next.

use std::error::Error;
use std::time::Duration;

use spec_notify::{Config, Environment, Event, Runtime, Stage, Status, Subscription};

fn main() -> Result<(), Box<dyn Error>> {
    let environment = Environment::process();
    let hook = Subscription::new("hook", "HOOK_SECRET").url_env("HOOK_URL");
    let config = Config::builder().subscription(hook).build(&environment)?;
    let runtime = Runtime::start_blocking(config, environment)?;
    let event = Event::stage("SPEC-KIT-065".parse()?, Stage::Plan, Status::Failure)
        .session("host-session-7")
        .reason("the baseline has 3 failing tests")
        .build();
    println!("{:?}", runtime.handle().emit_blocking(event, Duration::from_secs(2))?);
    runtime.drain_blocking(Duration::ZERO);
    Ok(())
}
