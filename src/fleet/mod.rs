//! Beyond one machine: what is accepted lies in a PostgreSQL cluster, and whoever lives delivers.

mod lease;
mod overview;
mod work;

#[cfg(feature = "fleet")]
mod accept;
#[cfg(feature = "fleet")]
mod board;
#[cfg(feature = "fleet")]
mod discard;
#[cfg(feature = "fleet")]
mod error;
#[cfg(feature = "fleet")]
mod evidence;
#[cfg(feature = "fleet")]
mod find;
#[cfg(feature = "fleet")]
mod health;
#[cfg(feature = "fleet")]
mod link;
#[cfg(not(feature = "fleet"))]
mod none;
#[cfg(feature = "fleet")]
mod read;
#[cfg(feature = "fleet")]
mod schema;
#[cfg(feature = "fleet")]
mod survey;
#[cfg(feature = "fleet")]
mod sweep;
#[cfg(feature = "fleet")]
mod write;

#[cfg(feature = "fleet")]
pub(crate) use board::{Board, is_denied, is_locked, is_silent, needs_a_person};
#[cfg(feature = "fleet")]
pub(crate) use error::EngineError;
#[cfg(feature = "fleet")]
pub(crate) use health::{Health, health};
pub(crate) use lease::{Duty, MemberInfo, Tenure, plan};
#[cfg(feature = "fleet")]
pub(crate) use link::Link;
#[cfg(not(feature = "fleet"))]
pub(crate) use none::{Board, EngineError, Link, is_denied, is_locked, is_silent, needs_a_person};
pub(crate) use overview::{Given, Gone, Overview, PAGE, Place, PlacedLine, Wanted, WantedLines};
#[cfg(feature = "fleet")]
pub(crate) use schema::{Standing, VERSION, apply, grants, in_one_transaction, look, misfit, roles};
pub(crate) use work::{Known, Routed, Term, Unrouted, Waiting, Write, delivery_id};
