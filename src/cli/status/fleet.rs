//! Who does what in a fleet, in lines for people.

use jiff::SignedDuration;

use crate::cli::render::{Line, Tone};
use crate::delivery::SubscriptionId;
use crate::inspect::{FleetMember, FleetStatus, GoneMember, counted, short};

/// The fleet in a line, and one for each member.
pub(in crate::cli) fn lines(fleet: &FleetStatus) -> Vec<Line> {
    let FleetStatus { namespace, unrouted, streaming, confirming, .. } = fleet;
    if let Some(unseen) = &fleet.unseen {
        let text = format!("fleet    {namespace}: this machine hands over, and may not look ({unseen})");
        return vec![Line::new(Tone::Faint, text)];
    }
    if !fleet.is_seen {
        let text = format!("fleet    {namespace}: nothing is known of it at present");
        return vec![Line::new(Tone::Bad, text)];
    }
    let unrouted = match unrouted {
        0 => String::new(),
        count => {
            let waits = counted(*count, "event", "events");
            format!(", {waits} to be fanned out, the oldest for {}", seconds(fleet.oldest_unrouted_s))
        }
    };
    let members = counted(fleet.members.len(), "member", "members");
    let mut standbys = match fleet.standbys_unseen {
        true => "this role may not look who confirms".to_owned(),
        false => counted(*streaming, "standby confirms", "standbys confirm"),
    };
    if !confirming.is_empty() {
        standbys += &format!(" ({})", confirming.join(", "));
    }
    let tone = if fleet.problem.is_none() { Tone::Plain } else { Tone::Bad };
    let head = Line::new(tone, format!("fleet    {namespace}: {members}, {standbys}{unrouted}"));
    let configs = fleet.members.windows(2).all(|pair| pair[0].config == pair[1].config);
    let members = fleet.members.iter().map(|one| member(fleet, one, configs));
    [head]
        .into_iter()
        .chain(members)
        .chain(fleet.gone.iter().map(|one| gone(one, !fleet.members.is_empty())))
        .collect()
}

fn member(fleet: &FleetStatus, one: &FleetMember, is_same_config: bool) -> Line {
    let mut does: Vec<&str> = one.subscriptions.iter().map(SubscriptionId::as_str).collect();
    does.extend(one.routes.then_some("(fans out)"));
    let does = if does.is_empty() { "nothing at present".to_owned() } else { does.join(", ") };
    let this = if fleet.member.as_ref() == Some(&one.id) { ", this runtime" } else { "" };
    let config = if is_same_config { String::new() } else { format!(", config {}", one.config) };
    let text =
        format!("           {} (process {}{this}, {}{config}): {does}", one.host, one.pid, one.version);
    Line::new(Tone::Plain, text)
}

fn gone(GoneMember { host, pid, since_s }: &GoneMember, has_others: bool) -> Line {
    let others = if has_others { ", and others have its work" } else { "" };
    let since = seconds(*since_s);
    let text =
        format!("           {host} (process {pid}) went silent: its leases ran out {since} ago{others}");
    Line::new(Tone::Warning, text)
}

fn seconds(seconds: u64) -> String {
    short(SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX)))
}
