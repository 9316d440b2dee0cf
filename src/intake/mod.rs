//! Reading what a Spec-Kit repo holds. `telemetry` and `tasks` are given bytes and paths and open
//! nothing.

pub(crate) mod branch;
pub mod consensus;
mod fields;
pub mod outstanding;
pub mod repo;
pub mod stage;
pub mod tasks;
pub mod telemetry;
