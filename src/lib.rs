//! Signed, retried, evidenced webhooks for Spec-Kit pipelines, from inside the repo.
//!
//! A host that has something to tell starts one [`Runtime`] and emits through its [`Handle`]:
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use spec_notify::{Environment, Event, LoadOptions, Runtime};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let environment = Environment::process();
//! let config = LoadOptions::in_dir(std::env::current_dir()?).load(&environment).into_config()?;
//! let runtime = Runtime::start(config, environment)?;
//! let event = Event::from_json(
//!     r#"{"event": {"type": "spec-auto.stage.completed", "stage": "Plan", "status": "success"},
//!         "spec": {"id": "SPEC-KIT-065"}}"#,
//! )?;
//! let receipt = runtime.handle().emit_blocking(event, Duration::from_secs(2))?;
//! println!("{receipt:?}");
//! runtime.drain(Duration::from_secs(5));
//! # Ok(())
//! # }
//! ```
//!
//! The runtime has a thread of its own with three actors: a Router takes events in and fans out to
//! one Subscription for each config entry, and these hand finished attempts to the Ledger, the only
//! writer of files. `docs/ARCHITECTURE.md` has the map. The `spec-notify` program is built on the
//! same library.
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
mod run;
mod runtime;
mod secret;
mod sign;
mod sources;
mod spool;
mod store;
mod watch;

pub use answer::{EmitError, Receipt, RequestError};
pub use ask::{PauseReport, SentOutcome, SentReport, SentRequest};
#[cfg(feature = "cli")]
pub use cli::{Exit, run};
pub use config::{Config, ConfigError, LoadOptions, Loaded, Problem, Report, WatchFrom};
pub use delivery::{
    Cause, DeliveryId, HealthState, IdPrefix, Incident, InvalidIdPrefix, InvalidSubscriptionId, LocalFault,
    Pause, SubscriptionId,
};
pub use env::Environment;
pub use event::{
    Carried, Consensus, Envelope, Event, EventError, EventKind, EvidencePaths, IdempotencyKey, InvalidKey,
    InvalidSpecId, KeyOrigin, MAX_EVENT_BYTES, MAX_EVENT_DEPTH, Pipeline, SCHEMA_VERSION, Source, Spec,
    SpecId, Stage, Status, Task,
};
pub use feed::{Ended, RuntimeState, Snapshot};
pub use figures::{Counters, Figures, Minutes, Window, Windows};
pub use files::FileError;
pub use inspect::{
    Cursor, DeliveryState, Exposition, FleetMember, FleetStatus, Listed, Listing, MAX_LISTED, Metrics, Query,
    RuntimeStatus, Shown, ShownAttempt, ShownError, ShownRequest, ShownResponse, SourcesStatus, StatusReport,
    SubscriptionMetrics, SubscriptionStatus, Trouble, TroubleKind, Wait, WaitKind,
};
pub use names::UnknownName;
pub use run::AwaitedStage;
pub use runtime::{Drained, Ends, Handle, Runtime, StartError, Updates};
pub use spool::OpenError;

/// What the project's own tests and benches use; no part of the interface, and free to change.
#[doc(hidden)]
pub mod testing {
    pub use crate::ask::{
        DiscardOutcome, Discarded, EmitEvent, EmitOutcome, Emitted, EmittedDelivery, EmittedEvent, Request,
    };
    pub use crate::control::{Client, ClientError, RuntimeFile};
    pub use crate::delivery::Delivery;
    pub use crate::payload::Format;
    pub use crate::secret::Secret;
    pub use crate::sign::Secrets;

    /// The two signatures of a request.
    pub mod sign {
        pub use crate::sign::{headers, spec_kit, standard};
    }
}
