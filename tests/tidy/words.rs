//! Words that the docs avoid, with what they say instead.

use std::fs;

use super::docs::{pages, prose};

/// Each with the better word: who reads is "you", what acts is "spec-notify", and one thing has one
/// name.
const AVOIDED: [(&str, &str); 11] = [
    ("we", "spec-notify"),
    ("our", "its"),
    ("ours", "its own"),
    ("anew", "again"),
    ("fare", "health"),
    ("fares", "health"),
    ("fared", "health"),
    ("told of", "sent, reported"),
    ("to be had", "available"),
    ("given up", "a dead letter"),
    ("the one before", "the previous one"),
];

/// A text in small letters, its words apart by one space each.
fn words(text: &str) -> String {
    let words = text.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty());
    format!(" {} ", words.collect::<Vec<_>>().join(" ").to_lowercase())
}

#[test]
fn no_page_uses_a_word_that_the_docs_avoid() {
    let mut found = Vec::new();
    // The changelog has what was, in the words of its day.
    for page in pages().iter().filter(|page| !page.ends_with("CHANGELOG.md")) {
        let text = fs::read_to_string(page).unwrap();
        for line in prose(&text) {
            let words = words(&line.split('`').step_by(2).collect::<Vec<_>>().join(" x "));
            for (word, better) in AVOIDED {
                if words.contains(&format!(" {word} ")) {
                    found.push(format!("{}: \"{word}\", better {better}: {line}", page.display()));
                }
            }
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn a_word_is_found_between_any_signs_and_not_in_another() {
    let has = |text: &str, word: &str| words(text).contains(&format!(" {word} "));
    assert!(has("It is Told\n of; (We go)", "told of") && has("It is Told\n of; (We go)", "we"));
    assert!(
        !has("west, welfare, given_up", "we") && !has("welfare", "fare") && !has("`given_up`", "given up")
    );
}
