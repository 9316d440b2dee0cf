//! `spec-notify list`: deliveries, newest first, with what a person needs to act on each.

use clap::Args;
use jiff::Timestamp;

use super::ask::{Source, moment};
use super::render::{Line, Screen, Tone, columns, cut, wrap};
use super::{Exit, Failure, Global};
use crate::clock;
use crate::delivery::SubscriptionId;
use crate::event::{EventKind, SpecId};
use crate::inspect::{DeliveryState, Listed, Query};
use crate::inspect::{ago, counted, short};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  spec-notify list                                 the newest of all SPECs
  spec-notify list SPEC-KIT-065 --state dead_letter
  spec-notify list --subscription chatops-slack --since 2h --json

Exit code 1 where a SPEC or a filter is given and nothing matches.")]
pub(super) struct Options {
    /// Of this SPEC only
    spec: Option<SpecId>,
    /// In this state only: pending, in_flight, delivered, dead_letter, dropped or dry_run; may be
    /// given several times
    #[arg(long, value_name = "STATE")]
    state: Vec<DeliveryState>,
    /// To this subscription only
    #[arg(long, value_name = "ID")]
    subscription: Option<SubscriptionId>,
    /// Accepted since then: 30m, 2h, 3d, or a time
    #[arg(long, value_name = "WHEN", value_parser = moment)]
    since: Option<Timestamp>,
    /// At most so many
    #[arg(
        long,
        value_name = "N",
        default_value_t = 20,
        value_parser = clap::value_parser!(u32).range(1..=1_000_000)
    )]
    limit: u32,
}

pub(super) fn run(global: &Global, options: Options, screen: &mut Screen) -> Result<Exit, Failure> {
    let mut source = Source::find(global, screen)?;
    let is_filtered = options.spec.is_some()
        || options.subscription.is_some()
        || options.since.is_some()
        || !options.state.is_empty();
    let query = Query {
        id: None,
        spec: options.spec,
        subscription: options.subscription,
        states: options.state,
        since: options.since,
        before: None,
        limit: options.limit as usize,
    };
    let listing = source.list(&query)?;
    if let Some(silent) = source.silent() {
        screen.warning(silent);
    }
    if screen.is_json() {
        screen.value(&listing.deliveries);
    } else if listing.deliveries.is_empty() {
        screen.note(if is_filtered { "no delivery matches" } else { "no deliveries yet" });
        hints(&source, &query).iter().for_each(|hint| screen.note(hint));
    } else {
        for line in lines(&listing.deliveries, clock::now(), screen.width()) {
            screen.print(&line);
        }
        if listing.more {
            let shown = listing.deliveries.len();
            screen.note(format_args!("the newest {shown}; --limit N shows more, --state and --since less"));
        }
    }
    Ok(if is_filtered && listing.deliveries.is_empty() { Exit::Failed } else { Exit::Done })
}

/// Possible reasons why nothing matches.
fn hints(source: &Source, query: &Query) -> Vec<String> {
    let mut hints = Vec::new();
    if let Some(id) = &query.subscription
        && !source.config.subscriptions.iter().any(|entry| entry.id == *id)
    {
        let known: Vec<_> = source.config.subscriptions.iter().map(|entry| entry.id.as_str()).collect();
        hints.push(format!("the config has no subscription `{id}`; it has: {}", known.join(", ")));
    }
    if let Some(spec) = &query.spec {
        let others =
            source.specs().into_iter().filter(|other| other != spec && other.short() == spec.short());
        let others: Vec<String> = others.map(|other| other.to_string()).collect();
        if !others.is_empty() {
            hints.push(format!("there is: {}", others.join(", ")));
        }
    }
    let queued = source.queued();
    if queued > 0 {
        let what = counted(queued, "event waits", "events wait");
        hints.push(format!(
            "{what} in the inbox for a runtime: start spec-notify serve, or run spec-notify drain"
        ));
    }
    hints
}

/// The lines for people: for each delivery a row of columns, then its id and SPEC, its event, and
/// what went wrong.
pub(super) fn lines(deliveries: &[Listed], now: Timestamp, width: usize) -> Vec<Line> {
    let heading = ["STATE", "SUBSCRIPTION", "EVENT", "TRIES", "LAST", "AGE", "NEXT"].map(str::to_owned);
    let rows = deliveries.iter().map(|delivery| row(delivery, now, width));
    let mut table = columns(std::iter::once(heading).chain(rows)).into_iter();
    let mut lines: Vec<Line> = table.next().map(|text| Line::new(Tone::Heading, text)).into_iter().collect();
    for (delivery, text) in deliveries.iter().zip(table) {
        lines.push(Line::new(tone(delivery.state, delivery.attempts), text));
        let which = format!("  {}  {}", delivery.id, delivery.spec);
        lines.push(Line::new(Tone::Faint, cut(&which, width)));
        lines.push(Line::new(Tone::Faint, cut(&format!("  {}", delivery.idempotency_key), width)));
        let error = delivery.last_error.iter().flat_map(|error| wrap(error, "  ", width));
        lines.extend(error.map(|text| Line::new(Tone::Plain, text)));
        let hint = delivery.hint.iter().flat_map(|hint| wrap(&format!("to do: {hint}"), "  ", width));
        lines.extend(hint.map(|text| Line::new(Tone::Plain, text)));
    }
    lines
}

fn row(delivery: &Listed, now: Timestamp, width: usize) -> [String; 7] {
    // The width that the other columns leave.
    let room = width.saturating_sub(60);
    let next = match (delivery.state, delivery.next_attempt_at) {
        (DeliveryState::Pending, _) if delivery.paused => "paused".to_owned(),
        (DeliveryState::Pending, Some(at)) if at > now => format!("in {}", short(at.duration_since(now))),
        (DeliveryState::Pending, _) => "due".to_owned(),
        (DeliveryState::InFlight, _) => "now".to_owned(),
        _ => "-".to_owned(),
    };
    [
        delivery.state.to_string(),
        cut(delivery.subscription.as_str(), room),
        short_name(delivery.event).to_owned(),
        delivery.attempts.to_string(),
        last(delivery),
        ago(now, delivery.accepted_at),
        next,
    ]
}

/// The result of the last attempt, in a word.
pub(super) fn last(delivery: &Listed) -> String {
    match (delivery.last_status, delivery.attempts) {
        (Some(status), _) => status.to_string(),
        (None, 0) => "-".to_owned(),
        (None, _) => "error".to_owned(),
    }
}

/// An event's type without the part that all have in common.
pub(super) fn short_name(kind: EventKind) -> &'static str {
    let name = kind.as_str();
    let name = name.strip_prefix("spec-auto.").or_else(|| name.strip_prefix("spec-kit.")).unwrap_or(name);
    name.strip_prefix("anomaly.").or_else(|| name.strip_suffix(".completed")).unwrap_or(name)
}

pub(super) fn tone(state: DeliveryState, attempts: u32) -> Tone {
    match state {
        DeliveryState::DeadLetter | DeliveryState::Dropped => Tone::Bad,
        DeliveryState::Pending | DeliveryState::InFlight if attempts > 0 => Tone::Warning,
        DeliveryState::Delivered => Tone::Good,
        _ => Tone::Plain,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::render::text;

    fn listed(n: u32, state: DeliveryState, attempts: u32, error: Option<(Option<u16>, &str)>) -> Listed {
        let now: Timestamp = "2025-10-14T10:00:00Z".parse().unwrap();
        Listed {
            id: format!("00000000-0000-4000-8000-{n:012}").parse().unwrap(),
            subscription: if n.is_multiple_of(2) { "audit" } else { "chatops-slack-of-the-platform-team" }
                .parse()
                .unwrap(),
            event: EventKind::ALL[n as usize % EventKind::ALL.len()],
            spec: "SPEC-KIT-065".parse().unwrap(),
            idempotency_key: format!("SPEC-KIT-065:Validate:attempt-{n}:2025-10-14T09:00:00Z-12345")
                .parse()
                .unwrap(),
            state,
            attempts,
            last_status: error.map_or((attempts > 0).then_some(200), |(status, _)| status),
            last_error: error.map(|(_, words)| words.to_owned()),
            hint: (state == DeliveryState::DeadLetter).then(|| {
                "start the endpoint, or correct the port in the subscription's url; then replay".to_owned()
            }),
            accepted_at: now - jiff::SignedDuration::from_secs(i64::from(n) * 700),
            next_attempt_at: (state == DeliveryState::Pending)
                .then(|| now + jiff::SignedDuration::from_secs(90)),
            paused: false,
        }
    }

    #[test]
    fn what_people_read_fits_the_terminal() {
        let long = "all 10 attempts failed; connection: no connection to \
                    https://hooks.example.com:443 (#1a2b3c4d): Connection refused (os error 111)";
        let deliveries = [
            listed(0, DeliveryState::InFlight, 0, None),
            listed(1, DeliveryState::Pending, 3, Some((Some(503), "status 503: upstream is being deployed"))),
            listed(2, DeliveryState::Delivered, 1, None),
            listed(3, DeliveryState::DeadLetter, 10, Some((None, long))),
            listed(
                4,
                DeliveryState::Dropped,
                0,
                Some((
                    None,
                    "dropped: more deliveries of its subscription were pending than max_pending allows",
                )),
            ),
            listed(5, DeliveryState::DryRun, 0, None),
        ];
        let now = "2025-10-14T10:00:00Z".parse().unwrap();
        for width in [80, 120] {
            let text = text(&lines(&deliveries, now, width));
            assert!(text.lines().all(|line| line.chars().count() <= width), "{text}");
            insta::assert_snapshot!(format!("list_{width}"), text);
        }
    }
}
