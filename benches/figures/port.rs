//! Events handed over at the control port of a `serve`, many of them under way at a time.

use std::error::Error;
use std::time::Instant;

use spec_notify::Event;
use spec_notify::internals::{Client, EmitEvent, EmitOutcome, Emitted, Request};

use super::accept::WITHIN;

/// Events of one connection under way, besides the one just sent.
const AHEAD: usize = 63;

pub(super) fn requests<'a>(events: impl IntoIterator<Item = &'a Event>) -> Vec<Request> {
    events.into_iter().map(|event| EmitEvent::of(event).expect("JSON").into()).collect()
}

/// Hands all over; `hear` is told each answer, in order. An error where the port is gone meanwhile.
pub(super) fn hand_over(
    client: &mut Client,
    requests: &[Request],
    mut hear: impl FnMut(&Emitted),
) -> Result<(), Box<dyn Error>> {
    let until = Instant::now() + WITHIN;
    for (n, request) in requests.iter().enumerate() {
        client.send(request, until)?;
        if n >= AHEAD {
            hear(&client.receive(until)?);
        }
    }
    for _ in 0..requests.len().min(AHEAD) {
        hear(&client.receive(until)?);
    }
    Ok(())
}

/// For who expects nothing else.
pub(super) fn is_accepted(emitted: &Emitted) {
    assert_eq!(emitted.outcome, EmitOutcome::Accepted);
}
