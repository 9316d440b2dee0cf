//! `spec-notify evidence pull`: brings the evidence of a fleet into this repo.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::path::Path;

use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::fleet::link;
use super::render::{Screen, Tone};
use super::{Exit, Failure, Global, load, take};
use crate::archive::{Archive, evidence_files, lines_of};
use crate::event::SpecId;
use crate::files::{self, FileError, read_small};
use crate::fleet::{Link, Place, PlacedLine};
use crate::inspect::counted;
use crate::spool::{Lock, OpenError};

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  spec-notify evidence pull")]
pub(super) struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Append the evidence in the cluster to the files of this repo
    ///
    /// Each line is copied once, however often you run this.
    #[command(after_help = "\
Examples:
  spec-notify evidence pull
  spec-notify evidence pull --spec SPEC-KIT-065")]
    Pull {
        /// Only the evidence of this SPEC
        #[arg(long)]
        spec: Option<SpecId>,
    },
}

/// How far each SPEC's evidence was pulled.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Pulled {
    v: u32,
    /// The cluster's namespace: of another one nothing was pulled.
    namespace: String,
    specs: BTreeMap<SpecId, Place>,
}

const VERSION: u32 = 1;

impl Pulled {
    fn read(path: &Path, namespace: &str) -> Result<Self, Failure> {
        let none = Self { v: VERSION, namespace: namespace.to_owned(), specs: BTreeMap::new() };
        let bytes = match read_small(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(none),
            read => read.map_err(|error| Failure::failed(FileError::on("read", path)(error)))?,
        };
        let found: Self = serde_json::from_slice(&bytes).map_err(|error| {
            Failure::failed(format!(
                "{}: {error}; remove it: what is pulled again and stands at the end of a file is left out",
                path.display()
            ))
        })?;
        Ok(if found.namespace == namespace { found } else { none })
    }

    fn write(&self, path: &Path) -> Result<(), Failure> {
        let json = serde_json::to_vec(self).map_err(Failure::failed)?;
        files::write_atomic(path, &json).map_err(|error| Failure::failed(FileError::on("write", path)(error)))
    }
}

pub(super) fn run(global: &Global, options: &Options, screen: &mut Screen) -> Result<Exit, Failure> {
    let Command::Pull { spec } = &options.command;
    let config = take(load(global, false)?, screen)?;
    let link = link(&config)?;
    let _alone = Lock::to_pull(&config.spool_dir).map_err(|error| match error {
        OpenError::Locked(_) => {
            Failure::failed("another evidence pull runs in this repo: wait for it to end")
        }
        error => Failure::failed(error),
    })?;
    let store = config.store_options();
    let path = config.spool_dir.join("pulled.json");
    let mut pulled = Pulled::read(&path, &link.config().namespace.to_string())?;
    let mut archive = Archive::new(store.of_archive());
    let specs = match spec {
        Some(spec) => vec![spec.clone()],
        None => link.specs_with_evidence().map_err(Failure::failed)?,
    };
    let (mut lines, mut of) = (0, 0);
    for spec in &specs {
        let brought = pull(&link, spec, &mut archive, &config.evidence_dir, (&mut pulled, &path))?;
        (lines, of) = (lines + brought, of + usize::from(brought > 0));
    }
    if screen.is_json() {
        screen.value(&json!({"lines": lines, "specs": of}));
    } else {
        let (lines, of) = (counted(lines, "line", "lines"), counted(of, "SPEC", "SPECs"));
        screen.line(Tone::Good, format_args!("{lines} of {of} pulled"));
    }
    Ok(Exit::Done)
}

/// Brings what is new of a SPEC; answers with the number of lines.
fn pull(
    link: &Link,
    spec: &SpecId,
    archive: &mut Archive,
    evidence_dir: &Path,
    (pulled, path): (&mut Pulled, &Path),
) -> Result<usize, Failure> {
    let mut lines = 0;
    let mut is_first = true;
    loop {
        let from = pulled.specs.get(spec).copied().unwrap_or_default();
        let page = link.evidence(spec, from).map_err(Failure::failed)?;
        let Some(place) = page.last().map(|line| line.place) else { return Ok(lines) };
        // The last pull may have ended between the lines and the note of how far it came.
        let there = if is_first { last_lines(evidence_dir, spec, 2 * page.len()) } else { HashSet::new() };
        is_first = false;
        for PlacedLine { line, .. } in page.iter().filter(|one| !there.contains(one.line.as_bytes())) {
            archive.add_evidence(spec, format!("{line}\n").as_bytes());
            lines += 1;
        }
        archive.flush();
        archive
            .sync_written(spec)
            .map_err(|error| Failure::failed(format!("the evidence of {spec} cannot be written: {error}")))?;
        pulled.specs.insert(spec.clone(), place);
        pulled.write(path)?;
    }
}

/// The last lines of a SPEC's evidence.
fn last_lines(evidence_dir: &Path, spec: &SpecId, most: usize) -> HashSet<Vec<u8>> {
    let files = evidence_files(evidence_dir, Some(spec)).unwrap_or_default();
    files.iter().flat_map(|(_, path)| lines_of(path)).take(most).collect()
}
