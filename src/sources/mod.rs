//! What a Spec-Kit repo holds that tells of a pipeline: one file a source says where its files
//! lie, how they are named and what one tells. The watcher asks all of them.

mod bash_guardrails;
mod boxes;
pub(crate) mod checkout;
pub(crate) mod consensus;
pub(crate) mod costs;
mod dated;
pub(crate) mod done;
mod fields;
pub(crate) mod git;
mod git_dir;
pub(crate) mod host;
pub(crate) mod lists;
mod native_guardrails;
pub(crate) mod outstanding;
pub(crate) mod place;
mod remote;
mod repo;
mod rows;
mod session;
pub(crate) mod signs;
pub(crate) mod stage;
pub(crate) mod standpoint;
pub(crate) mod tasks;
pub(crate) mod telemetry;
pub(crate) mod workflow_run;

use telemetry::Guardrail;

/// All guardrails. What two of them could claim is the first one's.
pub(crate) static GUARDRAILS: [&Guardrail; 2] = [&bash_guardrails::SOURCE, &native_guardrails::SOURCE];
