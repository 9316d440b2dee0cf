//! Faults that tests inject between two file operations: a crash, a full disk, a small one.

use std::cell::Cell;
use std::io;

#[derive(Clone, Copy)]
enum Armed {
    No,
    /// The process stops after this many operations.
    Crash(usize),
    /// After this many operations, this many fail.
    Full(usize, usize),
}

thread_local! {
    static ARMED: Cell<Armed> = const { Cell::new(Armed::No) };
    /// Free bytes on a small simulated disk.
    static FREE: Cell<Option<u64>> = const { Cell::new(None) };
}

/// Runs `work` on a disk of `bytes` bytes.
pub(crate) fn on_a_disk_of(bytes: u64, work: impl FnOnce()) {
    FREE.set(Some(bytes));
    work();
    FREE.set(None);
}

pub(super) fn free_bytes() -> Option<u64> {
    FREE.get()
}

pub(super) fn take_room(bytes: u64) -> io::Result<()> {
    let left = FREE.get().map(|free| free.checked_sub(bytes).ok_or(io::ErrorKind::StorageFull));
    FREE.set(left.transpose()?);
    Ok(())
}

pub(super) fn give_room(bytes: u64) {
    FREE.set(FREE.get().map(|free| free + bytes));
}

/// The payload of the panic that simulates a crash.
pub(crate) struct Crashed;

/// Runs `work`, stopping it after `operations`. Returns whether it got to its end.
pub(crate) fn crash_after(operations: usize, work: impl FnOnce()) -> bool {
    ARMED.set(Armed::Crash(operations));
    let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
    ARMED.set(Armed::No);
    match ended {
        Ok(()) => true,
        Err(reason) if reason.is::<Crashed>() => false,
        Err(reason) => std::panic::resume_unwind(reason),
    }
}

/// Runs `work` on a disk where `failures` operations fail after `operations`. Returns whether
/// any failed.
pub(crate) fn full_after(operations: usize, failures: usize, work: impl FnOnce()) -> bool {
    ARMED.set(Armed::Full(operations, failures));
    work();
    let left = ARMED.replace(Armed::No);
    matches!(left, Armed::Full(0, left) if left < failures)
}

pub(super) fn step() -> io::Result<()> {
    match ARMED.get() {
        Armed::No => Ok(()),
        Armed::Crash(0) => std::panic::resume_unwind(Box::new(Crashed)),
        Armed::Crash(left) => {
            ARMED.set(Armed::Crash(left - 1));
            Ok(())
        }
        Armed::Full(0, 0) => Ok(()),
        Armed::Full(0, failures) => {
            ARMED.set(Armed::Full(0, failures - 1));
            Err(io::ErrorKind::StorageFull.into())
        }
        Armed::Full(left, failures) => {
            ARMED.set(Armed::Full(left - 1, failures));
            Ok(())
        }
    }
}
