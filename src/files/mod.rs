//! The file operations that durability depends on. Every change on disk goes through them, so that
//! tests can stop the program, or make the disk fail, between any two.

#[cfg(test)]
pub(crate) mod fault;
pub(crate) mod git_ignore;
pub(crate) mod new;
pub(crate) mod open;
pub(crate) mod user;
mod zeros;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};
#[cfg(feature = "cli")]
use rustix::process::{Rlimit, setrlimit};
use serde::{Deserialize, Serialize};

use crate::clock;
use crate::event::SpecId;
use open::Links;
pub(crate) use zeros::write_zeros;

/// A failed file operation, with its path.
#[derive(Debug, thiserror::Error)]
#[error("cannot {doing} {}: {source}", path.display())]
pub struct FileError {
    doing: &'static str,
    path: PathBuf,
    pub(crate) source: io::Error,
}

impl FileError {
    pub(crate) fn on<'a>(doing: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> Self + 'a {
        move |source| Self { doing, path: path.to_owned(), source }
    }

    /// Whether the data is gone or damaged, so that a later try does not help.
    pub(crate) fn is_gone(&self) -> bool {
        is_gone(&self.source)
    }

    /// Whether the file does not exist.
    pub fn is_not_found(&self) -> bool {
        self.source.kind() == io::ErrorKind::NotFound
    }
}

/// A copy for another receiver: of its source the kind and the words.
impl Clone for FileError {
    fn clone(&self) -> Self {
        let source = io::Error::new(self.source.kind(), self.source.to_string());
        Self { doing: self.doing, path: self.path.clone(), source }
    }
}

/// The same failure of the same operation on the same file.
impl PartialEq for FileError {
    fn eq(&self, other: &Self) -> bool {
        (self.doing, &self.path, self.source.kind()) == (other.doing, &other.path, other.source.kind())
    }
}

impl Eq for FileError {}

/// Whether an error says that the data is gone or damaged, so that a later try does not help.
pub(crate) fn is_gone(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidData, NotADirectory, NotFound, UnexpectedEof};
    matches!(error.kind(), NotFound | NotADirectory | InvalidData | UnexpectedEof)
}

/// Creates a directory that the user chose, if it does not exist. The user may have reached it
/// through links.
pub(crate) fn ensure_dir(dir: &Path) -> Result<(), FileError> {
    if dir.is_dir() { Ok(()) } else { create_dir_durably(dir) }
}

/// Creates a directory and its missing parents, and syncs each new entry in its parent. The
/// directory itself must not be a symbolic link: this program's data must not be written elsewhere.
pub(crate) fn create_dir_durably(dir: &Path) -> Result<(), FileError> {
    // A process that removes the tree may remove the parents while they are being created.
    let is_there = |made: &Result<(), FileError>| !matches!(made, Err(error) if error.is_not_found());
    let mut tries = (0..TRIES_BESIDE_RM).map(|_| try_to_create_dir(dir));
    tries.find(is_there).unwrap_or_else(|| try_to_create_dir(dir))
}

/// Tries to create a directory that is removed meanwhile.
const TRIES_BESIDE_RM: usize = 10;

fn try_to_create_dir(dir: &Path) -> Result<(), FileError> {
    match fs::symlink_metadata(dir) {
        Ok(found) if found.is_dir() => return Ok(()),
        Ok(found) => {
            let what = if found.is_symlink() { "a symbolic link" } else { "a file" };
            let error = io::Error::other(format!("{what} is in its place; move it away"));
            return Err(FileError::on("use the directory", dir)(error));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(FileError::on("use the directory", dir)(error)),
    }
    let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty());
    if let Some(parent) = parent {
        ensure_dir(parent)?;
    }
    match step().and_then(|()| fs::create_dir(dir)) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => {}
        Err(error) => return Err(FileError::on("create the directory", dir)(error)),
    }
    let parent = parent.unwrap_or(Path::new("."));
    sync_dir(parent).map_err(FileError::on("sync the directory", parent))
}

/// Syncs a directory's entries.
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    step()?;
    File::open(dir)?.sync_all()
}

/// Most bytes of a file that is read as a whole.
const SMALL: u64 = 16 * 1024 * 1024;

/// Opens a file of this program for reading; refuses a symbolic link.
pub(crate) fn open_to_read(path: &Path) -> io::Result<File> {
    open::to_read(path, Links::Refused)
}

/// Reads a small file of this program; refuses a symbolic link.
///
/// # Errors
/// It does not exist, is not a file, or is larger than 16 MiB.
pub(crate) fn read_small(path: &Path) -> io::Result<Vec<u8>> {
    whole(path, SMALL)
}

/// Reads a file of this program; refuses a symbolic link.
///
/// # Errors
/// It does not exist, is not a file, or has more than `most` bytes.
pub(crate) fn whole(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    open::whole(path, Links::Refused, most)
}

/// Opens a file for reading and appending, creating it with mode 0600; refuses a symbolic link.
pub(crate) fn private_file(path: &Path) -> io::Result<File> {
    step()?;
    open::with(path, Links::Refused, OpenOptions::new().read(true).append(true).create(true).mode(0o600))
}

/// Creates a file with mode 0600, for reading and writing anywhere in it.
///
/// # Errors
/// Something is in its place ([`io::ErrorKind::AlreadyExists`]), or it cannot be created.
pub(crate) fn new_file(path: &Path) -> io::Result<File> {
    step()?;
    open::with(path, Links::Refused, OpenOptions::new().read(true).write(true).create_new(true).mode(0o600))
}

/// Opens an existing file for reading and writing anywhere in it; refuses a symbolic link.
pub(crate) fn existing_file(path: &Path) -> io::Result<File> {
    open::with(path, Links::Refused, OpenOptions::new().read(true).write(true))
}

/// The identity of a file, whatever its name, as long as it exists. It includes the time of
/// creation where the file system has it, because an inode's number is soon reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FileId {
    device: u64,
    inode: u64,
    born: Option<SystemTime>,
}

impl FileId {
    /// The identity of an open file.
    pub(crate) fn of(file: &File) -> io::Result<Self> {
        file.metadata().map(|found| Self::from(&found))
    }

    /// The identity of the file or folder at a path.
    pub(crate) fn at(path: &Path) -> io::Result<Self> {
        fs::symlink_metadata(path).map(|found| Self::from(&found))
    }

    /// Whether the file is still the one at this path: not removed, moved or replaced.
    ///
    /// # Errors
    /// The path cannot be looked at.
    pub(crate) fn is_at(self, path: &Path) -> io::Result<bool> {
        self.size_at(path).map(|size| size.is_some())
    }

    /// The size of the file, if it is still the one at this path.
    ///
    /// # Errors
    /// The path cannot be looked at.
    pub(crate) fn size_at(self, path: &Path) -> io::Result<Option<u64>> {
        match fs::symlink_metadata(path) {
            Ok(found) => Ok((Self::from(&found) == self).then_some(found.len())),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

impl From<&fs::Metadata> for FileId {
    fn from(found: &fs::Metadata) -> Self {
        Self { device: found.dev(), inode: found.ino(), born: found.created().ok() }
    }
}

/// Most files that this process may open; `None` for no limit.
pub(crate) fn max_open() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}

/// One `part`-th of the files that this process may open, at least 8.
pub(crate) fn share_of_open_files(part: u64) -> usize {
    let share = max_open().map_or(usize::MAX, |most| usize::try_from(most / part).unwrap_or(usize::MAX));
    share.max(8)
}

/// Raises the soft limit of open files to the hard one. Only for a program of its own, never in a
/// host that embeds this crate.
#[cfg(feature = "cli")]
pub(crate) fn raise_max_open() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return;
    }
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        log::debug!("the limit of open files stays {:?}: {error}", limit.current);
    }
}

/// The entries of a directory whose names are SPEC ids.
pub(crate) fn spec_dirs(dir: &Path) -> io::Result<Vec<SpecId>> {
    let mut specs = Vec::new();
    for entry in fs::read_dir(dir)? {
        specs.extend(entry?.file_name().to_str().and_then(|name| name.parse::<SpecId>().ok()));
    }
    Ok(specs)
}

/// The SPECs that have a folder in `dir`, in order.
///
/// # Errors
/// `dir` cannot be listed.
pub(crate) fn known_specs(dir: &Path) -> io::Result<Vec<SpecId>> {
    let mut specs = spec_dirs(dir)?;
    specs.retain(|spec| dir.join(spec.as_str()).is_dir());
    specs.sort();
    Ok(specs)
}

/// An upper bound of the clock tick of any file system.
const TICK: Duration = Duration::from_secs(2);

/// Whether a folder that was modified at this time shows every later change by another time: a
/// change within the same tick of the clock does not.
pub(crate) fn has_rested(modified: SystemTime) -> bool {
    clock::age(modified).is_some_and(|age| age > TICK)
}

/// Turns the error for a missing folder into an empty list.
pub(crate) fn absent_is_empty<T>(found: io::Result<Vec<T>>) -> io::Result<Vec<T>> {
    match found {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        found => found,
    }
}

/// Free bytes on a directory's disk; 0 if unknown.
pub(crate) fn free_bytes(dir: &Path) -> u64 {
    #[cfg(test)]
    if let Some(free) = fault::free_bytes() {
        return free;
    }
    rustix::fs::statvfs(dir).map_or(0, |found| found.f_bavail.saturating_mul(found.f_frsize))
}

/// Takes room on the disk for a file, without writing it where the file system allows that.
pub(crate) fn allocate(file: &mut File, length: u64) -> io::Result<()> {
    step()?;
    take_room(length)?;
    match rustix::fs::fallocate(&*file, rustix::fs::FallocateFlags::empty(), 0, length) {
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
            io::copy(&mut io::repeat(0).take(length), file)?;
        }
        allocated => allocated?,
    }
    file.sync_all()
}

/// Appends to a file.
pub(crate) fn append(file: &mut File, bytes: &[u8]) -> io::Result<()> {
    if let Err(error) = step() {
        // A disk that fills up takes a part of the bytes.
        file.write_all(&bytes[..bytes.len() / 2])?;
        return Err(error);
    }
    take_room(bytes.len() as u64)?;
    file.write_all(bytes)
}

/// Writes these bytes at `offset`, whatever is there.
pub(crate) fn write_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    if let Err(error) = step() {
        // A disk that fills up takes a part of the bytes.
        file.write_all_at(&bytes[..bytes.len() / 2], offset)?;
        return Err(error);
    }
    let length = if cfg!(test) { file.metadata()?.len() } else { 0 };
    take_room((offset + bytes.len() as u64).saturating_sub(length))?;
    file.write_all_at(bytes, offset)
}

/// Syncs a file's content.
pub(crate) fn sync(file: &File) -> io::Result<()> {
    step()?;
    file.sync_data()
}

/// Cuts a file to `length`.
pub(crate) fn cut(file: &File, length: u64) -> io::Result<()> {
    shorten(file, length)?;
    file.sync_all()
}

/// As [`cut`], unsynced: after a power loss the file may be as long as before.
pub(crate) fn shorten(file: &File, length: u64) -> io::Result<()> {
    step()?;
    give_room(file.metadata()?.len().saturating_sub(length));
    file.set_len(length)
}

/// Bytes of the largest file that this process may write.
pub(crate) fn max_file_bytes() -> u64 {
    getrlimit(Resource::Fsize).current.unwrap_or(u64::MAX)
}

/// Cuts a last line without a newline, which a crash left.
pub(crate) fn cut_torn_line(file: &mut File) -> io::Result<()> {
    const BLOCK: u64 = 64 * 1024;
    let length = file.seek(SeekFrom::End(0))?;
    let mut end = length;
    while end > 0 {
        let start = end.saturating_sub(BLOCK);
        file.seek(SeekFrom::Start(start))?;
        let mut block = Vec::new();
        file.take(end - start).read_to_end(&mut block)?;
        if let Some(newline) = block.iter().rposition(|byte| *byte == b'\n') {
            let kept = start + newline as u64 + 1;
            return if kept < length { cut(file, kept) } else { Ok(()) };
        }
        end = start;
    }
    if length > 0 { cut(file, 0) } else { Ok(()) }
}

/// Removes a file.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    step()?;
    let length = if cfg!(test) { fs::symlink_metadata(path)?.len() } else { 0 };
    fs::remove_file(path)?;
    give_room(length);
    Ok(())
}

/// A new file that replaces another one once it is whole. It is locked before its first byte until
/// its process is done with it or ends: a locked file is in use.
pub(crate) fn temporary(dir: &Path) -> io::Result<tempfile::NamedTempFile> {
    let temporary = tempfile::NamedTempFile::new_in(dir)?;
    if let Err(error) = temporary.as_file().try_lock() {
        log::debug!("{} is not locked while it is written: {error}", temporary.path().display());
    }
    Ok(temporary)
}

/// Renames a file, replacing an existing one.
pub(crate) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    step()?;
    fs::rename(from, to)
}

/// Replaces a file's content: readers see the old or the new content, whole. The file has mode
/// 0600.
///
/// # Errors
/// The directory is not writable or the disk is full; the old content remains.
pub(crate) fn write_atomic(path: &Path, content: &[u8]) -> io::Result<()> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut temporary = temporary(dir)?;
    append(temporary.as_file_mut(), content)?;
    step()?;
    temporary.as_file().sync_all()?;
    step()?;
    temporary.persist(path)?;
    sync_dir(dir)
}

/// Like [`write_atomic`] without a sync: after a power loss the file may have the old content, or
/// none.
pub(crate) fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut temporary = temporary(dir)?;
    append(temporary.as_file_mut(), content)?;
    put_in_place(temporary, path)
}

/// Puts a [`temporary`] file in the place of another, unsynced.
pub(crate) fn put_in_place(temporary: tempfile::NamedTempFile, path: &Path) -> io::Result<()> {
    step()?;
    temporary.persist(path)?;
    Ok(())
}

#[cfg(not(test))]
#[inline]
fn step() -> io::Result<()> {
    Ok(())
}

#[cfg(not(test))]
#[inline]
fn take_room(_: u64) -> io::Result<()> {
    Ok(())
}

#[cfg(not(test))]
#[inline]
fn give_room(_: u64) {}

#[cfg(test)]
use fault::{give_room, step, take_room};
