//! A web page in an answer, as people want to read it.

/// The title of a web page; `None` if the text is not one, or has none.
pub(crate) fn page_title(text: &str) -> Option<String> {
    let lower = text.to_ascii_lowercase();
    if !["<!doctype html", "<html", "<head"].iter().any(|start| lower.contains(start)) {
        return None;
    }
    // ASCII letters keep their length in lower case, so places are the same in both.
    let from = lower.find("<title")?;
    let from = from + lower[from..].find('>')? + 1;
    let to = from + lower[from..].find("</title").unwrap_or(lower.len() - from);
    let title = text[from..to].split_whitespace().collect::<Vec<_>>().join(" ");
    (!title.is_empty()).then(|| format!("a web page, “{title}”"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_its_title_and_nothing_else_is() {
        let page =
            "<!DOCTYPE html>\n<html lang=\"en\"><HEAD><TITLE data-x=1>\n  502 Bad\n Gateway</TITLE></HEAD>";
        assert_eq!(page_title(page).unwrap(), "a web page, “502 Bad Gateway”");
        let cut = "status 502: <html><title>Üpstream is dow";
        assert_eq!(page_title(cut).unwrap(), "a web page, “Üpstream is dow”");
        for other in [
            "",
            "ok",
            "<title>no page</title>",
            "<html><body>none</body>",
            "<html><title",
            "<html><title></title>",
        ] {
            assert_eq!(page_title(other), None, "{other}");
        }
    }
}
