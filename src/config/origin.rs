//! The file that a config was read from, and whether it has been edited since.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};

use super::file::read_text;

/// The file that a config was read from. Only edits of this program's table count; other tables
/// belong to the host.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    file: PathBuf,
    /// A digest of the table's content at that time; not the text, which may hold secrets.
    said: Option<u64>,
}

impl Origin {
    pub(super) fn new(file: &Path, text: &str) -> Self {
        Self { file: file.to_owned(), said: digest(text) }
    }

    /// What to do about an edit of the file, if its table has changed. Blocks on I/O.
    pub(crate) fn edited(&self) -> Option<String> {
        let file = self.file.display();
        match read_text(&self.file) {
            Ok(text) if digest(&text) == self.said => None,
            Ok(_) => Some(format!(
                "{file} was edited and is not in force yet: spec-notify check, then spec-notify reload"
            )),
            Err(error) => Some(format!(
                "{file}, from which the config was read, can no longer be read ({error}): the next start \
                 needs it"
            )),
        }
    }
}

/// A digest of this program's table, independent of layout and comments; `None` if the text is not
/// TOML.
fn digest(text: &str) -> Option<u64> {
    let document: toml::Table = text.parse().ok()?;
    let ours = document.get("spec_ops").and_then(|table| table.get("webhooks"));
    let mut hasher = DefaultHasher::new();
    format!("{ours:?}").hash(&mut hasher);
    Some(hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn an_edit_is_what_changes_our_table_and_not_its_layout_or_the_hosts_tables() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config.toml");
        let text = "[spec_ops.webhooks]\nenabled = true\nmax_concurrency = 2\n";
        let origin = Origin::new(&file, text);
        for same in [text, "[host]\nx = 1\n[spec_ops.webhooks]\n# Two.\nmax_concurrency=2\nenabled = true\n"]
        {
            fs::write(&file, same).unwrap();
            assert_eq!(origin.edited(), None, "{same}");
        }
        for other in ["", "[spec_ops.webhooks]\nenabled = true\n", "[spec_ops.webhooks\n", "[spec_ops]\n"] {
            fs::write(&file, other).unwrap();
            assert!(origin.edited().is_some_and(|said| said.contains("spec-notify reload")), "{other}");
        }
        fs::remove_file(&file).unwrap();
        assert!(origin.edited().is_some_and(|said| said.contains("can no longer be read")));
    }
}
