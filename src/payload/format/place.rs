//! Which service a URL is of, as its host and path tell.

use url::Url;

use super::Format;

/// What is known of an endpoint by its URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Service {
    /// Its name for people.
    pub(crate) name: &'static str,
    /// What it understands.
    pub(crate) format: Format,
    /// What to do besides setting the format.
    pub(crate) note: &'static str,
}

impl Service {
    pub(super) fn named(name: &'static str, format: Format) -> Option<Self> {
        Some(Self { name, format, note: "" })
    }
}

/// The parts of a URL that tell a service.
pub(super) struct Place<'a> {
    pub(super) host: &'a str,
    /// Of the path.
    pub(super) segments: Vec<&'a str>,
}

impl<'a> Place<'a> {
    pub(super) fn of(url: &'a Url) -> Option<Self> {
        let host = url.host_str()?.trim_end_matches('.');
        Some(Self { host, segments: url.path().split('/').skip(1).collect() })
    }

    /// Whether the host is below this domain.
    pub(super) fn is_below(&self, domain: &str) -> bool {
        self.host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'))
    }
}
