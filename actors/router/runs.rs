//! Events that follow from a SPEC's run, emitted by the Router to itself: a cost at once, an end
//! after two seconds.

use std::time::Duration;

use actix::prelude::*;
use futures_util::future::join_all;
use tokio::sync::oneshot;

use super::{Emit, From, Router, stopped};
use crate::answer::{EmitError, Receipt};
use crate::clock;
use crate::event::{Event, SpecId};
use crate::sources::place::RepoPaths;
use crate::sources::{costs, outstanding};

/// How long the end of a run waits before it is told: if the host tells it meanwhile, its event
/// is used instead.
const END_WAIT: Duration = Duration::from_secs(2);

impl Router {
    /// Tells what the SPEC's run owes: a cost now, its end after [`END_WAIT`].
    pub(super) fn tell_of_run(&mut self, spec: &SpecId, context: &mut Context<Self>) {
        let Some(run) = self.runs.get(spec) else { return };
        let (owes_its_end, anomaly) = (run.owes_its_end(), run.owed_anomaly(spec));
        if self.open && run.owes_earlier_ends() {
            context.spawn(self.tell_of_ends(spec.clone()));
        }
        if let Some(anomaly) = anomaly {
            let emitting = self.emit_owed(anomaly, context).into_actor(self);
            context.spawn(emitting.map(|emitted, _, _| {
                if let Err(error) = emitted {
                    log::warn!("the cost of a run is sent with its next stage: {error}");
                }
            }));
        }
        if !owes_its_end {
            if let Some(timer) = self.ending.remove(spec) {
                context.cancel_future(timer);
            }
        } else if self.open && !self.ending.contains_key(spec) {
            self.tell_of_ends_after(END_WAIT, spec.clone(), context);
        }
    }

    fn tell_of_ends_after(&mut self, wait: Duration, spec: SpecId, context: &mut Context<Self>) {
        let of = spec.clone();
        let timer = context.run_later(wait, move |router, context| {
            router.ending.remove(&of);
            let telling = router.tell_of_ends(of);
            context.spawn(telling);
        });
        self.ending.insert(spec, timer);
    }

    /// Tells the owed ends of a SPEC's runs; tries again after [`END_WAIT`] if that fails.
    pub(super) fn tell_of_ends(&self, spec: SpecId) -> ResponseActFuture<Self, ()> {
        let (config, of) = (self.config.clone(), spec.clone());
        let reading = actix_rt::task::spawn_blocking(move || {
            let paths = RepoPaths::of(&config);
            (outstanding::tasks(&config, &config.source_roots, &of), costs::of(&of, &paths))
        });
        let told = reading.into_actor(self).then(move |read, router: &mut Self, context| {
            let (tasks, spent) = read.unwrap_or_default();
            let run = router.runs.get(&spec);
            let owed = run.map(|run| run.owed_ends(&spec, &tasks, spent.as_ref(), clock::now()));
            let owed = owed.unwrap_or_default().into_iter();
            let emitted: Vec<_> = owed.map(|event| router.emit_owed(event, context)).collect();
            join_all(emitted).into_actor(router).map(move |emitted, router, context: &mut Context<Self>| {
                for error in emitted.into_iter().filter_map(Result::err) {
                    let why = error.reason();
                    if !error.is_temporary() {
                        log::error!(spec:%; "the end of a run of {spec} is not sent: {why}");
                        continue;
                    }
                    log::warn!(spec:%; "the end of a run of {spec} is not sent yet: {why}");
                    if router.open && !router.ending.contains_key(&spec) {
                        router.tell_of_ends_after(END_WAIT, spec.clone(), context);
                    }
                }
            })
        });
        Box::pin(told)
    }

    /// Emits what follows from a run, as if it came from outside.
    pub(super) fn emit_owed(
        &mut self,
        mut event: Event,
        context: &mut Context<Self>,
    ) -> impl Future<Output = Result<Receipt, EmitError>> + use<> {
        // The run of a fleet may have been in any checkout, and says itself in which it ended.
        if self.seat.is_none() {
            event.source = None;
            self.checkout.add_to(&mut event);
        }
        let (reply, answer) = oneshot::channel();
        self.handle(
            Emit {
                event: Box::new(event),
                published: Vec::new(),
                from: From::Emitter,
                admission: None,
                reply,
            },
            context,
        );
        async { answer.await.map_or_else(|_| Err(stopped()), |emission| emission.result) }
    }
}
