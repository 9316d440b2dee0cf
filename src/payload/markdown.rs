//! Lays a message out in Markdown, as Discord and Mattermost have it.

use super::cut::Spelling;
use super::message::{Message, Part};
use super::pages::Link;

impl Spelling {
    /// The headline, at most `limit` long but for what `strong` and `link` put around its parts.
    pub(super) fn head(
        &self,
        message: &Message<'_>,
        limit: usize,
        strong: fn(&str) -> String,
        link: fn(&str, &str) -> String,
    ) -> String {
        let mut head = format!("{} ", message.glyph);
        let mut left = limit.saturating_sub((self.width)(&head));
        for part in &message.head {
            let (Part::Strong(text) | Part::Spec(text) | Part::Plain(text)) = part;
            let fitted = self.fit(text, left);
            left = left.saturating_sub((self.width)(&fitted));
            match (part, &message.page) {
                // Markup does not hold where it begins or ends with a space.
                (Part::Strong(_), _) => {
                    let inner = fitted.trim_start();
                    head += &fitted[..fitted.len() - inner.len()];
                    head += &strong(inner);
                }
                (Part::Spec(_), Some(url)) => head += &link(&fitted, url),
                _ => head += &fitted,
            }
        }
        head
    }

    /// The lines below the headline, at most `budget` long in all, the breaks between them too.
    pub(super) fn body(&self, message: &Message<'_>, budget: usize) -> Vec<String> {
        let (marks, texts) = message.marked_lines();
        // The longest mark and a line break.
        let marked = 3 * texts.len();
        let texts = self.share(&texts, budget.saturating_sub(marked));
        marks.iter().zip(texts).map(|(mark, text)| format!("{}{text}", start(mark, &text))).collect()
    }

    /// The footer as a line of its own, as [`footer`](Self::footer) has it.
    pub(super) fn last_line(
        &self,
        message: &Message<'_>,
        most: usize,
        link: fn(&str, &str) -> String,
    ) -> String {
        let footer = self.footer(message, most, link);
        format!("{}{footer}", start("", &footer))
    }

    /// The footer with its links and those to further pages; without them where they take more
    /// than `most`.
    pub(super) fn footer(
        &self,
        message: &Message<'_>,
        most: usize,
        link: fn(&str, &str) -> String,
    ) -> String {
        let row = |is_linked: bool| {
            let mut footer = String::new();
            for foot in &message.footer {
                let text = self.fit(&foot.text, FOOT);
                let text = match foot.url.as_ref().filter(|_| is_linked) {
                    Some(url) => link(&text, url),
                    None => text,
                };
                append(&mut footer, foot.before, &text);
            }
            footer
        };
        let mut linked = row(true);
        append(&mut linked, " · ", &self.links(message, link));
        if (self.width)(&linked) <= most { linked } else { row(false) }
    }

    /// The links to further pages in a row.
    pub(super) fn links(&self, message: &Message<'_>, link: fn(&str, &str) -> String) -> String {
        let link = |Link { name, url }: &Link| link(&self.fit(name, FOOT), url);
        let mut links: Vec<String> = message.links.iter().map(link).collect();
        links.extend((message.more_links > 0).then(|| format!("+{}", message.more_links)));
        links.join(" · ")
    }
}

/// What stands before a line: its mark, or a space without width where the line would begin as a
/// list, a quote or the underline of a heading does.
fn start<'a>(mark: &'a str, line: &str) -> &'a str {
    let digits = line.trim_start_matches(|c: char| c.is_ascii_digit());
    let is_numbered = digits.len() < line.len() && digits.starts_with(['.', ')']);
    let means_something = line.starts_with(['-', '+', '=', '&']) || is_numbered;
    if mark.is_empty() && means_something { "\u{200b}" } else { mark }
}

/// Longest part of a footer.
const FOOT: usize = 150;

fn append(to: &mut String, before: &str, text: &str) {
    if !text.is_empty() {
        if !to.is_empty() {
            to.push_str(before);
        }
        to.push_str(text);
    }
}

/// A link in Markdown. Addresses have no sign that ends one.
pub(super) fn link(text: &str, url: &str) -> String {
    format!("[{text}]({url})")
}

/// Bold text in Markdown.
pub(super) fn bold(text: &str) -> String {
    format!("**{text}**")
}
