//! Finds the one delivery that a person means by the start of its id.

use std::fmt::Write as _;

use super::ask::Source;
use super::{Exit, Failure};
use crate::delivery::{IdPrefix, SubscriptionId};
use crate::event::SpecId;
use crate::inspect::{DeliveryState, Listed, Query};

/// Most candidates that are named.
const NAMED: usize = 10;

/// Refuses a subscription that neither the config knows nor anything is left of: a slip, and not
/// an empty answer.
pub(super) fn known(config: &[SubscriptionId], asked: Option<&SubscriptionId>) -> Result<(), Failure> {
    match asked.filter(|id| !config.contains(id)) {
        None => Ok(()),
        Some(id) => {
            let known: Vec<&str> = config.iter().map(SubscriptionId::as_str).collect();
            Err(Failure::failed(format!(
                "the config has no subscription `{id}`, and there is no dead letter of it; it has: {}",
                known.join(", ")
            )))
        }
    }
}

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
        0 => {
            let mut message = format!("no {what} has an id that begins with {prefix}");
            if !states.is_empty() {
                // It may be there and be well, which the person wants to know.
                let others = source.list(&Query { states: Vec::new(), ..query })?.deliveries;
                for Listed { id, subscription, state, .. } in &others {
                    // Writing to a string cannot fail.
                    let _ = write!(message, "; {id} to {subscription} is {state}");
                }
            }
            Err(Failure::new(Exit::Failed, message))
        }
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
