//! Beyond one machine: what is accepted lies in a PostgreSQL cluster, and whoever lives delivers.

mod accept;
mod error;
mod health;
mod link;
mod schema;

pub(crate) use accept::{Offered, Taken, accept};
pub(crate) use error::EngineError;
pub(crate) use health::{Health, health};
pub(crate) use link::{Line, Link};
pub(crate) use schema::{Standing, apply, grants, look, tables};
