//! `spec-notify list`: deliveries, newest first, with what a person needs to act on each.

mod follow;

use clap::{Args, ValueEnum};
use jiff::Timestamp;
use serde::Serialize;

use super::ask::{Source, moment};
use super::render::{Line, Screen, Tone, cut, fitted, wrap};
use super::{Exit, Failure, Global};
use crate::clock;
use crate::delivery::{SubscriptionId, readable};
use crate::event::{EventKind, SpecId};
use crate::inspect::{DeliveryState, Listed, Listing, Query};
use crate::inspect::{ago, counted, latency, short};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  spec-notify list                                 the newest 20 of all SPECs
  spec-notify list SPEC-KIT-065 --state dead_letter
  spec-notify list --subscription chatops-slack --since 2h --json
  spec-notify list -o wide                         one line for each delivery, all columns
  spec-notify list --follow                        each change, until Ctrl-C

Exit code 1 if you give a SPEC or a filter and nothing matches.")]
pub(super) struct Options {
    /// Only deliveries of this SPEC
    spec: Option<SpecId>,
    /// Only deliveries in this state: pending, in_flight, delivered, dead_letter, dropped,
    /// discarded or dry_run; repeat it for several states
    #[arg(long, value_name = "STATE")]
    state: Vec<DeliveryState>,
    /// Only deliveries to this subscription
    #[arg(long, value_name = "ID")]
    subscription: Option<SubscriptionId>,
    /// Only deliveries accepted since then: 30m, 2h, 3d, or a time
    #[arg(long, value_name = "WHEN", value_parser = moment)]
    since: Option<Timestamp>,
    /// Most deliveries to print
    #[arg(
        long,
        value_name = "N",
        default_value_t = 20,
        value_parser = clap::value_parser!(u32).range(1..=1_000_000)
    )]
    limit: u32,
    /// wide: one line for each delivery, with more columns, however wide the terminal is
    #[arg(short, long, value_name = "FORM", value_enum, hide_possible_values = true)]
    output: Option<Form>,
    /// Also print each new or changed delivery until Ctrl-C; with --json, one line for each
    #[arg(short, long)]
    follow: bool,
}

/// How people are shown deliveries: `wide` is one line a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Form {
    Wide,
}

pub(super) fn run(global: &Global, options: Options, screen: &mut Screen) -> Result<Exit, Failure> {
    let mut source = Source::find(global, screen)?;
    let is_wide = options.output == Some(Form::Wide);
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
        ended_since: None,
        before: None,
        limit: options.limit as usize,
    };
    if options.follow {
        return follow::run(&mut source, &query, screen);
    }
    let listing = source.list(&query)?;
    if let Some(silent) = source.silent() {
        screen.warning(silent);
    }
    if screen.is_json() {
        screen.value(&rows(&listing));
    } else if listing.deliveries.is_empty() {
        screen.note(if is_filtered { "no delivery matches" } else { "no deliveries yet" });
        hints(&source, &query).iter().for_each(|hint| screen.note(hint));
    } else {
        let (now, width) = (clock::now(), screen.width());
        let lines = match is_wide {
            true => wide_lines(&listing.deliveries, now),
            false => lines(&listing.deliveries, now, width),
        };
        lines.iter().for_each(|line| screen.print(line));
        if is_wide {
            screen.note(format_args!("times are in {}", clock::zone_name(now)));
        }
    }
    if listing.more {
        let shown = listing.deliveries.len();
        screen.note(format_args!(
            "these are the newest {shown}, and there are more: --limit N shows up to N; --state and --since \
             select"
        ));
    }
    Ok(if is_filtered && listing.deliveries.is_empty() { Exit::Failed } else { Exit::Done })
}

/// A delivery, as `--json` prints it.
#[derive(Serialize)]
struct Row<'a> {
    #[serde(flatten)]
    delivery: &'a Listed,
    /// Only of the last row: the limit left older deliveries out.
    #[serde(skip_serializing_if = "Option::is_none")]
    more: Option<bool>,
}

fn rows(listing: &Listing) -> Vec<Row<'_>> {
    let mut rows: Vec<Row<'_>> =
        listing.deliveries.iter().map(|delivery| Row { delivery, more: None }).collect();
    if let Some(last) = rows.last_mut().filter(|_| listing.more) {
        last.more = Some(true);
    }
    rows
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
    let rows = deliveries.iter().map(|delivery| row(delivery, now));
    let rows = std::iter::once(heading).chain(rows).map(Vec::from).collect();
    let mut table = fitted(rows, width, &DROPPED, NAME).into_iter();
    let mut lines: Vec<Line> = table.next().map(|text| Line::new(Tone::Heading, text)).into_iter().collect();
    for (delivery, text) in deliveries.iter().zip(table) {
        lines.push(Line::new(tone(delivery.state, delivery.attempts), text));
        let (id, spec) = (format!("  {}", delivery.id), format!("  {}", delivery.spec));
        // A SPEC's name is not cut while a line of its own has room for it.
        match id.len() + spec.len() <= width {
            true => lines.push(Line::new(Tone::Faint, id + &spec)),
            false => lines.extend([id, spec].map(|text| Line::new(Tone::Faint, cut(&text, width)))),
        }
        lines.push(Line::new(Tone::Faint, cut(&format!("  {}", delivery.idempotency_key), width)));
        let error = delivery.last_error.iter().flat_map(|error| wrap(&readable(error), "  ", width));
        lines.extend(error.map(|text| Line::new(Tone::Plain, text)));
        let hint = delivery.hint.iter().flat_map(|hint| wrap(&format!("to do: {hint}"), "  ", width));
        lines.extend(hint.map(|text| Line::new(Tone::Plain, text)));
    }
    lines
}

/// Columns that a narrow terminal has no room for, the first to go first: AGE, EVENT, TRIES, LAST.
const DROPPED: [usize; 4] = [5, 2, 3, 4];

/// The column of the subscription's name.
const NAME: usize = 1;

/// One line a delivery, whatever the width.
fn wide_lines(deliveries: &[Listed], now: Timestamp) -> Vec<Line> {
    let heading = [
        "STATE",
        "SUBSCRIPTION",
        "SPEC",
        "EVENT",
        "TRIES",
        "LAST",
        "LATENCY",
        "ACCEPTED",
        "NEXT",
        "ID",
        "KEY",
        "REASON",
    ];
    let rows = deliveries.iter().map(|one| {
        let [state, subscription, event, tries, last, _, next] = row(one, now);
        let latency = one.last_latency_ms.map_or("-".to_owned(), latency);
        let reason = one.last_error.as_deref().unwrap_or("-");
        let reason = readable(reason).split_whitespace().collect::<Vec<_>>().join(" ");
        vec![
            state,
            subscription,
            one.spec.to_string(),
            event,
            tries,
            last,
            latency,
            clock::local(one.accepted_at, now),
            next,
            one.id.to_string(),
            one.idempotency_key.to_string(),
            reason,
        ]
    });
    let rows = std::iter::once(heading.map(str::to_owned).to_vec()).chain(rows).collect();
    let tones = deliveries.iter().map(|one| tone(one.state, one.attempts));
    let tones = std::iter::once(Tone::Heading).chain(tones);
    tones.zip(fitted(rows, usize::MAX, &[], NAME)).map(|(tone, text)| Line::new(tone, text)).collect()
}

fn row(delivery: &Listed, now: Timestamp) -> [String; 7] {
    let next = match (delivery.state, delivery.next_attempt_at) {
        (DeliveryState::Pending, _) if delivery.paused => "paused".to_owned(),
        (DeliveryState::Pending, Some(at)) if at > now => format!("in {}", short(at.duration_since(now))),
        (DeliveryState::Pending, _) => "due".to_owned(),
        (DeliveryState::InFlight, _) => "now".to_owned(),
        _ => "-".to_owned(),
    };
    [
        delivery.state.to_string(),
        delivery.subscription.to_string(),
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
            stage: None,
            status: None,
            spec: "SPEC-KIT-065".parse().unwrap(),
            idempotency_key: format!("SPEC-KIT-065:Validate:attempt-{n}:2025-10-14T09:00:00Z-12345")
                .parse()
                .unwrap(),
            state,
            attempts,
            last_status: error.map_or((attempts > 0).then_some(200), |(status, _)| status),
            last_error: error.map(|(_, words)| words.to_owned()),
            last_latency_ms: None,
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
        insta::assert_snapshot!("list_wide", text(&wide_lines(&deliveries, now)));
        for width in [60, 80, 120] {
            let text = text(&lines(&deliveries, now, width));
            assert!(text.lines().all(|line| line.chars().count() <= width), "{text}");
            insta::assert_snapshot!(format!("list_{width}"), text);
        }
    }
}
