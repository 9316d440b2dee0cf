//! How large an event may be and how deeply nested: one set of limits on every way in, checked
//! before the yes.

use std::cell::Cell;
use std::io;

use memchr::memchr2_iter;
use serde::Serialize;
use serde_json::Serializer;
use serde_json::ser::Formatter;

use super::bound::Bound;
use super::{Event, EventError};

/// Largest event, in bytes of JSON, that is accepted. Keeps an event well within one line (1 MiB)
/// of the control port.
pub const MAX_EVENT_BYTES: usize = 512 * 1024;

/// Deepest nesting of an event: its outermost object is the first level. Every reader of ours
/// stops at 128, and puts an event into a few levels of its own.
pub const MAX_EVENT_DEPTH: usize = 100;

/// Longest name of a repo, a commit or a branch that is added to an event.
pub(super) const MAX_NAME: usize = 1024;

/// What is added at most: the branch twice, repo and commit, each byte of which may be written as
/// six; the machine's name, time and sequence. An event that was within the limits when it was
/// given is within them, and this, when it is read back.
const ROOM: usize = 4 * 6 * MAX_NAME + 2048;

/// A text of at most this length stays within the limit however its numbers and defaults are
/// written again.
const SURELY_FITS: usize = MAX_EVENT_BYTES / 8;

impl Event {
    /// Checks the event against the limits that hold on every way in, and against the types of the
    /// published fields.
    ///
    /// # Errors
    /// [`EventError`] says which part is wrong.
    pub fn check_limits(&self) -> Result<(), EventError> {
        self.check_shape()?;
        let Bound { bytes, levels } = Bound::of(self);
        if within(bytes, levels, MAX_EVENT_BYTES).is_ok() {
            return Ok(());
        }
        let (bytes, levels) = measure(self).map_err(|error| EventError::Malformed(error.to_string()))?;
        within(bytes, levels, MAX_EVENT_BYTES)
    }

    /// Reads what is kept of an event that was given within the limits; where it comes from was
    /// added meanwhile.
    pub(crate) fn from_kept(text: &str) -> Result<Self, EventError> {
        check_text(text, MAX_EVENT_BYTES + ROOM)?;
        Self::parse(text)
    }
}

/// Checks a text that should be an event, before anything is made of it.
pub(super) fn check_text(text: &str, most: usize) -> Result<(), EventError> {
    within(text.len(), 0, most)?;
    within(text.len(), depth(text.as_bytes()), most)
}

fn within(bytes: usize, levels: usize, most: usize) -> Result<(), EventError> {
    if bytes > most {
        return Err(EventError::TooLarge(bytes));
    }
    if levels > MAX_EVENT_DEPTH {
        return Err(EventError::TooDeep(levels));
    }
    Ok(())
}

/// Whether an event that was made of a text of this length has to be measured.
pub(super) fn may_have_grown(length: usize) -> bool {
    length > SURELY_FITS
}

/// How deeply a text of JSON is nested; of one with few brackets, how many there are at most.
pub(crate) fn depth(text: &[u8]) -> usize {
    let few = MAX_EVENT_DEPTH / 2;
    let brackets = memchr2_iter(b'{', b'[', text).take(few + 1).count();
    if brackets <= few {
        return brackets;
    }
    let (mut levels, mut deepest, mut in_text, mut is_escaped) = (0_usize, 0, false, false);
    for byte in text {
        match (in_text, byte) {
            (true, _) if is_escaped => is_escaped = false,
            (true, b'\\') => is_escaped = true,
            (_, b'"') => in_text = !in_text,
            (false, b'{' | b'[') => {
                levels += 1;
                deepest = deepest.max(levels);
            }
            (false, b'}' | b']') => levels = levels.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// The bytes and the levels of a value's JSON, in one pass that keeps none of it.
fn measure(value: &impl Serialize) -> serde_json::Result<(usize, usize)> {
    let (mut bytes, levels) = (Bytes(0), Levels::default());
    value.serialize(&mut Serializer::with_formatter(&mut bytes, &levels))?;
    Ok((bytes.0, levels.deepest.get()))
}

/// Counts what is written.
struct Bytes(usize);

impl io::Write for Bytes {
    fn write(&mut self, json: &[u8]) -> io::Result<usize> {
        self.0 += json.len();
        Ok(json.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Counts how deeply what is written is nested.
#[derive(Default)]
struct Levels {
    now: Cell<usize>,
    deepest: Cell<usize>,
}

impl Levels {
    fn begin(&self) {
        self.now.set(self.now.get() + 1);
        self.deepest.set(self.deepest.get().max(self.now.get()));
    }

    fn end(&self) {
        self.now.set(self.now.get().saturating_sub(1));
    }
}

impl Formatter for &Levels {
    fn begin_array<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.begin();
        writer.write_all(b"[")
    }

    fn end_array<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.end();
        writer.write_all(b"]")
    }

    fn begin_object<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.begin();
        writer.write_all(b"{")
    }

    fn end_object<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.end();
        writer.write_all(b"}")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, Value, json};

    use super::*;
    use crate::event::{Carried, Consensus, EventKind, EvidencePaths, KeyOrigin, Pipeline, Source, Task};

    fn nested(levels: usize) -> Value {
        (1..levels).fold(json!(1), |inner, _| json!({ "a": inner }))
    }

    fn event() -> Event {
        Event::new(EventKind::Test, "SPEC-1".parse().unwrap(), "k".parse().unwrap())
    }

    #[test]
    fn depth_counts_levels_and_not_what_stands_in_texts() {
        let many = "[],".repeat(MAX_EVENT_DEPTH);
        for (text, levels) in [
            ("1", 0),
            ("{}", 1),
            ("[[],[[]]]", 3),
            (r#"{"a":"[[[{{{"}"#, 1),
            (r#"{"a\"[":"\\","b":[]}"#, 2),
            (r#"["\\\"[[",{}]"#, 2),
        ] {
            assert_eq!(depth(format!("[{many}{text}]").as_bytes()), (levels + 1).max(2), "{text}");
            assert!(depth(text.as_bytes()) >= levels, "few brackets are not looked at");
        }
    }

    #[test]
    fn the_limits_hold_for_what_is_built_and_for_what_is_read() {
        for levels in [MAX_EVENT_DEPTH, MAX_EVENT_DEPTH + 1, 127, 200] {
            let mut event = event();
            event.extra.insert("x".to_owned(), nested(levels));
            let expected = match levels {
                MAX_EVENT_DEPTH => Ok(()),
                _ => Err(EventError::TooDeep(levels)),
            };
            assert_eq!(event.check_limits(), expected, "{levels}");
            let text = serde_json::to_string(&event).unwrap();
            assert_eq!(Event::from_json(&text).map(drop), expected, "{levels}");
            assert_eq!(Event::from_kept(&text).map(drop), expected, "{levels}");
        }
    }

    #[test]
    fn numbers_that_are_written_longer_than_they_were_given_count_as_they_are_written() {
        let numbers = vec!["1e15"; MAX_EVENT_BYTES / 6].join(",");
        let text =
            format!(r#"{{"event":{{"type":"spec-kit.webhook.test"}},"spec":{{"id":"A"}},"x":[{numbers}]}}"#);
        assert!(text.len() <= MAX_EVENT_BYTES);
        assert!(matches!(Event::from_json(&text), Err(EventError::TooLarge(bytes)) if bytes > text.len()));
    }

    #[test]
    fn what_is_added_later_takes_no_event_over_the_limit() {
        let mut event = event();
        let rest = MAX_EVENT_BYTES - serde_json::to_vec(&event).unwrap().len() - r#","x":"""#.len();
        event.extra.insert("x".to_owned(), "x".repeat(rest).into());
        assert_eq!(event.check_limits(), Ok(()));
        let long = |text: &str, length| Some(text.repeat(length));
        let of = |text: &str, length| Source {
            repo: long(text, length),
            commit: long(text, length),
            branch: long(text, length),
            ..Source::default()
        };
        let mut longer = event.clone();
        longer.come_from(of("\u{1}", MAX_NAME));
        let text = serde_json::to_string(&longer).unwrap();
        assert!(text.len() > MAX_EVENT_BYTES + 4 * 6 * MAX_NAME);
        assert_eq!(Event::from_kept(&text), Ok(longer.clone()));
        longer.accepted(jiff::Timestamp::MAX, u64::MAX);
        let text = serde_json::to_string(&longer).unwrap();
        assert!(Event::from_kept(&text).is_ok(), "handed over by an owner that took it");
        event.come_from(of("x", MAX_NAME + 1));
        assert_eq!((event.spec.branch, event.source), (None, Some(Source::default())));
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<String>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            Just(Value::Null)
        ];
        leaf.prop_recursive(6, 64, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::hash_map(any::<String>(), inner, 0..6)
                    .prop_map(|map| map.into_iter().collect::<serde_json::Map<_, _>>().into())
            ]
        })
    }

    fn levels(value: &Value) -> usize {
        match value {
            Value::Array(items) => 1 + items.iter().map(levels).max().unwrap_or(0),
            Value::Object(fields) => 1 + fields.values().map(levels).max().unwrap_or(0),
            _ => 0,
        }
    }

    proptest! {
        #[test]
        fn what_is_measured_is_what_is_written(value in any_json()) {
            let text = serde_json::to_vec(&value).unwrap();
            prop_assert_eq!(measure(&value).unwrap(), (text.len(), levels(&value)));
            let deep = depth(&text);
            prop_assert!(deep == levels(&value) || (deep >= levels(&value) && deep <= MAX_EVENT_DEPTH / 2));
        }

        #[test]
        fn no_event_is_more_than_its_bound(
            json in prop::collection::vec(any_json(), 8),
            text in ".{0,40}",
            numbers in prop::option::of("[1-9][0-9]{20,200}"),
        ) {
            let mut event = event();
            let fields = |at: usize| {
                let twice = [text.clone(), text.repeat(2)].map(|name| (name, json[at].clone()));
                Map::from_iter(twice)
            };
            let (texts, one) = (vec![text.clone(); 3], Some(text.clone()));
            event.extra = fields(0);
            event.event.extra = fields(1);
            event.event.reasons = texts.clone();
            event.event.amends = Some("k".repeat(200).parse().unwrap());
            event.event.key_origin = KeyOrigin::Source(jiff::Timestamp::MIN);
            event.spec.extra = fields(2);
            event.source = Some(Source {
                repo: one.clone(),
                commit: one.clone(),
                branch: one.clone(),
                host: one.clone(),
                extra: fields(3),
            });
            event.pipeline = Some(Pipeline {
                attempt: Some(u32::MAX),
                max_attempts: Some(u32::MAX),
                started_at: one.clone(),
                completed_at: one.clone(),
                extra: fields(4),
            });
            event.telemetry = Some(match numbers {
                Some(numbers) => Carried::new(fields(5), &format!(r#"{{"n":{numbers}}}"#)),
                None => fields(5).into(),
            });
            let agents = vec![fields(6); 2];
            event.consensus = Some(Consensus { status: one.clone(), agents, extra: fields(6) });
            event.task = Some(Task {
                id: text.clone(),
                title: one.clone(),
                status: one.clone(),
                markers: texts.clone(),
                extra: fields(7),
            });
            event.evidence = Some(EvidencePaths { paths: texts.clone(), extra: fields(7) });
            event.accepted(jiff::Timestamp::MAX, u64::MAX);
            let (bytes, levels) = measure(&event).unwrap();
            let bound = Bound::of(&event);
            prop_assert!(bytes <= bound.bytes && levels <= bound.levels, "{bytes} {levels} {bound:?}");
        }
    }
}
