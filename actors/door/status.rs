//! What `status` shows: asked of the actors, read from the files, or told to the door.

use std::time::{Duration, Instant};

use super::{Door, gone};
use crate::actors::ledger::ReadCondition;
use crate::actors::notices::Told;
use crate::actors::router::{Await, ReadQueues};
use crate::actors::tell::tell;
use crate::answer::RequestError;
use crate::config::Origin;
use crate::inspect::{Facts, StatusReport, Watching};
use crate::run::AwaitedStage;

/// How long the evidence of a fleet is read for its figures.
const COUNT_WITHIN: Duration = Duration::from_millis(500);

impl Door {
    /// The state of the runtime and its subscriptions.
    pub(crate) async fn status(&self) -> Result<StatusReport, RequestError> {
        let facts = self.facts().await?;
        // The figures of many subscriptions take a moment, in which the caller's thread may have
        // deliveries to make.
        self.reading.read(move |files| StatusReport::of(&facts, &files.spool_dir)).await
    }

    /// Gathers what `status` shows.
    pub(super) async fn facts(&self) -> Result<Facts, RequestError> {
        let mut queues = self.router.send(ReadQueues).await.map_err(|_| gone())?;
        let mut condition = self.ledger.send(ReadCondition).await.map_err(|_| gone())?;
        let origin = self.notices.told().origin;
        let (mut survey, edited) =
            self.reading.survey(move || origin.and_then(|origin| origin.edited())).await?;
        // Read last, so that what is told while the files are read is included.
        let Told { inbox, watching, awaited, fleet: trouble, .. } = self.notices.told();
        let mut fleet = None;
        if let Some(of_fleet) = &self.of_fleet {
            let member = self.fleet.as_ref().filter(|_| self.delivers).map(|link| link.member().to_string());
            let facts = of_fleet.facts(member, trouble).await;
            facts.fill(&mut queues, &mut condition.healths, &mut survey);
            if facts.overview.is_ok() {
                let (of_fleet, until) = (of_fleet.clone(), Instant::now() + COUNT_WITHIN);
                let counted = self.reading.read(move |_| of_fleet.counts(|| Instant::now() < until)).await?;
                match counted {
                    Ok(counts) => condition.counts = counts,
                    Err(error) => log::warn!("the figures are those of this runtime alone: {error}"),
                }
            }
            fleet = Some(facts);
        }
        let uptime = self.started.elapsed();
        Ok(Facts { queues, condition, survey, inbox, watching, awaited, edited, fleet, uptime })
    }

    /// Sets which inbox files `status` shows as set aside.
    pub(in crate::actors) fn tell_of_inbox(&self, aside: Vec<String>) {
        self.notices.tell(|told| told.inbox = aside);
    }

    /// Sets what `status` says about the watcher.
    pub(crate) fn tell_of_watch(&self, watching: Watching) {
        self.notices.tell(|told| told.watching = watching);
    }

    /// Sets which stages wait for their agents.
    pub(crate) async fn tell_of_awaited(&self, awaited: Vec<AwaitedStage>) {
        self.notices.tell(|told| told.awaited.clone_from(&awaited));
        if !tell(&self.router, Await(awaited)).await {
            log::debug!("the runtime stopped");
        }
    }

    /// Sets why this member of a fleet does not do its part.
    pub(in crate::actors) fn tell_of_fleet(&self, trouble: Option<String>) {
        self.notices.tell(|told| told.fleet = trouble);
    }

    /// Sets where the config in force came from: `status` says when that file was edited.
    pub(crate) fn tell_of_config(&self, origin: Option<Origin>) {
        self.notices.tell(|told| told.origin = origin);
    }
}
