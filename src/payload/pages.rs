//! The pages of a repo on the web: where a message's links lead. They are made of the git remote's
//! URL and of the environment of a CI job, never of the text of an event.

#[cfg(test)]
mod tests;

use std::str::FromStr;

use url::Url;

use super::one_line::one_line;
use crate::event::{Event, EventKind, Status};
use crate::names::named;

/// Most links of a message besides its branch and commit.
const LINKS: usize = 3;

/// Longest address that is shown: longer ones would crowd out what there is to say.
const LONGEST: usize = 300;

/// Branches that nobody opens a pull request from.
const TRUNKS: [&str; 4] = ["main", "master", "trunk", "develop"];

named! {
    /// How a service lays out its pages.
    Forge, "service" {
        /// GitHub and GitHub Enterprise.
        GitHub = "github",
        /// GitLab.
        GitLab = "gitlab",
        /// Bitbucket Cloud.
        Bitbucket = "bitbucket",
        /// Gitea, Forgejo.
        Gitea = "gitea",
    }
}

impl Forge {
    /// The service that a host is known to run, or says in its name.
    pub(crate) fn of_host(host: &str) -> Option<Self> {
        let has = |word: &str| host.split(['.', '-']).any(|part| part == word);
        match host {
            "codeberg.org" => Some(Self::Gitea),
            "bitbucket.org" => Some(Self::Bitbucket),
            _ if has("github") => Some(Self::GitHub),
            _ if has("gitlab") => Some(Self::GitLab),
            _ if has("gitea") || has("forgejo") => Some(Self::Gitea),
            _ => None,
        }
    }
}

/// `link_template`: how the pages of the repo are laid out, where its host does not show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LinkTemplate {
    /// As on this service.
    Forge(Forge),
    /// An address with `{repo}`, `{branch}`, `{commit}` and `{path}` in it.
    Address(String),
}

/// Why a text is no `link_template`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidTemplate {
    #[error("neither github, gitlab, bitbucket or gitea nor an address that begins with https://")]
    Unknown,
    #[error("an address with a user or a password in it would be shown to everybody")]
    Credentials,
    #[error(
        "the address needs {{branch}} or {{commit}}, and may have {{repo}} and {{path}}, and nothing else in \
         braces"
    )]
    Places,
}

impl FromStr for LinkTemplate {
    type Err = InvalidTemplate;

    fn from_str(text: &str) -> Result<Self, InvalidTemplate> {
        if let Ok(forge) = text.parse() {
            return Ok(Self::Forge(forge));
        }
        let bare = ["{repo}", "{branch}", "{commit}", "{path}"]
            .iter()
            .fold(text.to_owned(), |text, place| text.replace(place, "x"));
        let url = Url::parse(&bare).map_err(|_| InvalidTemplate::Unknown)?;
        if !is_web(&url) {
            return Err(InvalidTemplate::Unknown);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(InvalidTemplate::Credentials);
        }
        let has_place = text.contains("{branch}") || text.contains("{commit}");
        if has_place && is_fit(&bare) {
            Ok(Self::Address(text.to_owned()))
        } else {
            Err(InvalidTemplate::Places)
        }
    }
}

fn is_web(url: &Url) -> bool {
    matches!(url.scheme(), "https" | "http") && url.host_str().is_some()
}

/// A link with its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) name: String,
    pub(super) url: String,
}

/// See the module's first lines. What is not known to be there has no page.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pages {
    /// Whose pages they are, as `source.repo` has it.
    pub(crate) repo: String,
    /// The repo's own page, such as `https://github.com/owner/name`.
    pub(crate) home: Option<String>,
    /// The service that its host shows to be.
    pub(crate) forge: Option<Forge>,
    /// The branch and the commit, where the remote has them.
    pub(crate) branch: Option<String>,
    pub(crate) commit: Option<String>,
    /// The CI job that this runs in.
    pub(crate) job: Option<String>,
    /// The number of the pull request that the CI job is of.
    pub(crate) request: Option<String>,
    /// `link_template`.
    pub(crate) template: Option<LinkTemplate>,
    /// Of an event's evidence, the files that are in the commit.
    pub(crate) files: Vec<String>,
}

/// Something that has a page.
#[derive(Clone, Copy)]
enum Place<'a> {
    Branch(&'a str),
    Commit(&'a str),
    /// A file in the commit.
    File(&'a str),
    /// The form in which a pull request from this branch is opened.
    Form(&'a str),
    /// The pull request with this number.
    Request(&'a str),
}

impl Pages {
    /// Whether they are those of the repo that an event is of.
    pub(super) fn are_of(&self, event: &Event) -> bool {
        event.source.as_ref().and_then(|source| source.repo.as_deref()) == Some(&self.repo)
    }

    /// The page of the event's branch. In the job of a pull request it is that of the request: the
    /// branch may be a fork's.
    pub(super) fn branch(&self, event: &Event) -> Option<String> {
        let branch = self.branch_of(event)?;
        let request = self.request.as_deref().and_then(|request| self.page(Place::Request(request)));
        request.or_else(|| self.page(Place::Branch(branch)))
    }

    fn branch_of(&self, event: &Event) -> Option<&str> {
        let source = event.source.as_ref().and_then(|source| source.branch.as_deref());
        let own = event.spec.branch.as_deref().or(source);
        self.branch.as_deref().filter(|branch| own == Some(*branch))
    }

    /// The page of the event's commit.
    pub(super) fn commit(&self, event: &Event) -> Option<String> {
        let own = event.source.as_ref().and_then(|source| source.commit.as_deref());
        self.page(Place::Commit(self.commit.as_deref().filter(|commit| own == Some(*commit))?))
    }

    /// What else is worth a look, and how many of those are left out.
    pub(super) fn links(&self, event: &Event) -> (Vec<Link>, usize) {
        let is_passed_run =
            event.event.kind == EventKind::PipelineCompleted && event.event.status == Some(Status::Success);
        let branch = self.branch_of(event).filter(|branch| is_passed_run && !TRUNKS.contains(branch));
        let form = branch.filter(|_| self.request.is_none());
        let form = form.and_then(|branch| self.page(Place::Form(branch)));
        let named = |name: &str, url: Option<String>| Some(Link { name: name.to_owned(), url: url? });
        let files = self.files.iter().filter(|_| self.commit(event).is_some());
        let files: Vec<Link> =
            files.filter_map(|path| named(&file_title(path), self.page(Place::File(path)))).collect();
        // A CI run has what cannot be linked on its own.
        let job = self.job.clone().filter(|_| files.is_empty());
        // Of evidence that is linked, all files count.
        let all = event.evidence.as_ref().filter(|_| !files.is_empty()).map_or(0, |all| all.paths.len());
        let others = named("Open a PR", form).into_iter().chain(named("CI run", job));
        let mut links: Vec<Link> = others.collect();
        let more = (links.len() + all).saturating_sub(LINKS.min(links.len() + files.len()));
        links.extend(files);
        links.truncate(LINKS);
        (links, more)
    }

    fn page(&self, place: Place<'_>) -> Option<String> {
        let forge = match &self.template {
            Some(LinkTemplate::Address(address)) => {
                return self.filled(address, place).filter(|url| is_fit(url));
            }
            Some(LinkTemplate::Forge(forge)) => *forge,
            None => self.forge?,
        };
        let home = self.home.as_deref()?;
        if let Place::File(path) = place {
            let way = match forge {
                Forge::GitHub => "/blob/",
                Forge::GitLab => "/-/blob/",
                Forge::Bitbucket => "/src/",
                Forge::Gitea => "/src/commit/",
            };
            let url = format!("{home}{way}{}/{}", self.commit.as_deref()?, encoded(path));
            return Some(url).filter(|url| is_fit(url));
        }
        let (way, name) = match (forge, place) {
            (Forge::GitHub, Place::Branch(name)) => ("/tree/", name),
            (Forge::GitLab, Place::Branch(name)) => ("/-/tree/", name),
            (Forge::Bitbucket, Place::Branch(name)) => ("/branch/", name),
            (Forge::Gitea, Place::Branch(name)) => ("/src/branch/", name),
            (Forge::GitHub | Forge::Gitea, Place::Commit(id)) => ("/commit/", id),
            (Forge::GitLab, Place::Commit(id)) => ("/-/commit/", id),
            (Forge::Bitbucket, Place::Commit(id)) => ("/commits/", id),
            (Forge::GitHub | Forge::Gitea, Place::Form(name)) => ("/compare/", name),
            (Forge::GitLab, Place::Form(name)) => {
                ("/-/merge_requests/new?merge_request%5Bsource_branch%5D=", name)
            }
            (Forge::Bitbucket, Place::Form(name)) => ("/pull-requests/new?source=", name),
            (Forge::GitHub, Place::Request(number)) => ("/pull/", number),
            (Forge::GitLab, Place::Request(number)) => ("/-/merge_requests/", number),
            (Forge::Gitea, Place::Request(number)) => ("/pulls/", number),
            (Forge::Bitbucket, Place::Request(number)) => ("/pull-requests/", number),
            (_, Place::File(_)) => return None,
        };
        let form = if matches!((forge, place), (Forge::GitHub, Place::Form(_))) { "?expand=1" } else { "" };
        Some(format!("{home}{way}{}{form}", encoded(name))).filter(|url| is_fit(url))
    }

    /// The address of a template; none where it needs what this place does not have.
    fn filled(&self, address: &str, place: Place<'_>) -> Option<String> {
        let (needed, path) = match place {
            Place::Branch(_) => ("{branch}", ""),
            Place::Commit(_) => ("{commit}", ""),
            Place::File(path) => ("{path}", path),
            Place::Form(_) | Place::Request(_) => return None,
        };
        if !address.contains(needed) {
            return None;
        }
        let mut filled = address.replace("{repo}", &encoded(&self.repo)).replace("{path}", &encoded(path));
        for (name, value) in [("{branch}", &self.branch), ("{commit}", &self.commit)] {
            if filled.contains(name) {
                filled = filled.replace(name, &encoded(value.as_deref()?));
            }
        }
        Some(filled)
    }
}

/// Whether an address is short, and has no sign that ends one in the markup of a service.
fn is_fit(url: &str) -> bool {
    let is_inert = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:/?#@!$&+,;=%".contains(&byte);
    url.len() <= LONGEST && url.bytes().all(is_inert)
}

/// A name within an address: letters, digits and a few signs as they are, the rest by its bytes.
pub(crate) fn encoded(name: &str) -> String {
    let mut text = String::new();
    for byte in name.bytes() {
        match byte {
            b'/' | b'-' | b'.' | b'_' => text.push(char::from(byte)),
            byte if byte.is_ascii_alphanumeric() => text.push(char::from(byte)),
            byte => text += &format!("%{byte:02X}"),
        }
    }
    text
}

/// The page of the CI job with these variables; none where they say something else.
pub(crate) fn job(get: impl Fn(&str) -> Option<String>) -> Option<String> {
    let of_github = || {
        let (server, repo) = (get("GITHUB_SERVER_URL")?, get("GITHUB_REPOSITORY")?);
        let run = get("GITHUB_RUN_ID").filter(|run| run.bytes().all(|byte| byte.is_ascii_digit()))?;
        Some(format!("{}/{}/actions/runs/{run}", server.trim_end_matches('/'), encoded(&repo)))
    };
    let url = Url::parse(&of_github().or_else(|| get("CI_JOB_URL"))?).ok()?;
    let has_no_user = url.username().is_empty() && url.password().is_none();
    (is_web(&url) && has_no_user).then(|| url.to_string()).filter(|url| is_fit(url))
}

/// What a file of the evidence is: what its name says, where the name is one of a source's.
fn file_title(path: &str) -> String {
    let name = path.rsplit('/').next().unwrap_or(path);
    let is_telemetry = ["spec-", "guardrail-"].iter().any(|start| name.starts_with(start));
    match name.strip_suffix(".json") {
        Some(stem) if stem.contains("synthesis") => "synthesis".to_owned(),
        Some(stem) if stem.contains("verdict") => "verdict".to_owned(),
        Some(_) if is_telemetry => "telemetry".to_owned(),
        _ => file_name(path),
    }
}

/// The number of the pull request that a CI job is of, by its variables.
pub(crate) fn request(get: impl Fn(&str) -> Option<String>) -> Option<String> {
    let of_github = || {
        let number = get("GITHUB_REF")?;
        Some(number.strip_prefix("refs/pull/")?.split('/').next()?.to_owned())
    };
    let number = of_github().or_else(|| get("CI_MERGE_REQUEST_IID"))?;
    ((1..=10).contains(&number.len()) && number.bytes().all(|byte| byte.is_ascii_digit())).then_some(number)
}

/// The name of a file, its middle left out where it is long.
pub(super) fn file_name(path: &str) -> String {
    const LONG: usize = 30;
    const END: usize = 12;
    let name: Vec<char> = one_line(path.rsplit('/').next().unwrap_or(path)).chars().collect();
    if name.len() <= LONG {
        return name.into_iter().collect();
    }
    let (start, end) = (&name[..LONG - END - 1], &name[name.len() - END..]);
    start.iter().chain(&['…']).chain(end).collect()
}
