//! Reads events from a file or a pipe: one JSON object over several lines, or one per line, each as
//! soon as it arrives.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Cursor, Read as _};
use std::path::Path;

use memchr::memchr;
use serde::de::IgnoredAny;

use super::Given;
use crate::cli::Failure;
use crate::decode::{self, BYTE_ORDER_MARK, Form};
use crate::event::{Event, EventError, MAX_EVENT_BYTES};
use crate::files::open::{self, Links};

/// Most bytes that are held for one event; no event is that long.
const MAX_HELD: usize = 2 * MAX_EVENT_BYTES;

/// Most bytes of what should hold one event, with blanks around it and in UTF-16 too.
const MAX_OF_ONE: u64 = 4 * MAX_EVENT_BYTES as u64;

/// Bytes that are read at a time, if there are as many.
const AT_A_TIME: usize = 64 * 1024;

/// The events of a text.
pub(in crate::cli) struct Lines {
    reader: Box<dyn BufRead + Send>,
    /// The name used in messages; empty for standard input.
    name: String,
    /// Number of lines read so far.
    count: usize,
    /// Whether the next line is here whole, and not blank.
    is_next_here: bool,
    state: State,
}

enum State {
    /// Only blank lines so far.
    Start,
    /// Each line is an event; these lines were read ahead.
    Lines(VecDeque<Line>),
    End,
}

struct Line {
    number: usize,
    text: Text,
}

enum Text {
    Whole(Vec<u8>),
    /// The length of a line that is too long.
    TooLong(usize),
}

impl Line {
    fn is_blank(&self) -> bool {
        matches!(&self.text, Text::Whole(text) if text.trim_ascii().is_empty())
    }

    /// Whether the line is a complete JSON object.
    fn is_object(&self) -> bool {
        match &self.text {
            Text::Whole(text) => text.starts_with(b"{") && decode::is_json(text),
            Text::TooLong(_) => false,
        }
    }
}

/// What the first line says about the format.
enum First {
    /// The line stands alone: it is complete, or invalid by itself.
    OfLines,
    /// The line is the beginning of JSON over several lines.
    Begins,
}

impl First {
    fn of(line: &Line) -> Self {
        match &line.text {
            Text::Whole(text) => match serde_json::from_slice::<IgnoredAny>(&decode::mended(text)) {
                Err(error) if error.is_eof() => Self::Begins,
                _ => Self::OfLines,
            },
            Text::TooLong(_) => Self::OfLines,
        }
    }
}

/// Most bytes of UTF-16 that are read, because it is held as a whole.
const MAX_UTF16: u64 = 64 * 1024 * 1024;

impl Lines {
    /// Opens a file, or standard input for `-`.
    pub(in crate::cli) fn open(path: &Path) -> Result<Self, Failure> {
        let (reader, name) = reader(path)?;
        Self::of(reader, name)
    }

    /// Opens what should hold one event; more than that is refused, and not read to its end.
    pub(in crate::cli) fn open_one(path: &Path) -> Result<Self, Failure> {
        let (reader, name) = reader(path)?;
        let mut bytes = Vec::new();
        reader.take(MAX_OF_ONE + 1).read_to_end(&mut bytes).map_err(|error| unreadable(&name, &error))?;
        if bytes.len() as u64 > MAX_OF_ONE {
            return Err(Failure::usage(format!(
                "{} has more than {MAX_OF_ONE} bytes; one event has at most {MAX_EVENT_BYTES}",
                shown(&name)
            )));
        }
        Self::of(Cursor::new(bytes), name)
    }

    fn of(mut reader: impl BufRead + Send + 'static, name: String) -> Result<Self, Failure> {
        let unreadable = |error| unreadable(&name, &error);
        if Form::of(reader.fill_buf().map_err(unreadable)?) == Form::Utf8 {
            return Ok(Self::new(reader, name));
        }
        let mut bytes = Vec::new();
        reader.take(MAX_UTF16).read_to_end(&mut bytes).map_err(unreadable)?;
        Ok(Self::new(Cursor::new(decode::text(&bytes).into_owned()), name))
    }

    /// What a reader gives, in UTF-8; `name` is for messages.
    pub(super) fn new(reader: impl BufRead + Send + 'static, name: String) -> Self {
        Self { reader: Box::new(reader), name, count: 0, is_next_here: false, state: State::Start }
    }

    /// Whether the next event comes without waiting for more input.
    pub(super) fn is_ready(&self) -> bool {
        match &self.state {
            State::Lines(held) => self.is_next_here && held.is_empty(),
            State::Start | State::End => false,
        }
    }

    /// The next line without its newline.
    fn line(&mut self) -> io::Result<Option<Line>> {
        let (mut text, mut length) = (Vec::new(), 0);
        loop {
            let there = match self.reader.fill_buf() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                there => there?,
            };
            if there.is_empty() && length == 0 {
                return Ok(None);
            }
            let newline = memchr(b'\n', there);
            let part = &there[..newline.unwrap_or(there.len())];
            text.extend_from_slice(&part[..part.len().min((MAX_HELD + 1).saturating_sub(text.len()))]);
            length += part.len();
            let (read, is_end) = (part.len() + usize::from(newline.is_some()), there.is_empty());
            let rest = &there[read..];
            let next = memchr(b'\n', rest).map(|end| rest[..end].trim_ascii());
            self.is_next_here = next.is_some_and(|next| !next.is_empty());
            self.reader.consume(read);
            if newline.is_some() || is_end {
                self.count += 1;
                if self.count == 1 && text.starts_with(BYTE_ORDER_MARK) {
                    text.drain(..BYTE_ORDER_MARK.len());
                }
                let text = if length > MAX_HELD { Text::TooLong(length) } else { Text::Whole(text) };
                return Ok(Some(Line { number: self.count, text }));
            }
        }
    }

    /// The place of an error: file name and line number, as far as known.
    fn at(&self, line: Option<usize>) -> String {
        let line = line.map(|line| format!("line {line}"));
        let name = Some(self.name.clone()).filter(|name| !name.is_empty());
        name.into_iter().chain(line).collect::<Vec<_>>().join(" ")
    }

    fn event(&self, line: Line) -> Given {
        let read = match line.text {
            Text::TooLong(length) => Err(EventError::TooLarge(length).to_string()),
            Text::Whole(text) => read(&text),
        };
        read.map_err(|error| format!("{}: {error}", self.at(Some(line.number))))
    }

    fn error(&self, error: impl std::fmt::Display) -> Given {
        let at = self.at(None);
        Err(if at.is_empty() { format!("standard input: {error}") } else { format!("{at}: {error}") })
    }

    /// The first event, which may continue on further lines.
    fn first(&mut self) -> io::Result<Given> {
        let first = loop {
            match self.line()? {
                None => {
                    self.state = State::End;
                    return Ok(self.error("it is empty: it should hold a JSON object"));
                }
                Some(line) if line.is_blank() => {}
                Some(line) => break line,
            }
        };
        if matches!(First::of(&first), First::OfLines) {
            self.state = State::Lines(VecDeque::new());
            return Ok(self.event(first));
        }
        let (mut held, mut bytes, mut is_whole) = (VecDeque::from([first]), 0, false);
        while bytes <= MAX_HELD {
            let Some(line) = self.line()? else {
                is_whole = true;
                break;
            };
            bytes += match &line.text {
                Text::Whole(text) => text.len() + 1,
                Text::TooLong(length) => *length,
            };
            held.push_back(line);
        }
        let text = is_whole.then(|| joined(&held));
        let is_one = text.as_ref().is_some_and(|text| decode::is_json(text));
        // In JSON Lines, an invalid or truncated first line must not take the other lines with it.
        let is_alone = held.iter().skip(1).all(Line::is_blank);
        if is_one || !(is_alone || held.iter().skip(1).any(Line::is_object)) {
            self.state = State::End;
            return Ok(match text {
                Some(text) => read(&text).or_else(|error| self.error(error)),
                None => self.error(format!(
                    "one JSON object over several lines may have {MAX_EVENT_BYTES} bytes at most, and this \
                     one has more; of JSON Lines each line is an object"
                )),
            });
        }
        let line = held.pop_front();
        self.state = State::Lines(held);
        Ok(line.map_or_else(|| self.error("it is empty"), |line| self.event(line)))
    }

    fn further(&mut self) -> io::Result<Option<Given>> {
        loop {
            let held = match &mut self.state {
                State::Lines(held) => held.pop_front(),
                State::Start | State::End => return Ok(None),
            };
            let line = match held {
                Some(line) => Some(line),
                None => self.line()?,
            };
            match line {
                None => return Ok(None),
                Some(line) if line.is_blank() => {}
                Some(line) => return Ok(Some(self.event(line))),
            }
        }
    }
}

/// A file or standard input, and its name.
fn reader(path: &Path) -> Result<(Box<dyn BufRead + Send>, String), Failure> {
    if path.as_os_str() == "-" {
        return Ok((Box::new(BufReader::with_capacity(AT_A_TIME, io::stdin())), String::new()));
    }
    let file = open::to_read(path, Links::Followed).map_err(|error| {
        let path = path.display();
        Failure::usage(format!("cannot read {path}: {error}; to read events from a pipe, give --event -"))
    })?;
    Ok((Box::new(BufReader::with_capacity(AT_A_TIME, file)), path.display().to_string()))
}

fn shown(name: &str) -> &str {
    if name.is_empty() { "standard input" } else { name }
}

fn unreadable(name: &str, error: &io::Error) -> Failure {
    Failure::usage(format!("cannot read {}: {error}", shown(name)))
}

fn joined(lines: &VecDeque<Line>) -> Vec<u8> {
    let texts = lines.iter().map(|line| match &line.text {
        Text::Whole(text) => text.as_slice(),
        Text::TooLong(_) => b"",
    });
    texts.collect::<Vec<_>>().join(&b'\n')
}

fn read(text: &[u8]) -> Given {
    let text =
        std::str::from_utf8(text).map_err(|_| "it is not UTF-8 text: it should hold JSON".to_owned())?;
    let event = Event::from_json(text);
    if let Err(EventError::Malformed(_)) = &event
        && let Ok((mended, notes)) = decode::json(text.as_bytes())
        && !notes.is_empty()
    {
        log::warn!("an event is no JSON as it stands: {}", notes.join("; "));
        return Event::from_json(&mended.to_string()).map_err(|error| error.to_string());
    }
    event.map_err(|error| error.to_string())
}

impl Iterator for Lines {
    type Item = Given;

    fn next(&mut self) -> Option<Given> {
        let next = match self.state {
            State::Start => self.first().map(Some),
            _ => self.further(),
        };
        match next {
            Ok(next) => next,
            Err(error) => {
                self.state = State::End;
                Some(self.error(format_args!("it cannot be read any further: {error}")))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn event(key: &str) -> serde_json::Value {
        json!({"event": {"type": "spec-kit.webhook.test", "idempotency_key": key}, "spec": {"id": "S"}})
    }

    fn given(text: impl Into<Vec<u8>>) -> Vec<Result<String, String>> {
        let lines = Lines::new(Cursor::new(text.into()), "file".to_owned());
        lines.map(|given| given.map(|event| event.event.idempotency_key.to_string())).collect()
    }

    #[test]
    fn one_over_several_lines_and_one_a_line() {
        let (a, b) = (event("a"), event("b"));
        let pretty = serde_json::to_string_pretty(&a).unwrap();
        let ok = |keys: &[&str]| keys.iter().map(|key| Ok((*key).to_owned())).collect::<Vec<_>>();
        for (text, keys) in [
            (format!("{a}"), ok(&["a"])),
            (format!("\n\n{a}\n\n"), ok(&["a"])),
            (format!("\n{pretty}\n"), ok(&["a"])),
            (pretty.replace('\n', "\r\n"), ok(&["a"])),
            (format!("{a}\n\n{b}\r\n{a}"), ok(&["a", "b", "a"])),
            (format!("\u{feff}{a}\n{b}"), ok(&["a", "b"])),
            (format!("\u{feff}{pretty}\n"), ok(&["a"])),
            (format!("{}\n{b}", a.to_string().replace("\"S\"", "\"S\",\"x\":NaN")), ok(&["a", "b"])),
        ] {
            assert_eq!(given(text.clone()), keys, "{text}");
        }
    }

    #[test]
    fn what_is_no_event_is_told_with_its_line_and_costs_no_other() {
        let (a, b) = (event("a"), event("b"));
        let long = "x".repeat(MAX_HELD + 10);
        for (text, why, good) in [
            (String::new(), "file: it is empty", 0),
            ("\n \n".to_owned(), "file: it is empty", 0),
            ("{\"event\":\n".to_owned(), "file line 1: not an event: EOF", 0),
            ("[\n1\n]".to_owned(), "file: not an event: invalid type", 0),
            (format!("{{broken\n{a}\n{b}\n"), "file line 1: not an event", 2),
            (format!("{{\"event\":\n{a}\n{b}\n"), "file line 1: not an event", 2),
            (format!("{a}\n{{broken\n{b}\n"), "file line 2: not an event", 2),
            (format!("[\n{a}\n{b}\n"), "file line 1: not an event", 2),
            (format!("{a}\n{{\"x\":\"{long}\"}}\n{b}"), "file line 2: the event has 1048594 bytes", 2),
            (format!("{{\n\"x\": \"{long}\"\n}}"), "file: one JSON object over several lines may", 0),
        ] {
            let given = given(text);
            let errors: Vec<&String> = given.iter().filter_map(|one| one.as_ref().err()).collect();
            assert!(errors.len() == 1 && errors[0].starts_with(why), "{why}: {errors:?}");
            assert_eq!(given.len() - 1, good, "{why}");
        }
        let given = given([b"{\"a\": \"\xff\"}\n".to_vec(), a.to_string().into_bytes()].concat());
        assert!(given[0].as_ref().unwrap_err().contains("file line 1: it is not UTF-8"), "{given:?}");
        assert_eq!(given[1], Ok("a".to_owned()));
    }

    proptest! {
        #[test]
        fn whatever_comes_it_is_read_to_its_end(text in "[{}\\[\\]\":,a1\n ]{0,200}") {
            let good = event("good").to_string();
            for line in given(format!("{good}\n{text}\n{good}\n")).iter().take(1) {
                prop_assert_eq!(line.as_deref(), Ok("good"));
            }
            let _ = given(text);
        }
    }
}
