//! An event as an Adaptive Card 1.4 for a Teams Workflows webhook.
//!
//! Teams accepts messages of 28 KB and has been observed to count them in UTF-16; a body of half
//! as many bytes of UTF-8 fits either way. Text is in `TextRun`s, which have no markup.
//! `fallbackText` is what notifications show.

use serde_json::{Value, json};

use super::Format;
use super::place::{Place, Service};
use crate::payload::answer::{Rejection, rejection};
use crate::payload::cut::{Spelling, as_it_is, utf16, verbatim};
use crate::payload::message::{Foot, Message, Of, Part, Tone, capital};

/// Most bytes of a message; the parts below add up to less.
#[cfg(test)]
pub(crate) const MESSAGE: usize = 14_000;

const HEADLINE: usize = 600;
const BODY: usize = 5000;
const FOOT: usize = 200;

const TEXT: Spelling = Spelling { tame: as_it_is, escape: verbatim, width: json_bytes };

/// The message.
pub(super) fn message(message: &Message<'_>) -> Value {
    let mut teams = json!({"width": "Full"});
    if let Some(owner) = message.owner {
        let mentioned = json!({"id": owner, "name": owner});
        teams["entities"] = json!([{"type": "mention", "text": at(owner), "mentioned": mentioned}]);
    }
    let mut card = json!({
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "fallbackText": TEXT.fit(&message.headline(), HEADLINE),
        "msteams": teams,
        "body": body(message),
    });
    let actions = actions(message);
    if !actions.is_empty() {
        card["actions"] = actions.into();
    }
    json!({
        "type": "message",
        "attachments": [{
            "contentType": "application/vnd.microsoft.card.adaptive",
            "content": card,
        }],
    })
}

fn body(message: &Message<'_>) -> Vec<Value> {
    let mut body = vec![json!({
        "type": "Container",
        "style": style(message.tone),
        "bleed": true,
        "items": [runs(headline(message))],
    })];
    let (marks, texts) = message.marked_lines();
    for (mark, text) in marks.iter().zip(TEXT.share(&texts, BODY)) {
        let mut line = runs(vec![json!({"type": "TextRun", "text": format!("{mark}{text}")})]);
        line["spacing"] = "Small".into();
        body.push(line);
    }
    if let Some(owner) = message.owner {
        // Mentions work in this block alone, which knows markup: a name of people has none.
        body.push(json!({"type": "TextBlock", "text": format!("Owner: {}", at(owner)), "wrap": true}));
    }
    let foot = |(n, foot): (usize, &Foot)| {
        let text = TEXT.fit(&foot.text, FOOT);
        format!("{}{text}", if n == 0 { "" } else { foot.before })
    };
    let footer: String = message.footer.iter().enumerate().map(foot).collect();
    if !footer.is_empty() {
        body.push(runs(vec![json!({"type": "TextRun", "text": footer, "size": "Small", "isSubtle": true})]));
    }
    body
}

/// The headline; what happened is bold.
fn headline(message: &Message<'_>) -> Vec<Value> {
    let mut left = HEADLINE;
    let mut head = vec![json!({"type": "TextRun", "text": format!("{} ", message.glyph)})];
    for part in &message.head {
        let (Part::Strong(text) | Part::Spec(text) | Part::Plain(text)) = part;
        let text = TEXT.fit(text, left);
        left = left.saturating_sub(json_bytes(&text));
        if text.is_empty() {
            continue;
        }
        let mut run = json!({"type": "TextRun", "text": text});
        if matches!(part, Part::Strong(_)) {
            run["weight"] = "Bolder".into();
        }
        head.push(run);
    }
    head
}

/// A paragraph. Takes its parts by value to avoid a copy.
fn runs(parts: Vec<Value>) -> Value {
    let mut block = json!({"type": "RichTextBlock"});
    block["inlines"] = Value::Array(parts);
    block
}

/// A button for each page, as far as they stand in one row of a phone: what does not is not shown.
fn actions(message: &Message<'_>) -> Vec<Value> {
    let feet = message.footer.iter().filter_map(|foot| {
        let name = match foot.of {
            Of::Branch => "Branch",
            Of::Commit => "Commit",
            Of::Time | Of::Other => return None,
        };
        Some((name.to_owned(), foot.url.as_deref()?))
    });
    // The name of a file stays as it is.
    let title = |name: &str| if name.contains('.') { name.to_owned() } else { capital(name) };
    let links = message.links.iter().map(|link| (title(&link.name), link.url.as_str()));
    let mut left = ROW;
    let fits = |(name, _): &(String, &str)| {
        let width = utf16(name) + BUTTON;
        let fits = width <= left;
        left = left.saturating_sub(width);
        fits
    };
    let all = links.chain(feet).take(BUTTONS).take_while(fits);
    all.map(|(title, url)| json!({"type": "Action.OpenUrl", "title": title, "url": url})).collect()
}

/// Most buttons.
const BUTTONS: usize = 3;

/// The width of a phone's row of buttons, and of one without its title, in characters.
const ROW: usize = 45;
const BUTTON: usize = 5;

/// How Teams calls somebody.
fn at(owner: &str) -> String {
    format!("<at>{owner}</at>")
}

/// Whether this is the name with which a user signs in.
pub(super) fn is_owner(text: &str) -> bool {
    let is_of_name = |byte: u8| byte.is_ascii_alphanumeric() || b"._-+".contains(&byte);
    let is_part = |part: &str| !part.is_empty() && part.bytes().all(is_of_name);
    text.len() <= 113 && text.split_once('@').is_some_and(|(name, domain)| is_part(name) && is_part(domain))
}

/// The tint behind the headline.
fn style(tone: Tone) -> &'static str {
    match tone {
        Tone::Success => "good",
        Tone::Failure => "attention",
        Tone::Halt => "warning",
        Tone::Neutral => "emphasis",
    }
}

/// Bytes of a text within a JSON string. Messages have no control characters, which would take
/// more.
fn json_bytes(text: &str) -> usize {
    text.len() + text.bytes().filter(|byte| matches!(byte, b'"' | b'\\')).count()
}

/// Recognises the hosts of Teams and of its Workflows.
pub(super) fn service(place: &Place<'_>) -> Option<Service> {
    if matches!(place.host, "outlook.office.com" | "outlook.office365.com")
        || place.is_below("webhook.office.com")
    {
        return Service::named("Teams", Format::Teams);
    }
    let is_flow = place.is_below("logic.azure.com") || place.is_below("environment.api.powerplatform.com");
    let note = "; or, if the workflow is your own, format = \"spec-kit\"";
    is_flow.then_some(Service { name: "a Teams workflow", format: Format::Teams, note })
}

/// Parts of messages by which Teams says that it cannot take one at present; Microsoft publishes
/// no list of them.
const TEAMS_PASSES: [&str; 6] =
    ["throttl", "too many requests", "toomanyrequests", "exception", "error contacting", "timed out"];

/// Parts of messages that mean a failure; a successful answer has none of them.
const TEAMS_FAILED: [&str; 6] = ["fail", "error", "denied", "unauthorized", "forbidden", "bad request"];

/// The refusal in a 2xx answer: Teams reports the status of the service behind it in the body.
pub(super) fn refusal(body: &str) -> Option<Rejection> {
    const ENDPOINT: &str = "Microsoft Teams endpoint returned HTTP error";
    let lower = body.to_lowercase();
    let has = |parts: &[&str]| parts.iter().any(|part| lower.contains(part));
    if !has(&TEAMS_FAILED) && !has(&TEAMS_PASSES) {
        return None;
    }
    let behind = body.split_once(ENDPOINT).map_or(body, |(_, behind)| behind);
    let words = behind.split(|c: char| !c.is_ascii_alphanumeric());
    let status = words.filter(|word| word.len() == 3).find_map(|word| word.parse::<u16>().ok());
    let passes = |status: u16| status == 408 || status == 429 || (500..600).contains(&status);
    Some(match status.filter(|_| body.contains(ENDPOINT)) {
        Some(status) => rejection(&format!("{ENDPOINT} {status}"), passes(status)),
        None => rejection(body, has(&TEAMS_PASSES) || status.is_some_and(passes)),
    })
}
