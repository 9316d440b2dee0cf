//! The kit for tests of a host: an endpoint on loopback, a repo in a temporary folder, and runs
//! that never happened. With the feature `testing`.
//!
//! Everything blocks and needs no executor: it works in a plain `#[test]`, and as well in the test
//! of an async runtime, because endpoint and runtime have threads of their own. What cannot be set
//! up, and what does not come to pass within the patience, panics and says what was there instead.
//!
//! ```
//! use std::time::Duration;
//!
//! use spec_notify::testing::{Answer, Endpoint, Run, Sandbox};
//!
//! let endpoint = Endpoint::answering([Answer::status(503), Answer::status(200)]);
//! let fast = "initial_backoff_ms = 1";
//! let sandbox = Sandbox::new().subscribe_with("chatops", &endpoint.url(), fast);
//! let runtime = sandbox.runtime();
//!
//! let run = Run::of("SPEC-KIT-065");
//! run.emit(&runtime.handle()); // Here your host does its work.
//!
//! let requests = run.assert_told_to(&endpoint);
//! requests.iter().for_each(|request| request.verify(sandbox.secret()).unwrap());
//! assert_eq!(runtime.drain_blocking(Duration::from_secs(5)).pending, 0);
//! ```

pub(crate) mod certificate;
mod endpoint;
mod process;
mod run;
mod sandbox;
mod tls;

use std::fmt::Display;
use std::thread;
use std::time::{Duration, Instant};

pub use crate::receiver::{Answer, Request, Unverified};
pub use endpoint::Endpoint;
pub use process::Serve;
pub use run::Run;
pub use sandbox::Sandbox;
pub use tls::{Tls, TlsVersion};

/// How long a condition is waited for where nothing else is said. Far above what any needs: a test
/// that gets here has failed.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Between two looks at a condition of which nobody tells.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Waits until `condition` gives something, and returns it.
///
/// # Panics
/// It does not within [`PATIENCE`].
///
/// ```
/// use spec_notify::testing::wait_for;
///
/// let found = wait_for("a number above 2", || (1..).find(|number| *number > 2));
/// assert_eq!(found, 3);
/// ```
#[track_caller]
pub fn wait_for<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        thread::park_timeout(LOOK_AGAIN);
    }
}

/// What a test needs to be set up: without it the test has failed.
#[track_caller]
#[allow(clippy::panic, reason = "a test that cannot be set up has failed")]
fn needed<T, E: Display>(what: &str, result: Result<T, E>) -> T {
    match result {
        Ok(it) => it,
        Err(error) => panic!("{what}: {error}"),
    }
}

/// `docs/how-to/test-a-host.md`, whose examples are tests.
#[cfg(doctest)]
#[doc = include_str!("../../docs/how-to/test-a-host.md")]
struct Page;
