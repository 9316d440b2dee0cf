//! What follows from an attempt's outcome: the verdict on its delivery, the endpoint's health.

use std::time::{Duration, Instant};

use actix::prelude::*;

use super::Subscription;
use crate::actors::ledger::KeepHealth;
use crate::actors::tell::tell;
use crate::archive::{Attempt, Effect, Finished};
use crate::clock;
use crate::delivery::{
    Delivery, HealthState, InFlight, Jitter, Judgement, LocalFault, Outcome, SubscriptionId, Verdict,
    retry_at,
};
use crate::event::SpecId;
use crate::inspect::counted;

/// How often the log says that a subscription is still open.
const SAY_OPEN_EVERY: Duration = Duration::from_secs(60);

impl Subscription {
    pub(super) fn finished(&mut self, in_flight: InFlight, attempt: Attempt, context: &mut Context<Self>) {
        let delivery = in_flight.delivery().clone();
        if let Some(wait) = attempt.outcome.as_ref().and_then(|outcome| self.was_held(outcome)) {
            self.under_way.remove(&delivery.id);
            self.put_back(in_flight, wait);
            return self.pump(context);
        }
        let number = in_flight.attempt();
        let jitter = Jitter(clock::fraction());
        let (effect, retry) = match &attempt.outcome {
            None => {
                log::info!(
                    subscription:% = self.id, spec:% = delivery.spec, delivery:% = delivery.id;
                    "dry run: {} to {} is recorded and not sent", delivery.id, self.id
                );
                self.lane.release();
                (Effect::DryRun, None)
            }
            Some(outcome) => {
                self.note_health(&attempt, outcome, &delivery.spec);
                let verdict = self.lane.finished(in_flight, outcome, jitter, Instant::now());
                log_verdict(&self.id, &delivery, number, outcome, &verdict, self.said);
                match verdict {
                    Verdict::Delivered => (Effect::Delivered, None),
                    Verdict::DeadLetter(reason) => {
                        self.health.gave_up();
                        (Effect::DeadLetter(reason), None)
                    }
                    Verdict::Retry { pending, wait } => {
                        let (now, wall) = (Instant::now(), clock::now());
                        let next_attempt_at = retry_at(wall, wait);
                        let wait = Duration::try_from(next_attempt_at.duration_since(wall)).unwrap_or(wait);
                        (Effect::Retry { next_attempt_at }, Some((pending, now + wait)))
                    }
                }
            }
        };
        self.gather(Finished { delivery, attempt, effect }, retry);
        self.pump(context);
    }

    /// How long to wait, if this machine could not make the attempt: it does not count, and the
    /// whole lane waits.
    pub(super) fn was_held(&mut self, outcome: &Outcome) -> Option<Duration> {
        let before = self.health.local_fault.clone();
        let wait = self.health.note_local(outcome, clock::now())?;
        if self.health.local_fault != before
            && let Some(LocalFault { error, hint, .. }) = &self.health.local_fault
        {
            log::error!(
                subscription:% = self.id;
                "nothing can be sent to {}: {error}; {hint}. What waits is tried again by itself",
                self.id
            );
            let (ledger, subscription) = (self.ledger.clone(), self.id.clone());
            let (health, epoch) = (self.health.clone(), self.right.epoch());
            actix_rt::spawn(async move {
                if !tell(&ledger, KeepHealth { subscription, health, epoch }).await {
                    log::debug!("the ledger has stopped");
                }
            });
        }
        Some(wait)
    }

    /// Notes an attempt's outcome. The log says once when the endpoint's health turns, and while
    /// it is open how many attempts failed in a minute.
    pub(super) fn note_health(&mut self, attempt: &Attempt, outcome: &Outcome, spec: &SpecId) {
        let (id, now) = (&self.id, clock::now());
        self.health.note(outcome, spec, now, || attempt.summary().in_words());
        self.lane.set_narrow(self.health.is_narrow());
        let (before, health) = (std::mem::replace(&mut self.said, self.health.state(now)), &self.health);
        if before == self.said && before != HealthState::Open {
            return;
        }
        let (summary, (ok, failed)) = (outcome.summary(), health.recently(now));
        let (said_at, failed_since) = &mut self.failed_since_said;
        match (before, self.said) {
            (HealthState::Open, HealthState::Open) => {
                *failed_since += u32::from(outcome.judge() != Judgement::Delivered);
                if said_at.elapsed() >= SAY_OPEN_EVERY {
                    let waiting = counted(self.lane.waiting(), "delivery waits", "deliveries wait");
                    log::warn!(
                        subscription:% = id;
                        "{id} is still open: {} more, the last with {summary}; {waiting}",
                        counted(*failed_since as usize, "attempt failed", "attempts failed")
                    );
                    self.failed_since_said = (Instant::now(), 0);
                }
            }
            (_, HealthState::Open) => {
                self.failed_since_said = (Instant::now(), 0);
                log::error!(
                    subscription:% = id;
                    "{id} is open: {} in a row failed, the last with {summary}: one request at a time until \
                     one succeeds",
                    counted(health.consecutive_failures as usize, "attempt", "attempts")
                );
            }
            (HealthState::Open | HealthState::Failing, HealthState::Degraded) => log::info!(
                subscription:% = id;
                "{id} takes deliveries again, and is degraded: {failed} of the last {} failed",
                counted(usize::try_from(ok + failed).unwrap_or(usize::MAX), "attempt", "attempts")
            ),
            (HealthState::Open | HealthState::Failing, HealthState::Healthy) => {
                log::info!(subscription:% = id; "{id} takes deliveries again");
            }
            (HealthState::Degraded, HealthState::Healthy) => match health.incidents(now).last() {
                Some(over) => log::info!(subscription:% = id; "{id} is healthy again: {over}"),
                None => log::info!(subscription:% = id; "{id} is healthy again"),
            },
            (HealthState::Healthy | HealthState::Untried, HealthState::Degraded) => log::warn!(
                subscription:% = id;
                "{id} is degraded: {failed} of the last {} failed, the last with {summary}",
                counted(usize::try_from(ok + failed).unwrap_or(usize::MAX), "attempt", "attempts")
            ),
            _ => {}
        }
    }
}

fn log_verdict(
    subscription: &SubscriptionId,
    delivery: &Delivery,
    number: u32,
    outcome: &Outcome,
    verdict: &Verdict,
    health: HealthState,
) {
    let Delivery { id, spec, key, .. } = delivery;
    match verdict {
        Verdict::Delivered => log::info!(
            subscription:%, spec:%, delivery:% = id;
            "delivered {key} ({id}) to {subscription} at attempt {number}: {}",
            outcome.summary()
        ),
        Verdict::Retry { wait, .. } => {
            let seconds = wait.as_secs_f64();
            // While it is open, one line a minute says so of all.
            let level = if health == HealthState::Open { log::Level::Debug } else { log::Level::Warn };
            log::log!(
                level,
                subscription:%, spec:%, delivery:% = id;
                "attempt {number} of {key} ({id}) to {subscription} failed, next in {seconds:.1} s: {}",
                outcome.summary()
            );
        }
        Verdict::DeadLetter(reason) => {
            let hint = reason.hint(outcome.advice().as_deref());
            log::error!(
                subscription:%, spec:%, delivery:% = id;
                "{key} ({id}) to {subscription} is a dead letter after attempt {number}, {reason}: {}; \
                 {hint}",
                outcome.summary()
            );
        }
    }
}
