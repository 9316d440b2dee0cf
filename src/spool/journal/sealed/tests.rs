//! Tests: whatever a start does not read, it knows.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::clock;
use crate::delivery::AttemptSummary;
use crate::event::{EventKind, SpecId, Stage, Status};
use crate::payload::Format;
use crate::run::Step;
use crate::spool::record::{Accepted, AcceptedDelivery, Record};

fn spec() -> SpecId {
    "SPEC-1".parse().unwrap()
}

/// What happens to a spool.
#[derive(Clone, Debug)]
enum Happens {
    Accepted {
        deliveries: usize,
        stage: bool,
    },
    Attempted(prop::sample::Index),
    Finished(prop::sample::Index),
    /// The segment takes no more.
    Sealed,
    Rested,
    Compacted,
    Restarted,
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        4 => (0_usize..4, any::<bool>())
            .prop_map(|(deliveries, stage)| Happens::Accepted { deliveries, stage }),
        3 => any::<prop::sample::Index>().prop_map(Happens::Attempted),
        2 => any::<prop::sample::Index>().prop_map(Happens::Finished),
        2 => Just(Happens::Sealed),
        1 => Just(Happens::Rested),
        1 => Just(Happens::Compacted),
        2 => Just(Happens::Restarted),
    ]
}

struct Spool {
    dir: tempfile::TempDir,
    journal: Journal,
    pending: Vec<(DeliveryId, u32)>,
    accepted: BTreeSet<String>,
}

impl Spool {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (journal, _) = Journal::open(dir.path(), &spec(), 2).unwrap();
        Self { dir, journal, pending: Vec::new(), accepted: BTreeSet::new() }
    }

    fn append(&mut self, record: &Record) {
        self.journal.append(record).unwrap();
        self.journal.write().unwrap();
        self.journal.confirm();
    }

    fn happens(&mut self, what: &Happens) {
        match what {
            Happens::Accepted { deliveries, stage } => {
                let key = format!("SPEC-1:k{}", self.accepted.len());
                self.accepted.insert(key.clone());
                let ids: Vec<DeliveryId> = (0..*deliveries).map(|_| DeliveryId::random()).collect();
                let to = |(n, id): (usize, &DeliveryId)| {
                    AcceptedDelivery::new(*id, format!("s{n}").parse().unwrap())
                };
                let deliveries = ids.iter().enumerate().map(to).collect();
                let now = clock::now();
                let kind = if *stage { EventKind::StageCompleted } else { EventKind::TaskCompleted };
                let mut accepted =
                    Accepted::of_bytes(now, key.parse().unwrap(), kind, deliveries, &"{}".into()).unwrap();
                accepted.stage = stage.then_some(Stage::Plan);
                accepted.run = stage.then_some(Step::Alive(now));
                accepted.sequence = Some(self.accepted.len() as u64);
                self.append(&Record::Accepted(accepted));
                self.pending.extend(ids.into_iter().map(|id| (id, 0)));
            }
            Happens::Attempted(_) | Happens::Finished(_) if self.pending.is_empty() => {}
            Happens::Attempted(which) => {
                let (id, attempts) = which.get(&self.pending).to_owned();
                which.get_mut(&mut self.pending).1 += 1;
                let attempt = AttemptSummary {
                    attempt: attempts + 1,
                    at: clock::now(),
                    status: Some(500),
                    error: None,
                    response: None,
                    latency_ms: 1.0,
                };
                self.append(&Record::Attempted { id, attempt, next_attempt_at: clock::now() });
            }
            Happens::Finished(which) => {
                let (id, _) = self.pending.remove(which.index(self.pending.len()));
                self.append(&Record::finished(id, crate::delivery::FinalState::Delivered, clock::now()));
            }
            Happens::Sealed => self.journal.seal(),
            Happens::Rested if self.journal.is_worth_sealing_aside() => {
                let known = self.journal.seal_aside().unwrap().end().expect("nothing keeps it from that");
                self.journal.has_sealed(known);
            }
            Happens::Rested => {}
            Happens::Compacted => self.journal.compact_oldest(Timestamp::MIN).unwrap(),
            Happens::Restarted => {
                let (journal, found) = Journal::open(self.dir.path(), &spec(), 2).unwrap();
                self.check(&journal, found);
                self.journal = journal;
            }
        }
    }

    /// A copy of the files is read whole: what is known of the sealed ones is of others.
    fn check(&self, journal: &Journal, found: Recovery) {
        let copy = tempfile::tempdir().unwrap();
        for file in fs::read_dir(self.dir.path()).unwrap().map(|file| file.unwrap()) {
            fs::copy(file.path(), copy.path().join(file.file_name())).unwrap();
        }
        let (whole, all) = Journal::open(copy.path(), &spec(), 2).unwrap();
        assert_eq!(state(journal), state(&whole));
        let keys = |known: &[KnownEvent]| -> Vec<[u8; 16]> {
            known.iter().map(|event| postcard::to_allocvec(&event.key).unwrap().try_into().unwrap()).collect()
        };
        let (here, there) = (keys(&found.known), keys(&all.known));
        assert!(there.iter().all(|key| here.contains(key)), "an event is forgotten");
        if let Ok(Some(mut file)) = Reader::open(&path_in(self.dir.path()), BEGINNING) {
            let head: Head = file.next().unwrap();
            let noted: Vec<KnownEvent> = (0..head.known).map(|_| file.next().unwrap()).collect();
            let once: BTreeSet<KnownEvent> = noted.iter().copied().collect();
            assert_eq!(once.len(), noted.len(), "an event is noted twice");
        }
        let of = |found: Recovery| -> BTreeMap<DeliveryId, String> {
            let unfinished = found.unfinished().map(|(unfinished, _)| unfinished);
            unfinished.map(|unfinished| (unfinished.delivery.id(), format!("{unfinished:?}"))).collect()
        };
        let pending: BTreeSet<DeliveryId> = self.pending.iter().map(|(id, _)| *id).collect();
        let (found, all) = (of(found), of(all));
        assert_eq!(found, all);
        assert_eq!(found.into_keys().collect::<BTreeSet<_>>(), pending);
    }
}

/// All that a journal knows, in an order.
fn state(journal: &Journal) -> String {
    let deliveries: BTreeMap<_, _> = journal.deliveries.iter().collect();
    let earlier: BTreeMap<_, _> = journal.earlier_attempts.iter().collect();
    let shared: BTreeMap<_, _> = journal.shared.iter().collect();
    let segments: Vec<_> =
        journal.segments.iter().map(|one| (one.number, one.length, one.known_bytes)).collect();
    let Journal { live_bytes, run, sequence, run_record, next_number, .. } = journal;
    format!(
        "{deliveries:?} {earlier:?} {shared:?} {segments:?} {live_bytes} {run:?} {sequence} {run_record:?} \
         {next_number}"
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_start_that_reads_only_the_last_segment_finds_what_one_finds_that_reads_all(
        story in proptest::collection::vec(happens(), 1..60),
    ) {
        let mut spool = Spool::new();
        spool.happens(&Happens::Accepted { deliveries: 1, stage: false });
        for what in &story {
            spool.happens(what);
        }
        spool.happens(&Happens::Sealed);
        spool.happens(&Happens::Accepted { deliveries: 1, stage: true });
        spool.happens(&Happens::Restarted);
        let (journal, found) = Journal::open(spool.dir.path(), &spec(), 2).unwrap();
        prop_assert!(path_in(spool.dir.path()).exists(), "there is something not to read again");
        spool.check(&journal, found);
    }
}

/// A spool of three segments, of which two are known.
fn known() -> Spool {
    let mut spool = Spool::new();
    for _ in 0..3 {
        spool.happens(&Happens::Sealed);
        spool.happens(&Happens::Accepted { deliveries: 2, stage: true });
    }
    spool.happens(&Happens::Restarted);
    assert!(path_in(spool.dir.path()).exists());
    spool
}

/// The number of the last segment that a start would not read.
fn unread(spool: &Spool) -> u64 {
    let numbers: Vec<u64> = spool.journal.segments.iter().map(|segment| segment.number).collect();
    let (journal, _) = Journal::of_sealed(spool.dir.path(), &spec(), &numbers);
    journal.known_sealed.last
}

#[test]
fn any_flipped_byte_of_it_makes_a_start_read_all() {
    let mut spool = known();
    assert!(unread(&spool) > 0);
    let path = path_in(spool.dir.path());
    let content = fs::read(&path).unwrap();
    for at in 0..content.len() {
        let mut flipped = content.clone();
        flipped[at] ^= 0x11;
        fs::write(&path, &flipped).unwrap();
        assert_eq!(unread(&spool), 0, "byte {at}");
    }
    for cut in 0..content.len() {
        fs::write(&path, &content[..cut]).unwrap();
        assert_eq!(unread(&spool), 0, "cut at {cut}");
    }
    spool.happens(&Happens::Restarted);
    assert!(unread(&spool) > 0, "and it is written anew");
}

#[test]
fn a_segment_that_is_another_or_missing_in_between_or_new_makes_a_start_read_all() {
    type Change = fn(&Path);
    let changes: [(&str, Change); 5] = [
        ("rewritten", |path| fs::write(path, fs::read(path).unwrap()).unwrap()),
        ("replaced", |path| {
            let other = path.with_extension("other");
            fs::copy(path, &other).unwrap();
            fs::File::open(&other).unwrap().set_modified(modified(path)).unwrap();
            fs::rename(other, path).unwrap();
        }),
        ("longer", |path| fs::write(path, [fs::read(path).unwrap(), b"\n".to_vec()].concat()).unwrap()),
        ("removed", |path| fs::remove_file(path).unwrap()),
        ("with one before it", |path| {
            fs::copy(path, path.with_file_name("spool-00000001.jsonl")).map(drop).unwrap();
        }),
    ];
    for (name, change) in changes {
        let mut spool = known();
        if name == "with one before it" {
            spool.happens(&Happens::Compacted);
        }
        let sealed = spool.journal.segments[1].number;
        // The clock of the file system may stand still for a few milliseconds.
        let path = segment_path(spool.dir.path(), sealed);
        let before = modified(&path);
        while fs::write(spool.dir.path().join("clock"), "").is_ok()
            && modified(&spool.dir.path().join("clock")) <= before
        {}
        change(&path);
        let mut numbers = crate::spool::segment::segment_numbers(spool.dir.path()).unwrap();
        numbers.sort_unstable();
        let (journal, found) = Journal::of_sealed(spool.dir.path(), &spec(), &numbers);
        assert_eq!(journal.known_sealed.last, 0, "{name}");
        assert!(journal.pending() == 0 && found.unfinished().next().is_none());
        assert!(!path_in(spool.dir.path()).exists(), "{name}: nothing of it is left");
    }
}

#[test]
fn in_a_folder_that_was_given_another_name_all_is_read_under_it() {
    let spool = known();
    let renamed: SpecId = "SPEC-2".parse().unwrap();
    let numbers: Vec<u64> = spool.journal.segments.iter().map(|segment| segment.number).collect();
    assert!(Journal::of_sealed(spool.dir.path(), &spec(), &numbers).0.known_sealed.last > 0);
    let (_, found) = Journal::open(spool.dir.path(), &renamed, 2).unwrap();
    let specs: Vec<SpecId> = found.unfinished().map(|(one, _)| one.delivery.common().spec.clone()).collect();
    assert_eq!(specs, vec![renamed; spool.pending.len()]);
}

fn modified(path: &Path) -> SystemTime {
    fs::metadata(path).unwrap().modified().unwrap()
}

#[test]
fn it_is_not_written_while_a_later_version_has_records_there() {
    let mut spool = known();
    fs::remove_file(path_in(spool.dir.path())).unwrap();
    let json = r#"{"paused":{"subscription":"s"}}"#;
    let line = format!("{:08x} {:08x} {json}\n", crc32fast::hash(json.as_bytes()), json.len());
    let path = segment_path(spool.dir.path(), 1);
    fs::write(&path, [fs::read(&path).unwrap(), line.into_bytes()].concat()).unwrap();
    let (journal, _) = Journal::open(spool.dir.path(), &spec(), 2).unwrap();
    assert_eq!(journal.later, 1);
    assert!(!path_in(spool.dir.path()).exists());
    spool.journal = journal;
}

/// Another layout is another version: its number is in the first line.
#[test]
fn the_layout_is_that_of_its_version() {
    let place = |n: u64| Place::at(n, 2 * n, 3 * n);
    let id: DeliveryId = "00000000-0000-4000-8000-000000000001".parse().unwrap();
    let entry = Entry {
        id,
        key: "k",
        common: 1,
        accepted_at_ms: 2,
        attempts: 3,
        next_attempt_ms: Some(4),
        event: place(5),
        is_shared: true,
        last_attempt: Some(place(7)),
        earlier_attempts: vec![place(8)],
    };
    let common = Common {
        subscription: "s".parse().unwrap(),
        spec: spec(),
        kind: EventKind::Test,
        stage: Some(Stage::Plan),
        status: Some(Status::Failure),
        format: Format::Slack,
    };
    let dir = tempfile::tempdir().unwrap();
    let head = Head {
        segments: vec![Sealed {
            number: 1,
            length: 2,
            id: FileId::at(dir.path()).unwrap(),
            modified: SystemTime::UNIX_EPOCH,
            known_bytes: 3,
        }],
        sequence: 4,
        run_record: Some(place(5)),
        known: 6,
        inbox: vec!["i".to_owned()],
        common: vec![common],
        memory: "{}".to_owned(),
        deliveries: 7,
    };
    let hex = |bytes: Vec<u8>| hex::encode(bytes);
    assert!(BEGINNING.starts_with("spec-notify sealed 2 "));
    assert_eq!(hex(postcard::to_allocvec(&entry).unwrap()), ENTRY_HEX);
    let id = hex(postcard::to_allocvec(&head.segments[0].id).unwrap());
    assert_eq!(hex(postcard::to_allocvec(&head).unwrap()).replace(&id, "-id-"), HEAD_HEX);
}

/// Of the entry and the head of that test, in hex.
const ENTRY_HEX: &str = "1000000000000040008000000000000001016b0104030108050a0f0101070e1501081018";
const HEAD_HEX: &str = concat!(
    "010102-id-0000030401050a0f0601016901017306535045432d31157370",
    "65632d6b69742e776562686f6f6b2e746573740104506c616e01076661696c75726505736c61636b027b7d07"
);
