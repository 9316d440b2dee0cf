//! Which repo a checkout is of, by the remotes in git's config: `owner/name`, and its page on the
//! web. Nothing else of their URLs is used: they may hold credentials.

use crate::names::printable;

/// Longest part of a name, in characters.
const LONGEST: usize = 100;

/// The repo by the remote `origin`, else by the first remote; `None` where no remote names one.
pub(super) fn repo(config: &str) -> Option<String> {
    repo_of_url(&remote(config)?.1)
}

/// The page of a repo on the web.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Home {
    /// The name of the remote it is known by.
    pub(super) remote: String,
    pub(super) host: String,
    pub(super) url: String,
}

/// The page of the same remote's repo; `None` where its URL does not show one.
pub(super) fn home(config: &str) -> Option<Home> {
    let (remote, url) = remote(config)?;
    let (host, url) = page_of_url(&url)?;
    Some(Home { remote, host, url })
}

/// `origin` with its first URL, else the first remote that has one. What is no config has none.
fn remote(config: &str) -> Option<(String, String)> {
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
                return Some((remote.clone(), unquoted(value)));
            }
            first.get_or_insert_with(|| (remote.clone(), unquoted(value)));
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

/// Hosts that only speak SSH, and those whose pages show the same.
const SSH_HOSTS: [(&str, &str); 3] = [
    ("ssh.github.com", "github.com"),
    ("altssh.gitlab.com", "gitlab.com"),
    ("altssh.bitbucket.org", "bitbucket.org"),
];

/// The host and the page of a repo by the URL of a remote: scheme, host, port and path are written
/// anew from parts that can be nothing else, so that no credential comes through.
fn page_of_url(url: &str) -> Option<(String, String)> {
    let (scheme, authority, path) = match url.split_once("://") {
        Some((scheme @ ("https" | "http"), rest)) => {
            let (authority, path) = rest.split_once('/')?;
            (scheme, authority, path)
        }
        Some(("ssh" | "git" | "git+ssh" | "ssh+git", rest)) => {
            let (authority, path) = rest.split_once('/')?;
            ("ssh", authority, path)
        }
        Some(_) => return None,
        None => {
            let (authority, path) = url.split_once(':').filter(|(host, _)| !host.contains('/'))?;
            ("ssh", authority, path)
        }
    };
    let address = authority.rsplit('@').next()?;
    let (host, port) = address.split_once(':').map_or((address, None), |(host, port)| (host, Some(port)));
    let host = host.to_ascii_lowercase();
    let host = SSH_HOSTS.iter().find(|(ssh, _)| *ssh == host).map_or(host.as_str(), |(_, web)| web);
    let is_label = |label: &str| {
        !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    // A name without a dot is one of this machine's own, or an alias of its SSH.
    if !host.contains('.') || !host.split('.').all(is_label) {
        return None;
    }
    let port = match port {
        Some(port)
            if port.is_empty() || port.len() > 5 || !port.bytes().all(|byte| byte.is_ascii_digit()) =>
        {
            return None;
        }
        // The port of SSH is not the web's.
        Some(port) if scheme != "ssh" => format!(":{port}"),
        _ => String::new(),
    };
    let path = path.split(['?', '#']).next()?.trim_matches('/');
    let path = path.strip_suffix(".git").unwrap_or(path);
    let is_name = |part: &str| {
        let is_of_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
        !part.is_empty() && part != "." && part != ".." && part.bytes().all(is_of_name)
    };
    if !path.contains('/') || !path.split('/').all(is_name) {
        return None;
    }
    let scheme = if scheme == "http" { "http" } else { "https" };
    Some((host.to_owned(), format!("{scheme}://{host}{port}/{path}")))
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

    #[test]
    fn the_page_of_a_repo_has_no_credential_and_no_port_of_ssh() {
        for (url, page) in [
            ("https://github.com/owner/name.git", "https://github.com/owner/name"),
            (
                "https://user:s3cret@github.com:8443/owner/name.git?token=s3cret#s3cret",
                "https://github.com:8443/owner/name",
            ),
            ("https://s3cret@gitlab.example/group/sub/name/", "https://gitlab.example/group/sub/name"),
            ("http://git.corp.example:3000/owner/name", "http://git.corp.example:3000/owner/name"),
            ("ssh://git@git.corp.example:2222/owner/name.git", "https://git.corp.example/owner/name"),
            ("git@GitHub.com:owner/name.git", "https://github.com/owner/name"),
            ("ssh://git@ssh.github.com:443/owner/name.git", "https://github.com/owner/name"),
        ] {
            assert_eq!(page_of_url(url).map(|(_, page)| page).as_deref(), Some(page), "{url}");
        }
        for none in [
            "",
            "/srv/git/owner/name.git",
            "file:///srv/owner/name.git",
            "work:owner/name.git",
            "https://host.example/name",
            "https://user:s3/cret@host.example/name.git",
            "https://user:s3cret/x@host.example/owner/name",
            "https://host.example/owner/na(me)",
            "https://host.example/../name",
            "codecommit::region://s3cret@name.x/a/b",
        ] {
            assert_eq!(page_of_url(none), None, "{none}");
        }
        let config = "[remote \"up\"]\nurl = git@github.com:owner/name.git\n";
        assert_eq!(
            home(config).map(|home| (home.remote, home.host)),
            Some(("up".to_owned(), "github.com".to_owned()))
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
            for host in ["host", "host.example"] {
                let url = format!("https://{user}SECRET@{host}/{path}");
                prop_assert!(!repo_of_url(&url).unwrap_or_default().contains("SECRET"), "{}", url);
                let page = page_of_url(&url).map(|(_, page)| page).unwrap_or_default();
                prop_assert!(!page.contains("SECRET") && !page.contains('@'), "{}", url);
            }
        }
    }
}
