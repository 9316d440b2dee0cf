//! What is done with a file that belongs to stages which are told by others: a consensus, a summary
//! of costs.

use std::path::Path;

use super::{GLANCE, Looked, Reader, Untold};
use crate::config::Config;
use crate::event::IdempotencyKey;
use crate::sources::consensus::Reached;
use crate::sources::costs;
use crate::watch::AGAIN;
use crate::watch::file::{relative, stamp};
use crate::watch::late::{Correction, Late};
use crate::watch::memory::{Agreed, Seen};
use crate::watch::settle::Stamp;

impl Reader {
    /// Remembers to which stage what these consensus files say belongs, which is told with them.
    pub(super) fn belongs(&mut self, reached: &Reached, stage: &IdempotencyKey, baseline: bool) {
        let conflict = reached.is_conflict();
        for (file, identity) in &reached.files {
            let agreed = Agreed { key: Some(stage.clone()), conflict, late: false, baseline };
            self.memory.remember_agreed(file, identity, agreed);
        }
    }

    /// Reads a consensus file by itself: where it changes the verdict of a stage that was told,
    /// the stage is told again. What is for a stage that is not told yet is read with it.
    pub(super) fn read_consensus(
        &mut self,
        path: &Path,
        version: Stamp,
        config: &Config,
        is_final: bool,
    ) -> Looked {
        let name = relative(path, config);
        let (late, identity) = Late::of(path, version, config, &self.memory);
        let agreed = match late {
            Late::Unreadable if !is_final => return Looked::Torn,
            Late::Unreadable => {
                log::warn!("{name} cannot be read as a consensus (JSON up to 1 MiB): it counts for no stage");
                None
            }
            Late::Known(_) | Late::Free => None,
            Late::Belongs { key, conflict } => {
                Some(Agreed { key: Some(key), conflict, late: true, baseline: false })
            }
            // The verdict that names the run is exported with it.
            Late::Corrects(correction) if !correction.names_its_run && !is_final => {
                return Looked::Later(GLANCE);
            }
            Late::Corrects(correction) => {
                let Correction { key, event, conflict, .. } = *correction;
                if let Err(later) = self.tell(&name, [event, conflict]) {
                    return later;
                }
                Some(Agreed { key: Some(key), conflict: true, late: true, baseline: false })
            }
        };
        if let Some((identity, agreed)) = identity.zip(agreed) {
            self.memory.remember_agreed(path, &identity, agreed);
        }
        self.memory.remember(&name, Seen { version: Some(version), ..Seen::default() });
        Looked::Done
    }

    /// Reads what a SPEC cost; tells of it where it is above the threshold. The Router knows
    /// whether that was told of this run.
    pub(super) fn read_costs(
        &mut self,
        path: &Path,
        version: Stamp,
        config: &Config,
        is_final: bool,
    ) -> Looked {
        let name = relative(path, config);
        let threshold = config.runs.cost_threshold_usd;
        let Ok(read) = costs::read(path) else { return Looked::Later(AGAIN) };
        match read.spent.zip(costs::spec_of(path)) {
            None if !is_final => return Looked::Torn,
            None => {
                log::warn!("{name} is no summary of costs (JSON with a number `total_spent`): it is not sent")
            }
            // As it was at the very first look, it is of no run that was seen.
            Some(_) if self.memory.is_baseline_cost(&name, read.content) => {}
            Some((spent, spec)) => {
                let reached = threshold.filter(|threshold| spent.total_usd >= *threshold);
                let alert = reached.map(|threshold| costs::alert(&spec, &spent, threshold, Some(&name)));
                if let Err(later) = self.tell(&name, alert) {
                    return later;
                }
            }
        }
        self.costs_read.insert(path.to_owned(), (version, threshold));
        Looked::Done
    }

    /// What a consensus file says and nothing is to be told of belongs to the stage that was told,
    /// or is nobody's.
    pub(super) fn take_consensus_as_it_is(&mut self, path: &Path, config: &Config) -> Untold {
        let Some(version) = stamp(path) else { return Untold::default() };
        let (late, identity) = Late::of(path, version, config, &self.memory);
        let seen = Seen { version: Some(version), baseline: true, ..Seen::default() };
        self.memory.remember(&relative(path, config), seen);
        let (key, conflict, late) = match late {
            Late::Known(_) => return Untold::default(),
            Late::Belongs { key, conflict } => (Some(key), conflict, false),
            Late::Corrects(correction) => (Some(correction.key), true, true),
            Late::Unreadable | Late::Free => (None, false, false),
        };
        if let Some(identity) = identity {
            let agreed = Agreed { key, conflict, late, baseline: true };
            self.memory.remember_agreed(path, &identity, agreed);
        }
        Untold { corrections: usize::from(late), ..Untold::default() }
    }
}
