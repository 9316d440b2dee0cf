//! Signed, retried, evidenced webhooks for Spec-Kit pipelines, from inside the repo.
#![forbid(unsafe_code)]

pub mod config;
pub mod delivery;
pub mod event;
pub mod filter;
pub mod secret;
pub mod sign;
