//! The code on a page of the docs.

use std::fs;
use std::path::Path;

/// What stands between two fences, without the indentation that a list gives it.
#[derive(Debug)]
pub(crate) struct Block {
    /// The word behind the fence, such as `sh`.
    pub(crate) kind: String,
    /// What stands behind that: a file's name, or which terminal.
    pub(crate) note: String,
    pub(crate) text: String,
}

/// A page, by its path in the repo.
pub(crate) fn page(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// All of a page's code, in its order.
pub(crate) fn blocks(page: &str) -> Vec<Block> {
    let mut found = Vec::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        let Some(info) = line.trim_start().strip_prefix("```") else { continue };
        let (kind, note) = info.split_once(' ').unwrap_or((info, ""));
        let indent = line.len() - line.trim_start().len();
        let inside = lines.by_ref().take_while(|line| line.trim() != "```");
        let text = inside.map(|line| line.get(indent..).unwrap_or_default().to_owned() + "\n").collect();
        found.push(Block { kind: kind.to_owned(), note: note.to_owned(), text });
    }
    found
}

/// The first block with these words behind its fence.
pub(crate) fn block(page: &str, info: &str) -> String {
    let (kind, note) = info.split_once(' ').unwrap_or((info, ""));
    let found = blocks(page).into_iter().find(|block| block.kind == kind && block.note == note);
    found.unwrap_or_else(|| panic!("no {info} on the page")).text
}
