//! A fleet for real: three nodes of PostgreSQL, real processes, real kills. Needs PostgreSQL's
//! programs; `.ci/run` fails where they are missing.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod cluster;
mod deliver;
mod emitters;
mod faults;
#[allow(dead_code, unused_imports, reason = "what these tests need of it")]
#[path = "../it/harness/mod.rs"]
mod harness;
mod machine;
mod operators;
mod patroni;
mod pooler;
mod proxy;
mod storm;
