//! Globs: `*`, `?`, `[a-z]` and `{one,other}` in texts, `*`, `?` and `**` in paths.

use std::iter::Peekable;
use std::str::Chars;

/// How deep groups may stand in each other.
const DEEPEST: usize = 16;

/// A glob, as the steps through a text. All steps that are possible are taken at the same time, so
/// that no glob and no text together take long.
#[derive(Clone, Debug)]
pub(crate) struct Glob {
    steps: Vec<Step>,
}

/// Each but a fork takes one character and leads to the step after it.
#[derive(Clone, Debug)]
enum Step {
    Letter(char),
    /// Any character.
    Any,
    /// Any character of a name in a path.
    InName,
    /// One of these ranges, or none of them.
    Class {
        ranges: Vec<(char, char)>,
        is_wanted: bool,
    },
    /// Takes nothing and leads to each of these steps.
    Fork(Vec<usize>),
}

/// Why a text is no glob.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Malformed {
    #[error("unclosed character class; missing ']'")]
    OpenClass,
    #[error("invalid range; '{0}' > '{1}'")]
    Range(char, char),
    #[error("unclosed alternate group; missing '}}' (maybe escape '{{' with '[{{]'?)")]
    OpenGroup,
    #[error("unopened alternate group; missing '{{' (maybe escape '}}' with '[}}]'?)")]
    NoGroup,
    #[error("groups stand more than {DEEPEST} deep in each other")]
    Deep,
    #[error("dangling '\\'")]
    Dangling,
}

impl Glob {
    /// A glob over texts. A backslash takes the next character as it is.
    ///
    /// # Errors
    /// A class, a group or a backslash is not complete.
    pub(crate) fn of_text(text: &str) -> Result<Self, Malformed> {
        let mut glob = Self { steps: Vec::new() };
        let mut rest = text.chars().peekable();
        glob.sequence(&mut rest, 0)?;
        match rest.next() {
            Some(_) => Err(Malformed::NoGroup),
            None => Ok(glob),
        }
    }

    /// A glob over paths, by its parts: `*` and `?` stay in a name, a part `**` is any folders.
    pub(crate) fn of_path(parts: &[&str]) -> Self {
        let mut glob = Self { steps: Vec::new() };
        for (at, part) in parts.iter().enumerate() {
            let is_last = at + 1 == parts.len();
            if *part == "**" {
                let skip = glob.fork();
                glob.repeat(Step::Any);
                if !is_last {
                    glob.steps.push(Step::Letter('/'));
                }
                glob.leads_on(skip);
                continue;
            }
            for sign in part.chars() {
                match sign {
                    '*' => glob.repeat(Step::InName),
                    '?' => glob.steps.push(Step::InName),
                    letter => glob.steps.push(Step::Letter(letter)),
                }
            }
            if !is_last {
                glob.steps.push(Step::Letter('/'));
            }
        }
        glob
    }

    /// Whether the whole text is meant.
    pub(crate) fn is_match(&self, text: &str) -> bool {
        let mut at = vec![false; self.steps.len() + 1];
        self.reach(0, &mut at);
        for character in text.chars() {
            let mut next = vec![false; at.len()];
            for (number, step) in self.steps.iter().enumerate() {
                if at[number] && step.takes(character) {
                    self.reach(number + 1, &mut next);
                }
            }
            at = next;
        }
        at[self.steps.len()]
    }

    /// Enters a step, and those to which it forks.
    fn reach(&self, step: usize, at: &mut [bool]) {
        let mut waiting = vec![step];
        while let Some(step) = waiting.pop() {
            if !std::mem::replace(&mut at[step], true)
                && let Some(Step::Fork(ways)) = self.steps.get(step)
            {
                waiting.extend(ways);
            }
        }
    }

    /// What stands between two commas of a group, or all of a text, which is in no group.
    fn sequence(&mut self, rest: &mut Peekable<Chars<'_>>, depth: usize) -> Result<(), Malformed> {
        while let Some(sign) = rest.next_if(|sign| *sign != '}' && (depth == 0 || *sign != ',')) {
            match sign {
                '*' => self.repeat(Step::Any),
                '?' => self.steps.push(Step::Any),
                '[' => {
                    let class = class(rest)?;
                    self.steps.push(class);
                }
                '{' if depth == DEEPEST => return Err(Malformed::Deep),
                '{' => self.group(rest, depth + 1)?,
                '\\' => self.steps.push(Step::Letter(rest.next().ok_or(Malformed::Dangling)?)),
                letter => self.steps.push(Step::Letter(letter)),
            }
        }
        Ok(())
    }

    /// What follows `{`.
    fn group(&mut self, rest: &mut Peekable<Chars<'_>>, depth: usize) -> Result<(), Malformed> {
        let (start, mut ways, mut ends) = (self.fork(), Vec::new(), Vec::new());
        loop {
            ways.push(self.steps.len());
            self.sequence(rest, depth)?;
            ends.push(self.fork());
            match rest.next() {
                Some(',') => (),
                Some(_) => break,
                None => return Err(Malformed::OpenGroup),
            }
        }
        let after = self.steps.len();
        self.steps[start] = Step::Fork(ways);
        ends.into_iter().for_each(|end| self.steps[end] = Step::Fork(vec![after]));
        Ok(())
    }

    /// A fork that leads to the next step, for now.
    fn fork(&mut self) -> usize {
        let at = self.steps.len();
        self.steps.push(Step::Fork(vec![at + 1]));
        at
    }

    /// Lets a fork lead to what comes next as well.
    fn leads_on(&mut self, fork: usize) {
        let after = self.steps.len();
        if let Step::Fork(ways) = &mut self.steps[fork] {
            ways.push(after);
        }
    }

    /// A step any number of times.
    fn repeat(&mut self, step: Step) {
        let start = self.fork();
        self.steps.push(step);
        self.steps.push(Step::Fork(vec![start]));
        self.leads_on(start);
    }
}

impl Step {
    fn takes(&self, character: char) -> bool {
        match self {
            Self::Letter(letter) => *letter == character,
            Self::Any => true,
            Self::InName => character != '/',
            Self::Class { ranges, is_wanted } => {
                ranges.iter().any(|(first, last)| (*first..=*last).contains(&character)) == *is_wanted
            }
            Self::Fork(_) => false,
        }
    }
}

/// What follows `[`: a `]` that comes first is one of its characters.
fn class(rest: &mut Peekable<Chars<'_>>) -> Result<Step, Malformed> {
    let is_wanted = rest.next_if(|sign| matches!(sign, '!' | '^')).is_none();
    let mut ranges = Vec::new();
    loop {
        let first = rest.next().ok_or(Malformed::OpenClass)?;
        if first == ']' && !ranges.is_empty() {
            return Ok(Step::Class { ranges, is_wanted });
        }
        let mut last = first;
        let mut ahead = rest.clone();
        if ahead.next() == Some('-')
            && let Some(end) = ahead.next().filter(|end| *end != ']')
        {
            (last, *rest) = (end, ahead);
        }
        if first > last {
            return Err(Malformed::Range(first, last));
        }
        ranges.push((first, last));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts() {
        for (glob, fits, others) in [
            ("", &[""][..], &["a"][..]),
            ("spec-*", &["spec-", "spec-a/b"], &["spec", "a spec-b"]),
            ("*a*b*", &["ab", "xaxbx", "aab"], &["ba", "a"]),
            ("**", &["", "any/thing"], &[]),
            ("T?", &["T1", "Té", "T/"], &["T", "T12"]),
            ("[a-c]x", &["ax", "cx"], &["dx", "-x", "x"]),
            ("[!a-c]x", &["dx", "-x"], &["bx"]),
            ("[^a]", &["b"], &["a", ""]),
            ("[]-]", &["]", "-"], &["a"]),
            ("[{]*[}]", &["{}", "{a}"], &["a"]),
            ("{a,b*,}c", &["ac", "bc", "bxc", "c"], &["dc", "abc"]),
            ("a{b{c,d},e}f", &["abcf", "abdf", "aef"], &["abf", "acf"]),
            ("{a,[,]}", &["a", ","], &["[,]"]),
            (r"\*\{", &["*{"], &["a{"]),
            ("a,b", &["a,b"], &["a"]),
        ] {
            let parsed = Glob::of_text(glob).unwrap();
            fits.iter().for_each(|text| assert!(parsed.is_match(text), "{glob} {text}"));
            others.iter().for_each(|text| assert!(!parsed.is_match(text), "{glob} {text}"));
        }
    }

    #[test]
    fn what_is_malformed_is_said() {
        for (glob, why) in [
            ("[ab", Malformed::OpenClass),
            ("[]", Malformed::OpenClass),
            ("[b-a]", Malformed::Range('b', 'a')),
            ("{a,b", Malformed::OpenGroup),
            ("{a{b}", Malformed::OpenGroup),
            ("a}", Malformed::NoGroup),
            ("{a}}", Malformed::NoGroup),
            (&"{".repeat(100_000), Malformed::Deep),
            ("a\\", Malformed::Dangling),
        ] {
            assert_eq!(Glob::of_text(glob).unwrap_err(), why, "{glob}");
        }
        assert_eq!(
            Malformed::OpenGroup.to_string(),
            "unclosed alternate group; missing '}' (maybe escape '{' with '[{]'?)"
        );
    }

    #[test]
    fn what_stands_in_itself_many_times_ends_soon() {
        let groups = Glob::of_text(&("{a,a*,*a}".repeat(60) + "b")).unwrap();
        assert!(!groups.is_match(&"a".repeat(2000)));
        let stars = Glob::of_text(&("a*".repeat(60) + "b")).unwrap();
        assert!(!stars.is_match(&"a".repeat(2000)));
    }
}
