//! Beyond one machine: what is accepted lies in a PostgreSQL cluster, and whoever lives delivers.

mod accept;
mod error;
mod health;
mod link;
mod schema;

pub(crate) use health::{Health, health};
pub(crate) use link::Link;
pub(crate) use schema::{Standing, apply, grants, look, tables};
