//! What stands for the fleet in a program that was not built for it: nothing that could exist.

#![allow(clippy::unused_async, reason = "as those of the fleet")]

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::convert::Infallible;
use std::io;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use bytes::Bytes;
use jiff::SignedDuration;

use super::lease::{Duty, MemberId, MemberInfo, Seen};
use super::overview::{Given, Overview, Place, PlacedLine, Wanted, WantedLines};
use super::work::{Known, Unrouted, Waiting, Write};
use crate::answer::{EmitError, Receipt};
use crate::archive::{DeadLetter, Part, Pauses};
use crate::config::FleetConfig;
use crate::delivery::{AttemptSummary, DeliveryId, Health, Pause, SubscriptionId};
use crate::env::Environment;
use crate::event::{Event, SpecId};
use crate::spool::{Kept, Unfinished};
use crate::store::StoreOptions;

/// See the module's first line.
#[derive(Clone, Debug)]
pub(crate) struct Link(Infallible);

/// See the module's first line.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct EngineError(Infallible);

/// See the module's first line.
#[derive(Debug, Default)]
pub(crate) struct Board {
    pub(crate) renewed: BTreeMap<Duty, i64>,
    pub(crate) leases: BTreeMap<Duty, Seen>,
    pub(crate) members: BTreeMap<MemberId, MemberInfo>,
}

pub(crate) fn is_denied(error: &EngineError) -> bool {
    match error.0 {}
}

pub(crate) fn is_locked(error: &EngineError) -> bool {
    match error.0 {}
}

pub(crate) fn is_silent(error: &EngineError) -> bool {
    match error.0 {}
}

pub(crate) fn needs_a_person(error: &EngineError) -> bool {
    match error.0 {}
}

impl Link {
    /// # Errors
    /// Always; a checked config has no fleet here.
    pub(crate) fn new(_: FleetConfig, _: Environment) -> io::Result<Self> {
        Err(io::Error::other("this program was not built for a fleet: build with --features fleet"))
    }

    pub(crate) fn config(&self) -> &FleetConfig {
        match self.0 {}
    }

    pub(crate) async fn accept(&self, _: &Event, _: Duration) -> Result<Receipt, EmitError> {
        match self.0 {}
    }

    pub(crate) fn begin_to_accept(
        &self,
        _: &Event,
        _: Duration,
    ) -> mpsc::Receiver<Result<Receipt, EmitError>> {
        match self.0 {}
    }

    pub(crate) fn member(&self) -> &MemberId {
        match self.0 {}
    }

    pub(crate) async fn write(&self, _: Arc<Vec<Write>>) -> Result<Vec<bool>, EngineError> {
        match self.0 {}
    }

    pub(crate) async fn renew(&self, _: &MemberInfo) -> Result<Board, EngineError> {
        match self.0 {}
    }

    pub(crate) async fn acquire(&self, _: &[Duty]) -> Result<BTreeMap<Duty, i64>, EngineError> {
        match self.0 {}
    }

    pub(crate) async fn end_sessions(&self, _: &[Duty]) -> Result<(), EngineError> {
        match self.0 {}
    }

    pub(crate) async fn release(&self, _: Option<(&Duty, i64)>) -> Result<(), EngineError> {
        match self.0 {}
    }

    pub(crate) async fn free(&self, _: Vec<Duty>) -> Result<i64, EngineError> {
        match self.0 {}
    }

    pub(crate) async fn tail(
        &self,
        _: Vec<(SubscriptionId, i64)>,
    ) -> Result<Vec<(SubscriptionId, Waiting)>, EngineError> {
        match self.0 {}
    }

    pub(crate) async fn take(&self, _: &SubscriptionId) -> Result<(Waiting, Health), EngineError> {
        match self.0 {}
    }

    pub(crate) async fn pauses(&self) -> Result<Pauses, EngineError> {
        match self.0 {}
    }

    pub(crate) async fn set_pause(&self, _: &SubscriptionId, _: Option<&Pause>) -> Result<(), EngineError> {
        match self.0 {}
    }

    pub(crate) async fn bodies(&self, _: Vec<DeliveryId>) -> Result<HashMap<DeliveryId, Bytes>, EngineError> {
        match self.0 {}
    }

    pub(crate) async fn dead_letter(&self, _: DeliveryId) -> Result<Option<DeadLetter>, EngineError> {
        match self.0 {}
    }

    pub(crate) async fn unrouted(&self) -> Result<Vec<Unrouted>, EngineError> {
        match self.0 {}
    }

    pub(crate) async fn known(&self, _: SignedDuration) -> Result<Known, EngineError> {
        match self.0 {}
    }

    pub(crate) async fn overview(&self) -> Result<Overview, EngineError> {
        match self.0 {}
    }

    pub(crate) async fn waiting(
        &self,
        _: &Wanted,
    ) -> Result<Vec<(Unfinished, Option<AttemptSummary>)>, EngineError> {
        match self.0 {}
    }

    #[cfg(feature = "cli")]
    pub(crate) async fn unrouted_of(&self, _: Vec<String>) -> Result<usize, EngineError> {
        match self.0 {}
    }

    pub(crate) async fn letters(&self, _: &Wanted) -> Result<Vec<DeadLetter>, EngineError> {
        match self.0 {}
    }

    pub(crate) async fn kept(&self, _: &SpecId, _: DeliveryId) -> Result<Option<Kept>, EngineError> {
        match self.0 {}
    }

    pub(crate) async fn lines(&self, _: WantedLines) -> Result<Vec<PlacedLine>, EngineError> {
        match self.0 {}
    }

    pub(crate) fn part(&self, _: Option<Place>) -> Result<(Part, Option<Place>), EngineError> {
        match self.0 {}
    }

    pub(crate) async fn give_up(
        &self,
        _: Vec<DeliveryId>,
        _: String,
        _: BTreeSet<SubscriptionId>,
    ) -> Result<Vec<Given>, EngineError> {
        match self.0 {}
    }

    #[cfg(feature = "cli")]
    pub(crate) fn wait<T: Send + 'static>(
        &self,
        _: Duration,
        _: impl Future<Output = Result<T, EngineError>> + Send + 'static,
    ) -> Result<T, EngineError> {
        match self.0 {}
    }

    pub(crate) async fn sweep(&self, _: &StoreOptions) -> Result<(), EngineError> {
        match self.0 {}
    }
}
