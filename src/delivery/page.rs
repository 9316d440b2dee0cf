//! A web page in the place of an answer: what it is called says more than its first bytes.

use crate::names::printable;

/// Longest title that is told, in characters.
const LONGEST: usize = 120;

/// What a page is called; `None` of what is no page.
pub(crate) fn title_of(body: &str) -> Option<String> {
    let start = body.trim_start_matches(|c: char| c.is_whitespace() || c == '\u{feff}' || c == '\u{fffd}');
    let lower = body.to_ascii_lowercase();
    let is_page =
        start.starts_with('<') && ["<!doctype html", "<html", "<head"].iter().any(|tag| lower.contains(tag));
    if !is_page {
        return None;
    }
    let title = lower.find("<title").and_then(|at| {
        let from = at + lower[at..].find('>')? + 1;
        // One that is cut off is told as far as it goes.
        let to = lower[from..].find('<').map_or(body.len(), |end| from + end);
        let text = unescaped(&body[from..to]);
        let words: Vec<&str> = text.split_whitespace().collect();
        Some(words.join(" ")).filter(|title| !title.is_empty())
    });
    Some(match title {
        Some(title) => format!("a web page, \"{}\"", printable(&title, LONGEST)),
        None => "a web page without a title".to_owned(),
    })
}

/// The few escapes that titles have.
fn unescaped(text: &str) -> String {
    let escapes =
        [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&#39;", "'"), ("&nbsp;", " "), ("&amp;", "&")];
    escapes.iter().fold(text.to_owned(), |text, (escape, character)| text.replace(escape, character))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_told_by_its_title() {
        let nginx = "<html>\r\n<head><title>503 Service Temporarily Unavailable</title></head>\r\n<body>";
        for (body, told) in [
            (nginx, Some("a web page, \"503 Service Temporarily Unavailable\"")),
            (
                "<!DOCTYPE html><html lang=en><TITLE data-x>\n Sign in &amp; go </TITLE>",
                Some("a web page, \"Sign in & go\""),
            ),
            ("\u{feff} <!doctype HTML><p>no", Some("a web page without a title")),
            ("<html><title>cut off in the mid…", Some("a web page, \"cut off in the mid…\"")),
            ("<html><title></title>", Some("a web page without a title")),
            ("<?xml version=\"1.0\"?><error/>", None),
            ("{\"html\": \"<html>\"}", None),
            ("İ<html><title>x", None),
            ("", None),
        ] {
            assert_eq!(title_of(body).as_deref(), told, "{body:?}");
        }
        let long = format!("<html><title>{}", "é".repeat(500));
        assert!(title_of(&long).unwrap().chars().count() < 150);
    }
}
