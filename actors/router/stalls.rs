//! Runs that went silent: looked for when the first of them may have, told by the Router to
//! itself.

use std::time::Duration;

use actix::prelude::*;
use futures_util::future::join_all;
use jiff::Timestamp;

use super::Router;
use crate::clock;
use crate::event::SpecId;
use crate::run::{AwaitedStage, Run, is_news};
use crate::sources::place::RepoPaths;
use crate::sources::signs;

/// Longest that the timer sleeps: a clock that is set forward, or a machine that slept, is
/// noticed.
const LONGEST: Duration = Duration::from_secs(30);

/// From the watcher, whenever they change: all stages that wait for their agents.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Await(pub(crate) Vec<AwaitedStage>);

impl Handler<Await> for Router {
    type Result = ();

    fn handle(&mut self, Await(awaited): Await, context: &mut Self::Context) {
        let before = std::mem::replace(&mut self.awaited, awaited);
        let mut specs: Vec<SpecId> =
            before.into_iter().chain(self.awaited.clone()).map(|one| one.spec).collect();
        specs.sort();
        specs.dedup();
        specs.iter().for_each(|spec| self.expect_life(spec, None));
        self.await_silence(context);
    }
}

impl Router {
    /// The stage of a SPEC that waits for its agents, the last where there are several.
    fn awaited(&self, spec: &SpecId) -> Option<&AwaitedStage> {
        self.awaited.iter().filter(|one| one.spec == *spec).max_by_key(|one| one.since)
    }

    /// The last sign of life that is known of a SPEC's run.
    fn last_sign(&self, spec: &SpecId) -> Option<Timestamp> {
        let told = self.runs.get(spec).and_then(Run::last_sign);
        told.max(self.awaited(spec).map(|awaited| awaited.since))
    }

    /// Notes when a SPEC's run is to be looked at: when it has been silent for `stall_after_s`
    /// since the last sign of life that is known, or since `sign`.
    pub(super) fn expect_life(&mut self, spec: &SpecId, sign: Option<Timestamp>) {
        let at = self.config.runs.stall_after.and_then(|after| {
            let known = self.last_sign(spec)?;
            sign.map_or(known, |sign| known.max(sign)).checked_add(after).ok()
        });
        self.silences.set(spec, at);
    }

    /// Sets the one timer to the first that is to be looked at.
    pub(super) fn await_silence(&mut self, context: &mut Context<Self>) {
        if let Some(timer) = self.silence_timer.take() {
            context.cancel_future(timer);
        }
        let Some(next) = self.silences.next().filter(|_| self.open) else { return };
        let wait = Duration::try_from(next.duration_since(clock::now())).unwrap_or_default();
        let timer = context.run_later(wait.min(LONGEST), |router, context| {
            router.silence_timer = None;
            let looking = router.look_for_stalls();
            context.spawn(looking);
        });
        self.silence_timer = Some(timer);
    }

    /// Looks at the runs that are due: a file that a run left since is a sign of life too.
    fn look_for_stalls(&mut self) -> ResponseActFuture<Self, ()> {
        let due = self.silences.due(clock::now());
        let (config, of) = (self.config.clone(), due.clone());
        let reading = actix_rt::task::spawn_blocking(move || {
            let paths = RepoPaths::of(&config);
            of.iter().map(|spec| signs::last(spec, &paths)).collect::<Vec<_>>()
        });
        let told = reading.into_actor(self).then(move |signs, router: &mut Self, context| {
            let (now, mut emitted, nothing) = (clock::now(), Vec::new(), Run::default());
            for (spec, sign) in due.iter().zip(signs.unwrap_or_default()) {
                let Some(known) = router.last_sign(spec) else { continue };
                // A file from the future says that somebody was there.
                let sign = sign.map_or(known, |sign| known.max(sign.min(now)));
                let Some(after) = router.config.runs.stall_after else { continue };
                if now.duration_since(sign) < after {
                    router.expect_life(spec, Some(sign));
                    continue;
                }
                // A sign of life may come that nobody tells of: it is looked for until it is no
                // news.
                let next = now.checked_add(after).ok().filter(|_| is_news(sign, after, now));
                router.silences.set(spec, next);
                let awaited = router.awaited(spec).map(|awaited| awaited.stage);
                let run = router.runs.get(spec).unwrap_or(&nothing);
                if let Some(event) = run.stalled(spec, awaited, sign, after, now) {
                    emitted.push(router.emit_owed(event, context));
                }
            }
            router.await_silence(context);
            join_all(emitted).into_actor(router).map(move |emitted, router, context: &mut Context<Self>| {
                for error in emitted.into_iter().filter_map(Result::err) {
                    log::warn!("a run that stalled is not sent yet: {error}");
                    due.iter()
                        .for_each(|spec| router.silences.set(spec, clock::now().checked_add(AGAIN).ok()));
                    router.await_silence(context);
                }
            })
        });
        Box::pin(told)
    }
}

/// When a stall is told again that could not be.
const AGAIN: Duration = Duration::from_secs(5);
