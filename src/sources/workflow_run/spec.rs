//! Which SPEC a folder of GitHub Spec Kit is at: the feature's folder that `.specify/feature.json`
//! names, else the repo's branch where `specs/<branch>/` is there.

use std::io;
use std::path::Path;

use serde_json::Value;

use crate::decode;
use crate::env::Environment;
use crate::event::SpecId;
use crate::files::open::{self, Links};
use crate::sources::repo;

/// Largest `feature.json` that is read.
const MAX_BYTES: u64 = 64 * 1024;

/// The SPEC now, in a folder of a repo or in its root. Reads files.
pub(crate) fn now(folder: &Path, repo: &Path) -> Option<SpecId> {
    in_feature_json(folder).or_else(|| {
        let branch = repo::source(repo, &Environment::fixed([])).branch?;
        let spec = branch.parse().ok()?;
        folder.join("specs").join(branch).is_dir().then_some(spec)
    })
}

fn in_feature_json(folder: &Path) -> Option<SpecId> {
    let file = folder.join(".specify").join("feature.json");
    let bytes = match open::whole(&file, Links::Refused, MAX_BYTES) {
        Ok(bytes) => bytes,
        Err(error) => {
            if error.kind() != io::ErrorKind::NotFound {
                log::warn!("{} does not say which SPEC a run is of: {error}", file.display());
            }
            return None;
        }
    };
    let name = named_in(&decode::text(&bytes));
    if name.is_none() {
        let what = "no feature_directory whose last folder is named as a SPEC can be";
        log::warn!("{} does not say which SPEC a run is of: {what}", file.display());
    }
    name
}

fn named_in(text: &str) -> Option<SpecId> {
    let feature: Value = serde_json::from_str(text).ok()?;
    let directory = feature.get("feature_directory")?.as_str()?;
    let name = directory.split(['/', '\\']).rfind(|part| !part.is_empty())?;
    name.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_feature_s_folder_else_the_branch_that_has_one() {
        let dir = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let now = || now(dir.path(), dir.path()).map(|spec| spec.to_string());
        assert_eq!(now(), None);
        write(".git/HEAD", "ref: refs/heads/003-pay\n");
        assert_eq!(now(), None);
        write("specs/003-pay/spec.md", "");
        assert_eq!(now(), Some("003-pay".to_owned()));
        for (text, spec) in [
            ("{\"feature_directory\":\"specs/002-kanban\"}", Some("002-kanban".to_owned())),
            ("{\"feature_directory\":\"/repo/specs/004-x/\"}", Some("004-x".to_owned())),
            ("{\"feature_directory\":\"specs/a b\"}", Some("003-pay".to_owned())),
            ("{\"feature_directory\":", Some("003-pay".to_owned())),
        ] {
            write(".specify/feature.json", text);
            assert_eq!(now(), spec, "{text}");
        }
    }
}
