//! Which repo a checkout is of, by the remotes in git's config: `owner/name`, and nothing else of
//! their URLs, which may hold credentials.

use crate::names::printable;

/// Longest part of a name, in characters.
const LONGEST: usize = 100;

/// The repo by the remote `origin`, else by the first remote; `None` where no remote names one.
pub(super) fn repo(config: &str) -> Option<String> {
    repo_of_url(&url(config)?)
}

/// The first URL of `origin`, else of the first remote that has one. What is no config has none.
fn url(config: &str) -> Option<String> {
    let (mut first, mut section) = (None, None);
    // A line that ends with a backslash goes on in the next.
    let joined = config.replace("\\\r\n", "").replace("\\\n", "");
    for line in joined.lines() {
        let mut rest = line.trim_start();
        if let Some(header) = rest.strip_prefix('[') {
            let Some((name, after)) = remote_of_header(header) else {
                section = None;
                continue;
            };
            section = name;
            rest = after.trim_start();
        }
        let (Some(remote), Some((key, value))) = (&section, rest.split_once('=')) else { continue };
        if key.trim().eq_ignore_ascii_case("url") {
            if remote == "origin" {
                return Some(unquoted(value));
            }
            first.get_or_insert_with(|| unquoted(value));
        }
    }
    first
}

/// Of `remote "name"] …`, what follows a `[`: the remote, if it is one's section, and what stands
/// after the header.
fn remote_of_header(header: &str) -> Option<(Option<String>, &str)> {
    let Some((section, quoted)) = header.split_once('"').filter(|(before, _)| !before.contains(']')) else {
        let (section, after) = header.split_once(']')?;
        // The old form, `[remote.name]`.
        let old = section.trim().split_once('.').filter(|(kind, _)| kind.eq_ignore_ascii_case("remote"));
        return Some((old.map(|(_, name)| name.to_owned()), after));
    };
    let (mut name, mut chars) = (String::new(), quoted.char_indices());
    let end = loop {
        match chars.next()? {
            (at, '"') => break at,
            (_, '\\') => name.push(chars.next()?.1),
            (_, c) => name.push(c),
        }
    };
    let after = quoted[end + 1..].trim_start().strip_prefix(']')?;
    Some((section.trim().eq_ignore_ascii_case("remote").then_some(name), after))
}

/// A value of git's config without its quotes, escapes and comment.
fn unquoted(value: &str) -> String {
    let (mut text, mut is_quoted, mut chars) = (String::new(), false, value.trim().chars());
    while let Some(c) = chars.next() {
        match c {
            '"' => is_quoted = !is_quoted,
            '\\' => text.extend(chars.next()),
            '#' | ';' if !is_quoted => break,
            _ => text.push(c),
        }
    }
    text.trim_end().to_owned()
}

/// `owner/name` by a URL: the last two parts of the path on its host. `None` for a local path, and
/// where a part could be more than a name.
fn repo_of_url(url: &str) -> Option<String> {
    let path = match url.split_once("://") {
        Some(("file", _)) => return None,
        Some((_, rest)) => rest.split_once('/')?.1,
        // As `git@host:owner/name.git`, which a local path is not that has a slash first.
        None => url.split_once(':').filter(|(host, _)| !host.is_empty() && !host.contains('/'))?.1,
    };
    let path = path.split(['?', '#']).next().unwrap_or_default();
    // Azure DevOps puts `_git` before the name.
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty() && *part != "_git").collect();
    let (name, before) = parts.split_last()?;
    let name = name.strip_suffix(".git").unwrap_or(name);
    let owner = before.last();
    // A password may have a slash in it: its rest then stands where a path begins.
    let is_name =
        |part: &str| !part.is_empty() && !part.contains(['@', ':', '\\']) && part != "." && part != "..";
    if !owner.into_iter().chain([&name]).all(|part| is_name(part)) {
        return None;
    }
    let owner = owner.map(|owner| format!("{}/", printable(owner, LONGEST))).unwrap_or_default();
    Some(owner + &printable(name, LONGEST))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_form_of_a_url_gives_owner_and_name() {
        for url in [
            "https://github.com/owner/name.git",
            "https://github.com/owner/name",
            "https://github.com/owner/name/",
            "https://user:s3cret@github.com:8443/owner/name.git?token=s3cret#s3cret",
            "https://gitlab.example/group/owner/name.git",
            "ssh://git@github.com:22/owner/name.git",
            "git://host/owner/name.git",
            "git@github.com:owner/name.git",
            "host:/srv/git/owner/name.git",
            "[::1]:owner/name",
            "https://dev.azure.com/org/owner/_git/name",
            "git@ssh.dev.azure.com:v3/org/owner/name",
        ] {
            // An address in brackets is the one form that is not told from a part of a name.
            let expected = (!url.starts_with('[')).then(|| "owner/name".to_owned());
            assert_eq!(repo_of_url(url), expected, "{url}");
        }
        assert_eq!(repo_of_url("https://gist.example/abc.git").as_deref(), Some("abc"));
        for none in [
            "",
            "/srv/git/owner/name.git",
            "../name",
            "./owner:x/name",
            "file:///srv/owner/name.git",
            "https://s3cret@host",
            "https://host/",
            "https://user:s3/cret@host/name.git",
            "user:s3cret@host:owner/name.git",
            "ext::sh -c s3cret",
            "codecommit::region://s3cret@name",
            "https://host/../name",
            "https://host/owner/.git",
        ] {
            assert_eq!(repo_of_url(none), None, "{none}");
        }
    }

    #[test]
    fn origin_counts_else_the_first_remote() {
        let remote = |name: &str, url: &str| format!("[remote \"{name}\"]\n\turl = {url}\n");
        let (fork, origin) = (remote("fork", "git@h:me/fork.git"), remote("origin", "git@h:o/n.git"));
        assert_eq!(repo(&format!("[core]\n\tbare = false\n{fork}{origin}")).as_deref(), Some("o/n"));
        assert_eq!(repo(&fork).as_deref(), Some("me/fork"));
        assert_eq!(repo("[core]\nurl = git@h:o/n.git\n[branch \"x\"]\nremote = origin\n"), None);
        for config in [
            "[remote \"origin\"] URL = \"git@h:o/n.git\" ; here\nurl = git@h:o/other.git",
            "[REMOTE \"origin\"]\r\n  fetch = +refs/*\r\n  url=git@h:o/n.git # here\r\n",
            "[remote.origin]\nurl = git@h:\\\no/n.git\n",
            "[remote \"a\\\"]b\"]\nurl = git@h:o/n.git",
            "[broken\n[remote \"origin\"]\nurl = git@h:o/n.git",
        ] {
            assert_eq!(repo(config).as_deref(), Some("o/n"), "{config}");
        }
        assert_eq!(
            repo("[remote \"origin\"]\nurl = https://h/\u{1b}[31m/n\n").as_deref(),
            Some("\u{fffd}[31m/n")
        );
    }

    proptest! {
        #[test]
        fn no_text_is_too_much_and_no_credential_comes_through(
            text in "(\\[|\\]|\"|\\\\|=|;|#|remote|url|origin|\\PC|\n){0,60}",
            user in "[a-z:/@]{0,8}",
            path in "[a-z:/@]{0,12}",
        ) {
            let _ = repo(&text);
            let url = format!("https://{user}SECRET@host/{path}");
            prop_assert!(!repo_of_url(&url).unwrap_or_default().contains("SECRET"), "{}", url);
        }
    }
}
