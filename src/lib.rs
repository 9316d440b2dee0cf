//! Sends signed webhooks for Spec Kit runs from inside the repo, retries them, and keeps evidence.
//!
//! A host that has something to tell starts one [`Runtime`] and emits through its [`Handle`]. What
//! has been accepted is on disk, and outlives the host; the host never waits for an endpoint.
//!
//! ```
//! use std::time::Duration;
//!
//! use spec_notify::{Config, Environment, Event, Receipt, Runtime, Stage, Status, Subscription};
//!
//! # let dir = tempfile::tempdir()?;
//! # let repo = dir.path();
//! // Secrets are named here, and read from the environment for every request.
//! let environment = Environment::fixed([("HOOK_SECRET", "a secret of some length")]);
//! let config = Config::builder()
//!     .repo(repo)
//!     .subscription(Subscription::new("hook", "HOOK_SECRET").url("http://127.0.0.1:9/"))
//!     .build(&environment)?;
//! let runtime = Runtime::start_blocking(config, environment)?;
//!
//! let spec = "SPEC-KIT-065".parse()?;
//! let event = Event::stage(spec, Stage::Plan, Status::Success).session("run-7").build();
//! match runtime.handle().emit_blocking(event, Duration::from_secs(2))? {
//!     Receipt::Accepted(deliveries) => assert_eq!(deliveries.len(), 1),
//!     other => println!("{other:?}"),
//! }
//!
//! // At the end: what is under way may finish, the rest waits on disk for the next start.
//! runtime.drain_blocking(Duration::from_secs(5));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Where the config comes from
//! - The repo's file, as the program finds it: [`LoadOptions::in_dir`], then
//!   [`load`](LoadOptions::load). A [`Handle::reload`] reads it again.
//! - A text: `str::parse::<Config>`, or [`LoadOptions::parse`] for another folder.
//! - Code: [`Config::builder`].
//!
//! All are checked by the same rules, and everything that is wrong is said at once
//! ([`ConfigError`]).
//!
//! # Two forms of each call
//! `x` is a future for any executor (tokio, actix, another one, or none: it needs neither a reactor
//! nor timers), and `x_blocking` is for plain threads and has a deadline: `start`, `emit`, `drain`,
//! `status`, `list`, `show`, `test`, `replay`, `pause`, `resume`, `reload`, `metrics`, `idle`.
//! Dropping a [`Runtime`] stops it and waits for nothing.
//!
//! # What a host shows
//! [`Handle::watch`] gives [`Updates`]: a [`Snapshot`] with a headline, and each delivery that
//! [`Ended`]. Looking never waits, so a draw loop may look at each frame, and a task may await the
//! next change:
//!
//! ```no_run
//! # async fn shown(handle: spec_notify::Handle) {
//! let mut updates = handle.watch();
//! while updates.changed().await {
//!     for ended in updates.ended().deliveries {
//!         let row = &ended.delivery;
//!         println!("{} {:?} {:?}: {}", row.spec, row.stage, row.status, row.state);
//!     }
//!     if let Some(headline) = updates.snapshot().headline() {
//!         println!("{headline}");
//!     }
//! }
//! # }
//! ```
//!
//! # Off, and errors
//! Webhooks that are off are a state: a runtime starts, [`Handle::is_on`] says no, an event is
//! answered with [`Receipt::Off`], and a status says so. Errors are enums that say what to do:
//! [`ConfigError`] what to correct, [`StartError`] why nothing runs, [`EmitError`] whether to emit
//! again, [`RequestError`] why a request came to nothing.
//!
//! # What stays the host's
//! The runtime has threads of its own, named `spec-notify…`. It installs no signal handler, no
//! logger and no panic hook, changes no limit and no environment variable, prints nothing, and has
//! no global state: several runtimes, of several repos, live in one process. It logs through `log`,
//! below the target `spec_notify`; cap `awc` and `actix_http` at `info`, they print paths and
//! headers below it.
//!
//! Hosts as whole programs are in `examples/`: on threads, on tokio, on actix, with a terminal
//! interface, and one that only emits. `docs/ARCHITECTURE.md` has the map of the library; the
//! `spec-notify` program is built on it.
#![forbid(unsafe_code)]
#![cfg_attr(
    not(feature = "cli"),
    allow(
        dead_code,
        unused_imports,
        reason = "the program shares these modules, and a host links what it uses"
    )
)]

#[path = "../actors/mod.rs"]
mod actors;
mod answer;
mod archive;
mod ask;
#[cfg(feature = "cli")]
mod cli;
mod clock;
mod config;
mod control;
mod decode;
mod delivery;
mod digest;
mod env;
mod event;
mod feed;
mod figures;
mod files;
mod filter;
#[cfg_attr(not(feature = "fleet"), allow(dead_code, reason = "nobody is there to ask"))]
mod fleet;
#[cfg(fuzzing)]
#[doc(hidden)]
#[path = "../fuzz/targets/mod.rs"]
pub mod fuzzing;
mod glob;
mod http;
mod inspect;
mod names;
mod payload;
#[cfg(any(feature = "cli", feature = "testing"))]
mod receiver;
#[cfg(any(feature = "cli", feature = "testing"))]
mod rehearsal;
mod run;
mod runtime;
mod secret;
mod sign;
mod sources;
mod spool;
mod store;
#[cfg(feature = "testing")]
pub mod testing;
mod transient;
mod watch;

pub use answer::{EmitError, Receipt, RequestError};
pub use ask::{PauseReport, SentOutcome, SentReport, SentRequest};
#[cfg(feature = "cli")]
pub use cli::{Exit, run};
pub use config::{
    Config, ConfigBuilder, ConfigError, LoadOptions, Loaded, Problem, Report, Subscription, WatchFrom,
};
pub use delivery::{
    Cause, DeliveryId, HealthState, IdPrefix, Incident, InvalidDeliveryId, InvalidIdPrefix,
    InvalidSubscriptionId, LocalFault, Pause, SubscriptionId,
};
pub use env::Environment;
pub use event::{
    Carried, Consensus, Envelope, Event, EventBuilder, EventError, EventKind, EvidencePaths, IdempotencyKey,
    InvalidKey, InvalidSpecId, KeyOrigin, MAX_EVENT_BYTES, MAX_EVENT_DEPTH, Pipeline, SCHEMA_VERSION, Source,
    Spec, SpecId, Stage, Status, Task,
};
pub use feed::{Ended, RuntimeState, Snapshot};
pub use figures::{Counters, Figures, Minutes, Window, Windows};
pub use files::FileError;
pub use inspect::{
    Cursor, DeliveryState, Exposition, FleetMember, FleetMetrics, FleetStatus, GoneMember, Listed, Listing,
    MAX_LISTED, Metrics, Query, RuntimeStatus, Shown, ShownAttempt, ShownError, ShownRequest, ShownResponse,
    SourcesStatus, StatusReport, SubscriptionMetrics, SubscriptionStatus, Trouble, TroubleKind, Wait,
    WaitKind,
};
/// The type of all times here: an instant in UTC, of the crate `jiff` 1. `SystemTime::from` and
/// `Timestamp::try_from` lead to the standard library's and back.
pub use jiff::Timestamp;
pub use names::UnknownName;
pub use payload::Format;
pub use run::AwaitedStage;
pub use runtime::{Drained, Ends, Handle, Runtime, StartError, Updates};
pub use spool::OpenError;

/// What the project's own tests and benches use; no part of the interface, and free to change.
#[doc(hidden)]
pub mod internals {
    pub use crate::ask::{
        DiscardOutcome, Discarded, EmitEvent, EmitOutcome, Emitted, EmittedDelivery, EmittedEvent, Request,
    };
    pub use crate::control::{Client, ClientError, RuntimeFile};
    pub use crate::delivery::Delivery;
    pub use crate::payload::Format;
    #[cfg(feature = "testing")]
    pub use crate::receiver::{Handler, Receiver};
    pub use crate::secret::Secret;
    pub use crate::sign::Secrets;

    /// Certificates of every kind.
    #[cfg(feature = "testing")]
    pub mod certificate {
        pub use crate::testing::certificate::{Pair, made, self_signed};
    }

    /// The two signatures of a request.
    pub mod sign {
        pub use crate::sign::{headers, spec_kit, standard};
    }
}
