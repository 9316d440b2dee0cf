//! What is done with a file that belongs to stages which are told by others: a consensus, a summary
//! of costs.

use std::path::Path;

use super::{GLANCE, Looked, Reader};
use crate::config::Config;
use crate::event::IdempotencyKey;
use crate::sources::costs;
use crate::watch::AGAIN;
use crate::watch::file::{relative, stamp};
use crate::watch::late::{Correction, Late};
use crate::watch::memory::Seen;
use crate::watch::settle::Stamp;

impl Reader {
    /// Remembers that a version of a consensus file belongs to the stage with this key.
    pub(super) fn belongs(
        &mut self,
        file: &Path,
        version: Option<Stamp>,
        stage: &IdempotencyKey,
        baseline: bool,
        config: &Config,
    ) {
        let seen = Seen { key: Some(stage.clone()), version, baseline, ..Seen::default() };
        self.memory.remember(&relative(file, config), seen);
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
        match Late::of(path, version, config, &self.memory) {
            Late::Unreadable if !is_final => return Looked::Torn,
            Late::Unreadable => {
                log::warn!("{name} cannot be read as a consensus (JSON up to 1 MiB): it counts for no stage");
                self.memory.remember(&name, Seen { version: Some(version), ..Seen::default() });
            }
            Late::Free => {
                self.memory.remember(&name, Seen { version: Some(version), ..Seen::default() });
            }
            Late::Belongs(key) => self.belongs(path, Some(version), &key, false, config),
            // The verdict that names the run is exported with it.
            Late::Corrects(correction) if !correction.names_its_run && !is_final => {
                return Looked::Later(GLANCE);
            }
            Late::Corrects(correction) => {
                let Correction { key, event, conflict, .. } = *correction;
                if let Err(later) = self.tell(&name, [event, conflict]) {
                    return later;
                }
                self.belongs(path, Some(version), &key, false, config);
            }
        }
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
        let Ok(read) = costs::read(path) else { return Looked::Later(AGAIN) };
        let Some((spent, spec)) = read.zip(costs::spec_of(path)) else {
            if !is_final {
                return Looked::Torn;
            }
            log::warn!("{name} is no summary of costs (JSON with a number `total_spent`): it is not told of");
            self.memory.remember(&name, Seen { version: Some(version), ..Seen::default() });
            return Looked::Done;
        };
        let threshold = config.runs.cost_threshold_usd.filter(|threshold| spent.total_usd >= *threshold);
        let alert = threshold.map(|threshold| costs::alert(&spec, &spent, threshold, Some(&name)));
        if let Err(later) = self.tell(&name, alert) {
            return later;
        }
        self.memory.remember(&name, Seen { version: Some(version), ..Seen::default() });
        Looked::Done
    }

    /// A consensus file at the first look at such files belongs to the stage that was told, or is
    /// nobody's.
    pub(super) fn take_consensus_as_it_is(&mut self, path: &Path, config: &Config) {
        let Some(version) = stamp(path) else { return };
        let name = relative(path, config);
        if self.memory.file(&name).is_some_and(|seen| seen.version == Some(version)) {
            return;
        }
        let key = match Late::of(path, version, config, &self.memory) {
            Late::Belongs(key) => Some(key),
            Late::Corrects(correction) => Some(correction.key),
            Late::Unreadable | Late::Free => None,
        };
        self.memory.remember(&name, Seen { key, version: Some(version), baseline: true, ..Seen::default() });
    }
}
