//! Who reads a message: what it may say that stands in no payload.

use super::pages::Pages;

/// See the module's first line.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Reader<'a> {
    /// The subscription's id and what it gets: for a message that tries it out.
    pub(crate) subscription: Option<&'a str>,
    pub(crate) gets: Option<&'a str>,
    /// The repo's pages on the web.
    pub(crate) pages: Option<&'a Pages>,
    /// Who is called where somebody has to do something, as the service names people.
    pub(crate) owner: Option<&'a str>,
}
