//! Reading what a Spec-Kit repo holds: the pure part is given bytes and paths and opens nothing.

pub mod repo;
pub mod tasks;
pub mod telemetry;
