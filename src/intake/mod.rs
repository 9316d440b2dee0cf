//! Reading what a Spec-Kit repo holds. `telemetry` and `tasks` are given bytes and paths and open
//! nothing.

pub(crate) mod branch;
pub(crate) mod consensus;
mod fields;
pub(crate) mod outstanding;
pub(crate) mod repo;
pub(crate) mod stage;
pub(crate) mod tasks;
pub(crate) mod telemetry;
