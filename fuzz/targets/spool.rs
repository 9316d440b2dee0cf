//! Records of the spool, in any bytes.
#![allow(clippy::unwrap_used, missing_docs, reason = "a panic is the finding")]

use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::record::{self, Record};

/// As a file; and each line as the content of a record whose checksum is right: what is read is
/// written as it was.
pub fn records(bytes: &[u8]) {
    let scan = record::scan::<IgnoredAny>(bytes);
    let mut end = 0;
    for (range, _) in &scan.records {
        assert!(range.start >= end && range.end <= bytes.len(), "records overlap");
        end = range.end;
    }
    assert!(scan.damaged.iter().all(|range| range.start < range.end && range.end <= bytes.len()));
    let mut file = Vec::new();
    for json in bytes.split(|byte| *byte == b'\n') {
        file.extend(format!("{:08x} {:08x} ", crc32fast::hash(json), json.len()).bytes());
        file.extend(json);
        file.push(b'\n');
    }
    let read: Vec<Record> =
        record::scan::<Box<RawValue>>(&file).records.into_iter().map(|(_, record)| record).collect();
    let mut written = Vec::new();
    read.iter().for_each(|record| {
        record::encode(record, &mut written);
    });
    let again = record::scan::<Box<RawValue>>(&written);
    assert!(again.damaged.is_empty(), "what was written is damaged");
    assert_eq!(again.records.len(), read.len());
    let mut twice = Vec::new();
    again.records.iter().for_each(|(_, record)| {
        record::encode(record, &mut twice);
    });
    assert_eq!(twice, written, "what was read is written as it was");
}
