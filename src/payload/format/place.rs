//! The parts of a URL by which a service is recognised.

use url::Url;

use super::Format;

/// A service recognised by an endpoint's URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Service {
    /// The service's name, for people.
    pub(crate) name: &'static str,
    /// The format it understands.
    pub(crate) format: Format,
    /// Further advice, besides setting the format.
    pub(crate) note: &'static str,
}

impl Service {
    pub(super) fn named(name: &'static str, format: Format) -> Option<Self> {
        Some(Self { name, format, note: "" })
    }
}

/// The parts of a URL that identify a service.
pub(super) struct Place<'a> {
    pub(super) host: &'a str,
    /// The segments of the path.
    pub(super) segments: Vec<&'a str>,
}

impl<'a> Place<'a> {
    pub(super) fn of(url: &'a Url) -> Option<Self> {
        let host = url.host_str()?.trim_end_matches('.');
        Some(Self { host, segments: url.path().split('/').skip(1).collect() })
    }

    /// Whether the host is a subdomain of this domain.
    pub(super) fn is_below(&self, domain: &str) -> bool {
        self.host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'))
    }
}
