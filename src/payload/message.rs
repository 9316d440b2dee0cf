//! What a message says, whatever the service: one model, which each format lays out. The first
//! line is what a lock screen shows; where it comes from stands in the last one.

mod figures;
mod story;
mod words;

use jiff::Timestamp;

use super::cut::PLAIN;
use super::one_line::one_line;
use super::pages::{Link, Pages, file_name};
use super::reader::Reader;
use crate::event::Event;
use story::Story;
pub(crate) use story::is_a_call;
pub(super) use words::capital;

/// Longest line, in characters: some six on a phone.
const LINE: usize = 300;

/// Most lines of one list.
const ITEMS: usize = 6;

/// Characters of a commit's id that are shown.
const COMMIT: usize = 7;

/// How good the news is; services show it as a colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    /// It went well.
    Success,
    /// It failed.
    Failure,
    /// A person has to look at it.
    Halt,
    /// Neither good nor bad.
    Neutral,
}

/// A part of the headline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// What happened.
    Strong(String),
    /// The SPEC's short id, which leads to a page where there is one.
    Spec(String),
    /// The rest.
    Plain(String),
}

/// A line below the headline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// A sentence.
    Text(String),
    /// One of several.
    Item(String),
    /// What to do.
    Next(String),
}

/// What a part of the footer is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Of {
    Branch,
    Commit,
    /// When it was told, which some services say by themselves.
    Time,
    Other,
}

/// A part of the footer, and what stands before it where it is not the first one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Foot {
    pub(super) of: Of,
    pub(super) before: &'static str,
    pub(super) text: String,
    pub(super) url: Option<String>,
}

/// See the module's first lines. Every text is one line of printable characters.
#[derive(Clone, Debug)]
pub(super) struct Message<'a> {
    pub(super) tone: Tone,
    pub(super) glyph: &'static str,
    /// The SPEC's short id, for services that show a title beside the headline.
    pub(super) title: String,
    /// What happened, to which SPEC, and why.
    pub(super) head: Vec<Part>,
    /// Reasons, what else there is to say, and the next step.
    pub(super) lines: Vec<Line>,
    /// Where it happened and when.
    pub(super) footer: Vec<Foot>,
    /// Further pages, and how many there would be besides.
    pub(super) links: Vec<Link>,
    pub(super) more_links: usize,
    /// Where the headline leads.
    pub(super) page: Option<String>,
    /// Who is called: nobody where nobody has to do anything.
    pub(super) owner: Option<&'a str>,
    /// When it was accepted, in RFC 3339.
    pub(super) time: Option<String>,
}

impl<'a> Message<'a> {
    /// What is told of `event` to this reader.
    pub(super) fn of(event: &Event, reader: &Reader<'a>) -> Self {
        let Story { tone, glyph, head, lines, aside } = Story::of(event, reader);
        let pages = reader.pages.filter(|pages| pages.are_of(event));
        let (links, more_links) = pages.map(|pages| pages.links(event)).unwrap_or_default();
        let branch = pages.and_then(|pages| pages.branch(event));
        let page = branch.or_else(|| Some(links.first()?.url.clone()));
        let told = event.event.time.as_deref().and_then(|time| time.parse::<Timestamp>().ok());
        let owner = reader.owner.filter(|_| is_a_call(event));
        let time = told.and(event.event.time.clone());
        let footer = footer(event, pages, told, &aside, links.is_empty());
        let title = event.spec.id.short().to_owned();
        Self { tone, glyph, title, head, lines, footer, links, more_links, page, owner, time }
    }

    /// The headline without any markup.
    pub(super) fn headline(&self) -> String {
        let parts = self.head.iter().map(|part| match part {
            Part::Strong(text) | Part::Spec(text) | Part::Plain(text) => text.as_str(),
        });
        format!("{} {}", self.glyph, parts.collect::<String>())
    }

    /// The whole without any markup.
    #[cfg(feature = "cli")]
    pub(super) fn text(&self) -> String {
        let (marks, texts) = self.marked_lines();
        let lines = marks.iter().zip(texts).map(|(mark, text)| format!("{mark}{text}"));
        let feet = self.footer.iter().enumerate();
        let mut last: String =
            feet.map(|(n, foot)| format!("{}{}", if n == 0 { "" } else { foot.before }, foot.text)).collect();
        for link in &self.links {
            last += &format!(" · {} {}", link.name, link.url);
        }
        if let Some(owner) = self.owner {
            last += &format!(" · Owner: {owner}");
        }
        let all = std::iter::once(self.headline()).chain(lines).chain(Some(last));
        all.collect::<Vec<_>>().join("\n")
    }

    /// The lines: the marks before them, and their texts.
    pub(super) fn marked_lines(&self) -> (Vec<&'static str>, Vec<&str>) {
        let marked = self.lines.iter().map(|line| match line {
            Line::Text(text) => ("", text.as_str()),
            Line::Item(text) => ("• ", text.as_str()),
            Line::Next(text) => ("→ ", text.as_str()),
        });
        marked.unzip()
    }
}

/// Which repo, branch and commit, when, and what else there is to know (`aside`).
fn footer(
    event: &Event,
    pages: Option<&Pages>,
    told: Option<Timestamp>,
    aside: &[String],
    is_without_links: bool,
) -> Vec<Foot> {
    let mut footer = Vec::new();
    let mut add = |of, before, text: &str, url| {
        let text = PLAIN.fit(&one_line(text), 100);
        if !text.is_empty() {
            footer.push(Foot { of, before, text, url });
        }
    };
    let source = event.source.as_ref();
    if let Some(repo) = source.and_then(|source| source.repo.as_deref()) {
        add(Of::Other, " · ", repo, None);
    }
    if let Some(host) = source.and_then(|source| source.host.as_deref()) {
        add(Of::Other, " on ", host, None);
    }
    let branch = event.spec.branch.as_deref().or(source.and_then(|source| source.branch.as_deref()));
    let branch = branch.filter(|branch| *branch != "HEAD");
    if let Some(branch) = branch {
        add(Of::Branch, " · ", branch, pages.and_then(|pages| pages.branch(event)));
    }
    if let Some(commit) = source.and_then(|source| source.commit.as_deref()) {
        let short: String = commit.chars().take(COMMIT).collect();
        let before = if branch.is_some() { " @ " } else { " · " };
        add(Of::Commit, before, &short, pages.and_then(|pages| pages.commit(event)));
    }
    let happened =
        event.pipeline.as_ref().and_then(|pipeline| pipeline.completed_at.as_deref()?.parse().ok());
    if let Some(at) = told.or(happened) {
        let (of, when) = match figures::late(happened, at) {
            Some(happened) => (Of::Other, format!("happened {}", figures::day(happened, at))),
            None => (Of::Time, figures::day(at, at)),
        };
        add(of, " · ", &when, None);
    }
    aside.iter().for_each(|text| add(Of::Other, " · ", text, None));
    if is_without_links {
        // Without a page, the name of the file says at least where to look.
        let paths = event.evidence.as_ref().map_or(&[][..], |evidence| &evidence.paths);
        if let [first, others @ ..] = paths
            && story::is_bad(event)
        {
            let more = if others.is_empty() { String::new() } else { format!(" +{}", others.len()) };
            add(Of::Other, " · ", &(file_name(first) + &more), None);
        }
    }
    footer
}

/// A line for each of the first items, and one that counts the others.
fn listed(items: Vec<String>, lines: &mut Vec<Line>) {
    let count = items.len();
    // One line is not left out to say that one is left out.
    let shown = if count == ITEMS + 1 { count } else { count.min(ITEMS) };
    lines.extend(items.into_iter().take(shown).map(|item| Line::Item(PLAIN.fit(&item, LINE))));
    if count > shown {
        lines.push(Line::Text(format!("and {} more", count - shown)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_list_is_counted_and_no_line_is_saved_in_vain() {
        for (count, lines) in [(0, 0), (6, 6), (7, 7), (8, 7), (50, 7)] {
            let mut found = Vec::new();
            listed(vec!["a".repeat(400); count], &mut found);
            assert_eq!(found.len(), lines);
            assert!(found.iter().all(|line| matches!(line, Line::Item(text) | Line::Text(text)
                if text.chars().count() <= LINE)));
        }
    }
}
