//! The file a config was read from, and whether it has been edited since.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};

use super::file::read_text;

/// See the module's first line. Other tables of the file are the host's: what is edited there
/// changes nothing for us.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    file: PathBuf,
    /// Of what the file said then; not the text, which may have secrets.
    said: Option<u64>,
}

impl Origin {
    pub(super) fn new(file: &Path, text: &str) -> Self {
        Self { file: file.to_owned(), said: digest(text) }
    }

    /// What is to be done because the file says something else by now, if it does. Blocks.
    pub(crate) fn edited(&self) -> Option<String> {
        let file = self.file.display();
        match read_text(&self.file) {
            Ok(text) if digest(&text) == self.said => None,
            Ok(_) => Some(format!(
                "{file} was edited and is not in force yet: spec-notify check, then spec-notify reload"
            )),
            Err(error) => Some(format!(
                "{file}, which the config was read from, cannot be read any more ({error}): \
                 the next start needs it"
            )),
        }
    }
}

/// Of the table that is ours, whatever its layout and comments; `None` where the text is no TOML.
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
        assert!(origin.edited().is_some_and(|said| said.contains("cannot be read any more")));
    }
}
