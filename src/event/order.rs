//! When an event was accepted and which of its SPEC it is: what a receiver orders by.

use jiff::Timestamp;

use super::Event;
use crate::clock;

/// The least `event.sequence` of an event that is accepted at this time.
pub(crate) fn sequence_at(at: Timestamp) -> u64 {
    u64::try_from(at.as_millisecond()).unwrap_or(0)
}

/// The `event.sequence` of an event that is accepted at this time after the one with `previous`, of
/// the same SPEC; 0 if there is none. It increases also where the clock stands or goes back.
pub(crate) fn sequence_after(previous: u64, at: Timestamp) -> u64 {
    previous.saturating_add(1).max(sequence_at(at))
}

impl Event {
    /// Says when it was accepted, and its place in the order of its SPEC. Whoever emitted it has no
    /// say in that.
    pub(crate) fn accepted(&mut self, at: Timestamp, sequence: u64) {
        self.event.time = Some(clock::rfc3339(at));
        self.event.sequence = Some(sequence);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn it_is_the_time_or_one_more_than_the_last() {
        let at = |text: &str| text.parse().unwrap();
        let now = at("2026-01-02T03:04:05.678Z");
        for (previous, at, expected) in [
            (0, now, 1_767_323_045_678),
            (1_767_323_045_677, now, 1_767_323_045_678),
            (1_767_323_045_678, now, 1_767_323_045_679),
            (1_999_999_999_999, now, 2_000_000_000_000),
            (7, at("1969-12-31T23:59:59Z"), 8),
        ] {
            assert_eq!(sequence_after(previous, at), expected, "{previous} {at}");
        }
    }

    #[test]
    fn what_an_emitter_says_of_it_does_not_count() {
        for given in [r#""yesterday""#, "7", "null", "[1]"] {
            let text = format!(
                r#"{{"event":{{"type":"spec-kit.webhook.test","time":{given},"sequence":{given}}},
                    "spec":{{"id":"SPEC-1"}}}}"#
            );
            let mut event = Event::from_json(&text).unwrap();
            assert_eq!((event.event.time.as_ref(), event.event.sequence), (None, None), "{given}");
            event.accepted("2026-01-02T03:04:05Z".parse().unwrap(), 9);
            let told = serde_json::to_value(&event).unwrap();
            assert_eq!(told["event"]["time"], "2026-01-02T03:04:05.000Z");
            assert_eq!(told["event"]["sequence"], 9);
        }
    }

    proptest! {
        #[test]
        fn it_increases_whatever_the_clock_says(
            times in prop::collection::vec(-1_000_000..4_000_000_000_000_i64, 1..40),
        ) {
            let mut previous = 0;
            for time in times {
                let at = Timestamp::from_millisecond(time).unwrap();
                let sequence = sequence_after(previous, at);
                prop_assert!(sequence > previous && sequence >= sequence_at(at));
                prop_assert!(sequence == previous + 1 || sequence == sequence_at(at));
                previous = sequence;
            }
        }
    }
}
