//! Takes events from the cluster in their order, has the Router fan them out, and keeps the tables
//! small; while this member has the Router's lease.

use std::time::{Duration, Instant};

use actix_rt::time::sleep;
use futures_util::future::join_all;
use tokio::sync::oneshot;

use super::{AGAIN, Member, POLL};
use crate::actors::ledger::Pass;
use crate::actors::router::Lead;
use crate::actors::tell::tell;
use crate::answer::{EmitError, Receipt};
use crate::event::Event;
use crate::fleet::{Duty, EngineError, Term, Unrouted};

/// How often the tables are swept.
const SWEEP_EVERY: Duration = Duration::from_secs(60);

/// What came of a batch.
enum Batch {
    /// Nothing was there.
    Empty,
    Routed,
    /// What the Router knows may not be what the cluster has: it is read again.
    Failed,
}

impl Member {
    pub(super) async fn route(&self) {
        let mut term: Option<Term> = None;
        let mut reading = 0;
        let mut swept: Option<Instant> = None;
        loop {
            let tenure = self.work.borrow().held.get(&Duty::Route).map(|holding| holding.tenure.clone());
            let now = crate::clock::now().as_millisecond();
            let tenure = tenure.filter(|tenure| tenure.may_start(Instant::now(), now));
            let Some(tenure) = tenure.filter(|tenure| self.has(&Duty::Route, tenure.epoch)) else {
                sleep(POLL).await;
                continue;
            };
            self.work.borrow_mut().is_routing = true;
            let of_tenure = term.filter(|term| term.epoch == tenure.epoch);
            let routed = match of_tenure {
                Some(term) => self.route_some(term).await,
                None => {
                    reading += 1;
                    let next = Term { epoch: tenure.epoch, reading };
                    match self.lead(next).await {
                        Ok(()) => {
                            term = Some(next);
                            self.route_some(next).await
                        }
                        Err(error) => Err(error),
                    }
                }
            };
            self.work.borrow_mut().is_routing = false;
            match routed {
                Ok(Batch::Routed) => {}
                Ok(Batch::Empty) => sleep(POLL).await,
                Ok(Batch::Failed) => {
                    term = None;
                    sleep(AGAIN).await;
                }
                Err(error) => {
                    log::warn!("no events are routed at present: {error}");
                    sleep(AGAIN).await;
                }
            }
            if swept.is_none_or(|swept| swept.elapsed() >= SWEEP_EVERY) {
                swept = Some(Instant::now());
                if let Err(error) = self.link.sweep(&(self.config)().store_options()).await {
                    log::warn!("the cluster's tables are not swept: {error}");
                }
            }
        }
    }

    /// Tells the Router what the cluster knows.
    async fn lead(&self, term: Term) -> Result<(), EngineError> {
        let known = self.link.known((self.config)().dedupe_window).await?;
        if self.router.send(Lead { term, known }).await.is_err() {
            log::error!("the router has stopped");
        }
        Ok(())
    }

    async fn route_some(&self, term: Term) -> Result<Batch, EngineError> {
        let events = self.link.unrouted().await?;
        if events.is_empty() {
            return Ok(Batch::Empty);
        }
        // All are with the Router, in their order, before the first is answered.
        let routing = events.into_iter().map(|Unrouted { seq, event, accepted_at }| async move {
            match Event::from_kept(&event) {
                Ok(event) => (seq, self.door.route(Box::new(event), seq, accepted_at).await),
                Err(error) => (seq, Err(EmitError::Refused(error.to_string()))),
            }
        });
        let mut is_whole = true;
        let mut passing = Vec::new();
        for (seq, routed) in join_all(routing).await {
            let refused = match routed {
                Ok(Receipt::Duplicate) => None,
                Ok(_) => continue,
                Err(error) if error.is_temporary() => {
                    log::warn!("events wait in the cluster: {}", error.reason());
                    is_whole = false;
                    continue;
                }
                Err(error) => {
                    let why = error.reason();
                    log::error!(
                        "an event in the cluster (seq {seq}) goes to nobody, and is kept there: {why}"
                    );
                    Some(why)
                }
            };
            let (reply, answer) = oneshot::channel();
            if tell(&self.ledger, Pass { seq, term, refused, reply }).await {
                passing.push(answer);
            }
        }
        for passed in passing {
            is_whole &= matches!(passed.await, Ok(Ok(())));
        }
        Ok(if is_whole { Batch::Routed } else { Batch::Failed })
    }
}
