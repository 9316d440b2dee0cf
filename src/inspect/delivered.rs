//! How many deliveries arrived since a time, by the evidence.

use std::path::Path;

use jiff::Timestamp;

use crate::archive::{End, evidence_files, is_record, lines_of};
use crate::delivery::FinalState;

/// How many deliveries arrived since then, by the evidence.
pub(crate) fn delivered_since(evidence_dir: &Path, since: Timestamp) -> usize {
    let files = evidence_files(evidence_dir, None).unwrap_or_default();
    let arrived = |path: &Path| {
        let finals = lines_of(path).filter(|line| is_record(line, "final"));
        let ends = finals.filter_map(|line| serde_json::from_slice::<End>(&line).ok());
        ends.take_while(|end| end.time >= since).filter(|end| end.state == FinalState::Delivered).count()
    };
    files.iter().map(|(_, path)| arrived(path)).sum()
}
