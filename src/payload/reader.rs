//! Who reads a message: what it may say that stands in no payload.

use super::pages::Pages;

/// See the module's first line.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Reader<'a> {
    /// The subscription's id.
    pub(crate) subscription: Option<&'a str>,
    /// The repo's pages on the web.
    pub(crate) pages: Option<&'a Pages>,
    /// Who is called where somebody has to do something, as the service names people.
    pub(crate) owner: Option<&'a str>,
}
