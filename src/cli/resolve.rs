//! Finds the one delivery that a person means by the start of its id.

use std::fmt::Write as _;

use super::ask::Source;
use super::{Exit, Failure};
use crate::delivery::IdPrefix;
use crate::event::SpecId;
use crate::inspect::{DeliveryState, Listed, Query};

/// Most candidates that are named.
const NAMED: usize = 10;

/// The delivery in one of `states` (any, if empty) whose id begins so.
pub(super) fn one(
    source: &mut Source,
    prefix: &IdPrefix,
    states: &[DeliveryState],
    what: &str,
) -> Result<Listed, Failure> {
    of_spec(source, prefix, None, states, what)
}

/// The same among those of a SPEC.
pub(super) fn of_spec(
    source: &mut Source,
    prefix: &IdPrefix,
    spec: Option<&SpecId>,
    states: &[DeliveryState],
    what: &str,
) -> Result<Listed, Failure> {
    let query = Query {
        spec: spec.cloned(),
        id: Some(prefix.clone()),
        states: states.to_vec(),
        ..Query::newest(NAMED)
    };
    let listing = source.list(&query)?;
    let mut found = listing.deliveries;
    match found.len() {
        0 => Err(Failure::new(Exit::Failed, format!("no {what} has an id that begins with {prefix}"))),
        1 => Ok(found.remove(0)),
        _ => {
            let more = if listing.more { "more than " } else { "" };
            let mut message = format!("{more}{} begin with {prefix}: give more of the id\n", found.len());
            for Listed { id, subscription, spec, state, idempotency_key, .. } in &found {
                // Writing to a string cannot fail.
                let _ = writeln!(message, "  {id}  {state}  {spec} to {subscription}  {idempotency_key}");
            }
            Err(Failure::usage(message.trim_end()))
        }
    }
}
