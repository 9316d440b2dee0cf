//! `spec-notify show`: one delivery whole: its event, every attempt, why it waits or failed, and
//! what to do.

use std::fmt::Write as _;

use clap::Args;
use jiff::Timestamp;

use super::ask::Source;
use super::list::tone;
use super::render::{Line, Screen, Tone, wrap};
use super::{Exit, Failure, Global, resolve};
use crate::clock;
use crate::delivery::{IdPrefix, readable};
use crate::inspect::{DeliveryState, Shown, ShownAttempt, Wait, WaitKind, ago, counted, latency, short};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  spec-notify show 0193e5a1
  spec-notify show 0193e5a1 --body
  spec-notify show 0193e5a1 --json

The start of the id is enough if only one delivery has it. status, list and the evidence show ids.
Exit code 1 if no delivery has this id, 2 if several have it.")]
pub(super) struct Options {
    /// Id of the delivery, or its start
    id: IdPrefix,
    /// Also show the body that it sends
    #[arg(long)]
    body: bool,
}

pub(super) fn run(global: &Global, options: &Options, screen: &mut Screen) -> Result<Exit, Failure> {
    let mut source = Source::find(global, screen)?;
    let found = resolve::one(&mut source, &options.id, &[], "delivery")?;
    let shown = source.show(&found.spec, found.id, options.body)?;
    if let Some(silent) = source.silent() {
        screen.warning(silent);
    }
    let gone = || Failure::new(Exit::Failed, format!("{} is not there any more", found.id));
    let shown = shown.ok_or_else(gone)?;
    if screen.is_json() {
        screen.value(&shown);
    } else {
        lines(&shown, clock::now(), screen.width()).iter().for_each(|line| screen.print(line));
        if options.body && shown.body.is_none() {
            screen.note("its body is no longer kept: it has ended and left the spool");
        }
    }
    Ok(Exit::Done)
}

/// Width of the names of facts.
const NAMES: usize = 10;

/// The lines for people.
pub(super) fn lines(shown: &Shown, now: Timestamp, width: usize) -> Vec<Line> {
    let delivery = &shown.delivery;
    let mut lines = vec![Line::new(Tone::Heading, format!("delivery  {}", delivery.id))];
    let indent = " ".repeat(NAMES);
    let mut fact = |name: &str, text: &str, tone: Tone| {
        let wrapped = wrap(text, &indent, width);
        for (at, line) in wrapped.into_iter().enumerate() {
            let line = if at == 0 { format!("{name:<NAMES$}{}", line.trim_start()) } else { line };
            lines.push(Line::new(tone, line));
        }
    };
    let when = |at: Timestamp| format!("{}, {} ago", clock::local(at, now), ago(now, at));
    let mut state = delivery.state.to_string();
    match (&delivery.last_error, delivery.state) {
        (_, DeliveryState::Delivered | DeliveryState::InFlight) | (None, _) => {}
        (Some(error), _) => state += &format!(": {}", readable(error)),
    }
    if let Some(user) = &shown.user {
        state += &format!(" (by {user})");
    }
    fact("state", &state, tone(delivery.state, delivery.attempts));
    for wait in &shown.waits {
        fact("waits", &in_words(wait, now), Tone::Warning);
    }
    if let Some(hint) = &delivery.hint {
        fact("to do", hint, Tone::Plain);
    }
    if let Some(command) = &shown.command {
        fact(if delivery.hint.is_some() { "" } else { "to do" }, command, Tone::Plain);
    }
    fact("to", delivery.subscription.as_str(), Tone::Plain);
    let of = [Some(delivery.event.to_string()), shown.stage.clone(), shown.status.clone()];
    fact("event", &of.into_iter().flatten().collect::<Vec<_>>().join("  "), Tone::Plain);
    fact("SPEC", delivery.spec.as_str(), Tone::Plain);
    fact("key", delivery.idempotency_key.as_str(), Tone::Plain);
    fact("accepted", &when(delivery.accepted_at), Tone::Plain);
    if let Some(at) = shown.ended_at {
        fact("ended", &when(at), Tone::Plain);
    }
    fact("times", &format!("are in {}", clock::zone_name(now)), Tone::Faint);
    if let Some(body) = &shown.body {
        fact("body", &format!("{} bytes", body.get().len()), Tone::Plain);
        let pretty = serde_json::from_str(body.get())
            .and_then(|value: serde_json::Value| serde_json::to_string_pretty(&value));
        let pretty = pretty.unwrap_or_else(|_| body.get().to_owned());
        lines.extend(pretty.lines().map(|line| Line::new(Tone::Plain, format!("  {line}"))));
    }
    lines.push(Line::new(Tone::Plain, ""));
    match (shown.attempts.len(), shown.earlier) {
        (0, _) => lines.push(Line::new(Tone::Heading, "no attempt yet")),
        (count, 0) => lines.push(Line::new(Tone::Heading, counted(count, "attempt", "attempts"))),
        (count, earlier) => {
            lines.push(Line::new(Tone::Heading, format!("the last {count} of {} attempts", count + earlier)));
        }
    }
    let last = shown.attempts.len().saturating_sub(1);
    for (at, attempt) in shown.attempts.iter().enumerate() {
        // Headers differ by little from one attempt to the next.
        attempt_lines(attempt, at == last, now, width, &mut lines);
    }
    lines
}

fn attempt_lines(attempt: &ShownAttempt, is_last: bool, now: Timestamp, width: usize, lines: &mut Vec<Line>) {
    let ShownAttempt { attempt: number, time, request, response, error, outcome, .. } = attempt;
    let answer = match (response, error) {
        (Some(response), _) => response.status.to_string(),
        (None, Some(error)) => error.class.clone(),
        (None, None) => "not sent".to_owned(),
    };
    let mut head =
        format!("#{number}  {}  {answer}  {}", clock::local(*time, now), latency(attempt.latency_ms));
    if let Some(outcome) = outcome {
        let _ = write!(head, "  {outcome}");
    }
    if let Some(at) = attempt.next_attempt_at {
        let _ = write!(head, ", next at {}", clock::local(at, now));
    }
    if attempt.replay {
        let _ = write!(head, ", a replay by {}", attempt.user.as_deref().unwrap_or("unknown"));
    }
    if attempt.resent {
        head += ", sent twice: a kept connection had gone stale";
    }
    let tone = match outcome.as_deref() {
        Some("delivered") => Tone::Good,
        Some("retry") => Tone::Warning,
        Some("failed") => Tone::Bad,
        _ => Tone::Plain,
    };
    let mut add = |tone: Tone, text: &str, indent: &str| {
        lines.extend(wrap(text, indent, width).into_iter().map(|line| Line::new(tone, line)));
    };
    add(tone, &head, "");
    if let Some(request) = request {
        let sent = format!("{} {}, {} bytes", request.method, request.url, request.body_bytes);
        add(Tone::Plain, &sent, "  > ");
        if is_last {
            add(Tone::Faint, &format!("sha256 of the body {}", request.body_sha256), "  > ");
            for (name, value) in &request.headers {
                add(Tone::Faint, &format!("{name}: {}", value.as_str().unwrap_or_default()), "  > ");
            }
        } else {
            add(Tone::Faint, "headers as in the last attempt, with its own number and time", "  > ");
        }
    }
    if let Some(error) = error {
        add(Tone::Plain, &format!("{}: {}", error.class, error.message), "  < ");
    }
    if let Some(response) = response {
        for (name, value) in &response.headers {
            add(Tone::Faint, &format!("{name}: {}", value.as_str().unwrap_or_default()), "  < ");
        }
        let body = readable(&response.body);
        if !body.trim().is_empty() {
            add(Tone::Plain, body.trim(), "  < ");
        }
    }
}

fn in_words(wait: &Wait, now: Timestamp) -> String {
    let until = wait.until.map_or(String::new(), |until| {
        format!("{} (in {})", clock::local(until, now), short(until.duration_since(now)))
    });
    let note = wait.note.as_deref().unwrap_or("unknown");
    match (wait.kind, wait.ahead) {
        (WaitKind::Backoff, _) => format!("for its next attempt, at {until}"),
        (WaitKind::EndpointPause, _) => {
            format!("its endpoint asked for a pause until {until} (Retry-After)")
        }
        (WaitKind::Behind, Some(0) | None) => "for its turn: it is next".to_owned(),
        (WaitKind::Behind, Some(ahead)) => {
            format!("for its turn, behind {}", counted(ahead, "other", "others"))
        }
        (WaitKind::Paused, _) => format!("its subscription is paused by {note}"),
        (WaitKind::Breaker, _) => "its endpoint fails: one request at a time until one succeeds".to_owned(),
        (WaitKind::Turn, _) => "for its turn among all subscriptions (max_concurrency)".to_owned(),
        (WaitKind::RateLimit, _) => format!("rate_limit_per_s lets the next one go at {until}"),
        (WaitKind::LocalFault, _) => format!("nothing can be sent from this machine: {note}"),
        (WaitKind::Inactive, _) => "its subscription is not active: it goes on when that returns".to_owned(),
        (WaitKind::Owner, _) => format!("for its turn at {note}, which delivers to its subscription"),
        (WaitKind::NoOwner, _) => {
            "no member of the fleet delivers to its subscription at present: spec-notify status".to_owned()
        }
        (WaitKind::NoRuntime, _) => {
            "no runtime is running: start spec-notify serve, or run spec-notify drain".to_owned()
        }
    }
}
