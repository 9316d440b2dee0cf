//! The machine and its processes as the benches see them: clocks, cores, the kernel's accounts,
//! and medians.

use std::fs;
use std::process::{Child, ExitStatus};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};

/// Longest any condition is waited for: a bench that gets here has failed.
const PATIENCE: Duration = Duration::from_secs(120);

/// How the kernel names the Router's and the Ledger's thread, and that of the Subscriptions.
pub(super) const INTAKE: &str = "actix-rt|system";
pub(super) const SUBSCRIPTIONS: &str = "spec-notify-act";

pub(super) fn median(values: &[f64]) -> f64 {
    quantile(values, 0.5)
}

/// The smallest value that `share` of all do not exceed.
pub(super) fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    sorted[rank.clamp(1, sorted.len()) - 1]
}

/// Ours and its reference in turn, so that what the machine does meanwhile meets both.
pub(super) fn in_turn<A, B>(
    rounds: usize,
    mut ours: impl FnMut() -> A,
    mut reference: impl FnMut() -> B,
) -> (Vec<A>, Vec<B>) {
    (0..rounds).map(|_| (ours(), reference())).unzip()
}

/// As [`in_turn`]; the median of each.
pub(super) fn interleaved(
    rounds: usize,
    ours: impl FnMut() -> f64,
    reference: impl FnMut() -> f64,
) -> (f64, f64) {
    let (left, right) = in_turn(rounds, ours, reference);
    (median(&left), median(&right))
}

/// Seconds since the epoch: one clock for several processes.
pub(super) fn now() -> f64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a clock after 1970").as_secs_f64()
}

pub(super) fn wait_for<T>(what: &str, pause: Duration, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        thread::sleep(pause);
    }
}

/// A core of those that we may use.
#[derive(Clone, Copy)]
pub(super) enum Core {
    First,
    Last,
}

/// Does `work` with this thread on one core. A process or thread that it starts stays there.
pub(super) fn on_core<T>(core: Core, work: impl FnOnce() -> T) -> T {
    let all = sched_getaffinity(None).expect("the cores we may use");
    let mut usable = (0..CpuSet::MAX_CPU).filter(|core| all.is_set(*core));
    let chosen = match core {
        Core::First => usable.next(),
        Core::Last => usable.next_back(),
    };
    let mut one = CpuSet::new();
    one.set(chosen.expect("at least one core"));
    sched_setaffinity(None, &one).expect("a core of ours");
    let done = work();
    sched_setaffinity(None, &all).expect("the cores we had");
    done
}

/// CPU seconds of this process: of all its threads, also of those that have ended.
pub(super) fn own_cpu_seconds() -> f64 {
    seconds_of(ClockId::ProcessCPUTime)
}

/// CPU seconds of the calling thread.
pub(super) fn thread_cpu_seconds() -> f64 {
    seconds_of(ClockId::ThreadCPUTime)
}

fn seconds_of(clock: ClockId) -> f64 {
    let time = clock_gettime(clock);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// CPU seconds of all threads that a process has now.
pub(super) fn cpu_seconds(child: &Child) -> f64 {
    threads_cpu_seconds(child.id(), |_| true)
}

/// CPU seconds of the threads of this process whose names begin so, of those it has now.
pub(super) fn cpu_seconds_of_threads(named: &str) -> f64 {
    threads_cpu_seconds(std::process::id(), |name| name.starts_with(named))
}

fn threads_cpu_seconds(process: u32, counts: impl Fn(&str) -> bool) -> f64 {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).expect("a process that runs");
    let nanoseconds = |task: fs::DirEntry| -> Option<f64> {
        // A thread may end while we look.
        let read = |file| fs::read_to_string(task.path().join(file)).ok();
        if counts(&read("comm")?) { read("schedstat")?.split(' ').next()?.parse().ok() } else { None }
    };
    tasks.filter_map(Result::ok).filter_map(nanoseconds).sum::<f64>() / 1e9
}

/// Resident memory of a process, in MiB.
pub(super) fn memory(child: &Child) -> f64 {
    status_line(child, "VmRSS:")
}

/// The most that it had since its start, in MiB.
pub(super) fn peak_memory(child: &Child) -> f64 {
    status_line(child, "VmHWM:")
}

fn status_line(child: &Child, name: &str) -> f64 {
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).expect("a process that runs");
    let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("its resident memory");
    line.trim().trim_end_matches(" kB").parse::<f64>().expect("a number") / 1024.0
}

pub(super) fn succeeded(status: ExitStatus) {
    assert!(status.success(), "a process of the bench ended with {status}");
}

/// Cores, processor and the file system of temporary files.
pub(super) fn description() -> String {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info.lines().find(|line| line.starts_with("model name"));
    let name = name.and_then(|line| line.split_once(": ")).map_or("unknown processor", |(_, name)| name);
    format!("{cores} cores, {name}, temporary files on {}", file_system())
}

fn file_system() -> String {
    let dir = std::env::temp_dir();
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let mounts = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(1);
        Some((words.next()?.to_owned(), words.next()?.to_owned()))
    });
    let holding = mounts.filter(|(point, _)| dir.starts_with(point)).max_by_key(|(point, _)| point.len());
    holding.map_or("an unknown file system".to_owned(), |(_, kind)| kind)
}
