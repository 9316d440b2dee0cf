//! This machine's name, for those who want it told.

use crate::names::printable;

/// Longest name that is told, in characters: Linux has 64 at most.
pub(crate) const LONGEST: usize = 255;

/// The name, if `is_shown`.
pub(crate) fn name(is_shown: bool) -> Option<String> {
    let name = is_shown.then(|| printable(&rustix::system::uname().nodename().to_string_lossy(), LONGEST));
    name.filter(|name| !name.is_empty())
}
