//! What a start finds in the spool: unfinished deliveries, known events, runs.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;

use super::journal::Journal;
use super::recovery::Unfinished;
use super::{Spool, peek};
use crate::delivery::{KnownEvent, SubscriptionId, Told};
use crate::event::{IdempotencyKey, SpecId};
use crate::files::{self, FileError, spec_dirs};
use crate::run::Run;
use crate::transient;

/// What a start finds in the spool: unfinished deliveries and known events.
#[derive(Debug, Default)]
pub(crate) struct Recovered {
    /// The unfinished deliveries of each subscription, in the order they were accepted.
    pub unfinished: BTreeMap<SubscriptionId, Vec<Unfinished>>,
    /// Every event that is still known, each once, oldest first.
    pub known: Vec<KnownEvent>,
    /// The run so far of each SPEC that has one.
    pub runs: HashMap<SpecId, Run>,
    /// The greatest `event.sequence` of each SPEC.
    pub sequences: HashMap<SpecId, u64>,
    /// The steps told lately, in the order of each SPEC.
    pub told: Vec<(SpecId, IdempotencyKey, Told)>,
}

impl Spool {
    pub(super) fn recover(&mut self, specs: Vec<SpecId>) -> Recovered {
        let mut recovered = Recovered::default();
        for spec in specs {
            let (journal, mut found) = match Journal::open(&self.spec_dir(&spec), &spec, self.max_open) {
                Ok(opened) => opened,
                Err(error) => {
                    self.aside.insert(spec, error);
                    continue;
                }
            };
            for name in found.inbox.iter().filter_map(|name| name.parse().ok()) {
                self.inbox.remove(&name);
            }
            match recovered.known.is_empty() {
                // There may be many, and most repos have one active SPEC: swap instead of copying.
                true => std::mem::swap(&mut recovered.known, &mut found.known),
                false => recovered.known.append(&mut found.known),
            }
            recovered.told.extend(found.take_told().map(|(key, told)| (spec.clone(), key, told)));
            let mut counts: HashMap<SubscriptionId, usize> = HashMap::new();
            for (unfinished, _) in found.live() {
                *counts.entry(unfinished.delivery.common().subscription.clone()).or_default() += 1;
            }
            for (id, count) in counts {
                let of_it = recovered.unfinished.entry(id).or_insert_with(|| transient::list(count));
                of_it.reserve_exact(count);
            }
            for (unfinished, _) in found.unfinished() {
                let id = unfinished.delivery.common().subscription.clone();
                recovered.unfinished.entry(id).or_default().push(unfinished);
            }
            recovered.sequences.insert(spec.clone(), journal.sequence());
            if !journal.run().is_empty() {
                recovered.runs.insert(spec.clone(), journal.run().clone());
            }
            self.keep_journal(spec, journal);
        }
        let since = self.known_since().as_millisecond();
        recovered.known.retain(|event| event.at_ms >= since);
        recovered.known = KnownEvent::newest(recovered.known);
        for unfinished in recovered.unfinished.values_mut() {
            // A stable sort: what one SPEC accepted within a millisecond keeps its order.
            let at = |unfinished: &Unfinished| unfinished.delivery.accepted_at();
            // Sorting takes memory, and of one SPEC they are in order.
            if !unfinished.is_sorted_by_key(at) {
                unfinished.sort_by_key(at);
            }
        }
        recovered
    }
}

/// The SPECs that have a journal, in order, and those whose folder cannot be used. Plain files are
/// skipped: they belong to others.
pub(super) fn with_journal(
    spool_dir: &Path,
) -> Result<(Vec<SpecId>, BTreeMap<SpecId, FileError>), FileError> {
    let mut all = spec_dirs(spool_dir).map_err(FileError::on("list", spool_dir))?;
    all.sort();
    let (mut specs, mut aside) = (Vec::new(), BTreeMap::new());
    for spec in all {
        let dir = spool_dir.join(spec.as_str());
        if fs::symlink_metadata(&dir).is_ok_and(|found| found.is_file()) {
            continue;
        }
        match files::create_dir_durably(&dir).and_then(|()| peek::exists_in(&dir)) {
            Ok(true) => specs.push(spec),
            Ok(false) => {}
            Err(error) => drop(aside.insert(spec, error)),
        }
    }
    Ok((specs, aside))
}
