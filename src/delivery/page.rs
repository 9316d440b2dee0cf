//! A web page in an answer, as people want to read it.

use std::borrow::Cow;

/// A text in which a web page, if there is one, is its title: what stands before it stays.
pub(crate) fn readable(text: &str) -> Cow<'_, str> {
    page(text).map_or(Cow::Borrowed(text), Cow::Owned)
}

fn page(text: &str) -> Option<String> {
    // ASCII letters keep their length in lower case, so places are the same in both.
    let lower = text.to_ascii_lowercase();
    let starts = ["<!doctype html", "<html", "<head"].into_iter();
    let start = starts.filter_map(|start| lower.find(start)).min()?;
    let from = start + lower[start..].find("<title")?;
    let from = from + lower[from..].find('>')? + 1;
    let to = from + lower[from..].find("</title").unwrap_or(lower.len() - from);
    let title = text[from..to].split_whitespace().collect::<Vec<_>>().join(" ");
    (!title.is_empty()).then(|| format!("{}a web page, “{title}”", &text[..start]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_its_title_and_nothing_else_is() {
        let page =
            "<!DOCTYPE html>\n<html lang=\"en\"><HEAD><TITLE data-x=1>\n  502 Bad\n Gateway</TITLE></HEAD>";
        assert_eq!(readable(page), "a web page, “502 Bad Gateway”");
        let cut = "status 502: <html><title>Üpstream is dow";
        assert_eq!(readable(cut), "status 502: a web page, “Üpstream is dow”");
        for other in [
            "",
            "ok",
            "<title>no page</title>",
            "<html><body>none</body>",
            "<html><title",
            "<html><title></title>",
        ] {
            assert_eq!(readable(other), other);
        }
    }
}
