//! A status that says when it was reached, such as `Done (2025-09-29)`, without that.

const MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];

/// A status without the day on which it was reached: `Done (2025-09-29)` is `done`. Other numbers
/// stay, so that `Done 3/5` is no word for Done.
pub(super) fn without_date(cell: &str) -> String {
    let kept: String = cell
        .chars()
        .map(|c| if c.is_alphanumeric() || matches!(c, '-' | '/' | '.' | ':') { c } else { ' ' })
        .collect();
    let trim = |word: &str| word.trim_matches(|c: char| !c.is_alphanumeric()).to_lowercase();
    let words: Vec<String> = kept.split_whitespace().map(trim).filter(|word| !word.is_empty()).collect();
    let names_a_month = words.iter().any(|word| is_month(word));
    let is_part = |word: &String| {
        let number = word.trim_end_matches(['s', 't', 'n', 'd', 'r', 'h']);
        let is_number = matches!(number.len(), 1 | 2 | 4) && number.bytes().all(|byte| byte.is_ascii_digit());
        is_day(word) || (names_a_month && (is_month(word) || is_number)) || is_time(word)
    };
    let has_date = words.iter().any(|word| is_day(word)) || names_a_month;
    let rest =
        words.iter().filter(|word| !(has_date && (is_part(word) || matches!(&***word, "on" | "at" | "utc"))));
    rest.cloned().collect::<Vec<_>>().join(" ")
}

/// In full, or its first three letters.
fn is_month(word: &str) -> bool {
    MONTHS.iter().any(|month| word == *month || (word.len() == 3 && month.starts_with(word)))
}

/// `2025-09-29`, `2025/9/29`, `29.09.2025`, `2025-09-29T10:00:00Z`.
fn is_day(word: &str) -> bool {
    let day = word.split_once('t').map_or(word, |(day, _)| day);
    let parts: Vec<&str> = day.split(['-', '/', '.']).collect();
    let are_digits = parts.iter().all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()));
    let lengths: Vec<usize> = parts.iter().map(|part| part.len()).collect();
    are_digits && matches!(lengths[..], [4, 1..=2, 1..=2] | [1..=2, 1..=2, 4] | [4, 2])
}

/// `10:00`, `10:00:00z`.
fn is_time(word: &str) -> bool {
    let parts: Vec<&str> = word.trim_end_matches('z').split(':').collect();
    let is_two = |part: &&str| matches!(part.len(), 1 | 2) && part.bytes().all(|byte| byte.is_ascii_digit());
    matches!(parts.len(), 2 | 3) && parts.iter().all(is_two)
}
