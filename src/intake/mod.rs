//! Reading what a Spec-Kit repo holds. `telemetry`, `tasks` and `run` are given bytes and paths and open nothing.

pub mod consensus;
pub mod outstanding;
pub mod repo;
pub mod run;
pub mod stage;
pub mod tasks;
pub mod telemetry;
