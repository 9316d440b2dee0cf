//! Signs of life of a run, beside what is told: the newest file that it left. Blocks.

use std::fs;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::place::{RepoPaths, entries, folders};
use super::{GUARDRAILS, consensus, costs};
use crate::event::SpecId;

/// Files and folders of a SPEC's own folder that are looked at.
const MOST: usize = 5_000;

/// When a SPEC's run last left a file: telemetry, an agent's output, consensus, costs, or one in
/// the SPEC's own folder or below it. What is ours is no sign.
pub(crate) fn last(spec: &SpecId, repo: &RepoPaths<'_>) -> Option<Timestamp> {
    let guardrails = GUARDRAILS.iter().flat_map(|guardrail| (guardrail.places)(repo));
    let places = guardrails.chain(consensus::places(repo));
    let mut folders: Vec<PathBuf> = places.map(|place| place.folder_of(spec)).collect();
    folders.sort();
    folders.dedup();
    let inside = folders.iter().flat_map(|folder| entries(folder).take(MOST));
    let costs = costs::of(spec, repo).map(|spent| spent.at);
    let own = repo
        .source_roots
        .iter()
        .flat_map(|root| below(&root.join("docs").join(spec.as_str()), repo.evidence_dir));
    inside.chain(own).filter_map(|path| written(&path)).chain(costs).max()
}

/// What is in a folder and below it, but for the evidence tree, which other SPECs share.
fn below(folder: &Path, evidence_dir: &Path) -> Vec<PathBuf> {
    let (mut found, mut left) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = left.pop().filter(|_| found.len() < MOST) {
        left.extend(folders(&folder).into_iter().filter(|inner| inner != evidence_dir));
        found.extend(entries(&folder).take(MOST));
    }
    found
}

fn written(path: &Path) -> Option<Timestamp> {
    let found = fs::symlink_metadata(path).ok().filter(fs::Metadata::is_file)?;
    found.modified().ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_anywhere_in_the_specs_own_folder_is_a_sign_and_none_of_the_evidence_of_others() {
        let dir = tempfile::tempdir().unwrap();
        let evidence_dir = dir.path().join("docs/SPEC-1/evidence");
        let repo = RepoPaths {
            root: dir.path(),
            evidence_dir: &evidence_dir,
            source_roots: &[dir.path().to_owned()],
        };
        let spec = "SPEC-1".parse().unwrap();
        assert_eq!(last(&spec, &repo), None);
        for (path, is_one) in [
            ("docs/SPEC-1/evidence/commands/SPEC-2/spec-plan_s.json", false),
            ("docs/SPEC-1/evidence/commands/SPEC-1/webhooks/a.jsonl", false),
            ("docs/SPEC-1/evidence/commands/SPEC-1/spec-plan_claude_s.json", true),
            ("docs/SPEC-1/a/b/notes.md", true),
        ] {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, "x").unwrap();
            assert_eq!(last(&spec, &repo).is_some(), is_one, "{}", path.display());
            fs::remove_file(&path).unwrap();
        }
    }
}
